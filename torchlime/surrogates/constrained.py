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
        return self.of_equations(NormalEquations(masks, scores, weights, count))

    def of_equations(self, equations: NormalEquations) -> Fit:
        """The fit of equations that are made already."""
        nothing, whole, has_both = _ends(equations)
        equations, rise = equations.measured_from(nothing), whole - nothing
        ones = (~equations.padding).to(equations.dtype)[..., None]  # [B,S,1]
        largest = equations.gram.diagonal(dim1=1, dim2=2).amax(dim=1)
        size = torch.where(largest > 0, largest, 1.0)[:, None, None]
        # A multiple of (Σβ − rise)² is 0 where Σβ is right, and it makes the Gram matrix definite.
        gram = torch.baddbmm(equations.gram, size * ones, ones.mT)
        factor, ok = factorise(with_diagonal(gram, equations.padding * size[..., 0]))
        right = equations.cross + size * ones * rise
        known = torch.cat([right, ones, identity_like(gram).expand_as(gram)], dim=2)
        targets, width = right.shape[2], gram.shape[2]
        free, pull, inverse = solve(factor, known).split([targets, 1, width], dim=2)
        spread = pull / (ones * pull).sum(dim=1, keepdim=True)  # how a change of Σβ is shared out
        missing = rise - (ones * free).sum(dim=1, keepdim=True)
        solved = (ok & has_both)[:, None]
        return equations.fit(free + spread * missing, solved, inverse - spread * pull.mT)


def _ends(equations: NormalEquations) -> tuple[Tensor, Tensor, Tensor]:
    """f(∅) and f(x) [B,1,T], NaN where the row is missing; and whether both rows are there [B]."""
    kept = kept_by(equations.design)
    nothing, hides = _first(equations.scores, kept == 0)
    whole, keeps = _first(equations.scores, kept == equations.count[:, None])
    return nothing, whole, hides & keeps


def _first(scores: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """The scores [B,1,T] of the first of some rows [B,N], NaN without one; if there is one."""
    found = which.any(dim=1)
    place = which.to(torch.uint8).argmax(dim=1)[:, None, None]
    first = scores.gather(1, place.expand(-1, 1, scores.shape[2]))
    return first.masked_fill(~found[:, None, None], torch.nan), found
