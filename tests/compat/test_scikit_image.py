"""SegmentationAlgorithm against the installed one."""

import warnings

import numpy as np
import pytest
import skimage.segmentation
from lime.utils.generic_utils import has_arg as their_has_arg
from lime.wrappers.scikit_image import BaseWrapper as TheirWrapper
from lime.wrappers.scikit_image import SegmentationAlgorithm as Theirs
from skimage.data import chelsea

from tests.compat.side_by_side import Recorder, explain
from torchlime.compat import lime_image
from torchlime.compat.scikit_image import BaseWrapper, SegmentationAlgorithm, has_arg

PHOTO = chelsea()[60:140:2, 100:220:2]


@pytest.mark.parametrize(
    ("algorithm", "parameters"),
    [
        ("quickshift", {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}),
        ("quickshift", {"kernel_size": 1, "max_dist": 20, "ratio": 0.5}),
        ("felzenszwalb", {"scale": 20, "sigma": 0.4, "min_size": 8}),
        ("slic", {"n_segments": 20, "compactness": 5, "sigma": 1}),
        ("slic", {"n_segments": 20, "start_label": 0}),
        ("slic", {}),
    ],
)
@pytest.mark.parametrize("scale", [1, 255])
def test_label_maps_are_limes(algorithm, parameters, scale):
    image = PHOTO if scale == 1 else PHOTO / scale
    theirs, mine = Theirs(algorithm, **parameters), SegmentationAlgorithm(algorithm, **parameters)
    assert vars(theirs) == vars(mine)
    expected, found = theirs(image), mine(image)
    np.testing.assert_array_equal(expected, found)
    assert expected.dtype == found.dtype


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_the_default_segments_are_limes(dtype):
    image = PHOTO if dtype == np.uint8 else PHOTO / 255
    from lime import lime_image as lime

    for seed in (0, 1):
        theirs, mine = (
            explain(m, image, Recorder(), {"random_state": seed}, num_samples=8)
            for m in (lime, lime_image)
        )
        np.testing.assert_array_equal(theirs.segments, mine.segments)
        assert theirs.segments.dtype == mine.segments.dtype


def test_unknown_parameters_are_left_out_and_that_is_said():
    with pytest.warns(UserWarning, match="quickshift has no parameter compactness, sigmas"):
        mine = SegmentationAlgorithm("quickshift", ratio=0.5, compactness=1, sigmas=2)
    theirs = Theirs("quickshift", ratio=0.5, compactness=1, sigmas=2)
    assert mine.target_params == theirs.target_params == {"ratio": 0.5}


def test_a_random_seed_reaches_quickshift_under_its_new_name():
    flat, maps = np.zeros((12, 12, 3)), []  # ties everywhere: there the seed decides
    for seed in (5, 6):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mine = SegmentationAlgorithm("quickshift", kernel_size=1, max_dist=2, random_seed=seed)
        assert mine.target_params == {"kernel_size": 1, "max_dist": 2, "rng": seed}
        maps.append(mine(flat))
        expected = skimage.segmentation.quickshift(flat, kernel_size=1, max_dist=2, rng=seed)
        np.testing.assert_array_equal(maps[-1], expected)
    assert not np.array_equal(*maps)


def test_only_a_random_seed_that_was_asked_for_replaces_quickshifts_own(monkeypatch):
    """lime drops the one that it draws, because the argument has another name today."""
    seen = []

    def quickshift(image, ratio=1, kernel_size=5, max_dist=10, rng=42):
        seen.append(rng)
        return np.zeros(image.shape[:2], dtype=np.int64)

    monkeypatch.setattr(skimage.segmentation, "quickshift", quickshift)
    for seed in (None, 0, 7):
        explain(lime_image, PHOTO, Recorder(), {}, num_samples=4, random_seed=seed)
    assert seen == [42, 0, 7]


def test_slic_as_it_is_today_is_explained_rightly():
    """Its labels start at 1: lime never hides the last segment, and hides no pixel for column 0."""
    slic = SegmentationAlgorithm("slic", n_segments=12)
    assert slic(PHOTO).min() == 1
    last = slic(PHOTO) == slic(PHOTO).max()

    def brightness(images):
        return images[:, last].mean(axis=(1, 2), keepdims=True)[:, :, 0] / 255

    explanation = explain(
        lime_image, PHOTO, brightness, {"random_state": 0}, segmentation_fn=slic,
        num_samples=200, hide_color=0,
    )  # fmt: skip
    np.testing.assert_array_equal(explanation.segments, slic(PHOTO))
    assert explanation.local_exp[0][0][0] == slic(PHOTO).max()
    assert explanation.score > 0.99


def function(image, ratio=1, *, sigma=0, **more):
    return image


class Callable:
    def __call__(self, image, ratio=1):
        return image


def own(kind):
    class Wrapper(kind):
        def __call__(self, image, gamma=1):
            return image

    return Wrapper()


@pytest.mark.parametrize(
    "use",
    [
        lambda kind: kind(function, ratio=2).target_params,
        lambda kind: kind(function, ratio=2, nonsense=3).filter_params(function),
        lambda kind: kind(function, ratio=2).filter_params(function, {"more": 1}),
        lambda kind: kind(function).set_params(ratio=1, sigma=2),
        lambda kind: kind(function).set_params(nonsense=1),
        lambda kind: kind(function)._check_params("ratio"),
        lambda kind: kind(function)._check_params(5),
        lambda kind: kind(Callable()).set_params(ratio=1),
        lambda kind: kind(Callable()).set_params(sigma=1),
        lambda kind: kind()._check_params(["ratio"]),
        lambda kind: own(kind)._check_params(["gamma"]),
        lambda kind: own(kind)._check_params(["delta"]),
    ],
)
def test_the_wrapper(use):
    results = []
    for kind in (TheirWrapper, BaseWrapper):
        try:
            results.append(use(kind))
        except Exception as error:
            results.append((type(error), str(error)))
    assert results[0] == results[1]


def test_parameters_are_replaced():
    for kind in (Theirs, SegmentationAlgorithm):
        segment = kind("quickshift", ratio=0.5, kernel_size=3)
        segment.set_params(max_dist=9)
        assert segment.target_params == {"max_dist": 9}


def test_an_unknown_algorithm_is_noticed_when_it_is_called():
    for kind in (Theirs, SegmentationAlgorithm):
        segment = kind("watershed")
        with pytest.raises(AttributeError, match="no attribute 'target_fn'"):
            segment(PHOTO)


@pytest.mark.parametrize("name", ["image", "ratio", "sigma", "more", "nonsense", "self"])
@pytest.mark.parametrize("target", [function, Callable(), np.linalg.norm, max])
def test_has_arg(target, name):
    assert has_arg(target, name) == their_has_arg(target, name)
