import pickle
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.segments import oracles
from torchlime._labelmap import segment_sizes
from torchlime.segments import Slic, _colours, components, slic
from torchlime.segments._cells import cells_of

PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)


@pytest.fixture(scope="module")
def photos():
    """The colour photos in scikit-image's wheel, [B,3,224,224] in 8 bits."""
    import skimage.data
    from skimage.io import imread
    from skimage.transform import resize

    folder = Path(skimage.data.__file__).parent
    images = [resize(imread(folder / name), (224, 224), anti_aliasing=True) for name in PHOTOS]
    return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) * 255).round().byte()


def random_images(*shape, seed=0):
    """Coarse noise with fine noise on top, so that segments have something to follow."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    coarse = torch.rand(batch, channels, -(-height // 5), -(-width // 5), generator=generator)
    coarse = coarse.repeat_interleave(5, 2).repeat_interleave(5, 3)[..., :height, :width]
    return coarse + torch.rand(shape, generator=generator) / 8


def assert_sound(segments, images):
    batch, _, *sides = images.shape
    assert segments.labels.shape == (batch, *sides)
    assert segments.labels.dtype == segments.count.dtype == torch.int64
    assert segments.ok.dtype == torch.bool
    assert segments.ok.all()
    assert isinstance(segments.bound, int)
    for labels, count in zip(segments.labels.numpy(), segments.count.tolist(), strict=True):
        assert np.unique(labels).tolist() == list(range(count))
        assert 1 <= count <= segments.bound
        assert oracles.disconnected(labels) == 0


def same(one, other):
    return (
        torch.equal(one.labels, other.labels)
        and torch.equal(one.count, other.count)
        and torch.equal(one.ok, other.ok)
        and one.bound == other.bound
    )


@pytest.mark.parametrize("num_segments", [50, 100])
def test_beats_fast_slic_on_photos(photos, num_segments):
    from fast_slic.avx2 import SlicAvx2

    segments = Slic(num_segments)(photos.float() / 255)
    assert_sound(segments, photos)
    ours, theirs = [], []
    for photo, labels in zip(photos.numpy(), segments.labels.numpy(), strict=True):
        rival = SlicAvx2(num_components=num_segments, compactness=10)  # stateful: one an image
        other = rival.iterate(np.ascontiguousarray(photo.transpose(1, 2, 0)))
        ours.append(oracles.explained_variation(labels, photo))
        theirs.append(oracles.explained_variation(other.astype(int), photo))
    count = segments.count.double().mean().item()
    print(f"{num_segments}: {count:.1f} segments, explained variation {np.mean(ours):.3f} ", end="")
    print(f"(fast-slic {np.mean(theirs):.3f})")
    assert count >= 0.95 * num_segments
    assert np.mean(ours) >= np.mean(theirs)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3, 24, 31), {"num_segments": 6}),
        ((3, 23, 17), {"num_segments": 12, "compactness": 30.0, "blur": False}),
        ((1, 20, 29), {"num_segments": 9, "compactness": 2.0}),
        ((2, 31, 12), {"num_segments": 5, "iterations": 1}),
        ((5, 16, 16), {"num_segments": 4, "iterations": 3, "min_size_factor": 0.5}),
        ((3, 1, 40), {"num_segments": 7}),
        ((3, 5, 6), {"num_segments": 30}),
        ((3, 18, 18), {"num_segments": 9, "iterations": 0}),
    ],
)
def test_is_the_oracle(shape, options):
    images = random_images(2, *shape, seed=shape[1])
    segmenter = Slic(**options)
    segments = segmenter(images)
    grid = cells_of(shape[1:], segmenter.num_segments)
    for image, labels, count in zip(images, segments.labels, segments.count, strict=True):
        cells, colours = oracles.slic_cells(
            image.double().numpy(),
            grid.shape,
            segmenter.compactness,
            segmenter.iterations,
            segmenter.blur,
        )
        expected = oracles.connect(
            cells,
            colours,
            grid.number,
            segmenter.min_size_factor * shape[1] * shape[2] / grid.number,
            components.MERGE_ROUNDS,
        )
        np.testing.assert_array_equal(labels, expected[0])
        assert count == expected[1]


def test_finds_regions_that_the_grid_does_not_have():
    colours = torch.tensor([[0.0, 1.0], [0.3, 0.7]])
    image = colours.repeat_interleave(torch.tensor([18, 14]), 0)
    image = image.repeat_interleave(torch.tensor([13, 19]), 1)
    labels = Slic(4, compactness=1.0, blur=False)(image[None, None]).labels[0]
    rows, columns = torch.arange(32)[:, None] >= 18, torch.arange(32) >= 13
    assert torch.equal(labels, 2 * rows.long() + columns.long())


def test_without_iterations_it_is_the_grid():
    segments = Slic(6, iterations=0)(random_images(2, 3, 20, 31))
    rows = torch.tensor([0] * 10 + [1] * 10)[:, None]
    columns = torch.tensor([0] * 10 + [1] * 10 + [2] * 11)
    assert torch.equal(segments.labels, (3 * rows + columns).expand(2, -1, -1))
    assert segments.count.tolist() == [6, 6]


def test_a_constant_image_gives_the_whole_grid():
    images = torch.full((1, 3, 64, 64), 7.5)
    segments = Slic(16)(images)
    assert_sound(segments, images)
    assert segments.count.tolist() == [16]
    sizes = segment_sizes(segments)
    assert sizes.min() > 128
    assert sizes.max() < 400


@pytest.mark.parametrize(
    ("height", "width", "num_segments", "bound"),
    [(224, 224, 50, 49), (224, 224, 100, 100), (100, 400, 4, 4), (3, 3, 100, 9), (1, 9, 4, 4)],
)
def test_bound(height, width, num_segments, bound):
    images = random_images(1, 1, height, width)
    segments = Slic(num_segments)(images)
    assert segments.bound == bound
    assert_sound(segments, images)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 97), (97, 1), (2, 63), (61, 59)])
@pytest.mark.parametrize("num_segments", [1, 7, 50])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size, num_segments, channels):
    images = random_images(2, channels, *size)
    for options in ({}, {"compactness": 0.1}, {"iterations": 0, "min_size_factor": 0.0}):
        assert_sound(Slic(num_segments, **options)(images), images)


@pytest.mark.parametrize("compactness", [0.1, 10.0, 40.0])
def test_sound_on_adversaries(compactness):
    size = 256
    generator = torch.Generator().manual_seed(0)
    plain = [
        oracles.spiral(size),
        oracles.serpentine(size),
        oracles.maze(size, 0),
        oracles.tree(size),
        np.indices((size, size)).sum(0) % 2,
        np.zeros((size, size)),
    ]
    images = torch.stack([torch.from_numpy(p).float().expand(3, -1, -1) for p in plain])
    images = torch.cat((images, torch.rand(2, 3, size, size, generator=generator)))
    for num_segments in (2, 50):
        for blur in (True, False):
            segments = Slic(num_segments, compactness, blur=blur)(images)
            assert_sound(segments, images)


@given(
    st.integers(1, 5),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 30),
    st.sampled_from([0.1, 1.0, 10.0, 40.0]),
    st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=60)
def test_the_batch_does_not_matter(batch, channels, height, width, num_segments, compactness, seed):
    images = random_images(batch, channels, height, width, seed=seed)
    images[0] = 0.5
    images[-1] *= 1e-3
    segmenter = Slic(num_segments, compactness)
    together = segmenter(images)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    permuted = segmenter(images[order])
    assert torch.equal(permuted.labels, together.labels[order])
    assert torch.equal(permuted.count, together.count[order])
    for image in range(batch):
        alone = segmenter(images[image : image + 1])
        assert torch.equal(alone.labels[0], together.labels[image])
        assert alone.count[0] == together.count[image]


def test_photos_alone_and_in_any_memory_format(photos):
    images = photos.float() / 255
    together = Slic()(images)
    alone = torch.cat([Slic()(image[None]).labels for image in images])
    assert torch.equal(together.labels, alone)
    assert same(together, Slic()(images.to(memory_format=torch.channels_last)))


def test_range_and_precision_do_not_matter(photos):
    images = photos[:2].double()
    expected = Slic()(images)
    for other in (images / 256, images.float(), images * 2.0**900, images * 2.0**-900):
        assert same(Slic()(other), expected)
    assert same(Slic()(images.half()), expected)
    coarse = images.bfloat16()
    assert same(Slic()(coarse), Slic()(coarse.double()))
    assert same(Slic()(images - 2.0**20), expected)
    huge = torch.finfo(torch.float64).max * torch.tensor([-1.0, 1.0], dtype=torch.float64)
    assert_sound(Slic(4)(huge.repeat(1, 1, 8, 4)), torch.empty(1, 1, 8, 8))


def test_non_finite_pixels_count_as_zero():
    images = random_images(2, 3, 40, 40)
    images[0, 0, 3, 4], images[0, 1, 9:12], images[1, 2, 5] = torch.nan, torch.inf, -torch.inf
    zeroed = torch.where(images.isfinite(), images, 0)
    assert same(Slic(9)(images), Slic(9)(zeroed))
    assert_sound(Slic(9)(torch.full((1, 3, 20, 20), torch.nan)), zeroed[:1, :, :20, :20])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels_that_are_not_a_colour_get_the_range_of_lightness(channels):
    images = random_images(2, channels, 20, 20) * 37 - 5
    colours = _colours.colours_of(images, blur=False)
    assert colours.amin((1, 2, 3)).tolist() == [0, 0]
    assert colours.amax((1, 2, 3)).tolist() == [100, 100]
    torch.testing.assert_close(colours.argsort(3), images.argsort(3))
    white = _colours.colours_of(torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2), blur=False)
    torch.testing.assert_close(white[0, 0, 0].tolist(), [0.0, 100.0])


def test_the_order_of_the_channels_does_not_matter():
    images = random_images(2, 5, 40, 50)
    assert same(Slic(12)(images), Slic(12)(images[:, [3, 1, 4, 0, 2]]))


def test_lab_is_kornias():
    from kornia.color import rgb_to_lab

    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(2, 3, 9, 9, dtype=torch.float64, generator=generator)
    rgb[0, :, 0, :3] = torch.tensor([0.0, 1.0, 0.01])
    torch.testing.assert_close(_colours.lab(rgb), rgb_to_lab(rgb), rtol=0, atol=1e-10)


def test_leaves_its_input_and_gradients_alone():
    images = random_images(2, 3, 30, 30)
    before = images.clone()
    segments = Slic(9)(images.requires_grad_())
    assert torch.equal(images, before)
    assert images.grad is None
    assert not segments.labels.requires_grad
    view = images.detach().flip(3)
    assert same(Slic(9)(view), Slic(9)(view.contiguous()))


def test_the_callers_modes_do_not_matter(photos):
    images = photos[:2].float() / 255
    expected = Slic()(images)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert same(Slic()(images), expected)
            assert torch.is_autocast_enabled("cpu")
    with torch.inference_mode():
        assert same(Slic()(images), expected)
    state = torch.get_rng_state()
    precision = torch.get_float32_matmul_precision()
    try:
        for setting in ("high", "medium"):
            torch.set_float32_matmul_precision(setting)
            assert same(Slic()(images), expected)
            assert torch.get_float32_matmul_precision() == setting
    finally:
        torch.set_float32_matmul_precision(precision)
    assert torch.equal(torch.get_rng_state(), state)


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_does_not_matter(photos):
    with threads(1):
        expected = Slic()(photos.double())
    with threads(3):
        assert same(Slic()(photos.double()), expected)


def test_large_cells_are_summed_in_float64():
    images = random_images(1, 1, 300, 300)
    grid = cells_of((300, 300), 1)
    points = slic._points(*slic._whole_numbers(images.double(), grid, 10.0), grid)
    assert points.features.dtype == torch.float64
    assert_sound(Slic(1)(images), images)


@pytest.mark.parametrize("channels", [1, 3, 40])
def test_every_number_is_exact(channels):
    """The claim of batch invariance: colours, positions and distances are small whole numbers."""
    images = random_images(2, channels, 50, 70)
    grid = cells_of((50, 70), 12)
    for compactness in (0.01, 10.0, 1e4):
        colours, pixel = slic._whole_numbers(_colours.colours_of(images, True), grid, compactness)
        points = slic._points(colours, pixel, grid)
        assert torch.equal(points.features, points.features.round())
        assert points.features.abs().max() <= 2**8
        assert torch.equal(points.features, points.features.bfloat16().float())
        reach = 2.5 * pixel.max() * max(grid.sizes)
        largest = max(colours.abs().max(), reach) + 1
        assert 4 * (channels + 2) * largest**2 <= slic.outside_window(2)


def test_devices_without_float64(monkeypatch, photos):
    expected = Slic()(photos.double())
    monkeypatch.setattr(_colours, "solve_dtype", lambda device: torch.float32)
    segments = Slic()(photos.float())
    assert_sound(segments, photos)
    assert (segments.labels == expected.labels).double().mean() > 0.9


class NoTransfers(TorchDispatchMode):
    """Refuses copies between host and device, which fake tensors let pass."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        made = {t.device.type for t in tree_leaves(out) if isinstance(t, torch.Tensor)}
        assert len(given | made) <= 1, f"{func} moves data between {given | made}"
        return out


