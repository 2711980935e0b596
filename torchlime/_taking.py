"""Samples taken in rounds: for all inputs together, or for each input until it is sure."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._by_need import Need, fit_own_rows
from torchlime._few_masks import FewMasks
from torchlime._growing import GrowingFit
from torchlime._kinds import Kind, Masks
from torchlime._problems import Problem, flag
from torchlime._resuming import Draw, check_unmasked
from torchlime._returns import check_number, goes_on, has_errors
from torchlime._sampling import Samples, Sampling
from torchlime.explanation import Explanation
from torchlime.fit import Fit
from torchlime.rounds import Until
from torchlime.strategies import Rounds, Sampler, Surrogate

Factor = Callable[[int], float]  # number of rows → what the design multiplies variances by
Taken = tuple[Samples, Fit, Tensor, float | Tensor]  # the last: rows [B], the factor or [B]


def together(
    sampling: Sampling, draw: Draw, rounds: Rounds, sizes: list[int], fit: Any, factor_of: Factor
) -> Taken:
    """Rounds of all inputs; the rule says for all of them together whether to stop."""
    count = sampling.features.count
    for place, size in enumerate(sizes):
        samples = sampling.add(draw(size, sampling.first), later=sum(sizes[place + 1 :]))
        factor = factor_of(sampling.first)
        found = fit(*samples[:3], count).scaled(factor)
        if rounds.settled(found, count):
            break
    return samples, found, torch.full_like(count, sampling.first), factor


def by_need(
    sampling: Sampling,
    draw: Draw,
    rounds: Rounds,
    num_samples: int,
    stops: range,
    surrogate: Surrogate,
    fit: Any,
    factor_of: Factor,
    stopping_factor_of: Factor,
    kept: Explanation | None,
) -> Taken:
    """Rounds of the inputs that are not sure yet. They begin with no samples, or with kept ones.

    With :class:`Once` and kept samples every input takes ``num_samples`` rows more.
    """
    features = sampling.features
    count, batch = features.count, len(features.count)
    taken, used = [0] * batch, torch.zeros_like(count)
    if kept is not None and kept.masks is not None:
        known = kept.samples_used
        used = torch.full_like(count, kept.masks.shape[1]) if known is None else known
        taken = used.tolist()  # read back once, before anything is scored
    limits = [stops[-1]] * batch if stops else [rows + num_samples for rows in taken]
    growing = _growing(sampling, surrogate)
    few = FewMasks(count) if isinstance(sampling.kind, Masks) else None
    limit = stops[-1] if stops else used + num_samples
    need = Need(taken, used, limits, limit, None if growing is None else growing.leave)
    if kept is not None:
        check_unmasked(kept, *sampling.resume(kept, max(taken), need.left))

    def score(low: int, high: int, these: list[int]) -> None:
        if low:
            sampling.score.expect(need.left)
        if high <= sampling.first:  # a round ends where known rows end
            sampling.fill_in(low, high, these)
        else:
            some = None if len(these) == batch else these
            design = check_number(draw(high - low, low), high - low)
            sampling.take(design, limits[0] - high, some)

    def sure(index: Tensor | None, rows: int, these: list[int]) -> Tensor:
        with torch.no_grad():
            data = sampling.some(index, rows)
            found: Fit = fit(*data) if growing is None else growing(these, *data)
            hopeless = ~data[1].isfinite().flatten(1).all(dim=1)  # no sample helps
            found = found.scaled(stopping_factor_of(rows))
            assert isinstance(rounds, Until)  # others have no stops

            def rule(found: Fit) -> Tensor:
                return rounds.sure(found, rows) | hopeless

            if few is None:
                return rule(found)
            design, scores, _, number = data
            return few.settled(index, design, scores, number, found, rule)

    if stops and kept is not None:
        need.look(sure, stops[0])
    need.run(stops, score, sure)
    sampling.score.finish()
    factor: float | Tensor = factor_of(need.taken[0])
    if min(need.taken) == max(need.taken):
        samples = sampling.samples()
        found: Fit = fit(*samples[:3], count)
    else:
        with torch.set_grad_enabled(sampling.forward.differentiable):
            found, weights = fit_own_rows(need.taken, need.used, sampling.first, sampling.some, fit)
            samples = sampling.samples(need.used, weights)
        factor = torch.ones_like(need.used, dtype=samples.scores.dtype)
        for rows in set(need.taken):
            factor = torch.where(need.used == rows, factor_of(rows), factor)
    if stops:
        given_up = ~need.sure if few is None else ~need.sure | few.given_up
        unsure = flag(given_up, Problem.NOT_SURE)
        samples = samples._replace(problems=samples.problems | unsure)
    return samples, found.scaled(factor), need.used, factor


def _growing(sampling: Sampling, surrogate: Surrogate) -> GrowingFit | None:
    """Fits that go on from the equations of the previous round, if old weights do not change."""
    of_equations = getattr(surrogate, "of_equations", None)
    if of_equations is None or not isinstance(sampling.kind, Masks):
        return None
    return GrowingFit(of_equations) if getattr(sampling.kernel, "by_row", False) else None


def stops_of(
    rounds: Rounds, sampler: Sampler, surrogate: Surrogate, bound: int, kind: Kind
) -> range:
    """The numbers of rows after which :class:`Until` checks the errors; empty for other rounds.

    Raises:
        TypeError, ValueError: the sampler has no further rows, the surrogate has no standard
            errors, or the first check comes after the largest number of rows.
    """
    if not isinstance(rounds, Until):
        return range(0)
    _check_until(sampler, surrogate)
    return rounds.stops(sampler, bound, lead=int(not kind.beside))


def check_rounds_setting(rounds: Any, surrogate: Any, sampler: Any = None) -> None:
    """Raise unless a setting says how many rows there are, and when they are enough.

    ``sampler`` is None where the features bring their own.

    Raises:
        TypeError, ValueError: it is not such an object; or it is :class:`Until`, and the surrogate
            has no standard errors, or the sampler has no further rows.
    """
    there = all(callable(getattr(rounds, name, None)) for name in ("sizes", "settled"))
    if not there or isinstance(rounds, type):
        expected = "rounds must be Once(), Until(error=0.25), or an object with sizes and settled"
        raise TypeError(f"{expected}, got {rounds!r}")
    if isinstance(rounds, Until):
        _check_until(sampler, surrogate)


def stops_early(sampler: Any, surrogate: Any) -> bool:
    """Whether :class:`Until` can take its rows from a sampler, and its errors from a surrogate."""
    return goes_on(sampler) and has_errors(surrogate)


def _check_until(sampler: Any, surrogate: Any) -> None:
    if sampler is not None and not goes_on(sampler):
        raise TypeError(
            f"Until draws further rows, and {sampler!r} has none; Orthogonal(), Bernoulli(), "
            "FixedCount(), Permutations(), RandomSize(), SizeLaw(), Sizes() and Gaussian() have"
        )
    if not has_errors(surrogate):
        raise ValueError(f"Until needs standard errors, and {surrogate!r} gives none")
