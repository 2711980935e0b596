"""lime's discretizers, in place of ``lime.discretize``."""

import itertools
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from torchlime.compat.arrays import Array
from torchlime.compat.lime_base import SeededByNumpy, check_random_state
from torchlime.compat.tables import as_table, refuse_nan, scikit_learn
from torchlime.compat.truncated import TruncatedNormals


class BaseDiscretizer(SeededByNumpy):
    """Splits continuous columns into bins; a subclass says where, in :meth:`bins`.

    Args:
        data: [n,F], the training data.
        categorical_features: the columns to leave as they are.
        feature_names: [F].
        labels: [n], for a subclass that needs them.
        random_state: None (numpy's global one), an int or a ``RandomState``.
        data_stats: ``means``, ``stds``, ``mins`` and ``maxs``, each {column: a number for each
            bin}, instead of those of ``data``.

    Attributes:
        to_discretize: the columns that have bins.
        names: {column: the name of each bin}.
        lambdas: {column: a function from values to bins}.
        means, stds, mins, maxs: {column: a number for each bin}.
        literal_bins: undiscretize bins of a single value as lime does, to (minimum − mean) / std,
            which is 0.

    Convention:
        The bin of x is the number of edges below x; a value on an edge is in the lower bin.

    Raises:
        ValueError: a column to discretize holds NaN.
    """

    literal_bins = False
    columns = 0
    _known: tuple[list[Any], TruncatedNormals] | None = None

    def __init__(
        self,
        data: Any,
        categorical_features: Iterable[int],
        feature_names: Any,
        labels: Any = None,
        random_state: Any = None,
        data_stats: dict[str, Any] | None = None,
    ) -> None:
        data, _ = as_table(data)
        self.columns = data.shape[1]
        left = set(categorical_features)
        self.to_discretize = [column for column in range(data.shape[1]) if column not in left]
        refuse_nan(data, self.to_discretize, feature_names)
        self.data_stats = data_stats
        self.names: dict[int, list[str]] = {}
        self.lambdas: dict[int, Any] = {}
        self.means: dict[int, Any] = {}
        self.stds: dict[int, Any] = {}
        self.mins: dict[int, Any] = {}
        self.maxs: dict[int, Any] = {}
        self.random_state = check_random_state(random_state)
        edges = [np.unique(of_column) for of_column in self.bins(data, labels)]
        if data_stats:
            self._take(data_stats)
        for column, of_column in zip(self.to_discretize, edges, strict=False):
            self.names[column] = bin_names(feature_names[column], of_column)
            self.lambdas[column] = partial(np.searchsorted, of_column)
            if not data_stats:
                self._measure(column, data[:, column], of_column)

    def _take(self, stats: dict[str, Any]) -> None:
        self.means, self.stds = stats["means"], stats["stds"]
        self.mins, self.maxs = stats["mins"], stats["maxs"]

    def _measure(self, column: int, values: Array, edges: Array) -> None:
        """The mean, standard deviation (of n) and limits of each bin."""
        bins, inner = self.lambdas[column](values), edges.tolist()
        parts = [values[bins == one] for one in range(len(edges) + 1)]
        self.means[column] = [np.mean(part) if len(part) else 0 for part in parts]
        self.stds[column] = [(np.std(part) if len(part) else 0) + 1e-11 for part in parts]
        self.mins[column] = [np.min(values), *inner]
        self.maxs[column] = [*inner, np.max(values)]

    def bins(self, data: Array, labels: Any) -> list[Array]:
        """The edges between the bins of each column in ``to_discretize``; a subclass says which.

        Raises:
            NotImplementedError: the class has no bins of its own.
        """
        raise NotImplementedError("Must override bins() method")

    def discretize(self, data: Array) -> Array:
        """The same row [F] or table [n,F] with bins, 0…k−1, in the discretized columns."""
        found = data.copy()
        for column, bins_of in self.lambdas.items():
            found[..., column] = bins_of(found[..., column])
        return found

    def undiscretize(self, data: Array) -> Array:
        """The same row [F] or table [n,F] with a value drawn in each bin, column by column.

        Raises:
            IndexError: there is no such bin.
            ValueError: no normal distribution has the statistics of a bin.
        """
        found, columns = data.copy(), list(self.means)
        if not columns:
            return found
        bins = data.T[columns].astype(np.int64)
        if type(self).get_undiscretize_values is not BaseDiscretizer.get_undiscretize_values:
            drawn = np.stack([
                np.ravel(self.get_undiscretize_values(column, np.atleast_1d(of_column)))
                for column, of_column in zip(columns, bins, strict=True)
            ])  # fmt: skip
        else:
            drawn = self.drawn(columns, bins.reshape(len(columns), -1))
        found[..., columns] = drawn.T if data.ndim > 1 else drawn[:, 0]
        return found

    def get_undiscretize_values(self, feature: int, values: Array) -> Array:
        """A value drawn in each bin of a column, [n] int → [n] float64."""
        values = np.asarray(values)
        return self.drawn([feature], values.reshape(1, -1)).reshape(values.shape)

    @property
    def draws_all(self) -> bool:
        """Whether :meth:`undiscretize` only calls :meth:`drawn` for all columns in order."""
        own, base = type(self), BaseDiscretizer
        is_base = (
            own.undiscretize is base.undiscretize
            and own.get_undiscretize_values is base.get_undiscretize_values
        )
        return is_base and list(self.means) == list(range(self.columns))

    def drawn(self, columns: list[int], bins: Array) -> Array:
        """Values [K,n] of bins [K,n] int: truncated normals, or the one value of a flat bin.

        Raises:
            IndexError: there is no such bin.
            ValueError: no normal distribution has the statistics of a bin.
        """
        normals = self._normals(columns)
        counts = np.array([len(self.means[column]) for column in columns])
        starts = np.cumsum(counts) - counts
        wrong = (bins.min(axis=1, initial=0) < 0) | (bins.max(axis=1, initial=0) >= counts)
        if wrong.any():
            column, asked = columns[int(wrong.argmax())], bins[int(wrong.argmax())]
            got = asked.min() if asked.min() < 0 else asked.max()
            raise IndexError(
                f"column {column} has the bins 0…{len(self.means[column]) - 1}, got {got}"
            )
        if not normals.flat.any():
            uniform = self.random_state.random_sample(bins.size).reshape(bins.shape)
            return normals.values(bins, starts, uniform)
        places = bins + starts[:, None]
        moving = ~normals.flat[places]
        uniform = np.full(bins.shape, 0.5)
        uniform[moving] = self.random_state.random_sample(int(moving.sum()))
        only = normals.lower if self.literal_bins else normals.least
        return np.where(moving, normals.values(bins, starts, uniform), only[places])

    def _normals(self, columns: list[int]) -> TruncatedNormals:
        """The distributions of all bins of these columns; made again if a number has changed."""
        statistics = [
            [of[column] for column in columns]
            for of in (self.mins, self.maxs, self.means, self.stds)
        ]
        key = [tuple(map(tuple, of_columns)) for of_columns in statistics]
        if self._known is not None and self._known[0] == key:
            return self._known[1]
        normals = self._checked(TruncatedNormals.of(*statistics), columns)
        self._known = key, normals
        return normals

    def _checked(self, normals: TruncatedNormals, columns: list[int]) -> TruncatedNormals:
        if normals.impossible().any():
            counts = [len(self.means[column]) for column in columns]
            column = np.repeat(columns, counts)[normals.impossible().argmax()]
            raise ValueError(
                f"the statistics of column {column} fit no distribution: every bin needs "
                "mins ≤ maxs and stds > 0, without NaN"
            )
        return normals

    def flat_bins(self) -> dict[int, list[tuple[int, Any]]]:
        """The bins of a single value that lime replaces by another: {column: [(bin, value), …]}."""
        found = {}
        for column in self.means:
            normals = self._normals([column])
            changed = np.flatnonzero(normals.flat & (normals.lower != normals.least))
            if len(changed):
                found[column] = [(int(one), normals.least[one]) for one in changed]
        return found


