"""``torchlime job-table data.csv … --out DIR``: rows of a table into the dataset of a job."""

import argparse
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

from torchlime.cli import csvs, estimating
from torchlime.cli.job import Meter, told
from torchlime.cli.loading import importable_here
from torchlime.cli.meanings import UsageError
from torchlime.cli.options import Option, add_options, each_meaning, words_of
from torchlime.cli.rows import CSV_OPTIONS, add_switches, prepared

JOB_TABLE_OPTIONS = {
    **CSV_OPTIONS,
    "rows": Option(":", csvs.rows_of,
        "which rows, from 0 for the first below the head: 0:100, or 3,7,20:30, or : for all"),
    "out": Option(None, str, "the folder of the results (parquet); an unfinished job continues"),
}  # fmt: skip
_SWITCHES = {
    "overwrite":
        "begin anew; what is in the folder is kept until the run is complete; one that was "
        "stopped goes on without --overwrite",
    "retry": "try again the rows that failed",
    "repair": "set damaged result files aside, and explain their rows again",
    "strict": "exit with 1 if any of the rows failed",
}  # fmt: skip


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "job-table", help="explain many rows of a table; a job can be restarted"
    )
    parser.add_argument("data", help="a csv file with a head")
    add_options(parser, JOB_TABLE_OPTIONS)
    for name, tells in _SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=tells)
    add_switches(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0, or 1 where rows failed and ``--strict`` was given."""
    from torchlime import jobs

    words = words_of(vars(arguments), arguments.config, JOB_TABLE_OPTIONS)
    asked = each_meaning(words, JOB_TABLE_OPTIONS)
    estimating.check(asked)
    if asked.out is None:
        raise UsageError("--out: name a folder for the results")
    with importable_here(asked.model), estimating.not_ended():
        csv, model, explainer = prepared(asked, arguments)
        categories = estimating.categories_of(model)
        meter = Meter(noun="rows")
        try:
            summary = jobs.run_table(
                csv.frame,
                asked.out,
                model,
                explainer,
                name=asked.model,
                weights=_file_hash(asked.model),
                source=arguments.data,
                rows=csvs.chosen(asked.rows, len(csv.frame)),
                labels=csv.labels,
                targets=estimating.targets_of(asked, categories),
                top=asked.top or 1,
                overwrite=arguments.overwrite,
                retry=arguments.retry,
                repair=arguments.repair,
                progress=meter,
                say=lambda sentence: print(sentence, flush=True),
            )
        except KeyboardInterrupt:
            without = " without --overwrite" * arguments.overwrite
            print(
                f"torchlime: stopped; the same command{without} continues from here",
                file=sys.stderr,
            )
            raise
        finally:
            meter.close()
    print(told(summary, asked.out))
    return 1 if arguments.strict and summary.failures else 0


def _file_hash(model: str) -> str | None:
    """A hash of a model's file; None for a model that is none."""
    if not Path(model).is_file():
        return None
    total = blake2b(digest_size=8)
    with open(model, "rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()
