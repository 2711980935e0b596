import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlime._labelmap import Segments, segment_sizes, segment_sums, segments_from_labels


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
    segments = segments_from_labels(torch.tensor([[-1, 5], [-9, 5]]), 3, (2, 2), max_segments=9)
    assert segments.labels.tolist() == [[[1, 2], [0, 2]]] * 3
    assert segments.count.tolist() == [3, 3, 3]
    assert segments.bound == 9


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.zeros(4, 4), TypeError, "segments must be a Segments or an integer label map"),
        ([[0, 1]], TypeError, "got list"),
        (torch.zeros(4, 5, dtype=torch.long), ValueError, r"H, W = 4, 4 .* got \[4, 5\]"),
        (torch.zeros(4, dtype=torch.long), ValueError, "got"),
        (torch.zeros(3, 4, 4, dtype=torch.long), ValueError, "3 label maps for 2 images"),
        (torch.arange(16).view(4, 4), ValueError, "has 16 segments, more than max_segments=9"),
    ],
)
def test_bad_label_maps(labels, error, message):
    with pytest.raises(error, match=message):
        segments_from_labels(labels, 2, (4, 4), max_segments=9)


def test_bad_bound():
    with pytest.raises(ValueError, match="max_segments must be at least 1, got 0"):
        segments_from_labels(torch.zeros(2, 2, dtype=torch.long), 1, (2, 2), max_segments=0)
