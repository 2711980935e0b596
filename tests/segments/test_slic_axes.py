"""Slic over one axis and three: its rules are those of images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.segments import oracles
from tests.segments.test_slic import NoTransfers, assert_sound, same
from torchlime.segments import Reduced, Slic, _colours, components, slic
from torchlime.segments._cells import cells_of


def coarse_noise(*shape, seed=0):
    """Noise in blocks of 3 with fine noise on top, of any rank."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand(*shape[:2], *(-(-side // 3) for side in shape[2:]), generator=generator)
    for dim, side in enumerate(shape[2:], start=2):
        blocks = blocks.repeat_interleave(3, dim).narrow(dim, 0, side)
    return blocks + torch.rand(shape, generator=generator) / 8


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 40), {"num_segments": 6}),
        ((3, 31), {"num_segments": 4, "compactness": 40.0}),
        ((2, 25), {"num_segments": 9, "blur": False, "iterations": 2}),
        ((1, 9, 10, 11), {"num_segments": 8}),
        ((3, 7, 8, 9), {"num_segments": 12, "compactness": 30.0, "blur": False}),
        ((2, 5, 12, 6), {"num_segments": 6, "iterations": 1, "compactness": 1.0}),
        ((9, 6, 7, 6), {"num_segments": 4, "iterations": 3, "min_size_factor": 0.5}),
        ((1, 1, 9, 14), {"num_segments": 5}),
        ((1, 3, 2, 3), {"num_segments": 18}),
        ((3, 8, 6, 7), {"num_segments": 8, "iterations": 0}),
    ],
)
def test_is_the_oracle(shape, options):
    images = coarse_noise(2, *shape, seed=shape[1])
    segmenter = Slic(**options)
    segments = segmenter(images)
    assert_sound(segments, images)
    grid = cells_of(shape[1:], segmenter.num_segments)
    for image, labels, count in zip(images, segments.labels, segments.count, strict=True):
        cells, colours = oracles.slic_cells(
            image.double().numpy(),
            grid.shape,
            segmenter.compactness,
            segmenter.iterations,
            segmenter.blur,
        )
        min_size = segmenter.min_size_factor * image[0].numel() / grid.number
        expected = oracles.connect(cells, colours, grid.number, min_size, components.MERGE_ROUNDS)
        np.testing.assert_array_equal(labels, expected[0])
        assert count == expected[1]


@pytest.mark.parametrize(
    ("sides", "number", "shape"),
    [
        ((64, 64, 64), 50, (4, 4, 3)),
        ((64, 64, 64), 64, (4, 4, 4)),
        ((16, 64, 64), 64, (2, 6, 5)),
        ((1, 30, 30), 9, (1, 3, 3)),
        ((3, 3, 3), 100, (3, 3, 3)),
        ((500,), 50, (50,)),
        ((3,), 9, (3,)),
        ((224, 224), 50, (7, 7)),
    ],
)
def test_cells_are_about_cubes(sides, number, shape):
    assert sorted(cells_of(sides, number).shape) == sorted(shape)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (3, 4, 5), (1, 2, 1), (1,)])
def test_what_cells_give_is_the_adjoint_of_what_they_see(shape):
    """⟨around(a), b⟩ = ⟨a, gather(b)⟩ for whole numbers, exactly."""
    grid = cells_of(shape, 1000)
    a = torch.randint(-9, 9, (2, 3, grid.number)).double()
    b = torch.randint(-9, 9, (2, 3, 3 ** len(shape), grid.number)).double()

    def seen_from(values):
        axes = len(shape)
        return grid.around(values).flatten(2 + axes).flatten(2, 1 + axes)

    assert (seen_from(a) * b).sum() == (a * grid.gather(b)).sum()
    number = torch.arange(1, grid.number + 1).double()
    seen = seen_from(number[None, None])[0, 0]
    far = grid.offsets(seen)[:, None] + number
    assert torch.equal(seen[seen > 0], far[seen > 0])


def test_finds_the_parts_of_a_volume():
    """Eight blocks of their own grey, whose borders are not those of the grid."""
    shades = torch.tensor([0.0, 0.9, 0.45, 0.15, 0.6, 0.3, 1.0, 0.75])
    sides = [torch.tensor([11, 13]), torch.tensor([14, 10]), torch.tensor([10, 14])]
    blocks, expected = shades.view(2, 2, 2), torch.arange(8).view(2, 2, 2)
    for dim, side in enumerate(sides):
        blocks = blocks.repeat_interleave(side, dim)
        expected = expected.repeat_interleave(side, dim)
    labels = Slic(8, compactness=1.0, blur=False)(blocks[None, None]).labels[0]
    assert torch.equal(labels, expected)


