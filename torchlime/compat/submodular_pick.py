"""lime's choice of representative explanations, in place of ``lime.submodular_pick``."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from torchlime._warn import warn
from torchlime.compat.arrays import Array
from torchlime.compat.explanation import Explanation
from torchlime.compat.lime_base import check_random_state


class SubmodularPick:
    """Explains rows or texts, and picks a few explanations that together cover most: SP-LIME.

    Args:
        explainer: a LimeTabularExplainer or LimeTextExplainer.
        data: the rows or texts.
        predict_fn: as for ``explain_instance``.
        method: "sample" = explain rows drawn at random; "full" = all of them.
        sample_size: how many are drawn.
        num_exps_desired: how many to pick.
        num_features: the largest number of features of an explanation.
        random_state: the random state that draws the rows; None = numpy's global one.
        literal: add the weights of several labels with their signs, so that they can cancel, and
            merge bins whose names are the same, as lime does.
        kwargs: of ``explain_instance``; ``top_labels`` is 1 unless given.

    Attributes:
        explanations: all that were made.
        indices: the row of ``data`` of each.
        sp_explanations: those that were picked, the best first.
        V: their places in ``explanations``, not in ``data``.

    Raises:
        ValueError: the method or a number cannot be used.

    Reference: Ribeiro, Singh & Guestrin (2016), "Why should I trust you?", algorithm 2.
    """

    def __init__(
        self,
        explainer: Any,
        data: Any,
        predict_fn: Callable[..., Any],
        method: str = "sample",
        sample_size: int = 1000,
        num_exps_desired: int = 5,
        num_features: int = 10,
        *,
        random_state: Any = None,
        literal: bool = False,
        **kwargs: Any,
    ) -> None:
        count = _whole(num_exps_desired)
        top_labels = kwargs.pop("top_labels", 1)
        data = data.to_numpy() if hasattr(data, "iloc") else data
        rows = data.shape[0] if hasattr(data, "shape") else len(data)
        self.indices = _chosen(rows, method, sample_size, random_state)
        self.explanations = [
            explainer.explain_instance(
                data[i], predict_fn, num_features=num_features, top_labels=top_labels, **kwargs
            )
            for i in self.indices
        ]
        if count > len(self.explanations):
            warn(
                f"num_exps_desired={count} is more than the {len(self.explanations)} explanations; "
                "all are picked"
            )
        weights = _weights(self.explanations, literal)
        if not literal:
            _warn_of_difference(self.explanations, weights)
        self.V = greedy_cover(weights, min(count, len(self.explanations)))
        self.sp_explanations = [self.explanations[i] for i in self.V]


def greedy_cover(weights: Array, count: int) -> list[int]:
    """The ``count`` rows of ``weights`` [n,d] that cover most importance, picked one by one.

    A column's importance is √Σ|w|. Ties go to the last row, as in lime.

    >>> greedy_cover(np.array([[3.0, 0, 0], [2, 0, 0], [0, 1, 1]]), 2)
    [1, 2]
    """
    strength = np.abs(weights)
    importance = np.sqrt(strength.sum(axis=0))
    present, covered = strength > 0, np.zeros(weights.shape[1], dtype=bool)
    left, picked = list(range(len(weights))), []
    for _ in range(count):
        # One by one, so that equal rows have equal sums to the last bit.
        gains = [np.dot(present[i] | covered, importance) for i in left]
        best = left[len(left) - 1 - int(np.argmax(gains[::-1]))]
        picked.append(best)
        left.remove(best)
        covered |= present[best]
    return picked


def _chosen(rows: int, method: str, sample_size: int, random_state: Any) -> Array:
    if method == "full":
        return np.arange(rows)
    if method != "sample":
        raise ValueError(f"Method must be 'sample' or 'full', got {method!r}")
    if sample_size > rows:
        warn(
            f"Requested sample size larger than size of input data: {sample_size} of {rows}. "
            "Using all data"
        )
    indices = np.arange(rows)
    check_random_state(random_state).shuffle(indices)
    return indices[:sample_size]


def _whole(count: Any) -> int:
    try:
        return int(count)
    except (TypeError, ValueError):
        raise ValueError(f"num_exps_desired must be a whole number, got {count!r}") from None


def _weights(explanations: list[Explanation], literal: bool) -> Array:
    """Weights of each explanation [n,d]; a column is a bin or a word."""
    columns: dict[Hashable, int] = {}
    entries = []
    for i, explanation in enumerate(explanations):
        for label in _labels(explanation):
            named = explanation.as_list(label=label)
            ids = [feature for feature, _ in explanation.as_map()[_key(explanation, label)]]
            for feature, (name, weight) in zip(ids, named, strict=True):
                key = name if literal else _identity(explanation, feature, name)
                entries.append((i, columns.setdefault(key, len(columns)), weight))
    weights = np.zeros((len(explanations), len(columns)))
    for i, column, weight in entries:
        weights[i, column] += weight if literal else abs(weight)
    return weights


def _labels(explanation: Explanation) -> list[Any]:
    return explanation.available_labels() if explanation.mode == "classification" else [1]


def _key(explanation: Explanation, label: Any) -> Any:
    return label if explanation.mode == "classification" else 1


def _identity(explanation: Explanation, feature: Any, name: Any) -> Hashable:
    """What tells one bin from another: its column and number; a word, its name."""
    mapper = explanation.domain_mapper
    if getattr(mapper, "bins", None) is not None:
        return int(feature), float(mapper.bins[feature])
    return (int(feature), name) if hasattr(mapper, "exp_feature_names") else name


def _warn_of_difference(explanations: list[Explanation], weights: Array) -> None:
    literal = _weights(explanations, literal=True)
    same = literal.shape == weights.shape and np.allclose(np.abs(literal), weights, 1e-9, 1e-12)
    if not same:
        warn(
            "weights of several labels are added by their absolute values, and bins of the same "
            "name stay apart. lime adds them with their signs, and merges these bins; literal=True "
            "does so too"
        )
