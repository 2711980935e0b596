"""Weighted Lasso on the Gram matrix."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchlime._checks import check_positive, check_real
from torchlime._cholesky import factorise, identity_like, solve
from torchlime._row_blocks import row_blocks
from torchlime.fit import Fit, NormalEquations

# All of 280 hard problems (fewer samples than features, correlated columns, fractions from 0.5 to
# 0.0001) converge within 18 steps; all but one within 16. 300 steps of FISTA left out 64 of the 224
# above 0.0001.
STEPS = 18
REACH = 0.995  # the share of the way to the border that a step goes at most


@dataclass(frozen=True)
class Lasso:
    """Minimise Σ w (y − b₀ − z·β)² / (2 Σ w) + α‖β‖₁: scikit-learn's objective.

    Exactly one of ``alpha`` and ``fraction`` is given. ``fraction`` sets α, for every image and
    target, to that share of the smallest α at which all coefficients are 0.

    It takes a fixed number of steps of an interior point method (:func:`interior_point`), each with
    one factorisation for every image and target. Then it solves exactly on the support that the
    steps found, and uses this solution where it is closer to the optimum. ``ok`` is False where the
    optimality conditions are violated by more than √ε (1.5e-8) of the largest gradient at 0.
    Standard errors are NaN.

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

        If the design is floats, it is noise. This serves callers who wrap a surrogate.
        """
        if masks.is_floating_point():
            return self.of_noise(masks, scores, weights, count)
        return self.of_equations(NormalEquations(masks, scores, weights, count))

    def of_noise(self, noise: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit noise [B,N,F], scores [B,N,T], weights [B,N]."""
        return self.of_equations(NormalEquations(noise, scores, weights, count, noise=True))

    def of_equations(self, equations: NormalEquations) -> Fit:
        """The fit of given equations."""
        gram = equations.gram / equations.total[:, None, None]
        cross = (equations.cross / equations.total[:, None, None]).mT.contiguous()
        largest = cross.abs().amax(dim=2, keepdim=True)
        if self.fraction is not None:
            alpha = largest * self.fraction
        else:
            alpha = torch.full_like(largest, self.alpha or 0.0)
        batch, targets, width = cross.shape
        blocks = row_blocks(targets, batch * width**2, gram.device)
        parts = [_optimum(gram, *(x[:, t] for x in (cross, alpha, largest))) for t in blocks]
        coefficients, gap = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        converged = gap <= torch.finfo(equations.dtype).eps ** 0.5 * largest
        return equations.fit(coefficients.mT, converged[..., 0], None)


