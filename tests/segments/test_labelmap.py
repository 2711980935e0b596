import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlime._labelmap import (
    Segments,
    as_segments,
    channel_sizes,
    dense_labels,
    segment_sizes,
    segment_sums,
    segments_from_labels,
)


def make(labels, bound=None):
    return segments_from_labels(labels, labels.shape[0], tuple(labels.shape[1:]), bound)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-6, 1.0, 255.0, 1e6]),
)
def test_sums_equal_exact_sums(batch, channels, size, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, channels, *size, generator=generator) * scale
    labels = torch.randint(0, 7, (batch, *size), generator=generator)
    segments = make(labels)
    sums = segment_sums(values, segments)
    assert sums.shape == (batch, channels, segments.bound)
    for b in range(batch):
        for c in range(channels):
            for s in range(segments.bound):
                exact = math.fsum(values[b, c][segments.labels[b] == s].double().tolist())
                limit = 1e-12 * values[b, c].abs().max().item() * size[0] * size[1]
                assert abs(sums[b, c, s].item() - exact) <= limit
    assert torch.equal(segment_sizes(segments).sum(1), torch.full((batch,), size[0] * size[1]))


def test_sums_do_not_depend_on_order_batch_or_dtype():
    values = torch.rand(4, 3, 31, 17, generator=torch.Generator().manual_seed(0))
    segments = make(torch.arange(31 * 17).view(1, 31, 17).remainder(13).expand(4, -1, -1))
    sums = segment_sums(values, segments)
    flipped = Segments(segments.labels.flip(1, 2), *segments[1:])
    assert torch.equal(sums, segment_sums(values.flip(2, 3), flipped))
    assert torch.equal(sums, segment_sums(values.double(), segments))
    one = Segments(*[field[2:3] for field in segments[:3]], segments.bound)
    assert torch.equal(sums[2:3], segment_sums(values[2:3], one))


def test_a_sum_of_zeros_is_zero():
    segments = make(torch.zeros(1, 4, 4, dtype=torch.int64))
    assert segment_sums(torch.zeros(1, 1, 4, 4), segments).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_ids_become_dense_in_their_order(dtype):
    labels = torch.tensor([[[7, 7, 200 % 120], [3, 7, 3]], [[5, 5, 5], [5, 5, 5]]], dtype=dtype)
    segments = make(labels)
    assert segments.labels.tolist() == [[[1, 1, 2], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]]
    assert segments.count.tolist() == [3, 1]
    assert segments.bound == 3
    assert segments.ok.all()


def test_negative_ids_and_one_map_for_all():
    segments = segments_from_labels(torch.tensor([[-2, 5], [-9, 5]]), 3, (2, 2), max_segments=9)
    assert segments.labels.tolist() == [[[1, 2], [0, 2]]] * 3
    assert segments.count.tolist() == [3, 3, 3]
    assert segments.bound == 9
    assert segments.ids.tolist() == [[-9, -2, 5, -1, -1, -1, -1, -1, -1]] * 3
    assert not segments.background


def test_the_id_below_zero_is_the_background():
    labels = torch.tensor([[[-1, 5, -9], [-1, 5, 7]], [[2, 2, -1], [2, 2, 2]]])
    segments = make(labels)
    assert segments.labels.tolist() == [[[-1, 1, 0], [-1, 1, 2]], [[0, 0, -1], [0, 0, 0]]]
    assert segments.count.tolist() == [3, 1]
    assert segments.ids.tolist() == [[-9, 5, 7], [2, -1, -1]]
    assert segments.background
    assert segment_sizes(segments).tolist() == [[1, 2, 1], [5, 0, 0]]
    values = torch.arange(12.0).view(2, 1, 2, 3)
    assert segment_sums(values, segments).tolist() == [[[2, 5, 5]], [[6 + 7 + 9 + 10 + 11, 0, 0]]]
    with pytest.raises(ValueError, match="an input whose ids are all -1"):
        make(torch.full((1, 2, 2), -1))


