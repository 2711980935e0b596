"""Tables as people have them, frames, arrays or tensors, as columns of numpy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

Values = np.ndarray[Any, Any]


class Raw(NamedTuple):
    """A table on the host.

    Attributes:
        columns: C arrays [R], float64 where the column holds numbers (NaN = missing), else objects
            (None = missing).
        names: their names, where the table has some.
        dtypes: those of a DataFrame's columns; else None.
    """

    columns: list[Values]
    names: list[str] | None
    dtypes: list[Any] | None


def is_frame(table: Any) -> bool:
    """Whether a table is a DataFrame of pandas."""
    return hasattr(table, "iloc") and hasattr(table, "columns")


def read(table: Any, what: str) -> Raw:
    """The columns of a DataFrame, an array [R,C] or a tensor [R,C].

    Raises:
        TypeError, ValueError: the table is none of these, is empty, or holds infinite numbers.
    """
    if is_frame(table):
        raw = Raw(
            [_series(table.iloc[:, place]) for place in range(table.shape[1])],
            [str(name) for name in table.columns],
            list(table.dtypes),
        )
    else:
        cells = _cells(table, what)
        raw = Raw([_plain(cells[:, place]) for place in range(cells.shape[1])], None, None)
    if not raw.columns or not len(raw.columns[0]):
        raise ValueError(f"{what} must hold at least one row and one column")
    if raw.names is not None and len(set(raw.names)) < len(raw.names):
        raise ValueError(f"the columns of {what} must have different names, got {raw.names}")
    _check_finite(raw, what)
    return raw


def _cells(table: Any, what: str) -> Values:
    expected = f"{what} must be a DataFrame, an array or a tensor [rows, columns]"
    if isinstance(table, Tensor):
        table = table.detach().cpu().numpy()  # statistics are made on the host
    if not (hasattr(table, "__array__") or isinstance(table, Sequence)) or isinstance(table, str):
        hint = "; pass .to_pandas()" if hasattr(table, "to_pandas") else ""
        raise TypeError(f"{expected}, got {type(table).__name__}{hint}")
    if hasattr(table, "toarray"):
        raise TypeError(f"{expected}, got a sparse one; pass .toarray()")
    try:
        cells = np.asarray(table)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{expected}: {error}") from error
    if cells.dtype.kind == "U":  # of numbers and words, numpy makes words
        cells = np.asarray(table, dtype=object)
    if cells.ndim != 2:
        hint = "; add an axis: row[None]" if cells.ndim == 1 else ""
        raise ValueError(f"{expected}, got the shape {list(cells.shape)}{hint}")
    if cells.dtype.kind not in "biufO":
        raise TypeError(f"{expected} of numbers or words, got {cells.dtype}")
    return cells


def _series(series: Any) -> Values:
    if series.dtype.kind in "iuf" and hasattr(series.dtype, "na_value"):  # with a mask of its own
        return _plain(series.to_numpy(dtype=np.float64, na_value=np.nan))
    values = series.to_numpy()
    if values.dtype.kind in "mM":
        raise TypeError(
            f"the column {series.name!r} holds times ({series.dtype}); make numbers of them"
        )
    if values.dtype.kind in "biuf":
        return _plain(values)
    missing = series.isna().to_numpy()
    return _plain(np.array([None if gone else v for v, gone in zip(values, missing, strict=True)],
                           dtype=object))  # fmt: skip


def _plain(column: Values) -> Values:
    """float64 where all values are numbers, else objects; a bool is a word."""
    if column.dtype.kind == "b":
        return column.astype(object)
    if column.dtype.kind != "O":
        return column.astype(np.float64)
    missing = np.array([v is None or v != v for v in column], dtype=bool)  # NaN is not itself
    if any(isinstance(v, str | bytes | bool | np.bool_) for v in column[~missing]):
        return _without(missing, column)
    try:
        return np.where(missing, np.nan, column).astype(np.float64)
    except (TypeError, ValueError):
        return _without(missing, column)


def _without(missing: Values, column: Values) -> Values:
    column = column.copy()
    column[missing] = None
    return column


def _check_finite(raw: Raw, what: str) -> None:
    for place, column in enumerate(raw.columns):
        if column.dtype.kind == "f" and np.isinf(column).any():
            name = place if raw.names is None else repr(raw.names[place])
            raise ValueError(f"the column {name} of {what} holds infinite numbers")