def _optimum(gram: Tensor, cross: Tensor, alpha: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients [B,T,S] of cross [B,T,S], and how far they are from optimal [B,T,1]."""
    with torch.no_grad():
        found, active, sign = _found(gram, cross, alpha, largest)
    exact = _on_support(gram, cross - alpha * sign, active)
    both = torch.stack([found, exact], dim=1)
    gap, exact_gap = _optimality_gap(gram, cross, alpha, both).unbind(1)
    better = exact_gap < gap
    return torch.where(better, exact, found), torch.where(better, exact_gap, gap)


def _found(
    gram: Tensor, cross: Tensor, alpha: Tensor, largest: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What the interior point method finds, which coefficients are not 0, and their signs.

    The problem is scaled, so that the largest gradient and the largest diagonal are 1. A
    coefficient is 0 where the best step along it alone leads to 0.
    """
    tiny = torch.finfo(gram.dtype).tiny
    diagonal = gram.diagonal(dim1=1, dim2=2)[:, None]
    unit, scale = diagonal.amax(dim=2, keepdim=True).clamp_(min=tiny), largest.clamp(min=tiny)
    gram, cross = gram / unit, cross / scale
    least = torch.finfo(gram.dtype).eps ** 0.7  # 1e-11 in float64, 1e-5 in float32
    alpha = (alpha / scale).clamp_(10 * least, 2.0)  # from 1 on the optimum is 0
    found = interior_point(gram, cross, alpha, least)
    moved = torch.baddbmm(cross, found, gram, alpha=-1).addcmul_(found, diagonal / unit)
    zero = moved.abs() <= alpha
    return (found * (scale / unit)).masked_fill_(zero, 0.0), ~zero, moved.sign_()


def interior_point(gram: Tensor, cross: Tensor, alpha: Tensor, least: float) -> Tensor:
    """Near the β [B,T,S] that minimise βᵀGβ/2 − cᵀβ + α‖β‖₁.

    A predictor-corrector method (Mehrotra 1992) for β = x₀ − x₁ with x ≥ 0. The slopes of the
    objective are α ∓ (c − Gβ). Steps lead to x·y = 0 with slopes y ≥ 0. The predictor aims at 0.
    The corrector adds the second-order term, and aims at a share of the mean product. This share is
    smaller if the predictor could go further.

    Args:
        gram: G [B,S,S], of a diagonal of at most 1.
        cross: c [B,T,S], of numbers of at most 1.
        alpha: α [B,T,1].
        least: x and y stay at least this large, so that no pivot falls to the rounding.
    """
    width = cross.shape[2]
    identity = identity_like(gram)
    change = torch.cat([gram, -gram], dim=2)  # of the slopes with β
    at_zero = alpha + torch.cat([-cross, cross], dim=2)
    state = torch.stack([torch.ones_like(at_zero), at_zero.clamp(min=0) + 1])
    x, y = state
    move = torch.empty_like(state)  # the step, as shares of x and y
    for _ in range(STEPS):
        slopes = torch.baddbmm(at_zero, x[..., :width] - x[..., width:], change)
        ratio = x / y
        stiffness = ratio.unflatten(2, (2, width)).sum(dim=2)
        hessian = torch.addcdiv(gram[:, None], identity, stiffness[..., None])
        factor, _ = torch.linalg.cholesky_ex(hessian)

        def slopes_after(pull: Tensor) -> Tensor:
            """The slopes, as shares of y, after the whole step of this pull towards 0."""
            right = (pull[..., width:] - pull[..., :width]).div_(stiffness)  # noqa: B023
            step = solve(factor, right[..., None])[..., 0]  # noqa: B023
            return torch.baddbmm(slopes, step, change).div_(y)  # noqa: B023

        pull = ratio * slopes
        after = slopes_after(pull)
        curved = torch.addcmul(after, after, after, value=-1)  # Δx Δy / (x y)
        product = x * y
        share = curved.amin(dim=2, keepdim=True).tanh_().pow_(4)
        aim = share.mul_(product.mean(dim=2, keepdim=True))
        curved.addcdiv_(aim, product, value=-1)
        after = slopes_after(pull.addcmul_(x, curved))
        torch.add(curved, after, out=move[0]).neg_()
        torch.sub(after, 1, out=move[1])
        most = move.amin(dim=(0, 3))[..., None].clamp_(max=-REACH).reciprocal_()
        state.addcmul_(state * most, move, value=-REACH).clamp_(min=least)
    return x[..., :width] - x[..., width:]


def _on_support(gram: Tensor, right: Tensor, active: Tensor) -> Tensor:
    """The solution [B,T,S] of G β = ``right`` among all β that are 0 where not ``active``."""
    both = active[..., None] & active[..., None, :]
    factor, _ = factorise(torch.where(both, gram[:, None], identity_like(gram)))
    return solve(factor, right.masked_fill(~active, 0.0)[..., None])[..., 0]


def _optimality_gap(gram: Tensor, cross: Tensor, alpha: Tensor, x: Tensor) -> Tensor:
    """Largest violation of the optimality (KKT) conditions by x [B,k,T,S]: [B,k,T,1].

    At the optimum, the gradient is α times the sign of a coefficient; for a coefficient of 0 its
    absolute value is at most α.
    """
    gradient = cross[:, None] - (x.flatten(1, 2) @ gram).view_as(x)
    alpha, sign = alpha[:, None], x.sign()
    violation = (gradient - alpha * sign).abs() - alpha * (1 - sign.square())
    return violation.amax(dim=3, keepdim=True).clamp(min=0)
