"""Images, outputs and models that lime does not take, lists, pickles, the native object."""

import csv
import json
import pickle
import statistics
import sys

import numpy as np
import pytest
import torch
from lime import lime_image as lime
from PIL import Image
from torch import nn

import torchlime
from tests.compat.side_by_side import (
    Recorder,
    assert_same,
    assert_same_batches,
    explain,
    label_map,
    picture,
)
from torchlime import models
from torchlime.compat import lime_image
from torchlime.compat.scikit_image import SegmentationAlgorithm
from torchlime.segments import Grid, Slic
from torchlime.weights import Uniform

SEGMENTS = {"segmentation_fn": lambda _: label_map(6), "num_samples": 45}


class Net(nn.Module):
    """A classifier in float64, so that nothing but the path to it can matter."""

    def __init__(self, channels=3, classes=4, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Dropout(0.5), nn.Linear(32, classes),
        ).to(dtype)  # fmt: skip
        self.chunks = []

    def forward(self, x):
        self.chunks.append((x.shape[0], x.dtype))
        return self.layers(x) * 3


def as_function(net, scale=1):
    """The function that users of lime write around a module."""

    def batch_predict(images):
        net.eval()
        with torch.no_grad():
            pixels = torch.from_numpy(images / scale).permute(0, 3, 1, 2)
            return net(pixels.to(next(net.parameters()).dtype)).numpy()

    return batch_predict


def run(image, classifier_fn, init=None, **arguments):
    init = {"random_state": 7} | (init or {})
    return explain(lime_image, image, classifier_fn, init, **SEGMENTS | arguments)


def limes(image, classifier_fn, **arguments):
    return explain(lime, image, classifier_fn, {"random_state": 7}, **SEGMENTS | arguments)


# ---- Images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_tensors_are_channels_first(dtype):
    image = picture(dtype)
    theirs, recorder = limes(image, Recorder()), Recorder()
    chw = torch.from_numpy(image).permute(2, 0, 1)
    for tensor in (chw, chw[None], chw.contiguous()):
        assert_same(theirs, run(tensor, recorder))
    assert {batch.shape[1:] for batch in recorder.batches} == {(8, 10, 3)}
    assert {batch.dtype for batch in recorder.batches} == {np.dtype(dtype)}


def test_pil_images():
    image = picture(np.uint8)
    theirs = limes(image, Recorder())
    rgb = Image.fromarray(image)
    assert_same(theirs, run(rgb, Recorder()))
    opaque = rgb.copy()
    opaque.putalpha(255)
    assert_same(theirs, run(opaque, Recorder()))
    grey = Image.fromarray(picture(np.uint8, channels=None))
    assert_same(limes(np.array(grey), Recorder()), run(grey, Recorder()))


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
@pytest.mark.parametrize("default", [True, False])
def test_any_number_of_channels(channels, default):
    image, recorder = picture(np.float32, channels=channels), Recorder()
    arguments = {} if default else SEGMENTS
    explanation = explain(lime_image, image, recorder, {}, **{"num_samples": 20} | arguments)
    assert recorder.batches[0].shape == (10, 8, 10, channels)
    label = explanation.top_labels[0]
    for segment in np.unique(explanation.segments):  # means are those of every channel
        inside = explanation.segments == segment
        hidden = next(
            batch[row] for batch in recorder.batches for row in range(len(batch))
            if not np.array_equal(batch[row][inside], image[inside])
        )  # fmt: skip
        expected = np.broadcast_to(image[inside].mean(axis=0), hidden[inside].shape)
        np.testing.assert_allclose(hidden[inside], expected, 1e-5, 1e-6)
    for positive_only in (True, False):
        shown, mask = explanation.get_image_and_mask(label, positive_only=positive_only)
        assert shown.shape == image.shape
        assert mask.shape == image.shape[:2]


def test_other_images_are_refused():
    for image in (np.zeros(5), np.zeros((4, 4, 3), complex), np.full((4, 4, 3), "x"), None):
        with pytest.raises(TypeError, match="image must be an array"):
            run(image, Recorder())


# ---- Outputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: y,
        lambda y: y.tolist(),
        lambda y: list(y),
        lambda y: (row for row in y),
        lambda y: torch.from_numpy(y),
        lambda y: torch.from_numpy(y).requires_grad_(),
        lambda y: [row.requires_grad_() for row in torch.from_numpy(y)],
    ],
)
def test_outputs_of_many_kinds(wrap):
    recorder = Recorder()
    assert_same(limes(picture(), Recorder()), run(picture(), lambda x: wrap(recorder(x))))


