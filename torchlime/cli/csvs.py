"""Csv files: the rows to explain, and the background that they are compared with."""

import argparse
import contextlib
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchlime._errors import first_line
from torchlime._estimator import Estimator
from torchlime._extras import imported
from torchlime._files import check_file
from torchlime.background import Background
from torchlime.background.bins import Bins, Deciles, Entropy, Quantiles
from torchlime.cli.meanings import UsageError, nearest

BINS: dict[str, Bins | None] = {
    "quartiles": Quantiles(4),
    "deciles": Deciles(),
    "entropy": Entropy(),
    "none": None,
}
_MISSING_SHOWN = 5


@dataclass(frozen=True)
class Csv:
    """A table to explain.

    Attributes:
        frame: a DataFrame of the columns that the model takes; row 0 is the first below the head.
        labels: the words of the target column, None where a row has none; None for a file without
            this column.
        background: what its rows are compared with.
    """

    frame: Any
    labels: list[str | None] | None
    background: Background

    def values(self, row: int) -> dict[str, Any]:
        """A row as JSON can hold it: None stands for a missing value."""
        return {str(name): _plain(value) for name, value in self.frame.iloc[row].items()}


def read(asked: argparse.Namespace, data: str) -> Csv:
    """The table in a csv file, and its background, as the options say.

    Raises:
        UsageError: a file or a column is not there or cannot be read, or the two files have other
            columns.
        ImportError: pandas is not installed.
    """
    train = data if asked.background is None else asked.background
    known = _frame(train, asked.separator)
    words = {name: str for name in known.columns if _is_of_words(known[name])}
    table = known if train == data else _frame(data, asked.separator, words)
    _check_named(asked, known, table)
    labels, frame = _split(table, asked)
    classes, inputs = _split(known, asked)
    if asked.bins == "entropy" and classes is None:
        raise UsageError(
            f"--bins entropy needs the classes of the rows of {train}: name their column with "
            "--target-column"
        )
    with _sentences(f"--background: {train}"):
        background = Background.of(
            inputs,
            categorical=asked.categorical or None,
            bins=BINS[asked.bins],
            labels=None if classes is None else classes.to_numpy(),
        )
    _check_columns(frame, background.names, data, train)
    listed = None if labels is None else [None if v != v else str(v) for v in labels]
    return Csv(frame[list(background.names)], listed, background)


def check_model(csv: Csv, model: Any) -> None:
    """Raise unless an estimator that knows its columns was made for those of the table.

    Raises:
        UsageError: it names the columns.
    """
    wanted = getattr(model, "feature_names_in_", None)
    if wanted is None:
        return
    names, given = [str(name) for name in wanted], list(csv.background.names)
    if set(names) != set(given):
        raise UsageError(
            f"the model takes other columns than the table has: {_different(given, names)}. "
            "--target-column and --drop leave columns out"
        )


def takes_frames(csv: Csv, model: Any, asked_for: bool) -> bool:
    """Whether a model is called with DataFrames: words, and names that an estimator was fitted on.

    A function or a network takes tensors unless frames are asked for.
    """
    if asked_for or not Estimator.is_one(model):
        return asked_for
    owner = getattr(model, "__self__", model)
    named = getattr(owner, "feature_names_in_", None) is not None
    return named or any(column.coded for column in csv.background.columns)


def rows_of(word: str) -> list[slice | int]:
    """A reader of rows: numbers and ranges such as "0:100" or "3,7,20:30", from 0.

    >>> rows_of("3,20:30")
    [3, slice(20, 30, None)]
    """
    return [_rows(part.strip()) for part in word.split(",")]


def _rows(part: str) -> slice | int:
    ends = part.split(":")
    if len(ends) > 2 or not all(end.isascii() and (end.isdecimal() or not end) for end in ends):
        raise ValueError(f"{part!r} is no row and no range of rows, such as 7 or 0:100")
    if len(ends) == 1:
        if not part:
            raise ValueError("a row is missing beside a comma")
        return int(part)
    first, last = (int(end) if end else None for end in ends)
    return slice(first, last)


