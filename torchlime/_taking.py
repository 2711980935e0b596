"""Samples taken in rounds: for all inputs together, or for each by its need.

``sampling`` is a :class:`torchlime.local.Sampling`, which collects them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._by_need import Need
from torchlime._growing import GrowingFit
from torchlime._kinds import Kind, Masks
from torchlime._problems import Problem, flag
from torchlime._provenance import in_words
from torchlime._returns import goes_on
from torchlime.explanation import Explanation
from torchlime.fit import Fit
from torchlime.rounds import Once, Until
from torchlime.strategies import Rounds, Sampler, Surrogate

Draw = Callable[[int, int], Tensor]  # number of rows, first row → design [B,n,S]
Factor = Callable[[int], float]  # number of rows → what the design multiplies variances by
Taken = tuple[Any, Fit, Tensor, float | Tensor]  # Samples, their fit, rows [B], the factor or [B]


def together(
    sampling: Any, draw: Draw, rounds: Rounds, sizes: list[int], fit: Any, factor_of: Factor
) -> Taken:
    """Rounds of all inputs; the rule says once for all whether to stop."""
    count = sampling.features.count
    for place, size in enumerate(sizes):
        samples = sampling.add(draw(size, sampling.first), later=sum(sizes[place + 1 :]))
        factor = factor_of(sampling.first)
        found = fit(*samples[:3], count).scaled(factor)
        if rounds.settled(found, count):
            break
    return samples, found, torch.full_like(count, sampling.first), factor


def by_need(
    sampling: Any,
    draw: Draw,
    rounds: Rounds,
    num_samples: int,
    stops: list[int],
    surrogate: Surrogate,
    fit: Any,
    factor_of: Factor,
    kept: Explanation | None,
) -> Taken:
    """Rounds of the inputs that are not sure yet, from nothing or from kept samples on.

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
    limit = stops[-1] if stops else used + num_samples
    need = Need(taken, used, limits, limit, None if growing is None else growing.leave)
    if kept is not None:
        check_targets(kept, sampling.resume(kept, max(taken), need.left))

    def score(low: int, high: int, these: list[int]) -> None:
        if low:
            sampling.score.expect(need.left)
        if high <= sampling.first:  # a round ends where known rows end
            sampling.fill_in(low, high, these)
        else:
            some = None if len(these) == batch else these
            sampling.take(draw(high - low, low), limits[0] - high, some)

    def sure(index: Tensor | None, rows: int, these: list[int]) -> Tensor:
        data = sampling.some(index, rows)
        with torch.no_grad():
            found: Fit = fit(*data) if growing is None else growing(these, *data)
            hopeless = ~data[1].isfinite().flatten(1).all(dim=1)  # no sample helps
            found = found.scaled(factor_of(rows))
            assert isinstance(rounds, Until)  # others have no stops
            return rounds.sure(found, rows) | hopeless

    if stops and kept is not None:
        need.look(sure)
    need.run(stops, score, sure)
    sampling.score.finish()
    even = min(need.taken) == max(need.taken)
    samples = sampling.samples(None if even else need.used)
    if stops:
        unsure = flag(~need.sure, Problem.NOT_SURE)
        samples = samples._replace(problems=samples.problems | unsure)
    factor: float | Tensor = factor_of(need.taken[0])
    if not even:
        factor = torch.ones_like(need.used, dtype=samples.scores.dtype)
        for rows in set(need.taken):
            factor = torch.where(need.used == rows, factor_of(rows), factor)
    return samples, fit(*samples[:3], count).scaled(factor), need.used, factor


def _growing(sampling: Any, surrogate: Surrogate) -> GrowingFit | None:
    """Fits that go on from the equations of the round before, where weights stay as they were."""
    of_equations = getattr(surrogate, "of_equations", None)
    if of_equations is None or not isinstance(sampling.kind, Masks):
        return None
    return GrowingFit(of_equations) if getattr(sampling.kernel, "by_row", False) else None


def check_resume(
    kept: Any, rounds: Rounds, sampler: Sampler, seed: int | Tensor, count: Tensor, draw: Draw
) -> None:
    """Raise unless samples can go on from those of an explanation.

    Raises:
        TypeError, ValueError: the sentence says what differs.
    """
    if not isinstance(kept, Explanation):
        raise TypeError(f"resume must be an Explanation, got {type(kept).__name__}")
    if kept.masks is None or kept.sample_scores is None:
        raise ValueError("resume needs an explanation with its samples: keep_samples=True")
    if not isinstance(rounds, Once | Until):
        raise TypeError(f"resume goes on by Once() or Until(), not by {rounds!r}")
    shape, other = (len(count), kept.masks.shape[2]), kept.masks.device
    if len(kept) != len(count):
        raise ValueError(f"resume explains {len(kept)} inputs, but there are {len(count)}")
    if other != count.device:
        raise ValueError(f"resume lies on {other}, and the inputs on {count.device}; move one")
    words = in_words(sampler=sampler, seed=seed)
    for name in ("sampler", "seed"):
        was = kept.settings.get(name, words[name])
        if was != words[name]:
            raise ValueError(f"resume has {name} {was}, but this call has {words[name]}")
    again = draw(kept.masks.shape[1], 0)
    counted = kept.segment_count
    same = again.shape[::2] == shape and torch.equal(counted, count)  # read back, both of them
    if not same or not torch.equal(again.expand_as(kept.masks), kept.masks):
        raise ValueError(
            "resume holds other samples than this sampler, this seed and these inputs have, so "
            "that there is nothing to go on from; explain without resume"
        )


def check_targets(kept: Explanation, targets: Tensor) -> None:
    """Raise unless the call explains the targets of a kept explanation."""
    if not torch.equal(kept.targets, targets):  # read back
        raise ValueError(
            f"resume explains the targets {kept.targets.tolist()}, but this call asks for "
            f"{targets.tolist()}; pass the former as targets"
        )


def stops_of(
    rounds: Rounds, sampler: Sampler, surrogate: Surrogate, bound: int, kind: Kind
) -> list[int]:
    """The numbers of rows after which :class:`Until` looks; none for other rounds.

    Raises:
        TypeError, ValueError: the sampler has no further rows, the surrogate has no errors, or the
            first look is beyond the most rows.
    """
    if not isinstance(rounds, Until):
        return []
    if not goes_on(sampler):
        raise TypeError(
            f"Until draws further rows, and {sampler!r} has none; Orthogonal(), Bernoulli(), "
            "FixedCount(), Permutations(), RandomSize(), SizeLaw(), Sizes() and Gaussian() have"
        )
    if not getattr(surrogate, "errors", True):
        raise ValueError(f"Until needs standard errors, and {surrogate!r} gives none")
    return rounds.stops(sampler, bound, lead=int(not kind.beside))


def check_rounds_setting(rounds: Any) -> None:
    """Raise unless a setting tells how many rows there are, and when they are enough."""
    if not all(callable(getattr(rounds, name, None)) for name in ("sizes", "settled")):
        expected = "rounds must be Once(), Until(error=0.25), or an object with sizes and settled"
        raise TypeError(f"{expected}, got {rounds!r}")


def more_rows(kept: Explanation | None, settings: Any) -> dict[str, int]:
    """The words of a call that goes on from kept samples: how many rows there are in all."""
    if kept is None or kept.masks is None or isinstance(settings.rounds, Until):
        return {}
    return {"num_samples": kept.masks.shape[1] + int(settings.num_samples)}
