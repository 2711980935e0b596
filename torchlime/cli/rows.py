"""Rows: ``torchlime explain-table data.csv …`` turns rows of a table into lines and files."""

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchlime.cli import csvs, estimating
from torchlime.cli.csvs import Csv
from torchlime.cli.explaining import complain, progress_of
from torchlime.cli.loading import importable_here
from torchlime.cli.meanings import MOST_ROWS, count
from torchlime.cli.numbers import class_name, line_of, named_numbers_of
from torchlime.cli.options import (
    ROUNDS_OPTIONS,
    Option,
    add_options,
    each_meaning,
    record_of,
    rounds_of,
    words_of,
)
from torchlime.cli.outputs import Folder
from torchlime.jobs.tables import unreadable

if TYPE_CHECKING:
    from torchlime.explanation import Explanation
    from torchlime.tables import TableLime

ROWS_AT_ONCE = 256  # are explained in one call and drawn before the next

CSV_OPTIONS = {
    **estimating.MODEL_OPTIONS,
    "background": Option(None, str,
        "a csv file of training data, with which rows are compared (default: the table)"),
    "target-column": Option(None, str,
        "the column of the table that is the label; the model does not get it"),
    "drop": Option([], str, "a column that the model does not get; repeatable", many=True),
    "categorical": Option([], str,
        "a column whose numbers have no order; repeatable (default: those of at most ten whole "
        "numbers; columns of words always are)", many=True),
    "bins": Option("quartiles", estimating.KINDS,
        "of numbers: quartiles, deciles, entropy (needs --target-column) or none"),
    "separator": Option(",", csvs.separator, "the sign between values in the csv files, or tab"),
    "samples": Option(5000, count(2, MOST_ROWS),
        "rows drawn from the background, the same number for every row: what rows of a table need "
        "was not measured, so that only --until draws by need"),
    **ROUNDS_OPTIONS,
}  # fmt: skip
TABLE_OPTIONS = {
    **CSV_OPTIONS,
    "rows": Option("0:10", csvs.rows_of,
        "which rows, from 0 for the first below the head: 0:100, or 3,7,20:30, or : for all"),
    "strongest": dataclasses.replace(estimating.STRONGEST, help="bins that are listed and drawn"),
    "out": Option("explanations", str, "the folder of pictures, explanations and settings"),
}  # fmt: skip
FRAMES = "the model takes DataFrames; without this, functions and networks take tensors [n,columns]"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "explain-table", help="explain what a model makes of rows of a table"
    )
    parser.add_argument("data", help="a csv file with a head")
    add_options(parser, TABLE_OPTIONS)
    add_switches(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document, no text")
    return parser


def add_switches(parser: argparse.ArgumentParser) -> None:
    """The flags without a value, and the configuration file."""
    parser.add_argument("--trust", action="store_true", help=estimating.TRUST)
    parser.add_argument("--frames", action="store_true", help=FRAMES)
    parser.add_argument("--config", help="a TOML file with these options; flags override it")


def explain(arguments: argparse.Namespace) -> dict[str, Any]:
    """Explain the rows; return the document that ``--json`` prints."""
    words = words_of(vars(arguments), arguments.config, TABLE_OPTIONS)
    asked = each_meaning(words, TABLE_OPTIONS)
    estimating.check(asked)
    folder = Folder(asked.out, csvs.beside(asked, arguments.data))
    with importable_here(asked.model):
        csv, model, explainer = prepared(asked, arguments)
        rows = csvs.chosen(asked.rows, len(csv.frame))
        targets = estimating.targets_of(asked, estimating.categories_of(model))
        switches = {"trust": arguments.trust, "frames": arguments.frames}
        settings = {"data": arguments.data, **record_of(words, asked, TABLE_OPTIONS), **switches}
        record = told(explainer, settings)
        job = _Job(asked, explainer, model, csv, targets, folder, record, arguments.debug)
        results: list[dict[str, Any]] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            for result in job.run(rows[start : start + ROWS_AT_ONCE]):
                results.append(result)
                if not arguments.json and "error" not in result:
                    print("\n".join(_lines(result)))
    if not arguments.json and any("error" not in result for result in results):
        print(f"wrote {folder.path}")
    return {**record, "rows": results}


def prepared(
    asked: argparse.Namespace, arguments: argparse.Namespace
) -> "tuple[Csv, Any, TableLime]":
    """The table, the model and the settings that were asked for, which fit each other."""
    from torchlime.tables import TableLime

    csv = csvs.read(asked, arguments.data)
    model = estimating.loaded(asked, arguments.trust)
    estimating.categories_of(model)  # says it where the model has no probabilities
    csvs.check_model(csv, model)
    explainer = TableLime(
        background=csv.background,
        num_samples=asked.samples,
        rounds=rounds_of(asked),
        frames=csvs.takes_frames(csv, model, arguments.frames),
        seed=asked.seed,
    )
    return csv, model, explainer


def told(explainer: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the files of a call say of how they were made."""
    import torchlime
    from torchlime.jobs.identity import described

    return {
        "torchlime": torchlime.__version__,
        "settings": dict(settings),
        "explainer": described(explainer),
    }


def written(
    explanation: "Explanation", record: Mapping[str, Any], folder: Folder, stem: str
) -> str:
    """Save an explanation with the settings of the call; return the name of its file."""
    path = folder.file(stem, "npz")
    settings = {**explanation.settings, "command": json.dumps(record["settings"])}
    dataclasses.replace(explanation, settings=settings).save(path)
    return str(path)


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    label = "" if result.get("label") is None else f" ({result['label']})"
    for target in result["targets"]:
        yield f"row {result['row']}{label}: {line_of(result, target)}"


@dataclass
class _Job:
    """All that the rows of a call have in common."""

    asked: argparse.Namespace
    explainer: "TableLime"
    model: Any
    csv: Csv
    targets: list[int]
    folder: Folder
    record: Mapping[str, Any]
    debug: bool

    def run(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """A result for each row, in order: its explanation in numbers, or its error."""
        faults = unreadable(self.csv.background, self.csv.frame, rows)
        results = {row: self._failed(row, ValueError(fault)) for row, fault in faults.items()}
        good = [row for row in rows if row not in faults]
        if good:
            with progress_of(f"{len(good)} rows") as progress, estimating.not_ended():
                explanation = self.explainer.explain(
                    self.model, self.csv.frame.iloc[good],
                    estimating.for_each(self.targets, len(good)),
                    top=self.asked.top or 1, progress=progress,
                ).to("cpu")  # fmt: skip
            for place, row in enumerate(good):
                results[row] = self._result(row, explanation[place])
        return [results[row] for row in rows]

    def _result(self, row: int, explanation: "Explanation") -> dict[str, Any]:
        try:
            explanation.check(sure=False)
        except RuntimeError as error:
            return self._failed(row, error)
        return self._write(row, explanation)

    def _failed(self, row: int, error: Exception) -> dict[str, Any]:
        return {"row": row, "error": complain(error, f"row {row}", debug=self.debug)}

    def _write(self, row: int, explanation: "Explanation") -> dict[str, Any]:
        """Write the files of a row; return its explanation in numbers."""
        from torchlime import plot
        from torchlime._atomic import whole_file

        label = None if self.csv.labels is None else self.csv.labels[row]
        result = {
            "row": row,
            "label": label,
            "values": self.csv.values(row),
            **named_numbers_of(explanation, self.asked.strongest),
        }
        stem = f"row-{row}"
        result["saved"] = written(explanation, self.record, self.folder, stem)
        for target in result["targets"]:
            name = target["name"] if len(result["targets"]) > 1 else ""
            picture = self.folder.file(stem, name, "png")
            drawn = plot.bars(
                explanation,
                target["index"],
                top=self.asked.strongest,
                name=class_name(target["category"]),
            )
            plot.save_png(drawn, picture)
            target["picture"] = str(picture)
            with whole_file(self.folder.file(stem, name, "json")) as file:
                document = {**self.record, **result, "targets": [target]}
                file.write(json.dumps(document, indent=1, allow_nan=False).encode())
        return result
