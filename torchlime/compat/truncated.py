"""Normal distributions between two limits, one for each bin of each column."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from torchlime._extras import imported
from torchlime.compat.arrays import Array
from torchlime.compat.lime_base import one_thread

_TAIL = 0.98  # of |2p − 1|
_LEAST_MASS = 1e-250
_BLOCK = 1 << 14  # numbers at a time, so that they stay in the cache


class TruncatedNormals(NamedTuple):
    """Truncated normals, all of the bins of all columns in one row of tables, each [K] float64.

    A value is mean + std·Φ⁻¹(Φ(a) + u·(Φ(c) − Φ(a))), where a and c are the limits in standard
    deviations and u is uniform. It is what ``scipy.stats.truncnorm.rvs`` gives for the same u.
    """

    least: Array  # the lower limits themselves
    lower: Array  # a
    mean: Array
    std: Array
    below: Array  # Φ(a)
    above: Array  # Φ(−c)
    mass: Array  # Φ(c) − Φ(a)
    upper: Array  # c

    @classmethod
    def of(
        cls,
        mins: Sequence[Any],
        maxs: Sequence[Any],
        means: Sequence[Any],
        stds: Sequence[Any],
    ) -> "TruncatedNormals":
        """From the statistics of each column, each a sequence of numbers, one for each bin."""
        lower, upper = [], []
        for one, other, mean, std in zip(mins, maxs, means, stds, strict=True):
            mean, std = np.array(mean), np.array(std)
            lower.append((np.array(one) - mean) / std)
            upper.append((np.array(other) - mean) / std)
        least, mean, std, a, c = (
            np.concatenate(parts).astype(np.float64) for parts in (mins, means, stds, lower, upper)
        )
        below, above, to_upper = (_share_below(x) for x in (a, -c, c))
        return cls(least, a, mean, std, below, above, to_upper - below, c)

    @property
    def flat(self) -> Array:
        """Bins whose limits are one number: [K] bool."""
        return self.lower == self.upper

    def impossible(self) -> Array:
        """Bins that no normal distribution fits, such as with the limits swapped: [K] bool."""
        return ~((self.lower <= self.upper) & (self.std > 0))

    def values(self, bins: Array, starts: Array, uniform: Array) -> Array:
        """The values of bins [K,n] at ``uniform`` [K,n] in [0,1): [K,n] float64.

        ``starts`` [K] says where the tables of each of the columns begin. Flat bins have no
        distribution; what is returned for them has no meaning.
        """
        values = np.empty(uniform.shape)
        step = max(1, _BLOCK // max(1, bins.shape[1]))
        delicate = ((self.lower > 0) | (self.mass < _LEAST_MASS)) & ~self.flat
        with one_thread():
            for first in range(0, len(bins), step):
                block = slice(first, first + step)
                places = bins[block] + starts[block, None]
                found = self._values(places, uniform[block], values[block])
                if delicate.any():
                    rest = np.nonzero(delicate[places])
                    found[rest] = self._by_logarithms(places[rest], uniform[block][rest])
        return values

    def _values(self, bins: Array, uniform: Array, out: Array) -> Array:
        """Φ⁻¹(p) is √2·erf⁻¹(2p − 1); only in the tails, 2p − 1 holds too few digits."""
        np.multiply(uniform, 2 * self.mass[bins], out=out)
        out += (2 * self.below - 1)[bins]
        rest = np.nonzero(np.abs(out) > _TAIL)
        torch.from_numpy(out).erfinv_()
        out *= (math.sqrt(2) * self.std)[bins]
        out += self.mean[bins]
        if len(rest[0]):
            out[rest] = self._of_tails(bins[rest], uniform[rest])
        return out

    def _of_tails(self, bins: Array, uniform: Array) -> Array:
        p = self.below[bins] + uniform * self.mass[bins]
        q = self.above[bins] + (1 - uniform) * self.mass[bins]  # 1 − p, with all digits
        low = torch.special.ndtri(torch.from_numpy(np.minimum(p, q))).numpy()
        z = np.where(p < 0.5, low, -low)
        z = z.clip(self.lower[bins], self.upper[bins])
        return z * self.std[bins] + self.mean[bins]

    def _by_logarithms(self, bins: Array, uniform: Array) -> Array:
        """Far out, where Φ holds no digits of these limits."""
        stats = imported("scipy.stats", "a bin far out of its normal distribution", "lime")
        z = stats.truncnorm.ppf(uniform, self.lower[bins], self.upper[bins])
        return z * self.std[bins] + self.mean[bins]


def _share_below(x: Array) -> Array:
    """Φ by erfc: below −8, torch's ndtr has no digits left."""
    return torch.special.erfc(torch.from_numpy(-x / math.sqrt(2))).numpy() / 2
