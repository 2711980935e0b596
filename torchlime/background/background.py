"""What a row of a table is compared with: the statistics of training data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchlime._inputs import Array
from torchlime.background import columns as kinds
from torchlime.background.bins import Bins, Quantiles
from torchlime.background.columns import Column
from torchlime.background.reading import Raw, read

FEW = 10  # whole numbers of at most so many distinct values are taken for categories
QUARTILES = Quantiles(4)


@dataclass(frozen=True, eq=False)
class Background:
    """The columns of a table, their bins, and how often each occurs: made by :meth:`of`.

    Attributes:
        columns: F features; a one-hot group is one.
        names: the names of the C columns of the input.
        dtypes: of a DataFrame's columns, by name; None where the data was no DataFrame.
        binned: whether numbers have bins.
        tensors: the statistics by device; they go to a device once, with the first explanation.

    Example:
        >>> data = torch.tensor([[20.0, 0], [30, 1], [40, 1], [50, 1]])
        >>> background = Background.of(data, names=["age", "member"])
        >>> [b.text for b in background.columns[0].bins]
        ['age <= 27.50', '27.50 < age <= 35.00', '35.00 < age <= 42.50', 'age > 42.50']
        >>> [(b.text, b.share) for b in background.columns[1].bins]
        [('member=0', 0.25), ('member=1', 0.75)]
    """

    columns: tuple[Column, ...]
    names: tuple[str, ...]
    dtypes: Mapping[str, Any] | None = None
    binned: bool = True
    tensors: dict[torch.device, Any] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls,
        data: "Tensor | Array | Sequence[Sequence[Any]] | Any",
        *,
        categorical: Sequence[str | int] | None = None,
        one_hot: Mapping[str, Sequence[str | int]] | None = None,
        bins: Bins | None = QUARTILES,
        names: Sequence[str] | None = None,
        labels: Any = None,
    ) -> "Background":
        """Read the statistics of training data [R,C].

        Args:
            data: a DataFrame, an array or a tensor. Missing values (NaN, None) are a bin of their
                own.
            categorical: names or numbers of the columns whose values have no order. Columns of
                words are always categorical. None = columns of whole numbers are too, if they have
                at most 10 distinct values, and on average two rows or more for each value.
            one_hot: groups of columns of which at most one is 1, by the name of the group.
            bins: values → edges for the columns of numbers, see :mod:`torchlime.background.bins`;
                None = numbers stay numbers.
            names: of the C columns; None = those of the DataFrame, or their numbers.
            labels: [R] classes of the rows, which ``bins=Entropy()`` needs.

        Raises:
            TypeError, ValueError: an argument has the wrong type, shape or range, or a column
                cannot be read; the message names it.
        """
        raw = read(data, "the background's data")
        named = _names(raw, names)
        groups = {
            name: [_place(column, named) for column in members]
            for name, members in (one_hot or {}).items()
        }
        chosen = None if categorical is None else {_place(c, named) for c in categorical}
        if bins is not None and not callable(bins):
            raise TypeError(f"bins must be Quantiles(4), another such object or None, got {bins!r}")
        marked = None if labels is None else _labels(labels, len(raw.columns[0]))
        columns = _columns(raw, named, groups, chosen, bins, marked)
        dtypes = None if raw.dtypes is None else dict(zip(named, raw.dtypes, strict=True))
        return cls(tuple(columns), tuple(named), dtypes, bins is not None)

    def __len__(self) -> int:
        """F, how many features there are."""
        return len(self.columns)

    def __repr__(self) -> str:
        """Short: it stands among the settings of an explanation."""
        groups = sum(bool(column.words) for column in self.columns)
        return f"Background({len(self)} features, {groups} of them categories)"

    def rows(self, x: Any) -> Tensor:
        """Rows of a table as numbers [B,C] float: a word becomes its number among the words.

        A tensor is taken as it is.

        Raises:
            TypeError, ValueError: the rows have other columns than the background, or hold a
                category or a missing value that it has not; the message names it.
        """
        if isinstance(x, Tensor):
            return self._checked_tensor(x)
        if hasattr(x, "to_frame") and hasattr(x, "iloc"):  # a Series: one row of a frame
            x = x.to_frame().T
        raw = read(x, "x")
        cells = {}
        order = self._order(raw)
        for column in self.columns:
            for place in column.places:
                cells[place] = self._numbered(column, raw.columns[order[place]])
        return torch.stack([torch.from_numpy(cells[place]) for place in range(len(cells))], dim=1)

    def _checked_tensor(self, x: Tensor) -> Tensor:
        width = len(self.names)
        if x.dim() != 2 or x.shape[1] != width or not len(x):
            hint = "; add an axis: x[None]" if x.dim() == 1 and len(x) == width else ""
            raise ValueError(
                f"x must be [B,{width}], as many columns as the background has, got "
                f"{list(x.shape)}{hint}"
            )
        if not x.is_floating_point():
            raise TypeError(f"x must be floating point, got {x.dtype}; pass x.float()")
        return x.detach()

    def _order(self, raw: Raw) -> list[int]:
        """For each column of the background its place in a table."""
        if raw.names is None or self.dtypes is None:
            if len(raw.columns) != len(self.names):
                raise ValueError(
                    f"x has {len(raw.columns)} columns, the background has {len(self.names)}"
                )
            return list(range(len(self.names)))
        if set(raw.names) != set(self.names):
            absent = [name for name in self.names if name not in raw.names]
            other = [name for name in raw.names if name not in self.names]
            raise ValueError(
                "x must have the columns of the background; "
                f"it lacks {absent or 'none'} and has {other or 'none'} beside them"
            )
        return [raw.names.index(name) for name in self.names]

    def _numbered(self, column: Column, values: np.ndarray[Any, Any]) -> Any:
        number = {word: place for place, word in enumerate(column.words)}
        if column.is_group or not column.words:
            if values.dtype.kind == "O":
                raise ValueError(
                    f"the column {column.name!r} must hold numbers, as in the background, got "
                    f"{next(v for v in values if isinstance(v, str | bool))!r}"
                )
            gone = np.isnan(values)
            result = values
        else:
            gone = np.array([v is None or v != v for v in values], dtype=bool)
            for word in values[~gone].tolist():
                if word not in number:
                    known = ", ".join(map(str, column.words[:20]))
                    raise ValueError(
                        f"{word!r} is not in the column {column.name!r} of the background, "
                        f"which has {known}"
                    )
            coded = [np.nan if v is None or v != v else number[v] if column.coded else v
                     for v in values.tolist()]  # fmt: skip
            result = np.array(coded, dtype=np.float64)
        if gone.any() and not column.missing:
            raise ValueError(
                f"a value of the column {column.name!r} is missing, but the background has no "
                "missing value in this column"
            )
        return result

    def frame(self, x: Tensor) -> Any:
        """Turn rows [n,C] of numbers into a DataFrame like that of the background.

        It reads the rows on the host.

        Raises:
            ImportError: pandas is not installed.
        """
        from torchlime._extras import imported

        pandas = imported("pandas", "a model of DataFrames", "tables")
        cells = x.detach().cpu().numpy()  # a frame lies on the host
        parts: dict[str, Any] = {}
        for column in self.columns:
            for place in column.places:
                values: Any = cells[:, place]
                if column.coded:
                    words = [*column.words, None]
                    values = [words[-1] if v != v else words[int(v)] for v in values]
                parts[self.names[place]] = values
        frame = pandas.DataFrame({name: parts[name] for name in self.names})
        for name, dtype in (self.dtypes or {}).items():
            if dtype.kind not in "iub" or not frame[name].isna().any():
                frame[name] = frame[name].astype(dtype)
        return frame


def _names(raw: Raw, names: Sequence[str] | None) -> list[str]:
    width = len(raw.columns)
    if names is None:
        return raw.names or [str(place) for place in range(width)]
    if isinstance(names, str) or len(names) != width or len(set(names)) < width:
        raise ValueError(f"names must be {width} different names, got {names!r}")
    return [str(name) for name in names]


def _place(column: str | int, names: list[str]) -> int:
    if column in names:
        return names.index(str(column))
    if isinstance(column, int) and not isinstance(column, bool) and 0 <= column < len(names):
        return column
    raise ValueError(f"the background has no column {column!r}; it has {', '.join(names[:20])}")


def _labels(labels: Any, rows: int) -> np.ndarray[Any, Any]:
    found = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if found.shape != (rows,):
        raise ValueError(f"labels must be one class for each of {rows} rows, got {found.shape}")
    return found


def _columns(
    raw: Raw,
    names: list[str],
    groups: dict[str, list[int]],
    chosen: set[int] | None,
    bins: Bins | None,
    labels: Any,
) -> list[Column]:
    grouped = {place: name for name, places in groups.items() for place in places}
    if len(grouped) < sum(map(len, groups.values())):
        raise ValueError("a column can be in one one-hot group only")
    found: dict[str, Column] = {}
    for place, values in enumerate(raw.columns):
        name = names[place]
        if place in grouped:
            name, places = grouped[place], groups[grouped[place]]
            if name not in found:
                cells = np.stack([raw.columns[p] for p in places], axis=1).astype(np.float64)
                members = [names[p].removeprefix(f"{name}_") for p in places]
                found[name] = kinds.one_hot(name, places, members, cells)
        elif _is_categorical(values, place, chosen):
            found[name] = kinds.categories(name, place, values)
        else:
            known = ~np.isnan(values)
            edges = None
            if bins is not None and known.any():
                marked = None if labels is None else labels[known]
                edges = _checked_edges(bins(values[known], name=name, labels=marked), name)
            elif bins is None and not known.all():
                raise ValueError(
                    f"values of the column {name!r} are missing, which bins=None does not allow; "
                    "fill them, or pass bins=Quantiles(4), which gives them a bin of their own"
                )
            found[name] = kinds.numbers(name, place, values, edges)
    return list(found.values())


def _is_categorical(values: Any, place: int, chosen: set[int] | None) -> bool:
    if values.dtype.kind == "O" or (chosen is not None and place in chosen):
        return True
    if chosen is not None:
        return False
    known = np.unique(values[~np.isnan(values)])
    few = 0 < len(known) <= min(FEW, len(values) // 2)
    return few and bool((known == np.round(known)).all())


def _checked_edges(edges: Any, name: str) -> Any:
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or not len(edges) or not np.isfinite(edges).all():
        raise ValueError(f"bins must return finite edges [E] for {name!r}, got {edges!r}")
    return np.unique(edges)
