"""The segments of a reduced copy, enlarged: what they keep, and that nothing waits for them."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.superpixels import explained_variation
from tests.segments.test_slic import assert_sound, random_images, same
from tests.test_fake_cuda import RefuseWaiting
from torchlime import Lime
from torchlime._labelmap import Segments
from torchlime.segments import Grid, Reduced, Slic
from torchlime.segments.axis import Axis


def bounds(side, parts):
    return [(i * side // parts, (i + 1) * side // parts) for i in range(parts)]


def block_means(image, height, width):
    """The means of the blocks of one image [C,H,W], one by one."""
    pixels = np.nan_to_num(image.double().numpy(), nan=0.0, posinf=0.0, neginf=0.0)
    rows, columns = bounds(image.shape[1], height), bounds(image.shape[2], width)
    blocks = [[pixels[:, a:b, c:d].mean((1, 2)) for c, d in columns] for a, b in rows]
    return np.array(blocks).transpose(2, 0, 1)


class Seen:
    """A segmenter that keeps what it was given, and makes every pixel a segment."""

    def __call__(self, images):
        self.images = images
        batch, _, height, width = images.shape
        labels = torch.arange(height * width).view(1, height, width).expand(batch, -1, -1)
        count = torch.full((batch,), height * width)
        return Segments(labels, count, count > 0, height * width)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 64, 65, 99, 100])
def test_the_parts_of_an_axis_go_up_in_steps_of_one(parts):
    """So the pixels of a part are an interval, and those of neighbouring parts touch."""
    for length in range(parts, 201):
        axis = Axis(length, parts)
        part = axis.part(torch.device("cpu"))
        assert part[0] == 0
        assert part[-1] == parts - 1
        assert set(part.diff().tolist()) <= {0, 1}
        assert [part.tolist().index(i) for i in range(parts)] == [
            low for low, _ in bounds(length, parts)
        ]
        assert part.bincount().max() == axis.size


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    max_side=st.integers(1, 30),
    num_segments=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_segments_stay_connected_and_dense_at_any_scale(size, max_side, num_segments, seed):
    images = random_images(2, 3, *size, seed=seed)
    assert_sound(Reduced(Slic(num_segments), max_side)(images), images)


@given(
    size=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    max_side=st.integers(1, 24),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_a_pixel_of_the_copy_is_the_mean_of_its_block(size, max_side, dtype, seed):
    images = random_images(2, 2, *size, seed=seed).to(dtype)
    segmenter = Seen()
    labels = Reduced(segmenter, max_side)(images).labels
    height, width = segmenter.images.shape[2:]
    assert max(height, width) == min(max_side, max(size))
    assert abs(height - size[0] * max(height, width) / max(size)) <= 1
    expected = np.stack([block_means(image, height, width) for image in images])
    tolerance = torch.finfo(dtype).eps if dtype.itemsize == 2 else 1e-6
    np.testing.assert_allclose(segmenter.images.double().numpy(), expected, rtol=tolerance)
    assert segmenter.images.dtype == dtype
    for i, (top, bottom) in enumerate(bounds(size[0], height)):
        for j, (left, right) in enumerate(bounds(size[1], width)):
            assert (labels[:, top:bottom, left:right] == i * width + j).all()


@pytest.mark.parametrize("size", [(4001, 2999), (2999, 4001), (1025, 1), (1, 1025), (1023, 1025)])
def test_every_pixel_of_the_copy_is_found_in_the_image(size):
    segments = Reduced(Seen(), 1024)(torch.zeros(1, 1, *size))
    assert segments.bound > 1000
    assert segments.labels.flatten().bincount(minlength=segments.bound).min() >= 1
    assert segments.labels.shape == (1, *size)


def test_small_images_go_to_the_segmenter_as_they_are():
    images = torch.rand(2, 3, 24, 32)
    segmenter = Seen()
    reduced = Reduced(segmenter, 32)(images)
    assert segmenter.images is images
    assert same(reduced, Seen()(images))
    assert same(Reduced(Slic(9), 32)(images), Slic(9)(images))
    assert not same(Reduced(Slic(9), 31)(images), Slic(9)(images))


@pytest.mark.parametrize("share", [0.1, 1 / 3, -0.73, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_constant_image_stays_constant(share, dtype):
    """Else Slic, which stretches the range of an image, would follow the last bits."""
    images = torch.full((1, 1, 37, 53), share * torch.finfo(dtype).max, dtype=dtype)
    segmenter = Seen()
    Reduced(segmenter, 11)(images)
    assert segmenter.images.unique().tolist() == images.unique().tolist()


def test_no_range_overflows():
    largest = torch.finfo(torch.float32).max
    images = torch.tensor([largest, -largest]).repeat(20)[None, None, None].expand(1, 1, 40, -1)
    segmenter = Seen()
    Reduced(segmenter, 9)(images.contiguous())
    assert segmenter.images.isfinite().all()
    assert segmenter.images.abs().max() < largest


def test_non_finite_pixels_count_as_zero():
    images = random_images(1, 3, 30, 40)
    broken = images.clone()
    broken[0, :, 3, 5], broken[0, 0, 9, 9], broken[0, 2, 20, 1] = torch.nan, torch.inf, -torch.inf
    zeroed = torch.where(broken.isfinite(), broken, 0)
    assert same(Reduced(Slic(9), 16)(broken), Reduced(Slic(9), 16)(zeroed))


def test_the_batch_and_the_memory_format_do_not_matter():
    images = random_images(3, 3, 50, 70)
    before = images.clone()
    segmenter = Reduced(Slic(12), 24)
    together = segmenter(images)
    channels_last = segmenter(images.contiguous(memory_format=torch.channels_last))
    assert same(together, channels_last)
    assert torch.equal(images, before)
    for place in range(3):
        alone = segmenter(images[place : place + 1])
        assert torch.equal(alone.labels[0], together.labels[place])
        assert alone.count[0] == together.count[place]


def test_a_budget_that_ran_out_is_still_told():
    def unsure(images):
        segments = Grid(2, 2)(images)
        return segments._replace(ok=torch.tensor([True, False]))

    assert Reduced(unsure, 8)(torch.zeros(2, 1, 30, 30)).ok.tolist() == [True, False]


@pytest.mark.parametrize("name", ["retina.jpg", "hubble_deep_field.jpg"])
def test_the_borders_are_nearly_as_good_as_at_full_size(name):
    """Explained variation: at half the side, not more than 0.015 is lost."""
    import skimage.data
    from skimage.io import imread

    photo = imread(Path(skimage.data.__file__).parent / name)
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    full, reduced = Slic(50)(image), Reduced(Slic(50), 512)(image)
    assert_sound(reduced, image)
    loss = explained_variation(full.labels[0].numpy(), photo)
    loss -= explained_variation(reduced.labels[0].numpy(), photo)
    assert loss < 0.015
    grid = explained_variation(Grid(7, 7)(image).labels[0].numpy(), photo)
    assert explained_variation(reduced.labels[0].numpy(), photo) > grid + 0.02


@pytest.mark.parametrize("size", [(100, 75), (64, 48)])
def test_runs_on_fake_cuda_without_a_word_to_the_host(size):
    with FakeTensorMode(), RefuseWaiting():
        segments = Reduced(Slic(9), 64)(torch.empty(2, 3, *size, device="cuda"))
    assert segments.labels.shape == (2, *size)
    assert segments.labels.device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_gpu_gives_the_labels_of_the_cpu_without_waiting(dtype):
    images = random_images(2, 3, 301, 403).to(dtype)
    segmenter, on_device = Reduced(Slic(30), 128), images.cuda()
    segmenter(on_device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        segments = segmenter(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(segments.labels.cpu(), segmenter(images).labels)


def test_compiles_to_one_graph_with_the_same_labels():
    images = random_images(2, 3, 45, 37)
    compiled = torch.compile(Reduced(Slic(9), 20), fullgraph=True, backend="aot_eager")
    assert same(compiled(images), Reduced(Slic(9), 20)(images))


def test_an_explanation_of_a_large_image():
    """The left half counts, whatever the scale at which segments are found."""
    images = torch.zeros(1, 3, 61, 83)
    images[..., :40] = 1
    explainer = Lime(segmenter=Reduced(Grid(2, 2), 32), num_samples=64, fill=torch.zeros(()))
    explanation = explainer.explain(lambda x: x[..., :40].mean((2, 3))[:, :1], images).check()
    assert explanation.segments.shape == (1, 61, 83)
    left = explanation.coefficients[0, 0, [0, 2]]
    assert (left > 0.3).all()
    assert "Reduced" in str(explanation.settings["segmenter"])


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"segmenter": "slic"}, TypeError, "segmenter must be callable, got str"),
        ({"max_side": 0}, ValueError, "max_side must be at least 1, got 0"),
        ({"max_side": 512.0}, TypeError, "max_side must be an int, got float"),
    ],
)
def test_settings_are_checked_by_name(options, error, sentence):
    with pytest.raises(error, match=sentence):
        Reduced(**{"segmenter": Slic(), **options})


def test_what_it_is_given_is_checked():
    with pytest.raises(TypeError, match="images must be floating point"):
        Reduced(Slic())(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    for side in (4, 8):  # reduced or not
        with pytest.raises(TypeError, match="segments must be a Segments or an integer label map"):
            Reduced(lambda images: images[:, 0], side)(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("shape", [(4, 4), (4, 1), (2, 4, 4), (2, 3, 4, 4), (1, 1, 4, 4)])
def test_a_segmenter_may_return_a_label_map_as_for_any_explanation(shape):
    """The map may have any ids, and is enlarged like Segments."""
    ids = torch.arange(math.prod(shape)).view(shape) // 3 * 7 - 1
    images = torch.zeros(2, 3, 8, 8)
    whole = Reduced(lambda copy: ids, 4)(images)
    small = Reduced(lambda copy: ids, 4)(images[..., ::2, ::2])
    assert whole.labels.shape[-2:] == (8, 8)
    assert torch.equal(whole.labels[..., ::2, ::2], small.labels)
    assert torch.equal(whole.labels[..., 1::2, 1::2], small.labels)
    assert torch.equal(whole.ids, small.ids)
    assert whole.background
    found = Lime(segmenter=Reduced(lambda copy: ids, 4)).explain(lambda x: x.sum((2, 3)), images)
    assert found.check().ids.max() == ids.max()


def test_is_a_value():
    segmenter = Reduced(Slic(30), 640)
    assert pickle.loads(pickle.dumps(segmenter)) == eval(repr(segmenter)) == segmenter
    assert Reduced(Slic()).max_side == 1024
