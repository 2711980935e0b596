"""Rounds in which only the inputs that are not sure yet take part.

The host knows how many rows each input has taken, and which inputs go on. For this it reads one
flag for each input, in one read per round. The device has the same numbers, so nothing is uploaded.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchlime.fit import Fit

Score = Callable[[int, int, list[int]], None]
Sure = Callable[[Tensor | None, int, list[int]], Tensor]
Leave = Callable[[list[int], Tensor], None]
Data = tuple[Tensor, Tensor, Tensor, Tensor]  # design, scores, weights and count
Some = Callable[[Tensor | None, int], Data]


class Need:
    """Which rows each of the B inputs has taken, and which inputs take more.

    Args:
        taken: how many rows each input has taken, on the host.
        used: [B] int64, the same on the device. limits: the most rows of each input, on the host.
        limit: the same on the device: an int, or [B] int64. leave: is told, after a look, which of
        the inputs looked at go on, and the flags [k].

    Attributes:
        sure: [B] bool on the device, the inputs that were found to be sure.
    """

    def __init__(
        self,
        taken: Sequence[int],
        used: Tensor,
        limits: Sequence[int],
        limit: int | Tensor,
        leave: Leave | None = None,
    ):
        self.taken = list(taken)
        self.used = used
        self.sure = torch.zeros_like(used, dtype=torch.bool)
        self._limits = list(limits)
        self._limit = limit
        self._leave = leave
        self._going = [True] * len(self.taken)

    @property
    def left(self) -> list[int]:
        """How many rows each input may still take."""
        every = zip(self.taken, self._limits, self._going, strict=True)
        return [max(limit - taken, 0) if going else 0 for taken, limit, going in every]

    def run(self, stops: range, score: Score, sure: Sure) -> None:
        """Take rows until every input is sure or has as many as it may.

        Args:
            stops: the numbers of rows after which inputs are looked at.
            score: gets (first row, last row + 1, inputs), and scores these rows of these inputs.
            sure: gets the numbers [k] of inputs on the device, None for all, how many rows they
                have, and their numbers on the host; returns [k] bool. It is read back.
        """
        while any(self.left):
            active = [b for b, left in enumerate(self.left) if left > 0]
            low = min(self.taken[b] for b in active)
            ends = {*self.taken, *(self._limits[b] for b in active), *following(stops, low)}
            high = min(end for end in ends if end > low)
            these = [b for b in active if self.taken[b] == low]
            score(low, high, these)
            self._take(low, high, these, sure if high in stops else None)

    def look(self, sure: Sure, first: int) -> None:
        """Look at the rows that inputs have at the beginning, if these are ``first`` or more."""
        for rows in sorted(rows for rows in set(self.taken) if rows >= first):
            these = [b for b, taken in enumerate(self.taken) if taken == rows]
            self._settle(self._index(self.used == rows, len(these)), these, sure, rows)

    def _take(self, low: int, high: int, these: list[int], sure: Sure | None) -> None:
        takes = ~self.sure & (self.used == low) & (self.used < self._limit)
        index = self._index(takes, len(these))
        for b in these:
            self.taken[b] = high
        rows = torch.full_like(self.used, high)
        self.used = rows if index is None else self.used.scatter(0, index, rows)
        if sure is not None:
            self._settle(index, these, sure, high)

    def _settle(self, index: Tensor | None, these: list[int], sure: Sure, rows: int) -> None:
        found = sure(index, rows, these)
        self.sure = found if index is None else self.sure.scatter(0, index, found)
        for b, settled in zip(these, found.tolist(), strict=True):  # the one read of a round
            self._going[b] = not settled
        if not all(self._going[b] for b in these) and self._leave is not None:
            self._leave([b for b in these if self._going[b]], found)

    def _index(self, chosen: Tensor, number: int) -> Tensor | None:
        """The numbers of the inputs where ``chosen`` [B] holds; None for all inputs."""
        if number == len(self.taken):
            return None
        return (~chosen).long().argsort(stable=True)[:number]


def following(stops: range, rows: int) -> range:
    """The first of the stops after ``rows``, if there is one."""
    place = bisect_right(stops, rows)
    return stops[place : place + 1]


def picked(values: Tensor, index: Tensor | None) -> Tensor:
    """The inputs ``index`` [k] of values [B,…]; a view where all inputs share one."""
    if index is None:
        return values
    if len(values) > 1 and values.stride(0) == 0:
        return values[:1].expand(len(index), *values.shape[1:])
    return values[index]


def fit_own_rows(
    taken: Sequence[int],
    used: Tensor,
    samples: int,
    some: Some,
    fit: Callable[..., Fit],
) -> tuple[Fit, Tensor]:
    """The fit of each input to its own rows alone, and the weights [B,N], which are 0 beyond them.

    So neither a surrogate that ignores weights nor a kernel that compares rows sees the rows of
    other inputs.

    Args:
        taken: how many rows each input has taken, on the host.
        used: [B] int64, the same on the device.
        samples: N.
        some: gets the numbers [k] of inputs and how many rows they have; returns their data.
        fit: of these data.
    """
    fits, weights, order = [], [], []
    for rows in sorted(set(taken)):
        index = (used != rows).long().argsort(stable=True)[: list(taken).count(rows)]
        data = some(index, rows)
        fits.append(fit(*data))
        weights.append(pad(data[2], (0, samples - rows)))
        order.append(index)
    place = torch.cat(order).argsort()
    found = Fit(*(torch.cat(values)[place] for values in zip(*fits, strict=True)))
    return found, torch.cat(weights)[place]


def fit_taken(explanation: Any, some: Some, fit: Callable[..., Fit]) -> tuple[Fit, Tensor]:
    """The fit of each input of an explanation to the rows that it took, and the weights [B,N].

    ``some`` and ``fit`` are as for :func:`fit_own_rows`; index None stands for all inputs.
    """
    used, samples = explanation.samples_used, explanation.masks.shape[1]
    if isinstance(explanation.variance_factor, Tensor) and used is not None:
        # Inputs took different numbers of rows: these are read back.
        return fit_own_rows(used.tolist(), used, samples, some, fit)
    data = some(None, samples)
    return fit(*data), data[2]
