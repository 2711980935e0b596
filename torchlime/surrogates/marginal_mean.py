"""The mean score where a feature is kept."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from torchlime._antithetic import by_pairs, unpaired
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime.fit import Fit
from torchlime.surrogates._fidelity import fidelity_of

ALONE = 1e-8  # the share that other rows must have in a mean


@dataclass(frozen=True)
class MarginalMean:
    """The weighted mean of the scores of the rows that keep a feature: RISE's saliency.

    A coefficient is Σ w z y / Σ w z. With ``difference``, the mean where the feature is hidden is
    subtracted: Σ w z y / Σ w z − Σ w (1−z) y / Σ w (1−z). For masks of :class:`Bernoulli(0.5)
    <torchlime.masks.Bernoulli>` and equal weights, this estimates the Banzhaf value without
    solving any equations; over all masks it is the Banzhaf value. The coefficients of
    :class:`LeastSquares` over all masks are the Banzhaf values too.

    Convention:
        The intercept is the mean score minus Σ coefficient · mean of z. The fidelity is the
        weighted R² of this linear surrogate; it may be negative. Without ``difference`` a
        coefficient is a mean and not a slope, so the fidelity is NaN, and the surrogate's own
        prediction says little. ``ok`` is False if no row with a weight above 0 keeps the feature;
        with ``difference``, also if no such row hides it. If the sampler forces row 0 to keep all,
        take the kernel :class:`torchlime.weights.WithoutUnmasked`, which leaves this row out.

        Standard errors are those of means (or of their difference) by HC3: a row is compared with
        the mean of the others. A pair of complements counts as one sample, because its rows do not
        err independently. Errors are NaN where a mean is of a single row.

    Source: Petsiuk, Das & Saenko 2018 (RISE); Banzhaf values: Wang & Jia 2023.

    Args:
        difference: subtract the mean of the rows that hide the feature.

    Raises:
        TypeError: when called, the design is noise.

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 1], [1, 0], [0, 0]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[6.0], [5.0], [2.0], [1.0]]])  # 1 + z0 + 4·z1
        >>> data = masks, scores, torch.ones(1, 4), torch.tensor([2])
        >>> MarginalMean()(*data).coefficients.tolist()
        [[[4.0, 5.5]]]
        >>> MarginalMean(difference=True)(*data).coefficients.tolist()
        [[[1.0, 4.0]]]
    """

    few_samples: ClassVar[bool] = True  # a mean needs no more samples than features
    together: ClassVar[bool] = False

    difference: bool = False

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks [B,N,S] bool, scores [B,N,T], weights [B,N]; count [B] columns are features."""
        if masks.is_floating_point():
            raise TypeError("MarginalMean needs masks, got noise; use a sampler of torchlime.masks")
        dtype = solve_dtype(masks.device)
        masks, scores, weights = masks.bool(), scores.to(dtype), weights.to(dtype)
        absent = (torch.arange(masks.shape[2], device=masks.device) >= count[:, None])[:, None]
        origin = scores[:, :1]  # so that constant scores are exactly 0
        moved, total = scores - origin, weights.sum(dim=1)[:, None]
        groups = [_group(masks, moved, weights)]
        slopes = groups[0].mean
        if self.difference:
            groups.append(_group(~masks, moved, weights))
            slopes = slopes - groups[1].mean
        else:
            slopes = slopes + origin.mT
        slopes = slopes.masked_fill(absent, 0.0)
        errors = _variance(groups, moved.detach(), weights.detach(), absent).sqrt()
        mean = (weights[:, None] @ scores)[:, 0] / total
        intercepts = mean - (slopes * (groups[0].size / total[..., None])).sum(dim=2)
        fidelity = torch.full_like(intercepts, torch.nan)
        if self.difference:
            fidelity = fidelity_of(masks, scores, weights, slopes, intercepts)
        some = torch.stack([group.size > 0 for group in groups]).all(dim=0) | absent
        errors = errors.masked_fill(absent, 0.0)
        return Fit(slopes, intercepts, fidelity, errors, some.flatten(1).all(dim=1))


class _Group(NamedTuple):
    """The rows that belong to each feature, such as those that keep it.

    Attributes:
        rows: [B,N,S] bool.
        size: [B,1,S], the sum of their weights.
        mean: [B,T,S], their weighted mean score.
    """

    rows: Tensor
    size: Tensor
    mean: Tensor


def _group(masks: Tensor, scores: Tensor, weights: Tensor) -> _Group:
    size = total = torch.zeros((), dtype=scores.dtype, device=scores.device)
    for rows in row_blocks(masks.shape[1], len(masks) * masks.shape[2], masks.device):
        weighted = masks[:, rows] * weights[:, rows, None]
        size = size + weighted.sum(dim=1, keepdim=True)
        total = total + scores[:, rows].mT @ weighted
    return _Group(masks, size, total / size)


def _variance(groups: list[_Group], scores: Tensor, weights: Tensor, absent: Tensor) -> Tensor:
    """The variance [B,T,S] of the first group's mean, or of its difference to the second's."""
    masks = groups[0].rows
    batch, samples, width = masks.shape
    alone = unpaired(masks, absent)
    by_row = by_pair = torch.zeros((), dtype=scores.dtype, device=scores.device)
    elements = batch * width * scores.shape[2]
    for rows in row_blocks(samples, elements, masks.device, multiple=2):
        pulls = [_pulls(group, rows, scores, weights) for group in groups]
        pull = pulls[0] if len(pulls) == 1 else pulls[0] - pulls[1]
        square, both = pull.square(), by_pairs(pull).sum(dim=2)
        by_row = by_row + square.sum(dim=1)
        alone_in_block = square[:, 2 * both.shape[1] :]
        by_pair = by_pair + both.square().sum(dim=1) + alone_in_block.sum(dim=1)
    return torch.where(alone, by_row, by_pair)


def _pulls(group: _Group, rows: slice, scores: Tensor, weights: Tensor) -> Tensor:
    """By how much each of the rows moves the mean of the others: [B,n,T,S]."""
    weight = weights[:, rows, None, None]
    size = group.size[:, None].detach()
    others = size - weight
    share = (weight / others).masked_fill(others <= ALONE * size, torch.nan)
    off = scores[:, rows, :, None] - group.mean[:, None].detach()
    return torch.where(group.rows[:, rows, None], share * off, 0.0)