def test_finds_the_stretches_of_a_series():
    lengths = torch.tensor([23, 9, 18, 14])
    levels = torch.tensor([[0.0, 1.0, 0.2, 0.7], [1.0, 0.3, 0.6, 0.0]])
    series = levels.repeat_interleave(lengths, 1)[None]
    labels = Slic(4, compactness=1.0, blur=False)(series).labels[0]
    assert torch.equal(labels, torch.arange(4).repeat_interleave(lengths))


def test_three_channels_are_colours_in_a_video_and_not_in_a_series():
    video = torch.rand(1, 3, 4, 5, 6)
    frames = video[0].movedim(1, 0)
    found = _colours.colours_of(video, blur=False)[0].movedim(1, 0)
    low, span = video.amin(), video.amax() - video.amin()
    torch.testing.assert_close(found, _colours.lab((frames.double() - low) / span))
    series = _colours.colours_of(torch.rand(1, 3, 50), blur=False)
    assert series.aminmax() == (0, 100)


@given(
    st.integers(1, 3),
    st.sampled_from([1, 2, 3, 4]),
    st.one_of(
        st.tuples(st.integers(1, 90)),
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
    ),
    st.integers(1, 30),
    st.sampled_from([0.1, 1.0, 10.0, 40.0]),
    st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=60)
def test_the_batch_does_not_matter(batch, channels, sides, num_segments, compactness, seed):
    images = coarse_noise(batch, channels, *sides, seed=seed)
    images[0] = 0.5
    images[-1] *= 1e-3
    segmenter = Slic(num_segments, compactness)
    together = segmenter(images)
    assert_sound(together, images)
    for image in range(batch):
        alone = segmenter(images[image : image + 1])
        assert torch.equal(alone.labels[0], together.labels[image])
        assert alone.count[0] == together.count[image]


@pytest.mark.parametrize("channels", [1, 3, 5, 40])
def test_every_number_is_exact(channels):
    """The claim of batch invariance: the sum of all penalties stays below 2**24."""
    images = coarse_noise(2, channels, 12, 20, 18)
    grid = cells_of((12, 20, 18), 12)
    for compactness in (0.01, 10.0, 1e4):
        colours, pixel = slic._whole_numbers(_colours.colours_of(images, True), grid, compactness)
        points = slic._points(colours, pixel, grid)
        assert torch.equal(points.features, points.features.round())
        assert points.features.abs().max() <= 2**8
        reach = 2.5 * pixel.max() * max(grid.sizes)
        largest = max(colours.abs().max(), reach) + 1
        assert 4 * (channels + 3) * largest**2 <= slic.outside_window(3)
    assert (3 + 1 + 1) * slic.outside_window(3) <= 2**24
    assert (2 + 1 + 1) * slic.outside_window(2) <= 2**24


def test_the_callers_modes_do_not_matter():
    volumes = coarse_noise(1, 3, 20, 20, 24)
    expected = Slic(12)(volumes)
    assert same(Slic(12)(volumes * 2.0**100), expected)
    assert same(Slic(12)(volumes.to(memory_format=torch.channels_last_3d)), expected)
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            assert same(Slic(12)(volumes), expected)
    finally:
        torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize("shape", [(2, 1, 30), (2, 3, 7, 9, 11), (1, 1, 1, 1, 30)])
@pytest.mark.parametrize("segmenter", [Slic(12), Slic(12, iterations=0), Reduced(Slic(8), 6)])
def test_runs_on_fake_cuda_without_a_word_to_the_host(shape, segmenter):
    with FakeTensorMode(), NoTransfers():
        segments = segmenter(torch.empty(shape, device="cuda", dtype=torch.float16))
    assert {t.device.type for t in segments[:3]} == {"cuda"}
    assert segments.labels.shape == (shape[0], *shape[2:])


@pytest.mark.parametrize("shape", [(2, 2, 60), (2, 3, 10, 12, 14)])
def test_compiles_to_one_graph_with_the_same_labels(shape):
    images = coarse_noise(*shape)
    compiled = torch.compile(Slic(8), fullgraph=True, backend="aot_eager")
    assert same(compiled(images), Slic(8)(images))


def test_a_copy_pools_all_axes_and_is_enlarged():
    volumes = coarse_noise(2, 1, 9, 21, 30)
    segments = Reduced(Slic(8), 10)(volumes)
    assert_sound(segments, volumes)
    pooled = torch.nn.functional.avg_pool3d(volumes.double(), 3).float()
    found = Slic(8)(pooled).labels
    for dim in (1, 2, 3):
        found = found.repeat_interleave(3, dim)
    assert torch.equal(segments.labels, found)
    series = coarse_noise(2, 2, 101)
    assert_sound(Reduced(Slic(6), 20)(series), series)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_gives_the_labels_of_the_cpu_without_waiting():
    volumes = coarse_noise(2, 3, 24, 32, 40)
    on_device = volumes.cuda()
    Slic()(on_device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        segments = Slic()(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(segments.labels.cpu(), Slic()(volumes).labels)
