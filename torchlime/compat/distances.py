"""Distances between masks, and the weights that the kernel gives them."""

from typing import Any

import numpy as np

from torchlime._extras import imported
from torchlime.compat.arrays import Array


def exponential_kernel(d: Array, kernel_width: float) -> Array:
    """lime's kernel √exp(−d²/width²). It underflows where lime's does, and can be pickled.

    >>> exponential_kernel(np.array([0.0, 0.25]), kernel_width=0.25)
    array([1.        , 0.60653066])
    """
    return np.sqrt(np.exp(-(d**2) / kernel_width**2))


def distances_of(data: Array, metric: Any) -> Array:
    """Distance of each row of ``data`` [n,M] to the first: [n] float64.

    Raises:
        ImportError: a metric needs scikit-learn, which is not installed.
    """
    rows = data.astype(np.float64, copy=False)
    if isinstance(metric, str) and metric == "cosine":
        lengths = np.linalg.norm(rows, axis=1)
        lengths[lengths == 0] = 1
        return (1 - rows @ rows[0] / (lengths * lengths[0])).clip(0, 2)
    if isinstance(metric, str) and metric == "euclidean":
        apart = rows.T - rows[0][:, None]
        return np.sqrt(np.einsum("mn,mn->n", apart, apart))
    metrics = imported("sklearn.metrics", f"distance_metric={metric!r}", "lime")
    return metrics.pairwise_distances(data, data[:1], metric=metric).ravel()


def check_weights(
    weights: Array,
    data: Array,
    distances: Array,
    metric: Any,
    kernel_width: float | None,
    shrinks: bool,
) -> None:
    """Raise where the masked images weigh nothing compared with the image itself.

    Every coefficient would then be 0, whatever the classifier says. With a regressor that shrinks
    coefficients (Ridge, Lasso), this happens as soon as the weights are lost in rounding when they
    are added to that of the image.

    Args:
        weights: [n], from the kernel.
        data: [n,M], 1 = kept; its first row keeps all.
        distances: [n].
        metric: the name of the distance.
        kernel_width: the kernel's width, if it has one.
        shrinks: whether the regressor shrinks coefficients.

    Raises:
        ValueError: the masked images weigh nothing; the message says what to do.
    """
    masked = ~(data != 0).all(axis=1)
    if not masked.any() or not np.isfinite(weights).all():
        return  # the fit says what is wrong with weights that are not finite
    limits = np.finfo(np.float64)
    if weights[masked].sum() > (limits.eps * weights.max() if shrinks else limits.tiny):
        return
    of = distances[masked]
    kernel = "the kernel" if kernel_width is None else f"kernel_width={kernel_width:g}"
    remedies = [f"LimeImageExplainer(kernel_width={np.median(of):.2g})"]
    remedies += [] if metric == "cosine" else ["distance_metric='cosine'"]
    raise ValueError(
        f"every masked image has weight 0, so every coefficient would be 0: the distances of "
        f"distance_metric={metric!r} are {of.min():.3g} to {of.max():.3g}, and {kernel} is too "
        f"narrow for them; pass {' or '.join(remedies)}"
    )
