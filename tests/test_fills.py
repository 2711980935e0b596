import numpy as np
import pytest
import torch
from scipy import ndimage

from tests import oracles
from torchlime._labelmap import as_segments, segments_from_labels
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean

FILLS = [SegmentMean(), ImageMean(), Constant(0.25), Blur(2.0)]


@pytest.fixture
def images():
    return torch.rand(3, 3, 21, 34, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def segments():
    labels = torch.randint(0, 9, (3, 21, 34), generator=torch.Generator().manual_seed(1))
    return segments_from_labels(labels, 3, (21, 34), max_segments=12)


def test_segment_mean(images, segments):
    fill = SegmentMean()(images.double(), segments)
    for b in range(3):
        expected = oracles.segment_mean(images[b].double().numpy(), segments.labels[b].numpy())
        np.testing.assert_allclose(fill[b].numpy(), expected, atol=1e-12)


def test_segment_mean_of_a_constant_is_that_constant(segments):
    images = torch.full((3, 3, 21, 34), 0.1)
    assert torch.equal(SegmentMean()(images, segments), images)


def test_image_mean(images, segments):
    fill = ImageMean()(images, segments)
    assert fill.allclose(images.double().mean((2, 3), keepdim=True).float().expand_as(images))


def test_constant(images, segments):
    fill = Constant([0.1, 0.2, 0.3])(images, segments)
    assert fill[:, 1].unique().tolist() == [torch.tensor(0.2).item()]
    assert fill[:, 2].unique().tolist() == [torch.tensor(0.3).item()]
    assert Constant(1)(images, segments).unique().tolist() == [1.0]


@pytest.mark.parametrize("sigma", [0.3, 2.0, 9.0])
def test_blur_is_scipys(images, segments, sigma):
    fill = Blur(sigma)(images.double(), segments)
    for b, c in np.ndindex(3, 3):
        expected = ndimage.gaussian_filter(images[b, c].double().numpy(), sigma, mode="nearest")
        np.testing.assert_allclose(fill[b, c].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("fill", FILLS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_contract(fill, images, segments, dtype):
    images = images.to(dtype)
    before = images.clone()
    result = fill(images, segments)
    assert torch.equal(images, before)
    assert result.dtype == dtype
    assert result.shape == images.shape
    for b in range(3):
        one = type(segments)(*[field[b : b + 1] for field in segments[:3]], segments.bound)
        alone = fill(images[b : b + 1], one)
        tolerance = {torch.float64: 1e-9, torch.float32: 1e-5}.get(dtype, 1e-2)
        assert result[b : b + 1].allclose(alone, rtol=0, atol=tolerance)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fill(images, segments), result)
    compiled = torch.compile(fill, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images, segments), result)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Blur(0.0), ValueError, "sigma must be a finite number above 0, got 0.0"),
        (lambda: Blur(float("nan")), ValueError, "sigma must be"),
        (
            lambda: Constant((1.0, 2.0))(torch.zeros(1, 3, 2, 2), None),
            ValueError,
            "Constant has 2 values, the images have 3 channels",
        ),
        (lambda: ImageMean()(torch.zeros(3), None), ValueError, r"\[B,C,H,W\]"),
        (lambda: ImageMean()(torch.zeros(3, 2), None), ValueError, "axes behind the channels"),
        (lambda: SegmentMean()(torch.zeros(3, 2), None), ValueError, "pass fill=Constant"),
        (lambda: Blur(1.0)(torch.zeros(3, 2).long(), None), ValueError, "needs float inputs"),
        (
            lambda: Constant(0.5)(torch.zeros(3, 2).long(), None),
            TypeError,
            "must be whole for",
        ),
        (lambda: ImageMean()(torch.zeros(1, 3, 2, 2).byte(), None), TypeError, "floating point"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_blur_far_beyond_the_image_is_refused():
    images = torch.rand(1, 3, 8, 9)
    assert Blur(90.0)(images, None).shape == images.shape
    with pytest.raises(ValueError, match="sigma of 1e.09 pixels is far beyond the images' 8×9"):
        Blur(1e9)(images, None)


@pytest.mark.parametrize("size", [(21,), (5, 7, 6)], ids=["series", "volumes"])
@pytest.mark.parametrize("fill", FILLS, ids=repr)
def test_fills_of_series_and_volumes(size, fill):
    """Held against the same by scipy and by hand."""
    x = torch.rand(2, 3, *size, generator=torch.manual_seed(0), dtype=torch.float64)
    before = x.clone()
    labels = torch.randint(-1, 4, (2, *size), generator=torch.manual_seed(1))
    segments = as_segments(labels, x)
    result = fill(x, segments)
    assert torch.equal(x, before)
    assert result.shape == x.shape
    for b, c in np.ndindex(2, 3):
        for i in range(4):
            inside = labels[b] == i
            pixels = x[b, c]
            expected = {
                "SegmentMean()": pixels[inside].mean().expand(size),
                "ImageMean()": pixels.mean().expand(size),
                "Constant(value=0.25)": torch.full(size, 0.25, dtype=torch.float64),
                "Blur(sigma=2.0)": torch.from_numpy(
                    ndimage.gaussian_filter(pixels.numpy(), 2.0, mode="nearest")
                ),
            }[repr(fill)]
            np.testing.assert_allclose(result[b, c][inside], expected[inside], atol=1e-10)
    compiled = torch.compile(fill, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, segments), result)


def test_a_mean_of_bands_is_that_of_each_band():
    x = torch.rand(1, 4, 2, 3, generator=torch.manual_seed(0), dtype=torch.float64)
    segments = as_segments(torch.tensor([7, 7, 3, -1]).view(1, 4, 1, 1), x)
    bands = x.mean((2, 3), keepdim=True).expand_as(x)
    assert SegmentMean()(x, segments)[:, :3].allclose(bands[:, :3])
