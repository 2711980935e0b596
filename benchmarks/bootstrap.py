"""Means over photos with bootstrap intervals, and which differences are noise."""

import math
import random
import statistics
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

RESAMPLES, LEVEL = 4000, 0.95


class Mean(NamedTuple):
    """A mean over photos with its bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def noise(self) -> bool:
        """Whether the interval of a difference has 0 in it."""
        return not (self.low > 0 or self.high < 0)


def mean(values: Sequence[float]) -> Mean:
    """The mean of values, one of each photo, and its 95 % interval (percentiles).

    >>> mean([1.0, 1.0, 1.0]), mean([1.0, -1.0]).noise
    (Mean(mean=1.0, low=1.0, high=1.0), True)
    """
    if not values or any(math.isnan(value) for value in values):
        return Mean(math.nan, math.nan, math.nan)
    means = sorted(sum(values[i] for i in drawn) / len(values) for drawn in _draws(len(values)))
    cut = round((1 - LEVEL) / 2 * RESAMPLES)
    return Mean(statistics.fmean(values), means[cut], means[-1 - cut])


@lru_cache
def _draws(number: int) -> list[list[int]]:
    """The same photos for all that is compared."""
    drawing = random.Random(0)
    return [drawing.choices(range(number), k=number) for _ in range(RESAMPLES)]


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Mean:
    """The mean of paired differences, photo by photo.

    >>> difference([2.0, 3.0], [1.0, 2.0]).mean
    1.0
    """
    return mean([a - b for a, b in zip(ours, theirs, strict=True)])
