"""Times of calls, side by side: warmed up, the device waited for, interleaved."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Readings:
    """Repetitions of one measurement.

    >>> Readings((1.0, 2.0, 3.0, 4.0, 10.0)).record()
    {'median': 3.0, 'spread': 2.0, 'values': [1.0, 2.0, 3.0, 4.0, 10.0]}
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """The interquartile range; 0 for a single value."""
        if len(self.values) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return high - low

    def over(self, other: "Readings") -> "Readings":
        """The ratio of each repetition to the other side's of the same round."""
        pairs = zip(self.values, other.values, strict=True)
        return Readings(tuple(ours / theirs for ours, theirs in pairs))

    def per(self, count: int) -> "Readings":
        """What each of ``count`` things took."""
        return Readings(tuple(value / count for value in self.values))

    def record(self) -> dict[str, Any]:
        return {"median": self.median, "spread": self.spread, "values": list(self.values)}


@dataclass(frozen=True)
class Timer:
    """Seconds of a call: one reading of each side, then the next round (A B A B …).

    Args:
        synchronise: waits for the device; runs before each reading of the clock.
        clock: seconds.
        repetitions: rounds.
        warm_ups: rounds before, which are not counted.
        least: a reading repeats its call until about so many seconds, and gives the mean.
    """

    synchronise: Call
    clock: Callable[[], float] = time.perf_counter
    repetitions: int = 5
    warm_ups: int = 1
    least: float = 0.0

    def __call__(
        self, sides: Mapping[str, Call], warm: Mapping[str, Call] | None = None
    ) -> dict[str, Readings]:
        """Readings of each side; ``warm`` are shorter calls to warm up with."""
        calls = dict.fromkeys(sides, 1)
        for _ in range(self.warm_ups):
            for name, side in (sides if warm is None else warm).items():
                seconds = self._read(side, 1)
                calls[name] = max(1, math.ceil(self.least / max(seconds, 1e-9)))
        values: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(self.repetitions):
            for name, side in sides.items():
                values[name].append(self._read(side, calls[name]))
        return {name: Readings(tuple(seconds)) for name, seconds in values.items()}

    def _read(self, side: Call, calls: int) -> float:
        self.synchronise()
        start = self.clock()
        for _ in range(calls):
            side()
        self.synchronise()
        return (self.clock() - start) / calls


def synchroniser(device: torch.device) -> Call:
    """What waits for ``device``; on a CPU there is nothing to wait for."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None
