"""Weighted least squares of minimum norm, without the factorisations that wait for the host."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._cholesky import factorise, identity_like, solve, with_diagonal
from torchlime.fit import Fit, NormalEquations, few_at_a_time

SHIFT = 1e-9
STEPS = 4


@dataclass(frozen=True)
class LeastSquares:
    """Minimise Σ w (y − b₀ − z·β)²; among all minimisers, take the β of the smallest norm.

    A Gram matrix of full rank is solved directly, with iterative refinement. Any other is solved by
    iterated Tikhonov regularisation (Engl, Hanke & Neubauer 1996, section 5.1). Each step shrinks
    the error in a direction of eigenvalue λ by shift / (λ + shift). A second pass, multiplied by
    the Gram matrix, removes what rounding left in directions that the samples do not reach. A
    direction whose eigenvalue is at the rounding of the largest counts as not reached.

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 0], [1, 1], [0, 0]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[6.0], [2.0], [6.0], [2.0]]])  # equal columns
        >>> fit = LeastSquares()(masks, scores, torch.ones(1, 4), torch.tensor([2]))
        >>> fit.coefficients.round(decimals=6).tolist()
        [[[2.0, 2.0]]]
    """

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
        largest = equations.gram.diagonal(dim1=1, dim2=2).amax(dim=1)
        scale = torch.where(largest > 0, largest, 1.0)[:, None, None]
        idle = equations.padding if equations.dual else equations.padding | equations.unvarying
        padding = idle.to(equations.dtype)
        gram = with_diagonal(equations.gram / scale, padding)
        direct, full_rank = factorise(gram)
        shifted, ok = factorise(with_diagonal(gram, torch.full_like(padding, SHIFT)))
        full_rank = full_rank[:, None, None]
        factor = torch.where(full_rank, direct, shifted)

        def refined(right: Tensor) -> Tensor:
            solution = solve(factor, right)
            for _ in range(STEPS - 1):
                solution = solution + solve(factor, right - gram @ solution)
            return solution

        def minimum_norm(right: Tensor) -> Tensor:
            once = refined(right)
            return torch.where(full_rank, once, gram @ refined(once))

        right = equations.cross / scale
        if equations.dual:  # AAᵀc has no part in the directions that are not reached
            solution = torch.where(full_rank, refined(right), refined(refined(gram @ right)))
            return equations.fit(solution, ok[:, None], None)
        solution = minimum_norm(right)
        identity = identity_like(gram).expand_as(gram)
        reached = torch.where(full_rank, identity, minimum_norm(gram))
        return equations.fit(solution, ok[:, None], minimum_norm(reached) / scale)
