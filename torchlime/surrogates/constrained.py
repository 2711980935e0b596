"""Weighted least squares through the scores of all and of nothing: KernelSHAP's fit."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchlime._cholesky import factorise, identity_like, solve, with_diagonal
from torchlime._size_laws import kept_by
from torchlime.fit import Fit, NormalEquations, few_at_a_time


@dataclass(frozen=True)
class ConstrainedLeastSquares:
    """Minimise Σ w (y − b₀ − z·β)², where b₀ = f(∅) and Σβ = f(x) − f(∅).

    The fit goes through f(∅), the score where all features are hidden, and through f(x), the score
    of the input x. So the coefficients add up to the difference of the two (efficiency). With the
    weights of the Shapley kernel over all masks they are the Shapley values:

    - exact: ``sampler=Exhaustive(), kernel=ShapleyKernel()``
    - KernelSHAP: ``sampler=SizeLaw(), kernel=Uniform()``
    - Leverage SHAP: ``sampler=SizeLaw(LeverageLaw())`` and
      ``kernel=ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw())``

    Convention:
        f(x) is the score of the first row that keeps all, and f(∅) that of the first row that hides
        all, whatever the weights of these rows are. :class:`torchlime.masks.SizeLaw` with a proper
        law begins with both. The surrogate gets only the rows of the design, so an explainer
        refuses samplers that have the input beside the design, such as Orthogonal.

        ``ok`` is False, and all numbers are NaN, where one of the two rows is missing, or the
        samples are too few for one solution. Fidelity is the weighted R²; it may be negative.

        Standard errors are those of :mod:`torchlime._variance`, without a degree of freedom for the
        intercept. A pair of complements counts as one sample. The scores of the two rows have no
        error.

    Source: Lundberg & Lee 2017; the constraint's closed form: Covert & Lee 2021, equation 7.

    Raises:
        TypeError: the design is noise.

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 0], [1, 0], [0, 1]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[3.0], [0.0], [1.0], [0.0]]])  # z0 + 2·z0·z1
        >>> fit = ConstrainedLeastSquares()(masks, scores, torch.ones(1, 4), torch.tensor([2]))
        >>> fit.coefficients.round(decimals=9).tolist(), fit.intercepts.tolist()
        ([[[2.0, 1.0]]], [[0.0]])
    """

    through_input: ClassVar[bool] = True

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks [B,N,S] bool, scores [B,N,T], weights [B,N]; count [B] columns are features."""
        if masks.is_floating_point():
            raise TypeError(
                "ConstrainedLeastSquares needs masks, of which one keeps all and one hides all, "
                "got noise; use sampler=SizeLaw() or surrogate=LeastSquares()"
            )
        return few_at_a_time(self._of_masks, masks, scores, weights, count)

    def _of_masks(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        equations = _FromNothing(masks, scores, weights, count)
        ones = (~equations.padding).to(equations.dtype)[..., None]  # [B,S,1]
        largest = equations.gram.diagonal(dim1=1, dim2=2).amax(dim=1)
        size = torch.where(largest > 0, largest, 1.0)[:, None, None]
        # A multiple of (Σβ − rise)² is 0 where Σβ is right, and it makes the Gram matrix definite.
        gram = torch.baddbmm(equations.gram, size * ones, ones.mT)
        factor, ok = factorise(with_diagonal(gram, equations.padding * size[..., 0]))
        right = equations.cross + size * ones * equations.rise
        known = torch.cat([right, ones, identity_like(gram).expand_as(gram)], dim=2)
        targets, width = right.shape[2], gram.shape[2]
        free, pull, inverse = solve(factor, known).split([targets, 1, width], dim=2)
        spread = pull / (ones * pull).sum(dim=1, keepdim=True)  # how a change of Σβ is shared out
        missing = equations.rise - (ones * free).sum(dim=1, keepdim=True)
        solved = (ok & equations.has_both)[:, None]
        return equations.fit(free + spread * missing, solved, inverse - spread * pull.mT)


class _FromNothing(NormalEquations):
    """Equations of the rows minus the row that hides all; other fits subtract their means.

    So no intercept is fitted.

    Attributes:
        rise: [B,1,T], f(x) − f(∅); NaN where a row is missing.
        has_both: [B], whether rows keep all and hide all.
    """

    def __init__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor):
        super().__init__(masks, scores, weights, count)
        self.level = self._average
        self.share = torch.zeros_like(self.share)  # a row's part in an intercept
        off = self.scores - self.origin - self.level[:, None]
        self.variation = (self.weights[..., None] * off.square()).sum(dim=1)

    def _mean(self) -> Tensor:
        """The row [B,1,S+T] that hides all, and its scores."""
        design, scores = self._split(super()._mean())
        self._average = scores[:, 0]
        kept = kept_by(self.design)
        nothing, hides = self._first(kept == 0)
        whole, keeps = self._first(kept == self.count[:, None])
        self.rise, self.has_both = whole - nothing, hides & keeps
        return torch.cat([torch.zeros_like(design), nothing - self.origin], dim=2)

    def _first(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """The scores [B,1,T] of the first of the rows [B,N]; and whether there is one, else NaN."""
        found = which.any(dim=1)
        place = which.to(torch.uint8).argmax(dim=1)[:, None, None]
        scores = self.scores.gather(1, place.expand(-1, 1, self.scores.shape[2]))
        return scores.masked_fill(~found[:, None, None], torch.nan), found
