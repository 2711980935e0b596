"""Label maps of any ids: what lime gives for the map renumbered, under the caller's own ids."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lime import lime_image as lime
from sklearn.linear_model import BayesianRidge, Lasso, LinearRegression
from torch import nn

from tests.compat.side_by_side import (
    Recorder,
    assert_same,
    assert_same_batches,
    explain,
    label_map,
    picture,
    under_the_ids_of,
)
from torchlime.compat import lime_image as ours
from torchlime.compat.label_maps import ids_and_columns

DENSE = label_map(6)
FAR = np.array([-(10**12), -3, 0, 5, 10**9, 2**62])
MAPS = {
    "from 1": DENSE + 1,
    "from 1, int32": (DENSE + 1).astype(np.int32),
    "from 1, uint8": (DENSE + 1).astype(np.uint8),
    "gaps": DENSE * 3 + 7,
    "gaps, uint16": (DENSE * 9001 + 7).astype(np.uint16),
    "negative": DENSE * 2 - 5,
    "negative, all of int8": np.array([-128, -1, 0, 1, 5, 127], np.int8)[DENSE],
    "far apart": FAR[DENSE],
    "above int64": DENSE.astype(np.uint64) + np.uint64(2**63),
    "whole floats": DENSE * 2.0 - 3,
    "halves": (DENSE / 2).astype(np.float32),
    "bool": DENSE > 2,
    "descending": 6 - DENSE,
    "dense, uint8": DENSE.astype(np.uint8),
    "dense, not contiguous": np.repeat(DENSE, 2, axis=1)[:, ::2],
}
SIGNS = ((True, False), (False, True), (False, False))


def renumbered(segments):
    """0…M−1 in the order of the ids, by the slowest way."""
    ranks = np.zeros(segments.shape, np.int64)
    for rank, id_ in enumerate(sorted(set(segments.reshape(-1).tolist()))):
        ranks[segments == id_] = rank
    return ranks


def both(segments, init=None, image=None, **arguments):
    """(lime's explanation of the map renumbered, ours of the map), under the map's ids."""
    image, init = picture() if image is None else image, {"random_state": 7} | (init or {})
    arguments = {"num_samples": 60, "top_labels": 3} | arguments
    recorders, ranks = (Recorder(), Recorder()), renumbered(segments)
    theirs = explain(lime, image, recorders[0], init, segmentation_fn=lambda _: ranks, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a right explanation needs no warning
        mine = explain(
            ours, image, recorders[1], init, segmentation_fn=lambda _: segments, **arguments
        )
    assert_same_batches(recorders[0].batches, recorders[1].batches)
    return under_the_ids_of(segments, theirs), mine


@pytest.mark.parametrize("name", MAPS)
def test_a_map_of_any_ids(name):
    segments = MAPS[name]
    before = segments.copy()
    theirs, mine = both(segments)
    assert_same(theirs, mine)
    assert mine.segments is segments
    np.testing.assert_array_equal(segments, before)
    np.testing.assert_array_equal(mine.segment_ids, np.unique(segments))
    for label, weights in mine.local_exp.items():
        painted = np.full(segments.shape, np.nan)
        for id_, weight in weights:  # as published code paints
            painted[segments == id_] = weight
        np.testing.assert_array_equal(painted, mine.heatmap(label))
        np.testing.assert_array_equal(painted, np.vectorize(dict(weights).get)(segments))


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("hide_rest", [True, False])
def test_pictures_and_masks_are_those_of_the_renumbered_map(name, hide_rest):
    segments = MAPS[name]
    _, mine = both(segments)
    theirs = explain(
        lime, picture(), Recorder(), {"random_state": 7}, num_samples=60, top_labels=3,
        segmentation_fn=lambda _: renumbered(segments),
    )  # fmt: skip
    signs = {np.sign(w) for weights in mine.local_exp.values() for _, w in weights}
    assert signs == {-1, 1}
    for label in mine.local_exp:
        for positive, negative in SIGNS:
            arguments = (label, positive, negative, hide_rest, 3)
            shown, mask = mine.get_image_and_mask(*arguments)
            expected, expected_mask = theirs.get_image_and_mask(*arguments)
            np.testing.assert_array_equal(shown, expected)
            np.testing.assert_array_equal(mask.astype(np.int64), expected_mask)
            assert mask.dtype == segments.dtype or (
                (positive, negative) == (False, False) and segments.dtype.kind in "bu"
            )


@pytest.mark.parametrize("name", MAPS)
def test_the_native_object_is_dense_and_shows_the_same(name):
    segments = MAPS[name]
    _, mine = both(segments)
    native = mine.to_torchlime().check()
    np.testing.assert_array_equal(native.segments[0], renumbered(segments))
    ids, _ = native.top(1)
    for row, (label, weights) in enumerate(mine.local_exp.items()):
        np.testing.assert_array_equal(
            native.heatmap()[0, row].numpy(), mine.heatmap(label).astype(np.float32)
        )
        assert mine.segment_ids[ids[0, row, 0]] == weights[0][0]
        np.testing.assert_array_equal(
            native.mask(top=3)[0, row].numpy(),
            mine.get_image_and_mask(label, num_features=3)[1] == 1,
        )


@pytest.mark.parametrize("num_features", [2, 100000])
@pytest.mark.parametrize(
    "method", ["auto", "none", "highest_weights", "forward_selection", "lasso_path"]
)
def test_selected_features_go_by_the_callers_ids(method, num_features):
    segments = MAPS["gaps"]
    theirs, mine = both(segments, {"feature_selection": method}, num_features=num_features)
    assert_same(theirs, mine)
    for row, (label, weights) in enumerate(mine.local_exp.items()):
        assert {f for f, _ in weights} <= set(np.unique(segments))
        unselected = ~np.isin(segments, [f for f, _ in weights])
        assert (mine.heatmap(label)[unselected] == 0).all()
        np.testing.assert_allclose(mine.to_torchlime().heatmap()[0, row], mine.heatmap(label), 1e-6)


@pytest.mark.parametrize("regressor", [Lasso(alpha=0.01), LinearRegression(), BayesianRidge()])
def test_regressors(regressor):
    theirs, mine = both(MAPS["negative"], model_regressor=regressor)
    assert_same(theirs, mine, 1e-7)


def test_the_quarter_of_the_issue():
    """Only quarter 1 matters, and its id is 1."""
    ids = np.arange(8)[:, None] // 4 * 2 + np.arange(8) // 4 + 1
    e = ours.LimeImageExplainer(random_state=0).explain_instance(
        np.random.RandomState(0).rand(8, 8, 3),
        lambda x: np.stack([1 - x[:, :4, :4].mean((1, 2, 3)), x[:, :4, :4].mean((1, 2, 3))], 1),
        labels=(1,), top_labels=None, hide_color=0, num_samples=64,
        segmentation_fn=lambda x: ids, progress_bar=False,
    )  # fmt: skip
    assert e.local_exp[1][0][0] == 1
    assert (e.segments == ids).all()
    assert np.array_equal(e.get_image_and_mask(1, num_features=1)[1] == 1, ids == 1)
    assert np.array_equal(np.abs(e.heatmap(1)) > 0.1, ids == 1)
    assert np.array_equal(e.to_torchlime().heatmap()[0, 0].abs().numpy() > 0.1, ids == 1)


def test_images_of_a_list_have_each_their_own_ids():
    images = [picture(seed=i) for i in range(3)]
    maps = {image.tobytes(): label_map(3 + i) * (i + 1) - i for i, image in enumerate(images)}
    maps[images[1].tobytes()] = label_map(4)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = net.double()

    def function(x):
        with torch.no_grad():
            return net(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()

    arguments = {"num_samples": 40, "top_labels": None, "labels": (0, 2)}
    explainer = lime.LimeImageExplainer(random_state=3)
    expected = [
        under_the_ids_of(
            maps[image.tobytes()],
            explainer.explain_instance(
                image, function, **arguments,
                segmentation_fn=lambda x: renumbered(maps[x.tobytes()]),
            ),
        )
        for image in images
    ]  # fmt: skip
    for classifier_fn in (function, net):
        found = explain(
            ours, images, classifier_fn, {"random_state": 3}, **arguments,
            segmentation_fn=lambda x: maps[x.tobytes()],
        )  # fmt: skip
        for theirs, mine in zip(expected, found, strict=True):
            assert_same(theirs, mine, 1e-7)


def test_pickled_explanations_keep_the_ids():
    _, mine = both(MAPS["gaps"])
    copy = pickle.loads(pickle.dumps(mine))
    assert copy.local_exp == mine.local_exp
    label = mine.top_labels[0]
    np.testing.assert_array_equal(copy.heatmap(label), mine.heatmap(label))
    native, again = mine.to_torchlime(), copy.to_torchlime()
    assert torch.equal(native.coefficients, again.coefficients)
    assert torch.equal(native.standard_errors, again.standard_errors)


def test_edited_explanations():
    """Users edit local_exp; an id that the map lacks has no pixels."""
    _, mine = both(MAPS["gaps"])
    label = mine.top_labels[0]
    mine.local_exp[label] = [(7, 1.0), (8, -2.0), (np.uint8(10), 0.5)]
    assert set(np.unique(mine.heatmap(label))) == {0.0, 0.5, 1.0}


def test_one_id_on_every_pixel_is_announced():
    explainer = ours.LimeImageExplainer(random_state=0)
    with pytest.warns(UserWarning, match="one segment of the whole image.*n_segments") as caught:
        e = explainer.explain_instance(
            picture(), Recorder(), segmentation_fn=lambda _: np.ones((8, 10), bool),
            num_samples=20, progress_bar=False,
        )  # fmt: skip
    assert caught[0].filename == __file__
    assert len(caught) == 1
    assert [id_ for id_, _ in e.local_exp[e.top_labels[0]]] == [1]
    assert np.unique(e.heatmap(e.top_labels[0])).size == 1


def test_maps_that_hold_no_ids_are_refused():
    for bad, error, message in (
        (np.where(DENSE == 2, np.nan, DENSE), ValueError, "returned NaN"),
        (DENSE.astype(str), TypeError, "must return integers, got <U"),
        (DENSE + 0j, TypeError, "must return integers, got complex128"),
    ):
        with pytest.raises(error, match=message):
            explain(ours, picture(), Recorder(), {}, segmentation_fn=lambda _, m=bad: m)


# ---- literal_labels -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["from 1", "negative", "halves", "dense, uint8"])
def test_literal_labels_explain_as_wrongly_as_lime(name):
    segments = MAPS[name]
    literal = ours.LimeImageExplainer(random_state=7, literal_labels=True)
    recorders = Recorder(), Recorder()
    arguments = {"segmentation_fn": lambda _: segments, "num_samples": 40}
    wrong = literal.explain_instance(picture(), recorders[0], progress_bar=False, **arguments)
    theirs = explain(lime, picture(), recorders[1], {"random_state": 7}, **arguments)
    assert_same_batches(recorders[1].batches, recorders[0].batches)
    assert_same(theirs, wrong)
    label = wrong.top_labels[0]
    for expected, found in zip(
        theirs.get_image_and_mask(label), wrong.get_image_and_mask(label), strict=True
    ):
        np.testing.assert_array_equal(expected, found)
    weights = dict(wrong.local_exp[label])
    np.testing.assert_array_equal(
        wrong.heatmap(label), np.vectorize(lambda id_: weights.get(id_, 0.0))(segments)
    )
    if name == "dense, uint8":
        assert wrong.to_torchlime().segments.shape == (1, 8, 10)
    else:
        with pytest.raises(ValueError, match="explain without literal_labels=True"):
            wrong.to_torchlime()


# ---- data_labels of one's own -------------------------------------------------------------------


class Hook(ours.LimeImageExplainer):
    """lime's own loop, which compares labels with columns."""

    def data_labels(self, image, fudged_image, segments, classifier_fn, num_samples, batch_size):
        return lime.LimeImageExplainer.data_labels(
            self, image, fudged_image, segments, classifier_fn, num_samples, batch_size
        )


def test_an_overridden_data_labels_gets_the_numbers_of_columns():
    segments = MAPS["gaps"]
    arguments = {"num_samples": 60, "top_labels": 3, "segmentation_fn": lambda _: segments}
    hooked = Hook(random_state=7).explain_instance(picture(), Recorder(), **arguments)
    theirs, _ = both(segments)
    assert_same(theirs, hooked)
    assert hooked.to_torchlime().segments.max() == 5


class Grouped(ours.LimeImageExplainer):
    """Other columns than the segments are."""

    def data_labels(self, image, fudged_image, segments, *more, **options):
        return super().data_labels(image, fudged_image, segments // 2, *more, **options)


def test_columns_that_are_no_segments_keep_their_numbers():
    e = Grouped(random_state=7).explain_instance(
        picture(), Recorder(), num_samples=30, progress_bar=False,
        segmentation_fn=lambda _: MAPS["gaps"],
    )  # fmt: skip
    assert {f for f, _ in e.local_exp[e.top_labels[0]]} == {0, 1, 2}
    with pytest.raises(ValueError, match="3 mask columns do not stand for the 6 segments"):
        e.to_torchlime()


# ---- The renumbering ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("shape", [(8, 10), (4, 4, 5), (80,), (1, 80)])
def test_ids_and_columns(name, shape):
    segments = MAPS[name].reshape(shape)
    ids, columns = ids_and_columns(segments)
    np.testing.assert_array_equal(columns, renumbered(segments))
    assert columns.dtype.kind in "iu"
    np.testing.assert_array_equal(ids[columns], segments)
    if name not in ("above int64", "halves"):
        assert ids.dtype == np.int64
    if name == "dense, uint8":
        assert columns is segments


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64, np.bool_]),
        st.tuples(st.integers(1, 8), st.integers(1, 8)),
    )
    | hnp.arrays(np.int64, (5, 7), elements=st.integers(-2, 40))
)
@settings(deadline=None)
def test_ids_and_columns_are_numpys(labels):
    ids, columns = ids_and_columns(labels)
    expected_ids, expected_columns = np.unique(labels, return_inverse=True)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(columns, expected_columns.reshape(labels.shape))
