"""values of a column → edges: where the bins of a number begin and end.

Convention:
    Edges e₀ < e₁ < … make the bins x ≤ e₀, e₀ < x ≤ e₁, …, x > the last one. A number on an edge
    belongs to the lower bin.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from torchlime._checks import check_count, check_real, is_integer
from torchlime._extras import imported


class Bins(Protocol):
    """values → edges."""

    def __call__(
        self, values: np.ndarray[Any, Any], /, *, name: str, labels: np.ndarray[Any, Any] | None
    ) -> np.ndarray[Any, Any]:
        """The edges [E] of values [R] float64 without NaN.

        ``name`` is that of the column; ``labels`` [R] are the classes of the rows, where known.
        """
        ...


@dataclass(frozen=True)
class Quantiles:
    """Bins that hold equal shares of the values, ``count`` of them; equal edges become one.

    Source: ``numpy.percentile`` with linear interpolation, as lime's quartiles and deciles.

    Raises:
        TypeError, ValueError: ``count`` is no int of at least 2.

    Example:
        >>> import numpy as np
        >>> Quantiles(4)(np.arange(5.0), name="age", labels=None).tolist()
        [1.0, 2.0, 3.0]
    """

    count: int = 4

    def __post_init__(self) -> None:
        check_count(self.count, "count", 2)

    def __call__(
        self, values: np.ndarray[Any, Any], *, name: str, labels: Any = None
    ) -> np.ndarray[Any, Any]:
        """The edges of values [R]."""
        shares = [100 * part / self.count for part in range(1, self.count)]
        return np.unique(np.percentile(values, shares))


@dataclass(frozen=True)
class Deciles(Quantiles):
    """Ten bins of equal shares.

    Example:
        >>> import numpy as np
        >>> Deciles()(np.arange(11.0), name="age", labels=None).tolist()
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    """

    count: int = 10


@dataclass(frozen=True)
class Edges:
    """Edges of your own for the columns that are named; other columns go to ``otherwise``.

    Raises:
        TypeError, ValueError: an edge is no finite number, or edges do not rise.

    Example:
        >>> import numpy as np
        >>> bins = Edges({"age": [18, 65]})
        >>> bins(np.arange(100.0), name="age", labels=None).tolist()
        [18.0, 65.0]
    """

    of: Mapping[str, Sequence[float]]
    otherwise: Bins = Quantiles()

    def __post_init__(self) -> None:
        if not isinstance(self.of, Mapping):
            raise TypeError(
                "edges must be a mapping of column names to numbers, such as {'age': [18, 65]}, "
                f"got {type(self.of).__name__}"
            )
        for name, edges in self.of.items():
            for edge in edges:
                check_real(edge, f"an edge of {name!r}")
            rising = all(a < b for a, b in itertools.pairwise(edges))
            if not (len(edges) and rising and all(map(math.isfinite, edges))):
                raise ValueError(
                    f"the edges of {name!r} must be finite numbers that rise, got {list(edges)}"
                )

    def __call__(
        self, values: np.ndarray[Any, Any], *, name: str, labels: Any = None
    ) -> np.ndarray[Any, Any]:
        """The edges of values [R]."""
        if name in self.of:
            return np.asarray(self.of[name], dtype=np.float64)
        return self.otherwise(values, name=name, labels=labels)


@dataclass(frozen=True)
class Entropy:
    """The thresholds of a decision tree that predicts the labels from the column alone.

    A column that the tree does not split is split at its median. It needs ``labels``, and
    scikit-learn.

    Source: lime's EntropyDiscretizer: ``DecisionTreeClassifier(criterion="entropy")``.

    Raises:
        TypeError, ValueError: ``depth`` is no int of at least 1, or ``seed`` is no int.
        ImportError: scikit-learn is not installed.

    Example:
        >>> import numpy as np
        >>> labels = np.arange(6) > 2
        >>> Entropy(depth=1)(np.arange(6.0), name="age", labels=labels).tolist()
        [2.5]
    """

    depth: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self.depth, "depth")
        if not is_integer(self.seed):
            raise TypeError(f"seed must be an int, got {type(self.seed).__name__}")

    def __call__(
        self, values: np.ndarray[Any, Any], *, name: str, labels: Any = None
    ) -> np.ndarray[Any, Any]:
        """The edges of values [R], whose rows have the classes ``labels`` [R]."""
        if labels is None:
            raise ValueError("bins=Entropy() needs the classes of the rows: Background.of(labels=)")
        tree = imported("sklearn.tree", "Entropy", "tables").DecisionTreeClassifier(
            criterion="entropy", max_depth=self.depth, random_state=self.seed
        )
        found = tree.fit(values[:, None], labels).tree_
        splits = np.unique(found.threshold[found.feature >= 0])
        return splits if len(splits) else np.array([np.median(values)])
