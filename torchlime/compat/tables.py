"""Training data, rows and columns as lime's explainers need them: arrays, frames, sparse, lists."""

import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from torchlime.compat.arrays import Array, to_numpy


def scikit_learn(module: str, wanted_by: str) -> ModuleType:
    """Import a module of scikit-learn, or say how to get it."""
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError(
            f"{wanted_by} needs scikit-learn: pip install 'torchlime[lime]'"
        ) from error


def quoted(names: Iterable[Any]) -> str:
    """Names in a sentence.

    >>> quoted(["a", np.str_("b"), 3])
    "'a', 'b', '3'"
    """
    return ", ".join(repr(str(name)) for name in names)


def is_sparse(values: Any) -> bool:
    """Whether it is one of SciPy's sparse matrices or arrays."""
    return hasattr(values, "tocsr")


def is_frame(values: Any) -> bool:
    """Whether it is a pandas DataFrame."""
    return hasattr(values, "columns") and hasattr(values, "to_numpy")


def is_series(values: Any) -> bool:
    """Whether it is a pandas Series."""
    return hasattr(values, "index") and hasattr(values, "to_numpy") and not is_frame(values)


def as_table(data: Any, name: str = "training_data") -> tuple[Any, list[Any] | None]:
    """A table as an array [n,F], or as it is if sparse; and its columns' names if it has any.

    Raises:
        ValueError: it has no two axes, no rows, or holds text.
    """
    columns = list(data.columns) if is_frame(data) else None
    if is_sparse(data):
        return data, None
    table = numeric(data, name, columns)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"{name} must be a table [rows,columns], got {list(table.shape)}")
    return table, columns


def numeric(data: Any, name: str, columns: Sequence[Any] | None = None) -> Array:
    """Numbers as an array; those of numpy keep their dtype.

    Raises:
        ValueError: it holds text, or values that are no numbers.
    """
    values = data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(to_numpy(data))
    if values.dtype.kind in "fiu":
        return values
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        column, value = _first_text(values)
        known = columns[column] if columns is not None and column < len(columns) else column
        raise ValueError(
            f"{name} must hold numbers, got {value!r} in column {known!r}; number the categories "
            "0…k−1, list the column in categorical_features, and pass the words as "
            "categorical_names={column: words}"
        ) from None


def _first_text(values: Array) -> tuple[int, Any]:
    rows = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
    for column in range(rows.shape[1]):
        for value in rows[:, column]:
            try:
                float(value)
            except (TypeError, ValueError):
                return column, value.item() if isinstance(value, np.generic) else value
    return 0, values


def as_rows(data: Any, columns: list[Any] | None, count: int) -> tuple[list[Any], bool]:
    """The rows to explain, each an array [F] or csr [1,F], and whether there are several.

    A frame or a series is read by the names of the training data's columns, whatever their order.

    Args:
        data: a row [F], a table [B,F], a Series, a DataFrame, lists, or sparse [1,F] or [B,F].
        columns: the names of the training data's columns, if it was a frame.
        count: F.

    Raises:
        ValueError: columns are missing, or their number differs.
    """
    if is_sparse(data):
        data = (data.reshape(1, -1) if data.ndim == 1 else data).tocsr()
        _check_width(data.shape[-1], count)
        return [data[i : i + 1] for i in range(data.shape[0])], data.shape[0] != 1
    if columns is not None and (is_frame(data) or is_series(data)):
        data = _by_name(data, columns)
    rows = numeric(data, "data_row", columns)
    if rows.ndim not in (1, 2) or not rows.size:
        raise ValueError(f"data_row must be a row [F] or rows [B,F], got {list(rows.shape)}")
    _check_width(rows.shape[-1], count)
    return (list(rows), True) if rows.ndim == 2 else ([rows], False)


def _by_name(data: Any, columns: list[Any]) -> Any:
    given = list(data.columns if is_frame(data) else data.index)
    if given == list(range(len(columns))):
        return data  # unnamed: by position
    missing = [name for name in columns if name not in given]
    extra = [name for name in given if name not in columns]
    if missing or extra:
        but = [f"lacks {missing}"] * bool(missing) + [f"has {extra} besides"] * bool(extra)
        raise ValueError(
            f"data_row must have the columns of the training data, but {' and '.join(but)}"
        )
    return data[columns]


def _check_width(got: int, count: int) -> None:
    if got != count:
        raise ValueError(f"data_row must have the training data's {count} columns, got {got}")


def refuse_nan(data: Array, columns: Iterable[int], names: Any) -> None:
    """Raise where one of these columns of [n,F] holds NaN.

    Raises:
        ValueError: which columns, and what to do.
    """
    if data.dtype.kind != "f":
        return
    holed = [names[j] for j in columns if np.isnan(data[:, j]).any()]
    if holed:
        raise ValueError(
            f"the training data holds NaN in {quoted(holed)}, and NaN has no bin; "
            "fill it in, or drop these rows"
        )
