"""Feature selection: features of uncertain sign are dropped, and the others are fitted again."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from torchlime._antithetic import in_pairs, unpaired
from torchlime._checks import check_callables, check_count, check_real, is_integer
from torchlime._hash import hash64, numbers, seeds_of, shift_right
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime._some_columns import fit_to, fit_to_columns
from torchlime.fit import Fit
from torchlime.surrogates.ridge import Ridge


@dataclass(frozen=True)
class SignEntropy:
    """Fit with resampled weights, drop the features whose sign flips, and fit the others again.

    Let p be the share of the resamples in which a coefficient is positive. Its sign entropy is −p
    log₂ p − (1−p) log₂(1−p): 0 where all signs agree, 1 where half of them are positive. A feature
    above the ``threshold`` is dropped for that target: it is treated as a column that stands for no
    feature, so its coefficient and its standard error are 0.

    A resample multiplies every weight by −ln u, with u uniform: Rubin's Bayesian bootstrap. The
    factors depend on ``seed`` alone. The two rows of a pair have one factor, because they do not
    err independently.

    Args:
        surrogate: fits the resamples, and then the features that are left. For noise, its
            ``of_noise`` is used. Its settings must not hold a number for each feature, such as a
            mean.
        resamples: the number of fits that decide. Each costs as much as one fit without errors.
        threshold: in bits, from 0 (all must agree) to 1 (all features stay). At 0.3, 95 of 100
            agree.
        seed: of the resamples.

    Convention:
        A coefficient of exactly 0 counts as half positive; one that is 0 in all resamples has an
        entropy of 0. The last fit runs once for each target. Its errors and its fidelity do not
        account for the selection, and neither does :class:`torchlime.rounds.Until`: for networks of
        8 features and Bernoulli masks, .83 of the runs ended within a tolerance of .25, and .99
        without a selection. If no feature of a target stays, the errors are NaN. ``ok`` is
        False where any of the fits failed.

    Source: Bora et al. 2024 (SLICE), who compare runs with different masks; Rubin 1981.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Example:
        >>> from torchlime.masks import Bernoulli
        >>> masks = Bernoulli()(torch.tensor([3]), 3, 200, seed=0)
        >>> scores = masks[..., :1] + 0.1 * masks[..., 1:2].double()
        >>> scores += torch.randn(1, 200, 1, generator=torch.Generator().manual_seed(0))
        >>> fit = SignEntropy(Ridge())(masks, scores, torch.ones(1, 200), torch.tensor([3]))
        >>> (fit.coefficients != 0).tolist()
        [[[True, False, False]]]
    """

    surrogate: Callable[..., Fit] = field(default_factory=Ridge)
    resamples: int = 40
    threshold: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        check_callables(surrogate=self.surrogate)
        check_count(self.resamples, "resamples", 2)
        check_real(self.threshold, "threshold")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {self.threshold!r}")
        if not is_integer(self.seed):
            raise TypeError(f"seed must be an int, got {type(self.seed).__name__}")

    @property
    def together(self) -> bool:
        """Whether all terms are fitted together; the surrogate decides."""
        return getattr(self.surrogate, "together", True)

    @property
    def errors(self) -> bool:
        """Whether there are standard errors; the surrogate decides."""
        return getattr(self.surrogate, "errors", True)

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks [B,N,S], scores [B,N,T], weights [B,N]; count [B] columns are features.

        If the design is floats, it is noise.
        """
        entropy, ok = self._entropy(masks, scores, weights, count)
        present = (numbers(masks.shape[2], count) < count[:, None])[:, None]
        stays = ~(entropy > self.threshold) & present  # NaN stays, and is seen
        fits = [
            fit_to_columns(self.surrogate, stays[:, t], masks, scores[:, :, t : t + 1], weights)
            for t in range(scores.shape[2])
        ]
        parts = zip(*(fit[:4] for fit in fits), strict=True)
        coefficients, intercepts, fidelity, errors = (torch.cat(part, dim=1) for part in parts)
        nothing = present & ~stays.any(dim=2, keepdim=True)
        errors = errors.masked_fill(nothing, torch.nan)
        ok = torch.stack([ok, *(fit.ok for fit in fits)]).all(dim=0)
        return Fit(coefficients, intercepts, fidelity, errors, ok)

    def of_noise(self, noise: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit noise [B,N,F], scores [B,N,T], weights [B,N]."""
        return self(noise, scores, weights, count)

    def entropy(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Tensor:
        """The sign entropy [B,T,S] in bits; NaN where a coefficient is NaN."""
        return self._entropy(masks, scores, weights, count)[0]

    @torch.no_grad()
    def _entropy(
        self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sign entropy [B,T,S], and whether all fits are ok [B]."""
        quick = self.surrogate
        if isinstance(quick, Ridge):
            quick = dataclasses.replace(quick, errors=False)
        shared = masks.stride(0) == weights.stride(0) == count.stride(0) == 0
        some, batch = slice(1 if shared else None), len(masks)
        units = _units(masks[some], count[some])
        signs = nonzero = torch.zeros((), dtype=solve_dtype(masks.device), device=masks.device)
        ok = torch.ones_like(count, dtype=torch.bool)
        # Several resamples are one batch; those of a design that inputs share are fitted in turn.
        elements = 2**62 if shared else masks.numel()
        for block in row_blocks(self.resamples, elements, masks.device):
            drawn = (weights[some] * self._factors(units, block)).flatten(0, 1)
            if shared:
                fit = fit_to(quick, masks, scores, drawn.expand(batch, -1), count)
            else:
                times = block.stop - block.start
                design, y, counts = (_repeated(v, times) for v in (masks, scores, count))
                fit = fit_to(quick, design, y, drawn, counts)
            found = fit.coefficients.unflatten(0, (-1, batch))
            sign = found.sign()
            signs = signs + (sign + 0 * found).sum(dim=0)  # NaN has no sign
            nonzero = nonzero + sign.abs().sum(dim=0)
            ok = ok & fit.ok.unflatten(0, (-1, batch)).all(dim=0)
        positive = (signs / self.resamples + 1) / 2
        both = torch.stack([positive, 1 - positive])
        entropy = -torch.xlogy(both, both).sum(dim=0) / math.log(2)
        return torch.where((nonzero == 0) & (signs == 0), 0.0, entropy), ok

    def _factors(self, units: Tensor, block: slice) -> Tensor:
        """The factors of the weights [k,b,N] in some resamples, one for each of the units."""
        times = numbers(block.stop - block.start, units, block.start)[:, None, None]
        bits = shift_right(hash64(seeds_of(self.seed, units[:, 0]), times, units), 11)
        return -((bits.to(solve_dtype(units.device)) + 0.5) / 2**53).log()


def _repeated(values: Tensor, times: int) -> Tensor:
    return values.expand(times, *values.shape).flatten(0, 1)


def _units(design: Tensor, count: Tensor) -> Tensor:
    """What is drawn with each row [b,N]: the row's own number, or its pair's."""
    _, samples, width = design.shape
    if design.is_floating_point():
        alone = ~in_pairs(design)
    else:
        alone = unpaired(design, numbers(width, count) >= count[:, None, None])[:, 0, 0]
    rows = numbers(samples, count)
    return torch.where(alone[:, None], rows, rows // 2)
