"""Fits to some columns of a design, as if there were no others."""

from collections.abc import Callable

import torch
from torch import Tensor

from torchlime._hash import numbers
from torchlime.fit import Fit


def fit_to(
    surrogate: Callable[..., Fit], design: Tensor, scores: Tensor, weights: Tensor, count: Tensor
) -> Fit:
    """A surrogate's fit of masks, or of noise by its ``of_noise`` if it has one."""
    if design.is_floating_point():
        surrogate = getattr(surrogate, "of_noise", surrogate)
    return surrogate(design, scores, weights, count)


def fit_to_columns(
    surrogate: Callable[..., Fit], columns: Tensor, design: Tensor, scores: Tensor, weights: Tensor
) -> Fit:
    """The fit to those columns of a design [B,N,S] that are True in ``columns`` [B,S].

    The surrogate sees them before all others, and the others beyond its count. Their coefficients
    and errors are 0.

    Raises:
        ValueError: the surrogate has a mean for each feature, which would meet another.
    """
    if isinstance(getattr(surrogate, "mean", None), Tensor):
        raise ValueError(
            "a mean for each feature does not fit where columns are chosen; give "
            f"{type(surrogate).__name__} a number as mean"
        )
    order = (~columns).to(torch.uint8).argsort(dim=1, stable=True)[:, None]
    count = columns.sum(dim=1)
    inside = numbers(columns.shape[1], count) < count[:, None, None]
    some = design.gather(2, order.expand_as(design)).masked_fill(~inside, 0)
    fit = fit_to(surrogate, some, scores, weights, count)
    places = order.expand_as(fit.coefficients)
    coefficients, errors = (
        torch.zeros_like(values).scatter(2, places, values)
        for values in (fit.coefficients, fit.standard_errors)
    )
    return fit._replace(coefficients=coefficients, standard_errors=errors)