def test_bfloat16_outputs():
    recorder = Recorder()
    rounded = lambda x: torch.from_numpy(recorder(x)).bfloat16()  # noqa: E731
    theirs = limes(picture(), lambda x: rounded(x).float().numpy())
    assert_same(theirs, run(picture(), rounded))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("tensor", [True, False])
def test_one_output(shape, tensor):
    one = Recorder(classes=1)
    theirs = limes(picture(), Recorder(classes=1))
    convert = torch.from_numpy if tensor else np.asarray
    assert_same(theirs, run(picture(), lambda x: convert(one(x).reshape(shape))))


# ---- Modules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("arguments", [{}, {"top_labels": None, "labels": (-1, 2)},
                                       {"hide_color": 0, "num_features": 3}])  # fmt: skip
def test_a_module_gives_what_lime_gives_for_the_function_around_it(dtype, arguments):
    image, net = picture(dtype), Net()
    theirs = limes(image, as_function(net, 255 if dtype == np.uint8 else 1), **arguments)
    assert_same(theirs, run(image, net, **arguments), 1e-7)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert_same(theirs, run(tensor, net, **arguments), 1e-7)


def test_a_classifier_of_torchlime_models():
    image, net = picture(np.uint8, size=(16, 16)), Net(dtype=torch.float32)
    classifier = models.Classifier(net)
    segments = label_map(6, size=(16, 16))
    theirs, mine = (
        explain(module, image, fn, {"random_state": 3}, num_samples=50,
                segmentation_fn=lambda _: segments)
        for module, fn in ((lime, as_function(classifier, 255)),
                           (lime_image, classifier))
    )  # fmt: skip
    assert_same(theirs, mine, 1e-5)


def test_batch_size_is_the_modules_chunk():
    net = Net()
    for batch_size, sizes in ((7, {7}), ("auto", {45}), (None, {45}), (0, {45})):
        net.chunks.clear()
        run(picture(), net, batch_size=batch_size)
        assert {rows for rows, _ in net.chunks} == sizes
    net.chunks.clear()
    run(picture(), net, num_samples=300)
    assert max(rows for rows, _ in net.chunks) <= 2**14 // 80  # 80 pixels


def test_modes_come_back_and_dropout_is_off():
    net = Net().train()
    first, second = run(picture(), net), run(picture(), net)
    assert all(module.training for module in net.modules())
    assert first.local_exp == second.local_exp


def test_autocast_reaches_a_module_and_only_that():
    net = Net(dtype=torch.float32)
    seen = []
    net.layers[0].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    exact = run(picture(np.float32), net)
    coarse = run(picture(np.float32), net, autocast=torch.bfloat16)
    assert set(seen) == {torch.float32, torch.bfloat16}
    a, b = (e.heatmap(exact.top_labels[0]) for e in (exact, coarse))
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()
    with pytest.raises(ValueError, match="autocast needs an nn.Module"):
        run(picture(), Recorder(), autocast=torch.bfloat16)


def test_wide_integers_are_not_guessed_at():
    with pytest.raises(TypeError, match="8-bit images .* or floats .* got int64"):
        run(picture(np.int64), Net())


def test_the_scores_of_a_module_stay_where_they_are():
    explainer = lime_image.LimeImageExplainer(random_state=0)
    data, scores = explainer.data_labels(
        picture(), 0 * picture(), label_map(6), Net(), 12, progress_bar=False
    )
    assert data.shape == (12, 6)
    assert isinstance(scores, torch.Tensor)
    assert scores.shape == (12, 4)


# ---- Several images -----------------------------------------------------------------------------


def test_a_list_is_explained_as_one_after_another_by_lime():
    sizes = [(8, 10), (8, 10), (6, 9), (8, 10)]
    images = [picture(size=size, seed=i) for i, size in enumerate(sizes)]

    def segmentation(image):
        return label_map(4 + image.shape[0] % 5, image.shape[:2])

    explainer, expected = lime.LimeImageExplainer(random_state=11), []
    net = Net()
    for image in images:
        expected.append(explainer.explain_instance(
            image, as_function(net), segmentation_fn=segmentation, num_samples=33
        ))  # fmt: skip
    arguments = {"segmentation_fn": segmentation, "num_samples": 33}
    for classifier_fn in (as_function(net), net):
        found = explain(
            lime_image, images, classifier_fn, {"random_state": 11}, batch_size=10, **arguments
        )
        assert isinstance(found, list)
        for theirs, mine in zip(expected, found, strict=True):
            assert_same(theirs, mine, 1e-7)