def chosen(asked: Sequence[slice | int], count: int) -> list[int]:
    """The rows of a table of ``count`` that were asked for, each once, in their order.

    Raises:
        UsageError: there are no such rows.
    """
    found: dict[int, None] = {}
    for one in asked:
        rows = range(count)[one] if isinstance(one, slice) else [one] if one < count else []
        if not rows:
            which = f"{one.start or 0}:{'' if one.stop is None else one.stop}" if isinstance(
                one, slice) else one  # fmt: skip
            raise UsageError(
                f"--rows: there is no row {which}; the table has the rows 0 to {count - 1}"
            )
        found |= dict.fromkeys(rows)
    return list(found)


def separator(word: str) -> str:
    """A reader of the sign between the values of a row."""
    sign = {"tab": "\t", "\\t": "\t"}.get(word, word)
    if len(sign) != 1 or sign in "\"'\n\r":
        raise ValueError(f"{word!r} is not one sign, such as , or ; or tab")
    return sign


def _frame(path: str, sign: str, words: Any = None) -> Any:
    pandas = imported("pandas", "a table", "tables")
    with _sentences(f"{path} cannot be read as a table"), warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        check_file(path, "table")
        head = pandas.read_csv(path, sep=sign, header=None, nrows=1, dtype=str, index_col=False)
        _check_head(head.iloc[0].dropna())
        try:  # else the first column would become an index, and values move to other names
            table = pandas.read_csv(path, sep=sign, dtype=words, low_memory=False, index_col=False)
        except pandas.errors.ParserWarning as error:
            raise ValueError("its rows have more values than its head has names") from error
    if not len(table):
        raise UsageError(f"{path} has no rows below its head")
    if table.shape[1] == 1 and sign == ",":
        other = next((s for s in (";", "\t", "|") if s in str(table.columns[0])), None)
        if other is not None:
            called = "tab" if other == "\t" else other
            raise UsageError(
                f"{path} has a single column, {table.columns[0]!r}: are its values separated by "
                f"another sign? Then add --separator '{called}'"
            )
    return table


def _check_head(names: Sequence[str]) -> None:
    """Raise where two columns have one name: pandas would rename the second."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"two of its columns are called {twice[0]!r}")


@contextlib.contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Turn what pandas and the background say of a table into a sentence that names it."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{what}: it is not UTF-8; save it as UTF-8") from error
    except (ValueError, TypeError, OSError, OverflowError) as error:  # also of pandas' parser
        raise UsageError(f"{what}: {first_line(error)}") from error


def _is_of_words(column: Any) -> bool:
    return column.dtype.kind not in "biuf" and any(isinstance(v, str) for v in column)


def _check_named(asked: argparse.Namespace, *tables: Any) -> None:
    """Raise where an option names a column that no table has."""
    every = {str(name) for table in tables for name in table.columns}
    named = {"target-column": [asked.target_column] if asked.target_column else []}
    named |= {"drop": asked.drop, "categorical": asked.categorical}
    for flag, names in named.items():
        for name in names:
            if name not in every:
                raise UsageError(f"--{flag}: there is no column {name!r}{nearest(name, every)}")


def _split(table: Any, asked: argparse.Namespace) -> tuple[Any, Any]:
    """The target column, if there is one, and the columns that the model takes."""
    left_out = {*asked.drop, asked.target_column}
    kept = [name for name in table.columns if str(name) not in left_out]
    labels = table[asked.target_column] if asked.target_column in table.columns else None
    return labels, table[kept]


def _check_columns(frame: Any, names: Sequence[str], data: str, train: str) -> None:
    given = [str(name) for name in frame.columns]
    if set(given) != set(names):
        raise UsageError(
            f"{data} has other columns than {train}: {_different(given, names)}. "
            "--target-column and --drop leave columns out"
        )


def _different(given: Sequence[str], wanted: Sequence[str]) -> str:
    """Which columns are lacking, and which are there beside them."""
    parts = []
    for names, others, verb in ((wanted, given, "it lacks"), (given, wanted, "it has besides")):
        found = [repr(name) for name in names if name not in others]
        if found:
            more = f" and {len(found) - _MISSING_SHOWN} more" * (len(found) > _MISSING_SHOWN)
            parts.append(f"{verb} {', '.join(found[:_MISSING_SHOWN])}{more}")
    return ", ".join(parts)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value or (isinstance(value, float) and math.isinf(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


def beside(asked: argparse.Namespace, data: str) -> list[Path]:
    """The files that a call reads."""
    named = (data, asked.background, asked.model)
    return [Path(name) for name in named if name is not None]
