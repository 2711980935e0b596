"""Runs lime 0.2.0.1 and torchlime.compat with the same arguments, and compares what comes out."""

import inspect
import warnings

import numpy as np
from lime import lime_image as lime

from torchlime.compat import lime_image as ours

lime.tqdm = iter  # the release has no progress_bar=False


class Recorder:
    """A classifier function that remembers the batches it was given."""

    def __init__(self, classes=4, seed=0, dtype=np.float64):
        self.classes, self.seed, self.dtype = classes, seed, dtype
        self.batches = []

    def __call__(self, images):
        self.batches.append(images.copy())
        pixels = images.reshape(len(images), -1).astype(np.float64)
        directions = np.random.RandomState(self.seed).randn(pixels.shape[1], self.classes)
        scale = self.batches[0][0].astype(np.float64).std() * np.sqrt(pixels.shape[1]) + 1
        return np.tanh(1.5 * (pixels - pixels.mean()) @ directions / scale).astype(self.dtype)


def picture(dtype=np.float64, size=(8, 10), channels=3, seed=0):
    rng = np.random.RandomState(seed)
    shape = (*size, channels) if channels else size
    if np.dtype(dtype).kind == "f":
        return rng.uniform(-1, 1, shape).astype(dtype)
    return rng.randint(0, 256, shape).astype(dtype)


def label_map(count, size=(8, 10), seed=0):
    """Each of ``count`` labels on several pixels, in no order."""
    labels = np.arange(size[0] * size[1]) % count
    return np.random.RandomState(seed).permutation(labels).reshape(size)


def explain(module, image, classifier_fn, init, **arguments):
    if "progress_bar" in inspect.signature(module.LimeImageExplainer.explain_instance).parameters:
        arguments["progress_bar"] = False
    explainer = module.LimeImageExplainer(**init)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        warnings.filterwarnings("ignore", message="labels has no effect")
        warnings.filterwarnings("ignore", message="the segmentation made one segment")
        warnings.filterwarnings("ignore", message=".*well-defined")
        return explainer.explain_instance(image, classifier_fn, **arguments)


def explain_both(image, recorder=None, init=None, **arguments):
    """(lime's explanation, ours), and assert that the classifier saw the very same batches."""
    init = {"random_state": 7} | (init or {})
    first, second = recorder or Recorder(), Recorder()
    second.__dict__.update(first.__dict__, batches=[])
    theirs = explain(lime, image, first, init, **arguments)
    mine = explain(ours, image, second, init, **arguments)
    assert_same_batches(first.batches, second.batches)
    return theirs, mine


def assert_same_batches(theirs, mine):
    assert [batch.shape for batch in theirs] == [batch.shape for batch in mine]
    assert [batch.dtype for batch in theirs] == [batch.dtype for batch in mine]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(theirs, mine, strict=True))


def assert_same(theirs, mine, atol=1e-9):
    assert list(theirs.local_exp) == list(mine.local_exp)
    assert hasattr(theirs, "top_labels") == hasattr(mine, "top_labels")
    assert getattr(theirs, "top_labels", None) == getattr(mine, "top_labels", None)
    assert list(theirs.intercept) == list(mine.intercept)
    np.testing.assert_array_equal(theirs.segments, mine.segments)
    np.testing.assert_array_equal(theirs.image, mine.image)
    for label, expected in theirs.local_exp.items():
        assert_same_weights(expected, mine.local_exp[label], atol)
        np.testing.assert_allclose(mine.intercept[label], theirs.intercept[label], 0, atol)
    if theirs.local_exp:
        assert type(mine.score) is float
        np.testing.assert_allclose(mine.score, theirs.score, 0, atol)
        assert mine.local_pred.dtype == theirs.local_pred.dtype
        assert mine.local_pred.shape == theirs.local_pred.shape == (1,)
        np.testing.assert_allclose(mine.local_pred, theirs.local_pred, 0, atol)
    # lime keeps those of the last label only
    assert list(mine.scores) == list(mine.local_preds) == list(theirs.local_exp)


def assert_same_weights(theirs, mine, atol=1e-9):
    """The same pairs in the same order, up to an order that rounding decides."""
    assert [type(x) for pair in theirs for x in pair] == [type(x) for pair in mine for x in pair]
    assert sorted(f for f, _ in theirs) == sorted(f for f, _ in mine)
    expected, found = dict(theirs), dict(mine)
    np.testing.assert_allclose([found[f] for f in expected], list(expected.values()), 0, atol)
    for (f, w), (g, _) in zip(theirs, mine, strict=True):
        assert f == g or abs(abs(w) - abs(expected[g])) < 2 * atol


def under_the_ids_of(segments, explanation):
    """lime's explanation of a renumbered map, under the ids that ``segments`` [H,W] has."""
    ids = np.unique(segments)
    if np.array_equal(ids, ids.astype(np.int64)) and int(ids.max()) < 2**63:
        ids = ids.astype(np.int64)
    for label, weights in explanation.local_exp.items():
        explanation.local_exp[label] = [(ids[column], weight) for column, weight in weights]
    explanation.segments = segments
    return explanation
