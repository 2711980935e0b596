"""What cannot be meant is refused, or announced, with the remedy."""

import io
import warnings

import numpy as np
import pytest
import torch
from lime import lime_image as lime
from PIL import Image
from skimage.segmentation import quickshift
from sklearn.linear_model import LogisticRegression

from tests.compat.side_by_side import Recorder, assert_same, explain, label_map, picture
from torchlime.compat import lime_image as ours
from torchlime.compat.scikit_image import SegmentationAlgorithm

NAMES = ["cat", "dog", "bird", "fish"]


def run(image, classifier_fn=None, init=None, **arguments):
    arguments = {"segmentation_fn": lambda x: label_map(4, x.shape[:2]), "num_samples": 9} | (
        arguments
    )
    return explain(ours, image, classifier_fn or Recorder(), init or {}, **arguments)


# ---- Channels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_arrays_with_channels_first(channels, dtype):
    first = np.moveaxis(picture(dtype, channels=channels), -1, 0)
    for given in (first, first[None], [first], np.stack([first] * 2)):
        with pytest.raises(ValueError, match=r"channel-first: pass np.moveaxis\(image, 0, -1\)"):
            run(given)
    expected = run(picture(dtype, channels=channels), init={"random_state": 1})
    for remedy in (np.moveaxis(first, 0, -1), torch.from_numpy(first)):
        assert_same(expected, run(remedy, init={"random_state": 1}))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tensors_with_channels_last(channels):
    image = picture(channels=channels)
    last = torch.from_numpy(image)
    for given in (last, last[None], [last]):
        with pytest.raises(ValueError, match=r"channel-last: pass image.movedim\(-1, 0\)"):
            run(given)
    expected = run(image, init={"random_state": 1})
    assert_same(expected, run(last.movedim(-1, 0), init={"random_state": 1}))


@pytest.mark.parametrize(
    "shape",
    [
        (3, 8, 3),
        (3, 8, 4),
        (4, 8, 1),
        (1, 8, 3),
        (8, 10, 12),
        (2, 9, 5),
        (5, 8, 10),
        (11, 11, 30),
        (16, 16, 40),
        (9, 20, 30),
        (2, 64, 16),
    ],
)
def test_shapes_that_may_be_channels_last_are_taken_so(shape):
    image = np.random.RandomState(0).rand(*shape)
    recorder = Recorder()
    assert run(image, recorder).segments.shape == shape[:2]
    assert recorder.batches[0].shape[1:] == shape


@pytest.mark.parametrize("shape", [(2, 24, 24), (6, 64, 64), (12, 17, 17), (6, 32, 48)])
def test_any_few_channels_on_the_wrong_side(shape):
    first = np.random.RandomState(0).rand(*shape)
    with pytest.raises(ValueError, match=r"channel-first: pass np.moveaxis\(image, 0, -1\)"):
        run(first)
    last = np.moveaxis(first, 0, -1)
    with pytest.raises(ValueError, match=r"channel-last: pass image.movedim\(-1, 0\)"):
        run(torch.from_numpy(last.copy()))
    for remedy in (last, torch.from_numpy(first)):
        recorder = Recorder()
        run(remedy, recorder)
        assert recorder.batches[0].shape[1:] == last.shape


def test_a_low_image_of_many_bands_says_so_by_a_tensor():
    bands = np.random.RandomState(0).rand(1, 40, 12)
    with pytest.raises(ValueError, match="channel-first"):
        run(bands)
    recorder = Recorder()
    run(torch.from_numpy(bands).movedim(-1, 0), recorder)
    assert recorder.batches[0].shape[1:] == (1, 40, 12)


def several(kind):
    """An opened file of three pictures."""
    pages = [Image.fromarray(picture(np.uint8, seed=i)) for i in range(3)]
    file = io.BytesIO()
    pages[0].save(file, kind, save_all=True, append_images=pages[1:])
    return Image.open(file)


@pytest.mark.parametrize("kind", ["MPO", "GIF", "PNG", "WEBP"])
def test_photos_whose_first_picture_is_meant(kind):
    photo = several(kind)
    assert photo.n_frames == 3
    expected = np.array(several(kind).convert("RGB"))
    np.testing.assert_array_equal(run(photo).image, expected)
    photo.seek(2)  # somebody wants another one
    expected = np.array(photo.convert("RGB"))
    np.testing.assert_array_equal(run(photo).image, expected)


def test_a_photo_with_a_smaller_copy_has_one_page():
    pages = [Image.fromarray(picture(np.uint8, seed=i)) for i in range(2)]
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}  # NewSubfileType
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    photo = Image.open(file)
    assert photo.n_frames == 2
    np.testing.assert_array_equal(run(photo).image, picture(np.uint8, seed=0))


def test_photos_of_several_pages():
    """Only the first would be explained."""
    photo = several("TIFF")
    with pytest.raises(ValueError, match="3 pages; pass one of them: image.seek"):
        run(photo)
    photo.seek(2)
    one = run(photo.copy())
    np.testing.assert_array_equal(one.image, np.array(photo.convert("RGB")))


