"""Weighted Lasso on the Gram matrix."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchlime._checks import check_positive, check_real
from torchlime._cholesky import factorise, solve, with_diagonal
from torchlime._row_blocks import row_blocks
from torchlime.fit import Fit, NormalEquations

STEPS = 300


@dataclass(frozen=True)
class Lasso:
    """Minimise Σ w (y − b₀ − z·β)² / (2 Σ w) + α‖β‖₁: scikit-learn's objective.

    Exactly one of ``alpha`` and ``fraction`` is given. ``fraction`` sets α, for every image and
    target, to that share of the smallest α at which all coefficients are 0.

    It takes a fixed number of FISTA steps (Beck & Teboulle 2009) with the gradient restart of
    O'Donoghue & Candès 2015. Then it solves exactly on the support that the steps found, and uses
    this solution where it is closer to the optimum. ``ok`` is False where the optimality conditions
    are violated by more than √ε (1.5e-8) of the largest gradient at 0. Standard errors are NaN.

    Raises:
        ValueError: both or neither are given, ``alpha`` ≤ 0, or ``fraction`` is outside (0, 1].

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 1], [1, 0], [0, 0]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[6.0], [5.0], [2.0], [1.0]]])  # 1 + z0 + 4·z1
        >>> fit = Lasso(alpha=0.25)(masks, scores, torch.ones(1, 4), torch.tensor([2]))
        >>> fit.coefficients.tolist()  # 4·soft(β/4, α)
        [[[0.0, 3.0]]]
    """

    errors: ClassVar[bool] = False

    alpha: float | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.alpha is None) == (self.fraction is None):
            raise ValueError("Lasso takes exactly one of alpha and fraction")
        if self.alpha is not None:
            check_positive(self.alpha, "alpha")
        if self.fraction is not None:
            check_real(self.fraction, "fraction")
            if not 0 < self.fraction <= 1:
                raise ValueError(f"fraction must lie in (0, 1], got {self.fraction!r}")

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks [B,N,S], scores [B,N,T], weights [B,N]; count [B] columns are features.

        A design of floats is noise, for those who wrap a surrogate.
        """
        if masks.is_floating_point():
            return self.of_noise(masks, scores, weights, count)
        return self.of_equations(NormalEquations(masks, scores, weights, count))

    def of_noise(self, noise: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit noise [B,N,F], scores [B,N,T], weights [B,N]."""
        return self.of_equations(NormalEquations(noise, scores, weights, count, noise=True))

    def of_equations(self, equations: NormalEquations) -> Fit:
        """The fit of equations that are made already."""
        gram = equations.gram / equations.total[:, None, None]
        cross = equations.cross / equations.total[:, None, None]
        largest = cross.abs().amax(dim=1, keepdim=True)
        if self.fraction is not None:
            alpha = largest * self.fraction
        else:
            alpha = torch.full_like(largest, self.alpha or 0.0)
        found = _fista(gram, cross, alpha)
        batch, width, targets = found.shape
        blocks = row_blocks(targets, batch * width**2, gram.device)
        exact = torch.cat(
            [_on_support(gram, *(x[..., t] for x in (cross, alpha, found))) for t in blocks], dim=2
        )
        gap, exact_gap = (_optimality_gap(gram, cross, alpha, x) for x in (found, exact))
        coefficients = torch.where(exact_gap < gap, exact, found)
        tolerance = torch.finfo(equations.dtype).eps ** 0.5
        converged = torch.where(exact_gap < gap, exact_gap, gap) <= tolerance * largest
        return equations.fit(coefficients, converged[:, 0], None)


def _fista(gram: Tensor, cross: Tensor, alpha: Tensor) -> Tensor:
    """Accelerated proximal gradient from 0, with restarts for every image and target: [B,S,T]."""
    lipschitz = gram.abs().sum(dim=2).amax(dim=1)[:, None, None]
    step = 1 / torch.where(lipschitz > 0, lipschitz, 1.0)
    x = y = torch.zeros_like(cross)
    t = torch.ones_like(alpha)
    for _ in range(STEPS):
        new = _shrink(y + step * (cross - gram @ y), step * alpha)
        restart = ((y - new) * (new - x)).sum(dim=1, keepdim=True) > 0
        t = torch.where(restart, 1.0, t)
        t_new = (1 + (1 + 4 * t.square()).sqrt()) / 2
        x, y, t = new, new + (t - 1) / t_new * (new - x), t_new
    return x


def _shrink(x: Tensor, by: Tensor) -> Tensor:
    return x.sign() * (x.abs() - by).clamp(min=0)


def _on_support(gram: Tensor, cross: Tensor, alpha: Tensor, x: Tensor) -> Tensor:
    """The optimum among all vectors with the support and signs of ``x`` [B,S,T]."""
    support = (x != 0).mT.to(gram.dtype)  # [B,T,S]
    restricted = gram[:, None] * support[..., None] * support[..., None, :]
    factor, _ = factorise(with_diagonal(restricted, 1 - support))
    right = (cross - alpha * x.sign()).mT * support
    return solve(factor, right[..., None])[..., 0].mT


def _optimality_gap(gram: Tensor, cross: Tensor, alpha: Tensor, x: Tensor) -> Tensor:
    """Largest violation of the optimality (KKT) conditions: [B,1,T]."""
    gradient = cross - gram @ x
    at_zero = (gradient.abs() - alpha).clamp(min=0)
    violation = torch.where(x == 0, at_zero, (gradient - alpha * x.sign()).abs())
    return violation.amax(dim=1, keepdim=True)
