"""Weighted ridge regression, lime's surrogate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_real
from torchlime._cholesky import factorise, identity_like, solve, with_diagonal
from torchlime.fit import Fit, NormalEquations, few_at_a_time


@dataclass(frozen=True, repr=False)
class Ridge:
    """Minimise Σ w (y − b₀ − z·β)² + α‖β‖², by one Cholesky factorisation for all targets.

    This is lime's objective: the intercept is not penalised and the weights are not normalised, so
    scaling all weights changes the fit. ``alpha`` = 0 is least squares of full rank.

    Args:
        alpha: the penalty.
        errors: compute standard errors. With False they are NaN, and the fit takes about half the
            time.

    Raises:
        ValueError: ``alpha`` is negative or not finite.

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 1], [1, 0], [0, 0]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[6.0], [5.0], [2.0], [1.0]]])  # 1 + z0 + 4·z1
        >>> fit = Ridge(alpha=0.0)(masks, scores, torch.ones(1, 4), torch.tensor([2]))
        >>> fit.coefficients.tolist(), fit.intercepts.tolist()
        ([[[1.0, 4.0]]], [[1.0]])
    """

    alpha: float = 1.0
    errors: bool = True

    def __post_init__(self) -> None:
        check_real(self.alpha, "alpha")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be a finite number of at least 0, got {self.alpha!r}")

    def __repr__(self) -> str:
        # As it was before there was a choice: jobs and results know it by this.
        return f"Ridge(alpha={self.alpha!r}{'' if self.errors else ', errors=False'})"

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks [B,N,S], scores [B,N,T], weights [B,N]; count [B] columns are features.

        If the design is floats, it is noise. This serves callers who wrap a surrogate.
        """
        if masks.is_floating_point():
            return self.of_noise(masks, scores, weights, count)
        return few_at_a_time(self._of_masks, masks, scores, weights, count)

    def of_noise(self, noise: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit noise [B,N,F], scores [B,N,T], weights [B,N]."""
        return few_at_a_time(self._of_noise, noise, scores, weights, count)

    def _of_masks(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        return self.of_equations(NormalEquations(masks, scores, weights, count))

    def _of_noise(self, noise: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        return self.of_equations(NormalEquations.of_noise(noise, scores, weights, count))

    def of_equations(self, equations: NormalEquations) -> Fit:
        """The fit of given equations."""
        identity = identity_like(equations.gram)
        if self.alpha:
            gram = torch.add(equations.gram, identity, alpha=self.alpha)
        else:  # the rows that are padding are 0
            gram = with_diagonal(equations.gram, equations.padding.to(equations.dtype))
        factor, ok = factorise(gram)
        if not self.errors:
            return equations.fit(solve(factor, equations.cross), ok[:, None], None)
        right = [equations.cross, identity.expand_as(equations.gram)]
        solution = solve(factor, torch.cat(right, dim=2))
        targets = equations.cross.shape[2]
        return equations.fit(solution[:, :, :targets], ok[:, None], solution[:, :, targets:])