class StatsDiscretizer(BaseDiscretizer):
    """Takes the edges from ``data_stats["bins"]``, {column: edges}; without it, there are none.

    Raises:
        ValueError: a column to discretize has no edges there, or holds NaN.
    """

    def bins(self, data: Array, labels: Any) -> list[Array]:
        """The edges of each column."""
        edges = (self.data_stats or {}).get("bins")
        if edges is None:
            return []
        missing = [column for column in self.to_discretize if edges.get(column) is None]
        if missing:
            raise ValueError(
                f"training_data_stats['bins'] must hold the edges of every column that is not in "
                f"categorical_features; it lacks those of {missing}"
            )
        return [np.array(edges[column]) for column in self.to_discretize]


class _OfData(BaseDiscretizer):
    def __init__(
        self,
        data: Any,
        categorical_features: Iterable[int],
        feature_names: Any,
        labels: Any = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(data, categorical_features, feature_names, labels, random_state)


class QuartileDiscretizer(_OfData):
    """Splits each column at its quartiles.

    Example:
        >>> data = np.arange(8.0)[:, None]
        >>> QuartileDiscretizer(data, [], ["x"]).names[0][1:3]
        ['1.75 < x <= 3.50', '3.50 < x <= 5.25']
    """

    def bins(self, data: Array, labels: Any) -> list[Array]:
        """The quartiles of each column."""
        return [np.percentile(data[:, j], [25, 50, 75]) for j in self.to_discretize]


class DecileDiscretizer(_OfData):
    """Splits each column at its deciles."""

    def bins(self, data: Array, labels: Any) -> list[Array]:
        """The deciles of each column."""
        return [np.percentile(data[:, j], np.arange(10, 100, 10)) for j in self.to_discretize]


class EntropyDiscretizer(_OfData):
    """Splits each column where a decision tree of depth 3 does, to tell the labels apart.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: there are no labels.
    """

    def __init__(
        self,
        data: Any,
        categorical_features: Iterable[int],
        feature_names: Any,
        labels: Any = None,
        random_state: Any = None,
    ) -> None:
        if labels is None:
            raise ValueError(
                "Labels must be not None when using EntropyDiscretizer; pass training_labels=, "
                "one label for each row of the training data"
            )
        super().__init__(data, categorical_features, feature_names, labels, random_state)

    def bins(self, data: Array, labels: Any) -> list[Array]:
        """The thresholds of each column's tree; the median where it has none."""
        return [self._thresholds(data[:, column], labels) for column in self.to_discretize]

    def _thresholds(self, values: Array, labels: Any) -> Array:
        tree = scikit_learn("tree", "EntropyDiscretizer").DecisionTreeClassifier(
            criterion="entropy", max_depth=3, random_state=self.random_state
        )
        fitted = tree.fit(values.reshape(-1, 1), labels).tree_
        found = fitted.threshold[fitted.children_left > -1]
        return np.sort(found) if len(found) else np.array([np.median(values)])


def bin_names(name: Any, edges: Array) -> list[str]:
    """The name of each bin.

    >>> bin_names("x", np.array([1, 2.5]))
    ['x <= 1.00', '1.00 < x <= 2.50', 'x > 2.50']
    """
    inner = [f"{a:.2f} < {name} <= {b:.2f}" for a, b in itertools.pairwise(edges)]
    return [f"{name} <= {edges[0]:.2f}", *inner, f"{name} > {edges[-1]:.2f}"]
