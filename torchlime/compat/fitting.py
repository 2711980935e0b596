"""Fitting: from masks and scores to what an explanation says about each label."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

import torchlime
from torchlime.compat.arrays import Array, to_numpy
from torchlime.compat.distances import check_weights, distances_of
from torchlime.compat.image_explanation import ImageExplanation
from torchlime.compat.label_maps import with_ids
from torchlime.compat.labels import check_labels
from torchlime.compat.lime_base import LimeBase
from torchlime.compat.native import Samples
from torchlime.compat.regressors import native_surrogate
from torchlime.surrogates import LeastSquares


def fit_labels(
    explanation: ImageExplanation,
    base: LimeBase,
    ids: Array,
    data: Array,
    scores: Array | Tensor,
    labels: list[Any],
    *,
    num_features: int,
    selection: str,
    metric: Any,
    regressor: Any,
) -> None:
    """Fill in ``explanation`` label by label; ``score`` and ``local_pred`` keep the last label's.

    Args:
        explanation: the explanation of one image.
        base: fits one label.
        ids: [M], what each mask column stands for.
        data: [n,M], 1 = kept; its first row keeps all.
        scores: [n,classes].
        labels: the labels to explain.
        num_features: the largest number of segments.
        selection: how to select them.
        metric: the distance between masks.
        regressor: None, or a scikit-learn regressor.

    Raises:
        IndexError: there is no such label.
        ValueError: the masked images weigh nothing.
    """
    check_labels(labels, scores.shape[1])
    distances = distances_of(data, metric)
    weights = np.broadcast_to(base.kernel_fn(distances), len(data)).astype(np.float64)
    width = getattr(base.kernel_fn, "keywords", {}).get("kernel_width")
    surrogate = native_surrogate(regressor)
    shrinks = not (surrogate is None or isinstance(surrogate, LeastSquares))
    check_weights(weights, data, distances, metric, width, shrinks)
    for label in labels:
        explanation.intercept[label], ranked, score, local_pred = base.explain_instance_with_data(
            data, scores, distances, label, num_features,
            feature_selection=selection, model_regressor=regressor,
        )  # fmt: skip
        explanation.local_exp[label] = with_ids(ranked, ids, data.shape[1])
        explanation.score = explanation.scores[label] = float(score)
        explanation.local_pred = local_pred
        explanation.local_preds[label] = float(local_pred[0])
    explained = list(explanation.local_exp)
    explanation._samples = Samples(
        ids=ids,
        masks=data != 0,
        scores=to_numpy(scores[:, explained]).astype(np.float64),
        weights=weights,
        targets=[int(label) % scores.shape[1] for label in explained],
        surrogate=surrogate,
        settings={
            "kernel": repr(base.kernel_fn),
            "distance_metric": str(metric),
            "surrogate": surrogate or repr(regressor),
            "feature_selection": selection,
            "num_samples": len(data),
            "torchlime": torchlime.__version__,
            "torch": str(torch.__version__),
        },
    )
