"""Shapley values, as mean marginal contributions over walks."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime.fit import Fit
from torchlime.surrogates._fidelity import fidelity_of


@dataclass(frozen=True)
class MarginalContributions:
    """The mean of what a feature adds to the score when it is shown beside those before it.

    The design is made of walks, as :class:`torchlime.masks.Permutations` draws them: two successive
    rows differ in one feature at most. In random orders the coefficients estimate Shapley values
    without bias; over all orders they are the Shapley values. The intercept is the mean score where
    nothing is shown. Intercept and coefficients add up to the score of the unmasked input.

    Convention:
        A walk that does not reach every feature is left out, because its features are not a fair
        sample. Weights change only the fidelity, not the coefficients. The fidelity is the weighted
        R² of the sum of contributions; it may be negative. ``ok`` is False without a complete walk,
        and where two successive rows differ in several features.

        Standard errors are those of a mean over independent pairs of walks, since a walk may be the
        reverse of the previous walk. They are NaN for fewer than two pairs (4·S rows), and 0 where
        all pairs agree.

    Source: Castro, Gómez & Tejada 2009; pairs: Mitchell et al. 2022.

    Raises:
        TypeError: the design is noise.

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 1], [0, 0], [1, 0], [1, 1]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[3.0], [0.0], [0.0], [1.0], [3.0]]])  # z0 + 2·z0·z1
        >>> fit = MarginalContributions()(masks, scores, torch.ones(1, 5), torch.tensor([2]))
        >>> fit.coefficients.tolist(), fit.intercepts.tolist()
        ([[[2.0, 1.0]]], [[0.0]])
    """

    together: ClassVar[bool] = False

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks [B,N,S] bool, scores [B,N,T], weights [B,N]; count [B] columns are features."""
        if masks.is_floating_point():
            raise TypeError(
                "MarginalContributions needs masks of walks, got noise; use sampler=Permutations()"
            )
        dtype = solve_dtype(masks.device)
        masks, scores, weights = masks.bool(), scores.to(dtype), weights.to(dtype)
        present = torch.arange(masks.shape[2], device=masks.device) < count[:, None]
        steps = _steps(masks, scores, present)
        walks = steps.walks.to(dtype)[:, None, None]
        means = _summed(steps, steps.gains, present) / walks
        slopes = means.mT.masked_fill(~present[:, None], 0.0)
        variances = _summed(steps, _squares(steps, means), present) / walks.square()
        pairs = ((steps.walks + 1) // 2).to(dtype)[:, None, None]
        errors = (variances.detach() * pairs / (pairs - 1).clamp(min=1)).sqrt()
        errors = errors.masked_fill(pairs < 2, torch.nan).mT.masked_fill(~present[:, None], 0.0)
        hidden = (~masks.any(dim=2)).to(dtype)
        intercepts = (hidden[:, None] @ scores)[:, 0] / hidden.sum(dim=1)[:, None]
        fidelity = fidelity_of(masks, scores, weights, slopes, intercepts)
        ok = steps.single & (steps.walks > 0) & (weights.sum(dim=1) > 0)
        return Fit(slopes, intercepts, fidelity, errors, ok)


class _Steps(NamedTuple):
    """The steps of the walks, sorted by feature and then in time.

    Attributes:
        feature: [B,n], the feature that is shown or hidden in the step; S if it is none or several.
        number: [B,n], in how many earlier steps it was this feature.
        gains: [B,n,T], the score with the feature minus the score without it.
        walks: [B], the number of complete walks; steps of a later walk do not count.
        single: [B], whether no step changes several features.
    """

    feature: Tensor
    number: Tensor
    gains: Tensor
    walks: Tensor
    single: Tensor


def _steps(masks: Tensor, scores: Tensor, present: Tensor) -> _Steps:
    batch, samples, width = masks.shape
    features, signs, several = [], [], []
    for rows in row_blocks(samples - 1, batch * width, masks.device):
        before, after = masks[:, rows], masks[:, rows.start + 1 : rows.stop + 1]
        changed = before ^ after
        number = changed.sum(dim=2)
        features.append(torch.where(number == 1, changed.to(torch.uint8).argmax(dim=2), width))
        signs.append((changed & after).any(dim=2))
        several.append((number > 1).any(dim=1))
    joins = torch.cat(signs, dim=1)[..., None]
    gains = scores.diff(dim=1)
    feature, order = torch.cat(features, dim=1).sort(dim=1, stable=True)
    gains = torch.where(joins, gains, -gains).gather(1, order[..., None].expand_as(gains))
    edges = torch.arange(width + 1, device=masks.device).expand(batch, -1).contiguous()
    starts = torch.searchsorted(feature, edges)
    place = torch.arange(samples - 1, device=masks.device)
    number = place - starts.gather(1, feature)
    walks = torch.where(present, starts.diff(dim=1), samples).amin(dim=1)
    return _Steps(feature, number, gains, walks, ~torch.stack(several).any(dim=0))


def _summed(steps: _Steps, values: Tensor, present: Tensor) -> Tensor:
    """Sums [B,S,T] of values [B,n,T] over the steps of each feature, in complete walks."""
    batch, width = present.shape
    counts = steps.number < steps.walks[:, None]
    columns = torch.arange(width, device=values.device)
    total = torch.zeros((), dtype=values.dtype, device=values.device)
    for rows in row_blocks(values.shape[1], batch * width, values.device):
        mine = (steps.feature[:, rows, None] == columns) & counts[:, rows, None]
        total = total + mine.to(values.dtype).mT @ values[:, rows]
    return total


def _squares(steps: _Steps, means: Tensor) -> Tensor:
    """The squared deviation of each pair of walks [B,n,T], at its first step; else 0."""
    _, width, targets = means.shape
    index = steps.feature.clamp(max=width - 1)[..., None].expand(-1, -1, targets)
    off = steps.gains - means.gather(1, index)
    following = torch.cat([off[:, 1:], torch.zeros_like(off[:, :1])], dim=1)
    has_second = (steps.number + 1 < steps.walks[:, None])[..., None]
    both = off + torch.where(has_second, following, 0.0)
    return torch.where((steps.number % 2 == 0)[..., None], both.square(), 0.0)
