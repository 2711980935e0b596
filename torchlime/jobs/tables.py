"""Tables: a job over the rows of a table, into the same dataset as a job of photos."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from torchlime._checks import check_count
from torchlime._reading import output_name
from torchlime.background import Background
from torchlime.background.reading import is_frame
from torchlime.explanation import Explanation
from torchlime.jobs.identity import counted, settings_of, weights_hash
from torchlime.jobs.rows import Row, explained, failed, in_utf8, printable
from torchlime.jobs.store import Store
from torchlime.jobs.told import Summary, Tally, by_rule
from torchlime.rounds import Once
from torchlime.tables import TableLime

AT_ONCE = 256  # rows of a call, which share the samples; a kill loses those of one call
_NOT_OF_A_ROW = ("background", "chunk_size", "exact_chunks")


class TableRow(NamedTuple):
    """A row of a table: its number in words, and its class."""

    id: str
    class_name: str | None


def run_table(
    table: Any,
    out: str | os.PathLike[str],
    model: Any,
    explainer: TableLime,
    *,
    name: str = "a model of the caller's",
    weights: str | None = None,
    source: str | os.PathLike[str] = "table",
    rows: Sequence[int] | None = None,
    labels: Sequence[str | None] | None = None,
    targets: Sequence[int] = (),
    top: int = 1,
    overwrite: bool = False,
    retry: bool = False,
    repair: bool = False,
    progress: Callable[[int, int], object] | None = None,
    say: Callable[[str], object] | None = None,
) -> Summary:
    """Explain the rows of a table that have no result in ``out`` yet.

    The result of a row depends on the row, the model, the background, the settings and the seed. It
    does not depend on the other rows.

    Args:
        table: a DataFrame, or an array or a tensor [R,C], of the background's columns. A row that
            the background cannot read becomes an error in the results.
        out: the folder of the results; :func:`torchlime.jobs.read` reads it by the numbers of the
            rows in words, and :func:`torchlime.jobs.report.write` makes a page of it.
        model: as :meth:`torchlime.TableLime.explain` takes it.
        explainer: the settings, with the background.
        name: what the results call the model.
        weights: what tells the model from others of that name, such as a hash of its file; None =
            the hash of a network's weights, and "not known" for other models.
        source: the file that the table comes from.
        rows: the numbers of those to explain; None = all.
        labels: [R] the classes of the rows, by which the report is arranged.
        targets: the classes to explain; none = the ``top`` best of each row.
        top: how many of the best classes.
        overwrite, retry, repair, progress, say: as for :func:`torchlime.jobs.run`.

    Returns:
        How many rows were explained, and how many failed.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: there are no such rows; ``out`` was made with other settings or of another
            table (the message names the difference), holds other things, or has a damaged file.
        OSError: the folder cannot be written, or the disk is full; what was done is kept.
        RuntimeError: the model can explain none of the first rows. No result is written for these,
            so that you can correct the model or the settings.
        Exception: what the model raises; what was done is kept.

    Example:
        >>> import tempfile, torch
        >>> from torchlime import Background, jobs
        >>> data = torch.rand(40, 2, dtype=torch.float64)
        >>> explainer = TableLime(background=Background.of(data), num_samples=100)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run_table(data, out, lambda x: x[:, 0], explainer, rows=range(3))
        ...     jobs.read(out)["2"].coefficients.shape
        Summary(explained=3, failed=0, before=0, failures=0)
        torch.Size([1, 1, 2])
    """
    check_count(top, "top")
    _check_columns(table, explainer.background)
    chosen = _chosen(rows, len(table), labels)
    work = Work(table, model, explainer, tuple(targets), top, name, _weights(model, weights))
    with Store(out) as store:
        again = {one.id for one in chosen} if retry else ()
        store.begin(work.identity, source, overwrite=overwrite, retry=again, repair=repair)
        tell = say or _silent
        for path in store.aside:
            tell(f"{path.name} was damaged and was set aside; its rows are explained again")
        missing = [one for one in chosen if one.id not in store.status]
        counts, tally = {"ok": 0, "error": 0}, Tally()
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            unread = work.unread(some)
            tried = work.explained([one for one in some if one not in unread])
            if "ok" not in store.status.values():
                _check_tried(tried)
            for row in store.add([*unread.values(), *tried]):
                counts[row["status"]] += 1
                tally.add(row)
            if progress is not None:
                progress(sum(counts.values()), len(missing))
        if not store.complete():
            tell("no row could be explained again, so the results from before are kept")
        if by_rule(explainer) and tally.used:
            tell(f"the rows of this run took {tally}")
        failures = sum(store.status[one.id] == "error" for one in chosen)
    return Summary(counts["ok"], counts["error"], len(chosen) - len(missing), failures)


@dataclass(frozen=True)
class Work:
    """What turns rows of a table into rows of the dataset."""

    table: Any
    model: Any
    explainer: TableLime
    targets: tuple[int, ...]
    top: int
    name: str
    weights: str

    def unread(self, chosen: Sequence[TableRow]) -> dict[TableRow, Row]:
        """Those of the rows that the background cannot read, with their results."""
        faults = unreadable(self.explainer.background, self.table, [int(one.id) for one in chosen])
        return {one: failed(one, faults[int(one.id)]) for one in chosen if int(one.id) in faults}

    def explained(self, chosen: Sequence[TableRow]) -> list[Row]:
        """The results of rows that the background can read, in one call."""
        if not chosen:
            return []
        targets = [list(self.targets)] * len(chosen) if self.targets else None
        part = part_of(self.table, [int(one.id) for one in chosen])
        explanation = self.explainer.explain(self.model, part, targets, top=self.top).to("cpu")
        return [self._row(one, explanation[place]) for place, one in enumerate(chosen)]

    @cached_property
    def identity(self) -> dict[str, str]:
        """The settings that the results depend on, in words."""
        best = "the best" if self.top == 1 else f"the {self.top} best"
        return {
            "model": self.name,
            "weights": self.weights,
            "targets": ", ".join(map(str, self.targets)) or best,
            **counted(self._settings),
        }

    @cached_property
    def _settings(self) -> dict[str, str]:
        """The settings of the explainer, and hashes of the table and of the background."""
        settings = settings_of(self.explainer, _NOT_OF_A_ROW)
        if self.explainer.rounds == Once():
            del settings["rounds"]  # as before there were any
        background = f"{self.explainer.background!r} {_hash(self.explainer.background)}"
        return {"table": table_hash(self.table), "background": background, **settings}

    def _row(self, one: TableRow, explanation: Explanation) -> Row:
        try:
            explanation.check(sure=False)
        except RuntimeError as error:
            return failed(one, str(error))
        targets = explanation.targets[0].tolist()
        names = [printable(output_name(explanation, target)) for target in targets]
        return explained(
            one,
            explanation,
            target_names=names,
            columns=[column.name for column in self.explainer.background.columns],
            seed=self.explainer.seed,
            settings=json.dumps(self._settings),
            model=self.name,
            weights=self.weights,
            **({} if self.targets else _best(explanation, names)),
        )


def _best(explanation: Explanation, names: Sequence[str]) -> dict[str, Any]:
    """What the results say of the best class, which is the first of the targets."""
    known = explanation.unit == "probability"
    return {
        "predicted": int(explanation.targets[0, 0]),
        "predicted_name": names[0],
        "probability": explanation.scores[0, 0].item() if known else None,
    }


def _check_tried(rows: Sequence[Row]) -> None:
    """Raise where the model could explain none of its first rows: then the model is at fault."""
    if rows and all(row["status"] == "error" for row in rows):
        raise RuntimeError(
            f"the model could explain none of {len(rows)} rows; row {rows[0]['id']}: "
            f"{rows[0]['error']}"
        )


def part_of(table: Any, rows: Sequence[int]) -> Any:
    """Some rows of a DataFrame, an array or a tensor."""
    return table.iloc[list(rows)] if is_frame(table) else table[list(rows)]


def unreadable(background: Background, table: Any, rows: Sequence[int]) -> dict[int, str]:
    """Those of the rows that cannot be compared with the background, and why."""
    found = {}
    try:
        background.rows(part_of(table, rows))
    except ValueError:  # of one of the rows, at least
        for row in rows:
            try:
                background.rows(part_of(table, [row]))
            except ValueError as error:
                found[row] = in_utf8(str(error))
    return found


def _check_columns(table: Any, background: Background) -> None:
    given = [str(name) for name in table.columns] if is_frame(table) else None
    known = list(background.names)
    if table.ndim != 2 or table.shape[1] != len(known) or (
        given is not None and background.dtypes is not None and set(given) != set(known)
    ):  # fmt: skip
        names = f" ({', '.join(known[:20])})" * (background.dtypes is not None)
        raise ValueError(
            f"table must be rows of the background's {len(known)} columns{names}, got "
            f"{list(table.shape) if given is None else ', '.join(given[:20])}"
        )


def table_hash(table: Any) -> str:
    """A hash of a table's cells and of the names of its columns: 16 hexadecimal digits."""
    names = [str(name) for name in table.columns] if is_frame(table) else None
    total = blake2b(repr(names).encode("utf-8", "surrogatepass"), digest_size=8)
    cells = table.detach().cpu() if isinstance(table, Tensor) else table
    for column in np.asarray(cells, dtype=object).T:
        total.update(repr(column.tolist()).encode("utf-8", "surrogatepass"))
    return total.hexdigest()


def _hash(background: Background) -> str:
    told = repr((background.columns, background.names, background.binned))
    return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _silent(sentence: str) -> None:
    """Say nothing."""


def _weights(model: Any, weights: str | None) -> str:
    if weights is not None:
        return weights
    return weights_hash(model) if isinstance(model, nn.Module) else "not known"


def _chosen(
    rows: Sequence[int] | None, count: int, labels: Sequence[str | None] | None
) -> list[TableRow]:
    if labels is not None and len(labels) != count:
        raise ValueError(f"labels must be one for each of {count} rows, got {len(labels)}")
    numbers = list(dict.fromkeys(range(count) if rows is None else map(int, rows)))
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong or not numbers:
        which = f"no row {wrong[0]}" if wrong else "none"
        raise ValueError(f"rows must be numbers of rows, 0 to {count - 1}, and there is {which}")
    return [TableRow(str(n), None if labels is None else labels[n]) for n in numbers]
