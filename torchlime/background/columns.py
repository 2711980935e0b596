"""The features of a table, each with its bins: numbers, categories and one-hot groups."""

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Values = np.ndarray[Any, Any]
MISSING = "{} is missing"


class Bin(NamedTuple):
    """A bin of a feature, and how values are drawn within it.

    A value is normal with ``mean`` and ``deviation``, cut off at ``least`` and ``most``; it is the
    mean where the deviation is 0.

    Attributes:
        text: what being in this bin means: "2.00 < age <= 3.00".
        share: of the background's rows.
    """

    text: str
    share: float
    mean: float
    deviation: float = 0.0
    least: float = math.nan
    most: float = math.nan


@dataclass(frozen=True)
class Column:
    """A feature of a table.

    Attributes:
        name: of the feature.
        places: the columns of the input that it fills: one, or those of a one-hot group.
        bins: its bins; a bin of missing values is the last.
        edges: between the bins of numbers; empty for categories.
        words: a category's value in each bin, as the caller's table has it; empty for numbers.
        whole: the numbers are whole, and drawn numbers are rounded.
        missing: whether the last bin is that of missing values.
        coded: the input holds the number of a word, not the word.
    """

    name: str
    places: tuple[int, ...]
    bins: tuple[Bin, ...]
    edges: tuple[float, ...] = ()
    words: tuple[Any, ...] = ()
    whole: bool = False
    missing: bool = False
    coded: bool = False

    @property
    def is_group(self) -> bool:
        """Whether it is a one-hot group."""
        return len(self.places) > 1


def numbers(name: str, place: int, values: Values, edges: Values | None) -> Column:
    """A feature of numbers [R] float64, NaN = missing; without edges it has one bin for all.

    Raises:
        ValueError: no value is known.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        raise ValueError(f"the column {name!r} has no value that is a number; leave it out")
    edges = np.empty(0) if edges is None else edges
    texts = bin_texts(name, edges.tolist()) if len(edges) else [name]
    numbered = np.searchsorted(edges, known, side="left")
    bins = [
        _of_numbers(text, known[numbered == number], len(values))
        for number, text in enumerate(texts)
    ]
    lost = len(values) - len(known)
    if lost:
        bins.append(Bin(MISSING.format(name), lost / len(values), math.nan))
    whole = bool((known == np.round(known)).all())
    return Column(name, (place,), tuple(bins), tuple(edges.tolist()), whole=whole, missing=lost > 0)


def _of_numbers(text: str, values: Values, rows: int) -> Bin:
    if not len(values):
        return Bin(text, 0.0, 0.0)
    least, most = float(values.min()), float(values.max())
    # Of a bin of one value the mean would be rounded, and its deviation not quite 0.
    deviation = float(values.std()) if most > least else 0.0
    mean = float(values.mean()) if most > least else least
    return Bin(text, len(values) / rows, mean, deviation, least, most)


def categories(name: str, place: int, values: Values) -> Column:
    """A feature of words or of a few numbers: a bin for each distinct value."""
    coded = values.dtype.kind == "O"
    missing = np.array([v is None or v != v for v in values], dtype=bool)
    known = values[~missing].tolist()
    words = sorted(set(known), key=_sortable)
    share = dict.fromkeys(words, 0)
    for word in known:
        share[word] += 1
    bins = [
        Bin(f"{name}={_worded(word)}", share[word] / len(values), number if coded else word)
        for number, word in enumerate(words)
    ]
    if missing.any():
        bins.append(Bin(MISSING.format(name), float(missing.mean()), math.nan))
    return Column(
        name, (place,), tuple(bins), words=tuple(words), missing=bool(missing.any()), coded=coded
    )


def one_hot(name: str, places: list[int], names: list[str], values: Values) -> Column:
    """A group of columns [R,k] of which at most one is 1: a bin for each, and one for none.

    Raises:
        ValueError: a row has more than one 1, or another number.
    """
    good = np.isin(values, (0.0, 1.0)).all(axis=1) & (values.sum(axis=1) <= 1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(
            f"the one-hot group {name!r} must hold 0s and at most a single 1 in each row, got "
            f"{values[row].tolist()} in row {row}"
        )
    bins = [
        Bin(f"{name}={word}", float(values[:, number].mean()), number)
        for number, word in enumerate(names)
    ]
    none = float((values.sum(axis=1) == 0).mean())
    if none:
        bins.append(Bin(f"{name}=none of them", none, len(names)))
    return Column(name, tuple(places), tuple(bins), words=tuple(names))


def bin_texts(name: str, edges: list[float]) -> list[str]:
    """What each bin means, with as many decimals as tell the edges apart, but at least 2.

    Example:
        >>> bin_texts("age", [1.0, 2.5])
        ['age <= 1.00', '1.00 < age <= 2.50', 'age > 2.50']
    """
    digits = 2
    while digits < 17 and len({f"{edge:.{digits}f}" for edge in edges}) < len(edges):
        digits += 1
    shown = [f"{edge:.{digits}f}" for edge in edges]
    between = [f"{a} < {name} <= {b}" for a, b in itertools.pairwise(shown)]
    return [f"{name} <= {shown[0]}", *between, f"{name} > {shown[-1]}"]


def _worded(word: Any) -> str:
    return f"{word:g}" if isinstance(word, float) else str(word)


def _sortable(word: Any) -> tuple[str, Any]:
    return (type(word).__name__, word if isinstance(word, str | int | float) else repr(word))
