"""Distances between masks, and the kernel's weights of them."""

from typing import Any

import numpy as np

from torchlime.compat.arrays import Array


def exponential_kernel(d: Array, kernel_width: float) -> Array:
    """√exp(−d²/width²): lime's kernel, which underflows where lime's does, and pickles.

    >>> exponential_kernel(np.array([0.0, 0.25]), kernel_width=0.25)
    array([1.        , 0.60653066])
    """
    return np.sqrt(np.exp(-(d**2) / kernel_width**2))


def distances_of(data: Array, metric: Any) -> Array:
    """Distance of each row of ``data`` [n,M] to the first: [n] float64.

    Raises:
        ImportError: a metric needs scikit-learn, which is not installed.
    """
    rows = data.astype(np.float64)
    if isinstance(metric, str) and metric == "cosine":
        lengths = np.linalg.norm(rows, axis=1)
        lengths[lengths == 0] = 1
        return (1 - rows @ rows[0] / (lengths * lengths[0])).clip(0, 2)
    if isinstance(metric, str) and metric == "euclidean":
        return np.linalg.norm(rows - rows[0], axis=1)
    try:
        from sklearn.metrics import pairwise_distances
    except ImportError as error:
        raise ImportError(
            f"distance_metric={metric!r} needs scikit-learn: pip install 'torchlime[lime]'"
        ) from error
    return pairwise_distances(data, data[:1], metric=metric).ravel()


def check_weights(
    weights: Array,
    data: Array,
    distances: Array,
    metric: Any,
    kernel_width: float | None,
    shrinks: bool,
) -> None:
    """Raise where the masked images weigh nothing beside the image itself.

    Then every coefficient would be 0, whatever the classifier says: for a regressor that shrinks
    them (Ridge, Lasso) as soon as the weights are lost in rounding beside that of the image.

    Args:
        weights: [n], the kernel's.
        data: [n,M], 1 = kept; its first row keeps all.
        distances: [n].
        metric: their name.
        kernel_width: of the kernel, if it has one.
        shrinks: whether the regressor does.

    Raises:
        ValueError: with what to do.
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