SHAPES = {
    "vectors": ((2, 6), [(6,), (1, 6), (2, 6)]),
    "series": ((2, 3, 6), [(6,), (2, 6), (2, 3, 6), (1, 3, 1)]),
    "images": ((2, 3, 4, 6), [(4, 6), (4, 1), (1, 4, 6), (1, 3, 4, 6), (1, 3, 1, 1), (2, 1, 4, 6)]),
    "volumes": ((2, 3, 2, 4, 5), [(2, 4, 5), (2, 1, 1), (2, 2, 4, 5), (1, 3, 1, 1, 1)]),
    "as many as channels": ((3, 3, 3, 3), [(3, 3), (3, 3, 3), (3, 3, 3, 3)]),
}


@pytest.mark.parametrize("what", SHAPES)
def test_a_map_is_read_by_its_rank(what):
    shape, maps = SHAPES[what]
    values = torch.rand(shape, generator=torch.manual_seed(0), dtype=torch.float64)
    for size in maps:
        labels = torch.randint(0, 4, size, generator=torch.manual_seed(1)) * 3
        segments = as_segments(labels, values)
        axes = labels.dim() - (len(shape) - 2 if len(shape) > 2 else 1)
        own = labels[None] if axes == 0 else labels
        everywhere = own.expand(shape) if own.dim() == len(shape) else own[:, None].expand(shape)
        sums, sizes = segment_sums(values, segments), channel_sizes(segments, shape)
        for b in range(shape[0]):
            ids = everywhere[b].unique()
            assert segments.ids[b, : len(ids)].tolist() == ids.tolist()
            for c in range(shape[1]):
                for s, i in enumerate(ids):
                    inside = everywhere[b, c] == i
                    assert sums[b, c, s].item() == pytest.approx(values[b, c][inside].sum().item())
                    assert sizes.expand(-1, shape[1], -1)[b, c, s] == inside.sum()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((3, 5), r"be \[4, 6\], \[2 or 1, 4, 6\] or \[2 or 1, 3 or 1, 4, 6\] for inputs"),
        ((2, 4, 5), r"got \[2, 4, 5\]; an axis of 1"),
        ((2, 2, 4, 6), r"got \[2, 2, 4, 6\]"),
        ((3, 4, 6), "3 label maps for 2 inputs"),
        ((6,), r"got \[6\]"),
        ((1, 2, 3, 4, 6), "got"),
        ((), r"got \[\]"),
    ],
)
def test_a_map_that_does_not_broadcast(size, message):
    with pytest.raises(ValueError, match=message):
        as_segments(torch.zeros(size, dtype=torch.int64), torch.zeros(2, 3, 4, 6))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.zeros(4, 4), TypeError, "segments must be a Segments or an integer label map"),
        ([[0, 1]], TypeError, "got list"),
        (torch.zeros(4, 5, dtype=torch.long), ValueError, r"be \[4, 4\], .* got \[4, 5\]"),
        (torch.zeros(4, dtype=torch.long), ValueError, "got"),
        (torch.zeros(3, 4, 4, dtype=torch.long), ValueError, "3 label maps for 2 inputs"),
        (torch.arange(16).view(4, 4), ValueError, "has 16 segments, more than max_segments=9"),
    ],
)
def test_bad_label_maps(labels, error, message):
    with pytest.raises(error, match=message):
        segments_from_labels(labels, 2, (4, 4), max_segments=9)


def test_bad_bound():
    with pytest.raises(ValueError, match="max_segments must be at least 1, got 0"):
        segments_from_labels(torch.zeros(2, 2, dtype=torch.long), 1, (2, 2), max_segments=0)


def test_dense_labels_with_a_background_compile():
    ids = torch.tensor([[4, -1, 9, 4], [-1, -1, 0, -5]])
    compiled = torch.compile(dense_labels, fullgraph=True, backend="aot_eager")
    cases = {-1: [[0, -1, 1, 0], [-1, -1, 1, 0]], None: [[1, 0, 2, 1], [1, 1, 2, 0]]}
    for background, wanted in cases.items():
        labels, count = compiled(ids, background)
        assert labels.tolist() == wanted
        assert count.tolist() == [max(row) + 1 for row in wanted]
