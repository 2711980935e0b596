"""Runs lime's and torchlime's explainers of tables and texts alike, and compares what comes out."""

import warnings
from types import SimpleNamespace

import numpy as np
from lime import discretize, explanation, lime_tabular, lime_text, submodular_pick

import torchlime.compat.discretize
import torchlime.compat.explanation
import torchlime.compat.lime_tabular
import torchlime.compat.lime_text
import torchlime.compat.submodular_pick
from tests.compat.side_by_side import assert_same_weights

LIME = SimpleNamespace(
    tabular=lime_tabular, text=lime_text, discretize=discretize, explanation=explanation,
    pick=submodular_pick,
)  # fmt: skip
OURS = SimpleNamespace(
    tabular=torchlime.compat.lime_tabular, text=torchlime.compat.lime_text,
    discretize=torchlime.compat.discretize, explanation=torchlime.compat.explanation,
    pick=torchlime.compat.submodular_pick,
)  # fmt: skip
BOTH = (LIME, OURS)


class Model:
    """A smooth function of rows with probabilities, which remembers what it saw."""

    def __init__(self, columns, classes=3, seed=0, scale=1.0, regression=False):
        rng = np.random.RandomState(seed)
        self.directions = rng.normal(size=(columns, classes)) / scale
        self.regression, self.seen = regression, []

    def __call__(self, rows):
        self.seen.append(rows.copy())
        dense = rows.toarray() if hasattr(rows, "toarray") else rows
        scores = np.tanh(dense @ self.directions)
        if self.regression:
            return scores[:, 0]
        likely = np.exp(scores)
        return likely / likely.sum(axis=1, keepdims=True)


class Words:
    """A classifier of texts: scores from letters and words, which remembers what it saw."""

    def __init__(self, classes=2):
        self.classes, self.seen = classes, []

    def __call__(self, texts):
        self.seen.append(list(texts))
        codes = np.array(
            [[len(t), t.count(" "), sum(map(ord, t)) % 97, t.count("a")] for t in texts], float
        )
        scores = np.tanh(codes @ np.linspace(-1, 1, 4 * self.classes).reshape(4, -1) / 50)
        likely = np.exp(scores)
        return likely / likely.sum(axis=1, keepdims=True)


def quietly(function, *arguments, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **keywords)


def state_of(explainer):
    """All random numbers that are still to come, of the explainer and of numpy."""
    states = [explainer.random_state, np.random.mtrand._rand]
    own = getattr(getattr(explainer, "discretizer", None), "random_state", None)
    states += [own] if own is not None else []
    return [
        (str(kind), key.tolist(), *rest)
        for kind, key, *rest in (state.get_state(legacy=True) for state in states)
    ]


def assert_same_explanation(theirs, mine, atol=1e-9):
    """Numbers, order and names."""
    assert theirs.mode == mine.mode
    assert list(theirs.local_exp) == list(mine.local_exp)
    assert list(theirs.intercept) == list(mine.intercept)
    for label, expected in theirs.local_exp.items():
        numbered = [(np.int64(feature), weight) for feature, weight in expected]
        assert_same_weights(numbered, mine.local_exp[label], atol)
        np.testing.assert_allclose(mine.intercept[label], theirs.intercept[label], 0, atol)
        names = dict(zip((f for f, _ in expected), (n for n, _ in theirs.as_list(label)),
                         strict=False))  # fmt: skip
        for (feature, _), (name, weight) in zip(
            mine.local_exp[label], mine.as_list(label), strict=False
        ):
            assert names[feature] == name
            assert type(weight) is float
    if theirs.local_exp:
        np.testing.assert_allclose(mine.score, theirs.score, 0, atol)
        np.testing.assert_allclose(mine.local_pred, theirs.local_pred, 0, atol)
        assert mine.local_pred.shape == theirs.local_pred.shape == (1,)
    if theirs.mode == "classification":
        np.testing.assert_array_equal(theirs.predict_proba, mine.predict_proba)
        assert theirs.top_labels == mine.top_labels
        assert theirs.available_labels() == mine.available_labels()
        assert list(theirs.class_names) == list(mine.class_names)
    else:
        assert theirs.class_names == mine.class_names
        assert theirs.predicted_value == mine.predicted_value
        for name in ("min_value", "max_value"):
            np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), 0, atol)


def largest_difference(theirs, mine):
    """Of any number of two explanations that agree in everything else."""
    pairs = [(theirs.score, mine.score), (theirs.local_pred[0], mine.local_pred[0])]
    pairs += [(theirs.intercept[label], mine.intercept[label]) for label in theirs.intercept]
    for label, weights in theirs.local_exp.items():
        found = dict(mine.local_exp[label])
        pairs += [(weight, found[feature]) for feature, weight in weights]
    return max(abs(float(a) - float(b)) for a, b in pairs)


def assert_same_rows(theirs, mine, sd=None, atol=1e-10):
    """What the functions saw: bit for bit, or within ``atol`` of each column's deviation ``sd``."""
    assert len(theirs) == len(mine)
    for expected, found in zip(theirs, mine, strict=True):
        assert type(expected) is type(found)
        if hasattr(expected, "toarray"):
            expected, found = expected.toarray(), found.toarray()
        assert expected.dtype == found.dtype
        assert expected.shape == found.shape
        if sd is None:
            assert expected.tobytes() == found.tobytes()
        else:
            assert (np.abs(expected - found) <= atol * sd).all()
            assert found.flags.c_contiguous
            assert expected[0].tobytes() == found[0].tobytes()


def explain_both(data, row, model, init=None, ours=None, exact=False, **arguments):
    """(lime's explanation, ours) of a row, after the same rows and with the same state left."""
    sides = []
    for module, more in zip(BOTH, ({}, ours or {}), strict=True):
        np.random.seed(11)  # noqa: NPY002
        model.seen = []
        explainer = quietly(
            module.tabular.LimeTabularExplainer, data, **{"random_state": 7} | (init or {}) | more
        )
        before = state_of(explainer)
        explained = quietly(explainer.explain_instance, row, model, **arguments)
        sides.append((explainer, explained, model.seen, before, state_of(explainer)))
    (a, theirs, rows, *states), (b, mine, own_rows, *own_states) = sides
    assert states == own_states
    assert a.feature_names == b.feature_names
    assert a.categorical_features == b.categorical_features
    sd = None if exact else np.asarray(data).std(axis=0) + 1e-300
    assert_same_rows(rows, own_rows, sd)
    return theirs, mine
