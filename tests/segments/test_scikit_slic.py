import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.segments.test_slic_axes import coarse_noise
from torchlime.segments import ScikitSlic


@given(
    st.one_of(
        st.tuples(st.integers(1, 150)),
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        st.tuples(st.integers(1, 10), st.integers(1, 10), st.integers(1, 10)),
    ),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 60),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=60)
def test_labels_are_dense_and_within_the_bound(sides, channels, num_segments, share, seed):
    images = coarse_noise(2, channels, *sides, seed=seed)
    segments = ScikitSlic(num_segments, min_size_factor=share)(images)
    assert segments.labels.shape == (2, *sides)
    assert segments.ok.all()
    for labels, count in zip(segments.labels, segments.count.tolist(), strict=True):
        assert labels.unique().tolist() == list(range(count))
        assert count <= segments.bound
    assert segments.bound == ScikitSlic(num_segments, min_size_factor=share)(images[:1]).bound


@pytest.mark.parametrize("channels", [1, 3])
def test_is_scikit_images(channels):
    from skimage.segmentation import slic

    volumes = coarse_noise(2, channels, 8, 14, 13).double()
    segmenter = ScikitSlic(12, 20.0, iterations=4, sigma=0.5, spacing=(3.0, 1.0, 1.0))
    segments = segmenter(volumes)
    for volume, labels in zip(volumes, segments.labels, strict=True):
        expected = slic(
            volume.movedim(0, -1).numpy(),
            n_segments=12,
            compactness=20.0 if channels == 3 else 0.2,
            max_num_iter=4,
            sigma=0.5,
            spacing=(3.0, 1.0, 1.0),
            start_label=0,
            channel_axis=-1,
        )
        _, dense = np.unique(expected, return_inverse=True)
        np.testing.assert_array_equal(labels, dense.reshape(expected.shape))


@pytest.mark.parametrize("sides", [(1, 80), (1, 20, 20)])
def test_an_axis_of_one_pixel_makes_no_series(sides):
    """Three channels are sRGB, wherever the axis of one pixel stands."""
    images = coarse_noise(2, 3, *sides)
    own = ScikitSlic(8)(images).labels
    assert torch.equal(own.movedim(1, -1), ScikitSlic(8)(images.movedim(2, -1)).labels)


def test_finds_the_parts_of_a_volume():
    volume = torch.zeros(1, 1, 12, 12, 12)
    volume[..., 7:] = 1
    labels = ScikitSlic(27, 1.0)(volume).labels
    assert not set(labels[..., :7].unique().tolist()) & set(labels[..., 7:].unique().tolist())


def test_non_finite_pixels_count_as_zero():
    images = coarse_noise(1, 2, 9, 9)
    images[0, 0, 3, 3], images[0, 1, 4, 4] = torch.nan, -torch.inf
    zeroed = torch.where(images.isfinite(), images, 0)
    assert torch.equal(ScikitSlic(5)(images).labels, ScikitSlic(5)(zeroed).labels)


def test_without_scikit_image_one_line_says_how_to_get_it(monkeypatch):
    def refuse(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(ImportError, match=r"^ScikitSlic needs .*'torchlime\[lime\]'$"):
        ScikitSlic()(torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_segments": 0}, ValueError),
        ({"compactness": -1.0}, ValueError),
        ({"iterations": 1.5}, TypeError),
        ({"sigma": -1.0}, ValueError),
        ({"sigma": float("inf")}, ValueError),
        ({"spacing": (1.0, 0.0)}, ValueError),
        ({"min_size_factor": 0.0}, ValueError),
        ({"min_size_factor": 1.5}, ValueError),
    ],
)
def test_settings_are_checked_by_name(options, error):
    with pytest.raises(error, match=next(iter(options))):
        ScikitSlic(**options)


def test_spacing_has_a_number_for_each_axis():
    with pytest.raises(ValueError, match="spacing must have a number for each of the 3 axes"):
        ScikitSlic(spacing=(1.0, 1.0))(torch.rand(1, 1, 4, 4, 4))


def test_is_a_value():
    assert pickle.loads(pickle.dumps(ScikitSlic(7))) == ScikitSlic(7)
