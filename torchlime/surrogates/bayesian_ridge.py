"""Bayesian linear regression, with a prior that is given or that maximises the evidence."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torchlime._checks import check_positive, check_real
from torchlime._cholesky import factorise, identity_like, solve, with_diagonal
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime._settings import Settings
from torchlime.fit import Fit, NormalEquations, few_at_a_time

STEPS = 14  # all of 5376 problems converge within 14, all but two within 12
LONGEST = 8.0  # a step changes log(λ/α) by this at most
LEAST = 0.64  # the power of ε that λ/α is at least, as a share of G's largest diagonal: 1e-10
MOST = 1e8  # and what it is at most


@dataclass(frozen=True, eq=False, repr=False)
class BayesianRidge(Settings):
    """The mean of β ~ N(m, λ⁻¹I) after y ~ N(b₀ + z·β, (αw)⁻¹) were seen: BayLIME's surrogate.

    It is (λI + αG)⁻¹(λm + αc), where G and c are the weighted, centred sums. With m = 0 it is
    :class:`Ridge` of the penalty λ/α. The intercept has a flat prior.

    A precision that is None is chosen to maximise the evidence (the marginal likelihood), for every
    input and target. BayLIME has three modes: give nothing, give the prior alone (``mean`` and
    ``precision``), or give all three.

    The evidence is maximised over log(λ/α) by a fixed number of Newton steps within a bracket, each
    with one factorisation for every image and target. ``ok`` is False where the steps have not
    converged.

    Args:
        mean: m, a number or a tensor [S], [B or 1,S] or [B or 1,T or 1,S] on the device of the
            masks, such as the coefficients of another explanation.
        precision: λ, the precision of the prior; None = by the evidence.
        noise_precision: α, the precision of a score of weight 1; None = by the evidence.

    Convention:
        Standard errors are the standard deviations of β after the scores were seen. Weights are not
        normalised: Σw is the number of observations, so scaling all weights changes the fit. If the
        scores are exactly linear, λ/α takes its smallest value, 1e-10 of the largest diagonal entry
        of G. If the evidence grows up to λ = ∞, the coefficients are the mean. Their errors are
        then NaN: the posterior's would be 0, although the scores say nothing.

    Source: MacKay 1992, as in scikit-learn's BayesianRidge without priors of the precisions (which
    would depend on the unit of the scores); Zhao et al. 2021 (BayLIME).

    Raises:
        TypeError, ValueError: an argument is out of range; when called, ``mean`` does not fit.

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 1], [1, 0], [0, 0]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[6.0], [5.0], [2.0], [1.0]]])  # 1 + z0 + 4·z1
        >>> known = BayesianRidge(mean=torch.tensor([0.0, 6.0]), precision=1.0, noise_precision=1.0)
        >>> fit = known(masks, scores, torch.ones(1, 4), torch.tensor([2]))
        >>> fit.coefficients.round(decimals=6).tolist()
        [[[0.5, 5.0]]]
    """

    mean: float | Tensor = 0.0
    precision: float | None = None
    noise_precision: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.mean, Tensor):
            check_real(self.mean, "mean")
        elif not self.mean.is_floating_point() or self.mean.dim() not in (1, 2, 3):
            got = f"{self.mean.dtype} {list(self.mean.shape)}"
            raise ValueError(f"mean must be a float tensor [S], [B,S] or [B,T,S], got {got}")
        for name in ("precision", "noise_precision"):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)

    def __repr__(self) -> str:
        mean = f"a tensor {list(self.mean.shape)}" if isinstance(self.mean, Tensor) else self.mean
        return (
            f"BayesianRidge(mean={mean}, precision={self.precision!r}, "
            f"noise_precision={self.noise_precision!r})"
        )

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks [B,N,S], scores [B,N,T], weights [B,N]; count [B] columns are features.

        If the design is floats, it is noise.
        """
        mean = self._mean(len(scores), scores.shape[2], masks.shape[2], scores)
        return few_at_a_time(self._of_design, masks, scores, weights, count, mean)

    def of_noise(self, noise: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit noise [B,N,F], scores [B,N,T], weights [B,N]; it has no dual form."""
        return self(noise, scores, weights, count)

    def of_equations(self, equations: NormalEquations) -> Fit:
        """The fit of given equations."""
        targets = equations.cross.shape[2] * len(equations.cross) // equations.inputs
        size = equations.inputs, targets, equations.width
        return self._of_equations(equations, self._mean(*size, equations.cross))

    def _of_design(
        self, design: Tensor, scores: Tensor, weights: Tensor, count: Tensor, mean: Tensor
    ) -> Fit:
        noise = design.is_floating_point()
        equations = NormalEquations(design, scores, weights, count, noise=noise)
        return self._of_equations(equations, mean)

    def _mean(self, inputs: int, targets: int, width: int, like: Tensor) -> Tensor:
        """The mean [B,T,S]."""
        if not isinstance(self.mean, Tensor):
            number = like.new_full((), self.mean, dtype=solve_dtype(like.device))
            return number.expand(inputs, targets, width)
        found = self.mean if self.mean.dim() == 3 else self.mean[..., None, :]
        sizes = zip((1, 1, 1, *found.shape)[-3:], (inputs, targets, width), strict=True)
        if found.shape[-1] != width or any(own not in (1, size) for own, size in sizes):
            raise ValueError(
                f"mean of BayesianRidge must be [S], [B,S] or [B,T,S] with B, T, S = "
                f"{[inputs, targets, width]}, got {list(self.mean.shape)}; with rounds=Until() "
                "inputs leave, so that only a mean for all of them fits"
            )
        return found.expand(inputs, targets, width)

    def _of_equations(self, equations: NormalEquations, mean: Tensor) -> Fit:
        gram, cross = equations.gram, equations.cross.mT
        largest = gram.diagonal(dim1=1, dim2=2).amax(dim=1)
        unit = torch.where(largest > 0, largest, 1.0)[:, None, None]
        mean = mean.to(cross.dtype).reshape(cross.shape)
        mean = equations.present(mean)
        right = cross - mean @ gram
        # Σ w (y − z·m)², of which rounding leaves a share unexplained.
        spread = equations.variation - ((cross + right) * mean).sum(dim=2)
        spread = torch.maximum(spread, torch.finfo(cross.dtype).eps * equations.variation)
        gram, right, spread = gram / unit, right / unit, spread / unit[..., 0]
        noise = None if self.noise_precision is None else self.noise_precision * unit[..., 0]
        total, parts = equations.total[:, None], []
        for targets in row_blocks(cross.shape[1], gram.numel(), gram.device):
            evidence = _Evidence(
                gram, right[:, targets], spread[:, targets], total, self.precision, noise
            )
            parts.append(evidence.posterior())
        moved, errors, ok = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        fit = equations.fit((mean + moved).mT, ok, None)
        errors = equations.present(errors).reshape(fit.coefficients.shape)
        return Fit(*fit[:3], errors, fit.ok)  # torch 2.11 does not compile _replace()


class _Evidence(NamedTuple):
    """What the evidence of λ and α is made of; sums over samples are divided by the unit.

    Attributes:
        gram: G [B,S,S], of a diagonal of at most 1: its largest entry was the unit.
        right: the products [B,T,S] of the centred columns with y − z·m.
        spread: Σ w (y − z·m)² [B,T].
        total: Σ w [B,1].
        precision: λ, or None.
        noise: α [B,1] times the unit, or None.
    """

    gram: Tensor
    right: Tensor
    spread: Tensor
    total: Tensor
    precision: float | None
    noise: Tensor | None

    def posterior(self) -> tuple[Tensor, Tensor, Tensor]:
        """The mean of β − m [B,T,S], its standard deviations [B,T,S], and whether both are valid.

        At the largest λ/α, the evidence grows up to λ = ∞: then these are 0 and NaN.
        """
        if self.precision is not None and self.noise is not None:
            ratio = (self.precision / self.noise).expand_as(self.spread)
            converged = torch.ones_like(ratio, dtype=torch.bool)
            endless = ~converged
        else:
            ratio, converged, endless = self._best_ratio()
        factor, ok = factorise(self._system(ratio))
        identity = identity_like(self.gram).expand_as(factor)
        solved = solve(factor, torch.cat([self.right[..., None], identity], dim=3))
        moved, inverse = solved[..., 0], solved[..., 1:].diagonal(dim1=2, dim2=3)
        if self.noise is not None:
            variance = 1 / self.noise
        elif self.precision is not None:
            variance = ratio / self.precision
        else:
            variance = (self.spread - (moved * self.right).sum(dim=2)) / self.total
        errors = (inverse * variance[..., None]).detach().clamp(min=0).sqrt()
        moved = moved.masked_fill(endless[..., None], 0.0)
        return moved, errors.masked_fill(endless[..., None], torch.nan), ok & converged

    def _best_ratio(self) -> tuple[Tensor, Tensor, Tensor]:
        """λ/α [B,T] of the largest evidence, whether it was found, and whether it is the largest.

        The last step is one of Newton's, and its gradient is the whole gradient.
        """
        with torch.no_grad():
            found, converged = self._found()
        balance, slope = self._balance(found)
        endless = found == math.log(MOST)
        inside = converged & ~endless & (found > self._least())
        step = balance / torch.where(inside, slope.detach(), torch.inf)
        return (found - step).exp(), converged, endless

    def _found(self) -> tuple[Tensor, Tensor]:
        """log λ/α [B,T], and whether the steps have converged."""
        begin = (self.gram.diagonal(dim1=1, dim2=2).sum(dim=1, keepdim=True) / self.total).log()
        least, most = self._least(), math.log(MOST)
        point = begin.clamp(least, most).expand_as(self.spread)
        low, high = torch.full_like(point, least - 1), torch.full_like(point, most + 1)
        done = torch.zeros_like(point, dtype=torch.bool)
        near, tiny = torch.finfo(point.dtype).eps ** 0.375, torch.finfo(point.dtype).tiny
        for _ in range(STEPS):
            balance, slope = self._balance(point)
            grows = balance > 0
            low, high = torch.where(grows, point, low), torch.where(grows, high, point)
            step = balance / slope.clamp(max=-tiny)  # the longest where the balance does not fall
            following = (point - step.clamp(-LONGEST, LONGEST)).clamp(least, most)
            last = (following - point).abs() <= near
            right = last | ((following > low) & (following < high))
            following = torch.where(right, following, (low + high) / 2)
            point = torch.where(done, point, following)
            done = done | last
        return point, done

    def _balance(self, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """A number of the sign of the evidence's slope in log λ/α, and its derivative: [B,T].

        γ = tr((G + λ/α)⁻¹G) is how many coefficients the scores determine. The evidence is the
        largest where λ|δ|² = γ and α Σ w e² = Σw − γ, for δ = β − m and the residuals e.
        """
        ratio = log_ratio.exp()
        factor, _ = torch.linalg.cholesky_ex(self._system(ratio))
        gram = self.gram[:, None].expand_as(factor)
        solved = solve(factor, torch.cat([gram, self.right[..., None]], dim=3))
        shrunk, moved = solved[..., :-1], solved[..., -1]
        tiny = torch.finfo(ratio.dtype).tiny
        free = shrunk.diagonal(dim1=2, dim2=3).sum(dim=2)
        free_slope, free = (shrunk * shrunk.mT).sum(dim=(2, 3)) - free, free.clamp(min=tiny)
        length = moved.square().sum(dim=2)
        length_slope = -2 * (moved * (moved - (shrunk @ moved[..., None])[..., 0])).sum(dim=2)
        whole = (self.spread - (moved * self.right).sum(dim=2)).clamp(min=tiny)  # Σwe² + |δ|² λ/α
        if self.precision is not None:
            rest = self.precision * (whole / ratio - length)
            rest_slope = -rest - self.precision * length_slope
            both = (rest + free).clamp(min=tiny)
            return (both / self.total).log(), (rest_slope + free_slope) / both
        balance = free.log() - log_ratio - (length + tiny).log()
        slope = free_slope / free - 1 - length_slope / (length + tiny)
        if self.noise is not None:
            return balance - self.noise.log(), slope
        return balance + (whole / self.total).log(), slope + ratio * length / whole

    def _least(self) -> float:
        return LEAST * math.log(torch.finfo(self.gram.dtype).eps)

    def _system(self, ratio: Tensor) -> Tensor:
        """G + λ/α: [B,T,S,S]."""
        return with_diagonal(self.gram[:, None], ratio[..., None].expand_as(self.right))