def test_rows_of_a_list_share_batches():
    images, recorder, net = [picture(seed=i) for i in range(5)], Recorder(), Net()
    run(images, recorder)
    assert [len(batch) for batch in recorder.batches] == [10] * 22 + [5]  # 5 · 45 rows
    run(images, net)
    assert [rows for rows, _ in net.chunks] == [113] * 2  # evened out below 204, and one is padded


def test_one_photo_in_one_explanation_out():
    batch = torch.from_numpy(np.stack([picture(seed=i) for i in range(2)])).permute(0, 3, 1, 2)
    for several in (batch, list(batch), tuple(batch), batch.permute(0, 2, 3, 1).numpy()):
        explanations = run(several, Recorder())
        assert [type(e) for e in explanations] == [lime_image.ImageExplanation] * 2
    assert [type(e) for e in run([batch[0]], Recorder())] == [lime_image.ImageExplanation]
    assert type(run(batch[:1], Recorder())) is lime_image.ImageExplanation
    assert run([], Recorder()) == []


# ---- data_labels of one's own -------------------------------------------------------------------


class OldHook(lime_image.LimeImageExplainer):
    """Overrides the hook with the release's signature, which has no progress_bar."""

    def data_labels(self, image, fudged_image, segments, classifier_fn, num_samples, batch_size=1):
        self.calls = [*getattr(self, "calls", []), (num_samples, batch_size)]
        data, labels = super().data_labels(
            image, fudged_image, segments, classifier_fn, num_samples, batch_size, False
        )
        return data, labels * 2


def test_an_overridden_data_labels_is_called():
    explainer = OldHook(random_state=7)
    twice = explainer.explain_instance(picture(), Recorder(), **SEGMENTS)
    assert explainer.calls == [(45, 10)]
    once = run(picture(), Recorder())
    for label, weights in once.local_exp.items():
        doubled = dict(twice.local_exp[label])
        assert all(abs(doubled[f] - 2 * w) < 1e-12 for f, w in weights)
    assert len(OldHook().explain_instance([picture()] * 2, Recorder(), **SEGMENTS)) == 2


# ---- Segmentation -------------------------------------------------------------------------------


def test_segmenters_of_torchlime():
    image = picture(np.uint8, size=(32, 32))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    for given, segmenter in (("slic", Slic()), (Slic(9), Slic(9)), (Grid(2, 3), Grid(2, 3))):
        explanation = run(image, Recorder(), segmentation_fn=given)
        expected = segmenter(pixels).labels[0].numpy()
        np.testing.assert_array_equal(explanation.segments, expected)
        assert explanation.segments.dtype == np.int64


def test_a_segmentation_function_may_return_a_tensor():
    explanation = run(
        picture(), Recorder(), segmentation_fn=lambda _: torch.from_numpy(label_map(6))
    )
    assert_same(limes(picture(), Recorder()), explanation)


def test_unknown_segmentations_are_refused():
    with pytest.raises(ValueError, match="segmentation_fn must be callable, 'slic' or None"):
        run(picture(), Recorder(), segmentation_fn="watershed")