@pytest.mark.parametrize("shape", [(2, 3, 64, 48), (1, 1, 1, 30), (3, 7, 33, 65)])
@pytest.mark.parametrize("iterations", [0, 5])
def test_runs_on_fake_cuda_without_a_word_to_the_host(shape, iterations):
    with FakeTensorMode(), NoTransfers():
        images = torch.empty(shape, device="cuda", dtype=torch.float16)
        segments = Slic(12, iterations=iterations)(images)
    assert {t.device.type for t in segments[:3]} == {"cuda"}
    assert segments.labels.shape == (shape[0], *shape[2:])


def test_compiles_to_one_graph_with_the_same_labels():
    images = random_images(2, 3, 48, 64)
    compiled = torch.compile(Slic(12), fullgraph=True, backend="aot_eager")
    assert same(compiled(images), Slic(12)(images))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_gives_the_labels_of_the_cpu_without_waiting(photos):
    images = photos.float() / 255
    on_device = images.cuda()
    Slic()(on_device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        segments = Slic()(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(segments.labels.cpu(), Slic()(images).labels)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_segments": 0}, ValueError),
        ({"num_segments": 2.0}, TypeError),
        ({"num_segments": True}, TypeError),
        ({"compactness": 0}, ValueError),
        ({"compactness": -1.0}, ValueError),
        ({"compactness": float("nan")}, ValueError),
        ({"compactness": float("inf")}, ValueError),
        ({"iterations": -1}, ValueError),
        ({"iterations": 1.5}, TypeError),
        ({"min_size_factor": -0.1}, ValueError),
        ({"min_size_factor": 1.0}, ValueError),
        ({"min_size_factor": float("nan")}, ValueError),
    ],
)
def test_settings_are_checked_by_name(options, error):
    with pytest.raises(error, match=next(iter(options))):
        Slic(**options)


def test_images_are_checked():
    with pytest.raises(ValueError, match="images must have shape"):
        Slic()(torch.rand(8, 8))
    with pytest.raises(ValueError, match=r"\[B,C,L\], \[B,C,H,W\] or \[B,C,D,H,W\]"):
        Slic()(torch.rand(1, 1, 2, 2, 2, 2))
    with pytest.raises(TypeError, match="floating point"):
        Slic()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="pixels"):
        Slic()(torch.zeros(1, 1, 1, 1).expand(1, 1, 2**13, 2**13))


def test_is_a_value():
    assert pickle.loads(pickle.dumps(Slic(7))) == Slic(7)
    assert repr(Slic()) == (
        "Slic(num_segments=50, compactness=10.0, iterations=5, blur=True, min_size_factor=0.1)"
    )
