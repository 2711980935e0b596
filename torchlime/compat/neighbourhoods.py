"""The samples around a row, drawn from numpy's RandomState in lime's order."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from torchlime._warn import warn
from torchlime.compat.arrays import Array

_FEW = 12  # edges that are compared one by one faster than by bisection


class Neighbourhood(NamedTuple):
    """The samples of one row; the first is the row itself."""

    design: Array  # [n,k] float64, what the linear model sees
    rows: Any  # [n,F] float64, what the caller's function sees; csr for a sparse row
    columns: Array | None = None  # [k], those of a sparse row's design


class Frequencies(NamedTuple):
    """The values of a categorical or discretised column, and how often each occurs."""

    values: Array  # [m]
    cumulated: Array  # [m], the last is 1

    @classmethod
    def of(cls, values: Sequence[Any], frequencies: Any) -> "Frequencies":
        """As ``RandomState.choice`` accumulates them."""
        cumulated = np.cumsum(np.asarray(frequencies, dtype=np.float64))
        return cls(np.asarray(values), cumulated / cumulated[-1])

    def are_bins(self) -> bool:
        """Whether the values are 0…m−1, so that a place is a value."""
        return len(self.values) < 2**15 and np.array_equal(self.values, range(len(self.values)))

    def drawn(self, uniform: Array) -> Array:
        """The value that each of ``uniform`` [n] draws."""
        places = self.places(uniform)
        return places if self.are_bins() else self.values[places]

    def places(self, uniform: Array) -> Array:
        """Which value each of ``uniform`` [n] draws, [n] int."""
        if len(self.cumulated) > _FEW:
            return self.cumulated.searchsorted(uniform, side="right")
        places = np.zeros(len(uniform), dtype=np.int8)
        for edge in self.cumulated[:-1]:
            places += (uniform >= edge).view(np.int8)
        return places


def discretised(
    random_state: np.random.RandomState,
    discretizer: Any,
    known: Mapping[int, Frequencies],
    row: Array,
    num_samples: int,
) -> Neighbourhood:
    """Draw bins by their frequencies, then a value in each. The design is 1 for the row's own bin.

    ``random_state`` gives n numbers for each column in turn, and then one for each value.
    """
    count = len(row)
    uniform = random_state.random_sample(count * num_samples).reshape(count, num_samples)
    first = discretizer.discretize(row)
    in_bulk = getattr(discretizer, "draws_all", False) and all(
        known[j].are_bins() for j in range(count)
    )
    drawn = np.empty((count, num_samples), dtype=np.int16 if in_bulk else np.float64)
    same = np.empty((count, num_samples))
    for j, of_column in enumerate(uniform):
        drawn[j] = known[j].drawn(of_column)
        same[j] = drawn[j] == first[j]
    same[:, 0] = 1
    rows = np.empty((num_samples, count))
    if in_bulk:
        rows[1:] = discretizer.drawn(list(range(count)), drawn[:, 1:]).T
    else:
        rows[1:] = discretizer.undiscretize(drawn.T[1:])
    rows[0] = row
    return Neighbourhood(same.T, rows)


def plain(
    random_state: np.random.RandomState,
    scaler: Any,
    known: Mapping[int, Frequencies],
    categorical: Sequence[int],
    row: Array,
    num_samples: int,
    *,
    around: bool,
    sampling: str,
) -> Neighbourhood:
    """Normal samples around the means or the row, and categories by their frequencies."""
    noise = standard_normals(random_state, num_samples, len(row), sampling)
    data = noise * scaler.scale_ + (row if around else scaler.mean_)
    data[0] = row
    rows = data.copy()
    for j in categorical:
        rows[:, j] = known[j].drawn(random_state.random_sample(num_samples))
        data[:, j] = rows[:, j] == row[j]
        data[0, j] = 1
    rows[0] = row
    return Neighbourhood((data - scaler.mean_) / scaler.scale_, rows)


def sparse(
    random_state: np.random.RandomState,
    scaler: Any,
    row: Any,
    num_samples: int,
    *,
    around: bool,
    sampling: str,
    literal: bool,
) -> Neighbourhood:
    """Normal samples of the row's non-zero columns. The design is divided by their scale.

    With ``literal`` it is multiplied by it, as in lime.
    """
    columns = row.nonzero()[1]
    scale, mean = scaler.scale_[columns], scaler.mean_[columns]
    own = np.asarray(row[:, columns].todense()).ravel()
    noise = standard_normals(random_state, num_samples, len(columns), sampling)
    data = noise * scale + (own if around else mean)
    data[0] = own
    index = np.tile(columns, num_samples)
    ends = np.arange(num_samples + 1) * len(columns)
    kind = type(row)
    rows = kind((data.ravel(), index, ends), shape=(num_samples, row.shape[1]))
    return Neighbourhood(data * scale if literal else data / scale, rows, columns)


def standard_normals(
    random_state: np.random.RandomState, samples: int, count: int, sampling: str
) -> Array:
    """Standard normal numbers [samples,count], independent or of a Latin hypercube."""
    if sampling == "lhs":
        return _latin(random_state, samples, count)
    if sampling != "gaussian":
        warn(f"sampling_method must be 'gaussian' or 'lhs', got {sampling!r}; using 'gaussian'")
    return random_state.normal(0, 1, samples * count).reshape(samples, count)


def _latin(random_state: np.random.RandomState, samples: int, count: int) -> Array:
    """A Latin hypercube (McKay, Beckman & Conover 1979) as pyDOE2's ``lhs`` draws it.

    lime draws it from a fresh, unseeded state, so no call of lime can be repeated.
    """
    cut = np.linspace(0, 1, samples + 1)
    points = random_state.rand(samples, count)
    points = points * (cut[1:] - cut[:-1])[:, None] + cut[:-1, None]
    for j in range(count):
        points[:, j] = points[random_state.permutation(samples), j]
    return torch.special.ndtri(torch.from_numpy(points)).numpy()


def check_num_samples(num_samples: Any) -> None:
    """Raise unless it is a whole number of at least 1."""
    is_whole = isinstance(num_samples, int | np.integer) and not isinstance(num_samples, bool)
    if not is_whole or num_samples < 1:
        raise ValueError(f"num_samples must be a whole number of at least 1, got {num_samples!r}")


def default_width(count: int) -> float:
    """lime's kernel width for ``count`` columns."""
    return float(math.sqrt(count) * 0.75)


def with_ids(
    ranked: list[tuple[Any, Any]], columns: Array, count: int, num_features: int, selection: str
) -> list[Any]:
    """Weights of a sparse row's columns under their ids, then columns of weight 0 as lime has them.

    lime adds the first columns that are left, up to ``num_features``. With "highest_weights",
    column 0 comes last.
    """
    found = [(columns[place], weight) for place, weight in ranked]
    if selection == "lasso_path":
        return found
    most = count if selection == "none" else min(num_features, count)
    by_weight = selection == "highest_weights" or (selection == "auto" and num_features > 6)
    order = [*range(1, count), 0] if by_weight else range(count)
    taken = {int(column) for column, _ in found}
    rest = [j for j in order if j not in taken]
    missing = max(most - len(found), 0)
    return found + [(np.int64(j), np.float64(0.0)) for j in rest[:missing]]
