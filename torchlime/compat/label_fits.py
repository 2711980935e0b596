"""The linear models of all labels from one Gram matrix, for rows and texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from torchlime._warn import warn
from torchlime.compat.arrays import Array
from torchlime.compat.distances import distances_of
from torchlime.compat.explanation import Explanation
from torchlime.compat.labels import check_labels
from torchlime.compat.lime_base import LimeBase, checked, one_thread
from torchlime.compat.regressors import native_surrogate
from torchlime.compat.selection import forward_steps
from torchlime.surrogates import Ridge

SELECTED_HERE = ("none", "highest_weights", "forward_selection")


def fit_labels(
    explanation: Explanation,
    base: Any,
    design: Array,
    scores: Array,
    labels: Sequence[Any],
    *,
    num_features: int,
    selection: str,
    metric: Any,
    regressor: Any,
    distances: Array | None = None,
) -> None:
    """Fill in ``explanation`` label by label; ``score`` and ``local_pred`` keep the last label's.

    Args:
        explanation: the explanation of one row or text.
        base: a LimeBase, or what the caller put in its place.
        design: [n,k]; its first row is what is explained.
        scores: [n,classes].
        labels: the labels to explain.
        num_features: the largest number of features.
        selection: how to select them.
        metric: the distance between the rows of ``design``.
        regressor: None, or a scikit-learn regressor.
        distances: [n], where they are known.

    Raises:
        IndexError: there is no such label.
        ValueError: ``num_features`` is below 1, or all weights are 0.
    """
    check_labels(list(labels), scores.shape[1])
    if num_features < 1 and selection != "none":
        raise ValueError(f"num_features must be at least 1, got {num_features}")
    distances = distances_of(design, metric) if distances is None else distances
    surrogate = native_surrogate(regressor)
    method = selection
    if selection == "auto":
        method = "forward_selection" if num_features <= 6 else "highest_weights"
    fast = _is_plain(base) and method in SELECTED_HERE and type(surrogate) is Ridge
    equations = None
    for label in labels:
        if fast and len(design) > design.shape[1]:  # else the Gram matrix is larger than the design
            equations = equations or WeightedDesign(design, _weights(base, distances))
            fitted = _fit(equations, base, scores[:, label], num_features, method, surrogate)
        else:
            fitted = base.explain_instance_with_data(
                np.ascontiguousarray(design), scores, distances, label, num_features,
                model_regressor=regressor, feature_selection=selection,
            )  # fmt: skip
        explanation.intercept[label], explanation.local_exp[label] = fitted[:2]
        explanation.score = explanation.scores[label] = float(fitted[2])
        explanation.local_pred = explanation.local_preds[label] = fitted[3]


def _is_plain(base: Any) -> bool:
    """Whether it fits as LimeBase does: it is no subclass, and nobody replaced its methods."""
    methods = ("explain_instance_with_data", "feature_selection", "forward_selection")
    return type(base) is LimeBase and not any(name in vars(base) for name in methods)


def _weights(base: LimeBase, distances: Array) -> Array:
    weights = checked(base.kernel_fn(distances), "sample_weight")
    weights = np.broadcast_to(weights, distances.shape).astype(np.float64)
    if weights.sum() == 0:
        raise ValueError("the kernel gives every sample the weight 0; pass a larger kernel_width")
    if weights[1:].sum() <= np.finfo(np.float64).eps * weights[0]:
        warn(
            "every sample weighs nothing beside the row itself, so every weight of the explanation "
            f"is 0: distances are {distances[1:].min():.3g} to {distances.max():.3g}, and the "
            "kernel is too narrow for them; pass a larger kernel_width"
        )
    return weights


class WeightedDesign:
    """A design centred by its weighted means, and its Gram matrix; labels share both.

    Args:
        design: [n,k].
        weights: [n].
    """

    def __init__(self, design: Array, weights: Array) -> None:
        self.weights, self.total = weights, weights.sum()
        self.first = np.array(design[0], dtype=np.float64)
        self.root = np.sqrt(weights)
        columns = np.array(design.T, dtype=np.float64, order="C")  # a copy
        self.mean = columns @ (weights / self.total)
        columns -= self.mean[:, None]
        columns *= self.root
        self.columns = columns
        with one_thread():
            self.gram = columns @ columns.T


def _fit(
    equations: WeightedDesign,
    base: LimeBase,
    scores: Array,
    num_features: int,
    selection: str,
    surrogate: Any,
) -> tuple[Any, list[tuple[Any, Any]], float, Array]:
    """Intercept, [(feature, weight), …], weighted R² and prediction (1,) of the first row."""
    y = checked(np.asarray(scores), "y").astype(np.float64)
    origin = y[0]
    mean = (y - origin) @ (equations.weights / equations.total)
    centred = (y - origin - mean) * equations.root
    cross = equations.columns @ centred
    used = _selected(equations, cross, num_features, selection)
    gram = equations.gram[np.ix_(used, used)]
    slopes = _ridge(gram, cross[used], surrogate.alpha)
    intercept = origin + mean - equations.mean[used] @ slopes
    local_pred = np.array([intercept + equations.first[used] @ slopes])
    left = centred @ centred - slopes @ (2 * cross[used] - gram @ slopes)
    score = _score(left, centred @ centred, y, equations.weights)
    if base.verbose:
        print("Intercept", intercept)
        print("Prediction_local", local_pred)
        print("Right:", scores[0])
    ranked = sorted(zip(used, slopes, strict=True), key=lambda pair: -abs(pair[1]))
    return intercept, ranked, score, local_pred


def _selected(equations: WeightedDesign, cross: Array, num_features: int, selection: str) -> Array:
    """The columns that the model may use."""
    if selection == "none":
        return np.arange(len(cross))
    if selection == "forward_selection":
        return forward_steps(equations.gram, cross, min(num_features, len(cross)))
    strength = np.abs(_ridge(equations.gram, cross, 0.01) * equations.first)
    return np.argsort(-strength, kind="stable")[:num_features]


def _ridge(gram: Array, cross: Array, alpha: float) -> Array:
    return np.linalg.solve(gram + alpha * np.eye(len(gram)), cross)


def _score(left: float, variation: float, labels: Array, weights: Array) -> float:
    """Scikit-learn's R²: 1 if the labels whose weight is above 0 are constant."""
    labels = labels[weights > 0]
    return 1.0 if (labels == labels[0]).all() else float(1 - left / variation)
