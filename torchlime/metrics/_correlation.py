"""Correlations over one axis, and ranks in which ties share their mean."""

import torch
from torch import Tensor


def pearson(a: Tensor, b: Tensor, valid: Tensor | None = None) -> Tensor:
    """Pearson's correlation over the last axis; NaN where a side is constant.

    Only entries that are ``valid`` count.
    """
    if valid is None:
        valid = torch.ones_like(a, dtype=torch.bool)
    number = valid.sum(-1, keepdim=True)
    a, b = (torch.where(valid, side, 0.0) for side in torch.broadcast_tensors(a, b))
    centred = [
        torch.where(valid, side - side.sum(-1, keepdim=True) / number, 0.0) for side in (a, b)
    ]
    a_is, b_is = (_varies(side, valid) for side in (a, b))
    a, b = centred
    norm = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return torch.where(a_is & b_is, (a * b).sum(-1) / norm, torch.nan)


def spearman(a: Tensor, b: Tensor, valid: Tensor | None = None) -> Tensor:
    """Spearman's correlation over the last axis; NaN where a side is constant.

    >>> spearman(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.0, 0.5, 0.6])).item()
    1.0
    """
    return pearson(mean_ranks(a, valid), mean_ranks(b, valid), valid)


def mean_ranks(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Ranks over the last axis, from ½ on; equal values share the mean of their ranks.

    >>> mean_ranks(torch.tensor([3.0, 1.0, 3.0])).tolist()
    [2.0, 0.5, 2.0]
    """
    values = values.contiguous()
    if valid is not None:
        values = torch.where(valid, values, torch.inf)
    ordered = values.sort(dim=-1).values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto).to(values.dtype) / 2


def _varies(values: Tensor, valid: Tensor) -> Tensor:
    """Whether the valid entries differ, exactly."""
    low = torch.where(valid, values, torch.inf).amin(-1)
    high = torch.where(valid, values, -torch.inf).amax(-1)
    return low < high