# ---- The classifier -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 5)), r"got ndarray \[1, 5\], which looks like its result; pass predict, not"),
        (torch.zeros(1, 5), r"got Tensor \[1, 5\], which looks like its result; pass predict, not"),
        ([0.1, 0.9], r"got list; pass predict, not predict\(images\)"),
        (None, "got NoneType"),
        ("resnet18", "got str"),
        (LogisticRegression(), "got LogisticRegression; pass its predict_proba"),
    ],
    ids=str,
)
def test_what_is_no_function_is_named(given, message):
    segmented = []
    with pytest.raises(TypeError, match=message):
        explain(ours, picture(), given, {}, segmentation_fn=segmented.append)
    assert not segmented  # nothing slow ran before
    with pytest.raises(TypeError, match=message):
        ours.LimeImageExplainer().data_labels(picture(), picture(), label_map(4), given, 9)


def test_a_missing_label_is_noticed_in_the_first_batch():
    recorder = Recorder()
    with pytest.raises(IndexError, match="no label 7: classifier_fn has 4 outputs, labels 0…3"):
        run(picture(), recorder, labels=(2, 7), top_labels=None, num_samples=100)
    assert len(recorder.batches) == 1


# ---- Labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [NAMES, tuple(NAMES), np.array(NAMES), dict.fromkeys(NAMES)])
def test_names_beside_top_labels(labels):
    """As a published post passes them; top_labels=None would not run."""
    explainer = ours.LimeImageExplainer(random_state=0)
    arguments = {"segmentation_fn": lambda _: label_map(4), "num_samples": 20}
    arguments |= {"progress_bar": False, "top_labels": 2}
    with pytest.warns(
        UserWarning, match="no effect beside top_labels=2, and a label is a number"
    ) as c:
        e = explainer.explain_instance(picture(), Recorder(), labels=labels, **arguments)
    assert "top_labels=None" not in str(c[0].message)
    assert "names[explanation.top_labels[0]]" in str(c[0].message)
    assert NAMES[e.top_labels[0]] in NAMES
    with pytest.raises(IndexError, match="labels must be integers.*got 'cat'"):
        explainer.explain_instance(
            picture(), Recorder(), labels=labels, **arguments | {"top_labels": None}
        )


def test_numbers_beside_top_labels_may_take_their_place():
    explainer = ours.LimeImageExplainer(random_state=0)
    arguments = {"segmentation_fn": lambda _: label_map(4), "num_samples": 20}
    arguments |= {"progress_bar": False}
    for labels in ([0, 2], np.array([0, 2]), torch.tensor([0, 2]), range(0, 3, 2)):
        with pytest.warns(UserWarning, match="pass top_labels=None to explain them"):
            explainer.explain_instance(picture(), Recorder(), labels=labels, **arguments)
        e = explainer.explain_instance(
            picture(), Recorder(), labels=labels, top_labels=None, **arguments
        )
        assert list(e.local_exp) == [0, 2]
        assert e.heatmap(2).shape == (8, 10)
    unread = iter([0, 2])
    with pytest.warns(UserWarning, match="top_labels=5$"):
        explainer.explain_instance(picture(), Recorder(), labels=unread, **arguments)
    assert list(unread) == [0, 2]


# ---- Segmentation -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 4, 5, 12])
@pytest.mark.parametrize("shown", [0, -1])
@pytest.mark.parametrize("unit", [1e-3, 1, 2000])
def test_the_default_segmentation_sees_every_band(channels, shown, unit):
    inside = np.zeros((64, 64), bool)
    inside[16:48, 16:48] = True
    image = np.zeros((64, 64, channels))
    image[..., shown] = inside * unit
    e = run(image, segmentation_fn=None)
    assert not set(e.segments[inside]) & set(e.segments[~inside])


@pytest.mark.parametrize("channels", [2, 4, 5, 12])
def test_the_default_segmentation_scales_each_band(channels):
    image = picture(size=(64, 64), channels=channels) * np.geomspace(1, 1000, channels)
    scaled = image - image.min((0, 1))
    scaled = scaled / scaled.max((0, 1)) * 100 / np.sqrt(channels)
    expected = quickshift(scaled, kernel_size=4, max_dist=200, ratio=0.2, convert2lab=False)
    e = run(image, segmentation_fn=None)
    np.testing.assert_array_equal(e.segments, expected)
    assert len(e.segment_ids) > 1


def test_a_constant_band_changes_nothing_but_the_scale():
    image = picture(np.uint8, size=(32, 32), channels=4)
    image[..., 3] = 255
    assert run(image, segmentation_fn=None).segments.shape == (32, 32)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("algorithm", ["slic", "felzenszwalb"])
def test_other_algorithms_see_what_lime_gives_them(channels, algorithm):
    image = picture(size=(32, 32), channels=channels)
    segmenter = SegmentationAlgorithm(algorithm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, mine = (
            explain(m, image, Recorder(), {"random_state": 2}, hide_color=0, num_samples=9,
                    segmentation_fn=segmenter)
            for m in (lime, ours)
        )  # fmt: skip
    np.testing.assert_array_equal(theirs.segments, mine.segments)


def test_a_label_map_for_a_function_is_told_what_to_do():
    for given in (label_map(4), torch.from_numpy(label_map(4))):
        with pytest.raises(ValueError, match="got a label map; pass lambda image: labels"):
            run(picture(), segmentation_fn=given)