def without(monkeypatch, package):
    """As if it was not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


def test_without_scikit_image_the_default_is_slic_and_says_so(monkeypatch):
    image = picture(np.uint8, size=(32, 32))
    without(monkeypatch, "skimage")
    with pytest.warns(UserWarning, match="without scikit-image") as caught:
        explanations = lime_image.LimeImageExplainer(random_state=0).explain_instance(
            [image, image], Recorder(), num_samples=60, progress_bar=False
        )
    assert len(caught) == 1
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    np.testing.assert_array_equal(explanations[0].segments, Slic()(pixels).labels[0].numpy())
    with pytest.raises(ImportError, match=r"torchlime\[lime\]"):
        SegmentationAlgorithm("quickshift")


def test_scikit_learn_is_needed_only_where_it_has_to_be(monkeypatch):
    without(monkeypatch, "sklearn")
    for method in ("auto", "none", "highest_weights", "forward_selection"):
        run(picture(), Recorder(), {"feature_selection": method}, num_features=4)
    run(picture(), Recorder(), distance_metric="euclidean")
    with pytest.raises(ImportError, match=r"torchlime\[lime\]"):
        run(picture(), Recorder(), {"feature_selection": "lasso_path"})
    with pytest.raises(ImportError, match=r"torchlime\[lime\]"):
        run(picture(), Recorder(), distance_metric="jaccard")


@pytest.mark.parametrize("installed", [True, False])
def test_the_progress_bar(monkeypatch, capsys, installed):
    if not installed:
        without(monkeypatch, "tqdm")
    explainer = lime_image.LimeImageExplainer()
    for classifier_fn in (Recorder(), Net()):
        explainer.explain_instance([picture()] * 2, classifier_fn, **SEGMENTS)
        assert "90/90" in capsys.readouterr().err
        explainer.explain_instance(picture(), classifier_fn, progress_bar=False, **SEGMENTS)
        assert capsys.readouterr().err == ""


# ---- The explanation ----------------------------------------------------------------------------


def test_the_score_is_a_number_wherever_numbers_go(capsys, tmp_path):
    theirs, mine = limes(picture(), Recorder()), run(picture(), Recorder())
    assert mine.score == pytest.approx(theirs.score, abs=1e-12)
    assert type(mine.score) is float
    assert json.loads(json.dumps({"r2": mine.score})) == {"r2": mine.score}
    assert torch.tensor(mine.score).item() == pytest.approx(mine.score)
    assert statistics.mean([mine.score, mine.score]) == mine.score
    assert np.mean([mine.score, 1.0]) == (mine.score + 1) / 2
    print(mine.score, f"{mine.score:.3f}", "%.3f" % mine.score)  # noqa: UP031
    words = [repr(mine.score), *[str(round(mine.score, 3))] * 2]
    assert capsys.readouterr().out.split() == words
    with open(tmp_path / "scores.csv", "w", newline="") as file:
        csv.writer(file).writerow([mine.score, *mine.local_pred])
    row = (tmp_path / "scores.csv").read_text().split(",")
    assert [float(cell) for cell in row] == [mine.score, mine.local_pred[0]]


def test_local_pred_is_the_array_that_lime_leaves():
    """The binary classifier of the issue: class 1 on top, both explained."""

    def fn(images):
        one = 0.5 + images.mean(axis=(1, 2, 3)) / 4
        return np.stack([1 - one, one], axis=1)

    image = np.abs(picture())
    theirs, mine = limes(image, fn, top_labels=2), run(image, fn, top_labels=2)
    assert theirs.top_labels == mine.top_labels == [1, 0]
    assert mine.local_pred.shape == theirs.local_pred.shape == (1,)
    assert mine.local_pred[0] == pytest.approx(theirs.local_pred[0], abs=1e-12)
    assert mine.local_preds[1] == mine.local_pred[0] > 0.5 > mine.local_preds[0]
    assert mine.local_preds[0] + mine.local_preds[1] == pytest.approx(1)
    assert mine.scores[1] == mine.score
    assert {type(value) for value in (*mine.scores.values(), *mine.local_preds.values())} == {float}


def test_an_empty_explanation():
    explanation = lime_image.ImageExplanation(picture(), label_map(2))
    assert explanation.scores == explanation.local_exp == explanation.intercept == {}
    assert explanation.local_preds == {}
    assert not hasattr(explanation, "top_labels")
    with pytest.raises(ValueError, match="explain_instance made"):
        explanation.to_torchlime()


def test_explanations_and_explainers_pickle():
    explainer = lime_image.LimeImageExplainer(random_state=7)
    copy = pickle.loads(pickle.dumps(explainer))
    batches = []
    for one in (explainer, copy):
        recorder = Recorder()
        explanation = one.explain_instance(picture(), recorder, progress_bar=False, **SEGMENTS)
        batches.append(recorder.batches)
    assert_same_batches(*batches)
    loaded = pickle.loads(pickle.dumps(explanation))
    assert loaded.local_exp == explanation.local_exp
    assert (loaded.score, loaded.scores) == (explanation.score, explanation.scores)
    assert list(loaded.scores) == list(explanation.scores)
    assert torch.equal(
        loaded.to_torchlime().standard_errors, explanation.to_torchlime().standard_errors
    )
    module = pickle.loads(pickle.dumps(run(picture(), Net())))
    assert module.to_torchlime().masks.shape == (1, 45, 6)


def test_the_heatmap_is_the_recipes():
    explanation = run(picture(), Recorder())
    for label in explanation.local_exp:
        recipe = np.vectorize(dict(explanation.local_exp[label]).get)(explanation.segments)
        np.testing.assert_array_equal(explanation.heatmap(label), recipe)
        assert explanation.heatmap(label).shape == (8, 10)
    with pytest.raises(KeyError, match="Label not in explanation"):
        explanation.heatmap(99)


@pytest.mark.parametrize("arguments", [{}, {"top_labels": None, "labels": (-1, 0)}])
def test_the_native_object_is_what_torchlime_makes_of_the_same_samples(arguments):
    explanation = run(picture(), Recorder(), **arguments)
    native = explanation.to_torchlime().check()
    labels = list(explanation.local_exp)
    assert native.targets.tolist() == [[int(label) % 4 for label in labels]]
    assert native.segments[0].tolist() == explanation.segments.tolist()
    refitted = native.refit(surrogate=torchlime.surrogates.Ridge(1.0))
    for name in ("coefficients", "intercepts", "fidelity", "local_predictions", "standard_errors"):
        torch.testing.assert_close(
            getattr(native, name), getattr(refitted, name), rtol=0, atol=1e-9
        )
    for row, label in enumerate(labels):
        for feature, weight in explanation.local_exp[label]:
            assert native.coefficients[0, row, feature] == weight
        assert native.local_predictions[0, row] == pytest.approx(explanation.local_preds[label])
        np.testing.assert_allclose(native.heatmap()[0, row], explanation.heatmap(label), 1e-6)
    assert native.scores[0].tolist() == pytest.approx(native.sample_scores[0, 0].tolist())
    assert native.refit(kernel=Uniform()).effective_samples.item() == 45


def test_selected_features_have_no_standard_errors():
    native = run(picture(), Recorder(), num_features=3).to_torchlime()
    assert (native.coefficients != 0).sum(dim=2).tolist() == [[3] * 4]
    assert native.standard_errors.isnan().all()


def test_settings_and_saving_of_the_native_object(tmp_path):
    native = run(picture(), Recorder()).to_torchlime()
    assert native.settings["num_samples"] == 45
    native.save(tmp_path / "explanation.npz")
    loaded = torchlime.Explanation.load(tmp_path / "explanation.npz")
    assert torch.equal(loaded.coefficients, native.coefficients)


def test_a_label_asked_for_twice_keeps_its_numbers():
    photo, labels = np.random.RandomState(0).rand(20, 24, 3), np.arange(480).reshape(20, 24) // 80
    e = lime_image.LimeImageExplainer(random_state=7).explain_instance(
        photo, lambda x: x.mean(axis=(1, 2)), labels=(1, 2, 1), top_labels=None, num_samples=60,
        segmentation_fn=lambda image: labels, progress_bar=False,
    )  # fmt: skip
    native = e.to_torchlime()
    assert native.targets.tolist() == [list(e.local_exp)]
    assert native.fidelity[0].tolist() == [e.scores[label] for label in e.local_exp]
    assert e.score == e.scores[1]  # the last one asked for
    assert native.sample_scores.shape == (1, 60, 2)


def test_a_pickled_explainer_still_listens_to_the_global_seed():
    explainer = pickle.loads(pickle.dumps(lime_image.LimeImageExplainer()))
    for state in (explainer.random_state, explainer.base.random_state):
        assert state is np.random.mtrand._rand
    own = pickle.loads(pickle.dumps(lime_image.LimeImageExplainer(random_state=3)))
    assert own.random_state is own.base.random_state
    assert own.random_state.randint(10**6) == np.random.RandomState(3).randint(10**6)


class Frame:
    """A table as pandas has it: an array within, whose columns are what it iterates over."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(range(self.values.shape[1]))


@pytest.mark.parametrize("wrap", [Frame, lambda scores: scores.astype(object)])
@pytest.mark.parametrize("batch_size", [10, 16.0, 2.5])
def test_tables_objects_and_sizes_that_are_floats(wrap, batch_size):
    photo, labels = np.random.RandomState(0).rand(20, 24, 3), np.arange(480).reshape(20, 24) // 80

    def explained(function):
        return lime_image.LimeImageExplainer(random_state=7).explain_instance(
            photo, function, top_labels=1, num_samples=60, batch_size=batch_size,
            segmentation_fn=lambda image: labels, progress_bar=False,
        )  # fmt: skip

    plain = explained(lambda x: x.mean(axis=(1, 2)))
    assert explained(lambda x: wrap(x.mean(axis=(1, 2)))).local_exp == plain.local_exp
