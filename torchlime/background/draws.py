"""Rows drawn from a background, on the device: which bin each value is in, and the value."""

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor

from torchlime._hash import hash64, numbers, shift_right
from torchlime._precision import solve_dtype
from torchlime.background.background import Background
from torchlime.background.columns import Bin, Column


class Draws(NamedTuple):
    """The columns of a background as tensors: F features, C columns of the input, Q bins at most.

    Attributes:
        place: [F] int64, the first column of each feature.
        source: [C] int64, the feature of each column.
        rank: [C] int64, which word of a one-hot group the column stands for; -1 elsewhere.
        edges: [F,E], infinite beyond the edges of a feature.
        values: [F,Q], what the input holds for each word; NaN where there is none.
        is_number: [F] bool.
        missing: [F] int64, the bin of missing values, or -1.
        shares: [F,Q], cumulative.
        mean, deviation, least, most: [F,Q], of the numbers in a bin.
        low, high: [F,Q], the normal distribution at the ends of a bin, of the side of its mean
            where it is more exact.
        sign: [F,Q], -1 where that is the upper side.
        whole: [F] bool, where numbers are whole.
        groups: whether any feature is a one-hot group.
    """

    place: Tensor
    source: Tensor
    rank: Tensor
    edges: Tensor
    values: Tensor
    is_number: Tensor
    missing: Tensor
    shares: Tensor
    mean: Tensor
    deviation: Tensor
    least: Tensor
    most: Tensor
    low: Tensor
    high: Tensor
    sign: Tensor
    whole: Tensor
    groups: bool

    @classmethod
    def of(cls, background: Background, device: torch.device) -> "Draws":
        """The tensors of a background on a device; made once."""
        if device not in background.tensors:
            background.tensors[device] = cls._made(background, device)
        return cast(Draws, background.tensors[device])

    @classmethod
    def _made(cls, background: Background, device: torch.device) -> "Draws":
        columns, dtype = background.columns, solve_dtype(device)

        def whole_numbers(values: list[int]) -> Tensor:
            return torch.tensor(values, device=device)

        def table(rows: list[list[float]], beyond: float) -> Tensor:
            width = max(1, *map(len, rows))
            padded = [row + [beyond] * (width - len(row)) for row in rows]
            return torch.tensor(padded, dtype=torch.float64).to(device, dtype)

        bins = [column.bins for column in columns]
        inside = [[_inside(b) for b in row] for row in bins]
        source = {place: f for f, column in enumerate(columns) for place in column.places}
        rank = {place: n if column.is_group else -1
                for column in columns for n, place in enumerate(column.places)}  # fmt: skip
        every = range(len(source))
        return cls(
            place=whole_numbers([column.places[0] for column in columns]),
            source=whole_numbers([source[place] for place in every]),
            rank=whole_numbers([rank[place] for place in every]),
            edges=table([list(column.edges) for column in columns], math.inf),
            values=table([_values(column) for column in columns], math.nan),
            is_number=torch.tensor([not column.words for column in columns], device=device),
            missing=whole_numbers([len(c.bins) - 1 if c.missing else -1 for c in columns]),
            shares=table([_cumulative([b.share for b in row]) for row in bins], 2.0),
            mean=table([[b.mean for b in row] for row in bins], 0.0),
            deviation=table([[b.deviation for b in row] for row in bins], 0.0),
            least=table([[b.least for b in row] for row in bins], math.nan),
            most=table([[b.most for b in row] for row in bins], math.nan),
            low=table([[low for low, _, _ in row] for row in inside], 0.5),
            high=table([[high for _, high, _ in row] for row in inside], 0.5),
            sign=table([[sign for _, _, sign in row] for row in inside], 1.0),
            whole=torch.tensor([column.whole for column in columns], device=device),
            groups=any(column.is_group for column in columns),
        )

    def bins_of(self, x: Tensor) -> Tensor:
        """The bin of every feature of rows [B,C]: [B,F] int64, -1 where a value is in none."""
        own = x.to(self.mean.dtype)[:, self.place]
        number = (own[..., None] > self.edges).sum(dim=2)
        same = own[..., None] == self.values
        word = torch.where(same.any(dim=2), same.int().argmax(dim=2), -1)
        bins = torch.where(self.is_number, number, word)
        if self.groups:
            bins = self._of_groups(x, bins)
        return torch.where(own.isnan(), self.missing, bins)

    def _of_groups(self, x: Tensor, bins: Tensor) -> Tensor:
        """``bins`` with those of the one-hot groups."""
        hot = (x == 1) & (self.rank >= 0)
        # A feature's bin is one more than the greatest rank of a hot column, less one.
        ranks = torch.where(hot, self.rank + 1, 0)
        found = torch.zeros_like(bins).scatter_reduce(
            1, self.source.expand(len(x), -1), ranks, "amax"
        )
        words = torch.zeros_like(self.place).scatter_add(0, self.source, (self.rank >= 0).long())
        last = self.shares.lt(2).sum(dim=1) > words  # there is a bin of none
        none = torch.where(last, words, -1)
        return torch.where(words > 0, torch.where(found > 0, found - 1, none), bins)

    def bins(self, seeds: Tensor, samples: Tensor) -> Tensor:
        """The bins of samples [n] under seeds [b]: [b,n,F] int64."""
        uniform = self._uniform(seeds, samples, 0)
        flat = uniform.flatten(0, 1).mT.contiguous()  # [F, b·n]
        found = torch.searchsorted(self.shares, flat, right=True)
        return found.mT.unflatten(0, uniform.shape[:2])

    def numbers(self, seeds: Tensor, samples: Tensor, bins: Tensor) -> Tensor:
        """A value of every feature within its bin: [b,n,F]."""
        uniform = self._uniform(seeds, samples, 1)

        def of_bin(table: Tensor) -> Tensor:
            return table.expand(*bins.shape[:2], -1, -1).gather(3, bins[..., None])[..., 0]

        low, high = of_bin(self.low), of_bin(self.high)
        share = (low + uniform * (high - low)).clamp(torch.finfo(low.dtype).tiny)
        normal = of_bin(self.sign) * torch.special.ndtri(share)
        deviation = of_bin(self.deviation)
        values = of_bin(self.mean) + deviation * torch.where(deviation > 0, normal, 0.0)
        values = torch.where(self.whole, values.round(), values)
        bounded = values.clamp(of_bin(self.least), of_bin(self.most))
        return torch.where(deviation > 0, bounded, values)

    def normal(self, seeds: Tensor, samples: Tensor) -> Tensor:
        """Standard normal values [b,n,F]."""
        return torch.special.ndtri(self._uniform(seeds, samples, 1))

    def inputs(self, values: Tensor) -> Tensor:
        """Values of features [b,n,F] → columns of the input [b,n,C]."""
        columns = values[..., self.source]
        if not self.groups:
            return columns
        return torch.where(self.rank >= 0, (columns == self.rank).to(columns.dtype), columns)

    def _uniform(self, seeds: Tensor, samples: Tensor, stream: int) -> Tensor:
        features = numbers(len(self.place), samples)
        bits = hash64(seeds[:, None, None], stream, samples[:, None], features)
        return (shift_right(bits, 12).to(self.mean.dtype) + 0.5) / 2**52  # neither 0 nor 1


def _inside(found: Bin) -> tuple[float, float, float]:
    """Shares of the normal distribution below and above which a bin has no values, and a sign."""
    if not found.deviation > 0:
        return 0.5, 0.5, 1.0
    low = (found.least - found.mean) / found.deviation
    high = (found.most - found.mean) / found.deviation
    if low > 0:  # both are on the upper side, where shares near 1 would be rounded
        return _normal(-high), _normal(-low), -1.0
    return _normal(low), _normal(high), 1.0


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _values(column: Column) -> list[float]:
    """What the input holds for each word."""
    if not column.words or column.is_group:
        return []
    return [b.mean for b in column.bins[: len(column.words)]]


def _cumulative(shares: list[float]) -> list[float]:
    total, sums = math.fsum(shares), []
    for last in range(len(shares)):
        sums.append(math.fsum(shares[: last + 1]) / total)
    # No uniform number reaches 1, so the last bin with a share is never passed.
    return sums
