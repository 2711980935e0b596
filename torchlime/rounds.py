"""How many samples are drawn, and when they are enough.

Convention:
    ``sizes(num_samples)`` gives the number of samples of each round. ``settled(fit, count)`` says
    after a round whether to stop. A rule that stops early reads back one flag per round.
    :class:`Until` decides for each input by itself. It reads back B flags per round, in one read.
    :data:`GOOD` is one that suits photos.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import check_count, check_positive, check_real
from torchlime.fit import Fit

LEAST = 64  # samples before the first check
MOST = 2048  # samples of an input, if the caller gives no maximum
STEP = 32  # samples between two checks, where the sampler has no blocks
WIDENING = 1.2
_LARGEST = 1e9  # a larger error is taken as this one, so that its square is finite
QUANTILE = 1.2816  # of the normal distribution, at .9
EARLY = 8  # errors of few samples may be too small by chance
NORMAL = 1.96
NORMAL_OF_ALL = 2.9  # of the largest of some 16 errors


def least_rows(bound: int) -> int:
    """The fewest rows for ``bound`` features: below, there are too few pairs for standard errors.

    >>> least_rows(8), least_rows(49)
    (64, 100)
    """
    return max(LEAST, 2 * (bound + 1))


def step_of(sampler: Callable[..., Any], bound: int) -> int:
    """The rows from one check of the errors to the next: a block of the sampler, or 32 rows.

    Raises:
        TypeError, ValueError: a block has no rows.
    """
    block = getattr(sampler, "block", None)
    step = block(bound) if callable(block) else STEP
    check_count(step, "block() of the sampler")
    return step


def first_check(sampler: Callable[..., Any], bound: int, *, lead: int) -> int:
    """The rows after which the errors are checked first: as in :meth:`Until.stops`.

    >>> from torchlime.masks import Bernoulli, Orthogonal
    >>> first_check(Orthogonal(), 49, lead=0), first_check(Bernoulli(), 8, lead=1)
    (128, 65)
    """
    step = step_of(sampler, bound)
    return math.ceil(least_rows(bound) / step) * step + lead


def widening(errors: Tensor, rows: Any) -> Tensor:
    """The factor c(N) = max(1.2, √(χ²_ν(.9)/ν)) (1 + 8/N) of a relative error: [B,T].

    |b − β|² is a weighted χ² with about ν = (Σ SE²)² / Σ SE⁴ degrees of freedom, at most S. Its
    quantile at .9 is approximated as by Wilson & Hilferty (1931). Only for few features is it above
    1.2.

    Args:
        errors: [B,T,S], standard errors.
        rows: N, an int, or a tensor that broadcasts to [B,T].
    """
    squares = errors.square()
    total = squares.sum(dim=2).square()
    share = torch.where(total > 0, squares.square().sum(dim=2) / total, 0.0)  # 1/ν
    spread = 2 / 9 * share
    quantile = (1 - spread + QUANTILE * spread.sqrt()) ** 1.5
    return quantile.clamp(min=WIDENING) * (1 + EARLY / rows)


@dataclass(frozen=True)
class Once:
    """All samples in one round. Nothing is read back.

    Example:
        >>> Once().sizes(512)
        (512,)
    """

    def sizes(self, num_samples: int) -> tuple[int, ...]:
        """One round."""
        return (num_samples,)

    def settled(self, fit: Fit, count: Tensor) -> bool:
        """True: there is no other round."""
        return True


@dataclass(frozen=True, kw_only=True)
class Until:
    """Draw samples for each input until its coefficients are as sure as asked.

    Exactly one of ``error``, ``top`` and ``absolute`` is given. The errors are checked after each
    block of the sampler, or after every 32 rows, from 64 rows on, if the sampler has no blocks. An
    input whose targets are all sure takes no more rows, and the chunks of the next round hold only
    the other inputs. So the result of an input does not depend on the other inputs. ``num_samples``
    is not used; ``most`` takes its place. If an input reaches ``most`` before it is sure, it has
    ``Problem.NOT_SURE``. ``samples_used`` of the result says how many rows each input took.

    An input of up to six features has at most 64 masks, so later rows only repeat them. If its rows
    hold every mask equally often, and more than once, the coefficients have no sampling error
    except that of a model that draws random numbers. So the rule takes no error above twice the
    difference between the scores of equal masks. If its errors do not fall any more after 32 rows
    for each mask, it takes no more rows, and has ``Problem.NOT_SURE``: such errors come from a
    penalty. An example is a text of one or two words.

    Args:
        error: the error of all coefficients b of a target together, as a share of the Euclidean
            norm: |b − β| ≤ error · |β|, where β are the coefficients without sampling error. The
            rule is c(N)·r ≤ error, where r² = Σ SE² / (Σ b² − Σ SE²) and c(N) is :func:`widening`,
            1.2 (1 + 8/N) or more. The SE² are those of the rule, see below.
        top: the ``top`` strongest features are right, up to near ties. For every feature i among
            them and every other feature j, 1.96·SE_gap − gap ≤ slack · max |b|, where gap = |b_i| −
            |b_j|. For SE_gap the rule takes SE_i + SE_j, its upper bound for any covariance of the
            two coefficients.
        absolute: the error of every coefficient, in units of the score: 2.9 · max SE ≤ absolute.
        most: the most rows of an input.
        slack: how far a feature outside of the ``top`` may lie above one of them, as a share of the
            largest coefficient.

    Convention:
        The errors are sampling errors. They do not say how well a linear surrogate describes the
        model. The reported errors use the sampler's ``variance_factor``. The rule uses its
        ``stopping_factor``, if there is one: a ``variance_factor`` is a mean over models, and for
        some models it is too small, so that the rule would stop too early. If a model draws random
        numbers in eval mode, that noise is part of the errors. For such a model take
        ``Orthogonal(noisy=True)``, Bernoulli or another sampler: plain Orthogonal assumes that a
        cycle cancels errors, but noise does not cancel. Take the same samplers if the scores jump,
        such as class labels. The first check comes after 2·(S + 1) rows or more. Rows are added in
        whole blocks, so that pairs stay together. The last round ends at or below ``most``. On a
        GPU a round reads back one byte for each input, and waits for it. This is an exception to
        the rule that nothing is read back. Forward passes of different rounds have different
        numbers of rows, so ``torch.compile`` may compile a model several times; with
        ``chunk_size=…, exact_chunks=True`` all have the same number.

    Source: the rule and its constants were chosen on 90 networks whose outputs of all masks are
    known; the realised error was within the tolerance in .91 to .97 of the runs. The stopping
    factor of Orthogonal was chosen on 48 others, of 14 features, and ten photos of 9.

    Raises:
        TypeError, ValueError: not exactly one of the three is given, or one is out of range.

    Example:
        >>> import torch
        >>> from torchlime import Lime
        >>> from torchlime.fills import Constant
        >>> from torchlime.masks import Bernoulli
        >>> from torchlime.segments import Grid
        >>> settings = {"segmenter": Grid(2, 2), "sampler": Bernoulli(), "fill": Constant(0.0)}
        >>> explainer = Lime(**settings, rounds=Until(error=0.25))
        >>> images = torch.rand(2, 1, 4, 4, generator=torch.manual_seed(0))
        >>> smooth = explainer.explain(lambda x: x.mean(dim=(2, 3)).sin(), images)
        >>> sharp = explainer.explain(lambda x: (20 * x).mean(dim=(2, 3)).sin(), images)
        >>> smooth.samples_used.tolist(), bool((sharp.samples_used > 100).all())
        ([65, 65], True)
    """

    error: float | None = None
    top: int | None = None
    absolute: float | None = None
    most: int = MOST
    slack: float = 0.1

    def __post_init__(self) -> None:
        given = [name for name in ("error", "top", "absolute") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"Until takes exactly one of error, top and absolute, got {got}")
        if self.top is not None:
            check_count(self.top, "top")
        else:
            check_positive(getattr(self, given[0]), given[0])
        check_count(self.most, "most", 2)
        check_real(self.slack, "slack")
        if not 0 <= self.slack < math.inf:
            raise ValueError(f"slack must be a finite number of at least 0, got {self.slack!r}")

    def sizes(self, num_samples: int) -> tuple[int, ...]:
        """The most rows; each input may stop before them. ``num_samples`` is not used."""
        return (self.most,)

    def settled(self, fit: Fit, count: Tensor) -> bool:
        """Whether all inputs would be sure if they had ``most`` rows. It reads back one flag."""
        return bool(self.sure(fit, self.most).all())  # read back: for those who call it

    def stops(self, sampler: Callable[..., Any], bound: int, *, lead: int) -> range:
        """The numbers of rows after which the errors are checked, in rising order.

        Args:
            sampler: its method ``block(bound)``, if there is one, gives the rows of a block.
            bound: S.
            lead: 1 if the first row is the input itself, before the blocks; else 0.

        Raises:
            TypeError, ValueError: ``most`` is below the first of these numbers, or a block has no
                rows.
        """
        first = first_check(sampler, bound, lead=lead)
        if first > self.most:
            raise ValueError(
                f"most={self.most} is below the first check, after {first} rows for up to {bound} "
                f"features; raise most to {first} or above"
            )
        return range(first, self.most + 1, step_of(sampler, bound))

    def sure(self, fit: Fit, rows: int) -> Tensor:
        """Whether the fits to ``rows`` rows are as sure as asked: [B] bool, on the device."""
        errors, values = fit.standard_errors, fit.coefficients
        if self.error is not None:
            noise, signal = errors.square().sum(dim=2), values.square().sum(dim=2)
            wide = widening(errors, rows)
            # Without divisions, so that scores that do not vary are sure.
            error = min(self.error, _LARGEST)
            sure = wide * wide * noise <= error**2 * (signal - noise)
        elif self.absolute is not None:
            sure = NORMAL_OF_ALL * errors.amax(dim=2) <= self.absolute
        else:
            sure = self._ranked(values.abs(), errors)
        return sure.all(dim=1)

    def _ranked(self, strength: Tensor, errors: Tensor) -> Tensor:
        """Whether no other feature may be stronger than one of the top by more than the slack."""
        order = strength.argsort(dim=2, descending=True, stable=True)
        strength, errors = strength.gather(2, order), NORMAL * errors.gather(2, order)
        if self.top is None or self.top >= strength.shape[2]:
            return errors.isfinite().all(dim=2)
        inside = (errors - strength)[..., : self.top].amax(dim=2)
        most = errors + strength
        # What is surely 0, such as a column beyond the count, is stronger than none.
        outside = most.masked_fill(most == 0, -torch.inf)[..., self.top :].amax(dim=2)
        return inside + outside <= self.slack * strength[..., 0]


@dataclass(frozen=True, kw_only=True)
class UntilFirst(Until):
    """:class:`Until` for the first targets; the others are fitted to the same rows, sure or not.

    The best classes after the first are often so improbable that they would need many more rows.
    ``Explanation.sure`` then speaks of the first targets only.

    Args:
        first: how many targets of each input must be sure.

    Example:
        >>> import torch
        >>> from torchlime import Lime
        >>> from torchlime.segments import Grid
        >>> rounds = UntilFirst(error=0.25, first=1)
        >>> explainer = Lime(segmenter=Grid(2, 2), rounds=rounds)
        >>> images = torch.rand(2, 1, 4, 4, generator=torch.manual_seed(0))
        >>> explainer.explain(lambda x: x.flatten(1), images, top=3).samples_used.shape
        torch.Size([2])
    """

    first: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.first, "first")

    def sure(self, fit: Fit, rows: int) -> Tensor:
        """Whether the fits of the first targets are as sure as asked: [B] bool, on the device."""
        own = {
            name: getattr(fit, name)[:, : self.first]
            for name in ("coefficients", "standard_errors")
        }
        return super().sure(fit._replace(**own), rows)


GOOD = Until(error=0.25)
"""What the command line, jobs and the page take where nobody says how many samples.

In the table of ``designs`` (``benchmarks/README.md``: six photos, 96 pixels, 16 to 100 segments)
it takes 751 rows on average for log-odds, and the 95th percentile of the error is .32. With 512
rows for each image it is .58, and with 1024 rows .42. For probabilities the rule takes 1305 rows,
and the percentile is .78; with 512 rows and with 1024 rows it is 1.15.
"""
