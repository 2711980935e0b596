"""Normal distributions between two limits, one for each bin of each column."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from torchlime.compat.arrays import Array
from torchlime.compat.lime_base import one_thread

_NEAR_ONE = 0.99  # above it, 1 − p holds more digits than p
_LEAST_MASS = 1e-250


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
        below, above, to_upper = (_normal(torch.special.ndtr, x) for x in (a, -c, c))
        return cls(least, a, mean, std, below, above, to_upper - below, c)

    @property
    def flat(self) -> Array:
        """Bins whose limits are one number: [K] bool."""
        return self.lower == self.upper

    def impossible(self) -> Array:
        """Bins that no normal distribution fits, such as with the limits swapped: [K] bool."""
        return ~((self.lower <= self.upper) & (self.std > 0))

    def values(self, bins: Array, uniform: Array) -> Array:
        """The values of bins […] at ``uniform`` […] in [0,1): […] float64.

        Flat bins have no distribution; what is returned for them has no meaning.
        """
        p = uniform * self.mass[bins]
        p += self.below[bins]
        z = _normal(torch.special.ndtri, p)
        delicate = (self.lower > 0) | (self.mass < _LEAST_MASS)
        rest = np.nonzero((p > _NEAR_ONE) | (p <= 0))
        z[rest] = self._near_one(bins[rest], uniform[rest])
        if (delicate & ~self.flat).any():
            rest = np.nonzero((delicate & ~self.flat)[bins] | (p <= 0))
            z[rest] = self._by_logarithms(bins[rest], uniform[rest])
        z *= self.std[bins]
        z += self.mean[bins]
        return z

    def _near_one(self, bins: Array, uniform: Array) -> Array:
        q = self.above[bins] + (1 - uniform) * self.mass[bins]
        z = -_normal(torch.special.ndtri, q)
        return z.clip(self.lower[bins], self.upper[bins])

    def _by_logarithms(self, bins: Array, uniform: Array) -> Array:
        """Far out, where Φ holds no digits of these limits."""
        from scipy.stats import truncnorm  # comes with scikit-learn

        return truncnorm.ppf(uniform, self.lower[bins], self.upper[bins])


def _normal(function: Callable[[torch.Tensor], torch.Tensor], values: Array) -> Array:
    with one_thread():
        return function(torch.from_numpy(np.ascontiguousarray(values))).numpy()
