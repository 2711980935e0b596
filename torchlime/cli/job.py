"""Jobs: ``torchlime job photos/ --out cats/``."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import torch

from torchlime.cli.loading import loaded, targets_of
from torchlime.cli.options import (
    OPTIONS,
    Option,
    UsageError,
    add_options,
    count,
    explainer_of,
    meaning_of,
    words_of,
)

if TYPE_CHECKING:
    from torchlime.jobs import Summary

_OF_ONE_PHOTO = ("strongest", "out", "save", "max-side")

JOB_OPTIONS = {
    "label": Option(None, str,
        "only photos/LABEL/…, and explain the category of that name if the model has one"),
    **{name: option for name, option in OPTIONS.items() if name not in _OF_ONE_PHOTO},
    "target": Option([], str,
        "explain this class, an index or a category's name; repeatable", many=True),
    "top": Option(None, count(1), "explain the TOP best classes (default: the best)"),
    "out": Option(None, str, "the folder of the results, parquet files; taken up where it stands"),
    "workers": Option(None, count(0), "processes that decode (default: one for two cores)"),
}  # fmt: skip
_SWITCHES = {
    "pictures": "draw the overlays too, as PNG files",
    "overwrite": "begin anew, whatever is in the folder",
    "retry": "try again the photos that failed",
    "strict": "exit with 1 if any of the photos failed",
}


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """The parser of the command."""
    job = commands.add_parser("job", help="explain a folder of photos, restartable")
    job.add_argument("folder", help="photos/<class>/…, or photos/… flat")
    add_options(job, JOB_OPTIONS)
    for name, tells in _SWITCHES.items():
        job.add_argument(f"--{name}", action="store_true", help=tells)
    job.add_argument("--config", help="a TOML file with these options; flags override it")
    return [job]


def run(arguments: argparse.Namespace) -> int:
    """``torchlime job``: exit code 0, or 1 where photos failed and ``--strict`` was given."""
    from torchlime import jobs

    words = words_of(vars(arguments), arguments.config, JOB_OPTIONS)
    asked = meaning_of(words, JOB_OPTIONS)
    if asked.out is None:
        raise UsageError("--out: name a folder for the results")
    torch.manual_seed(asked.seed)  # so that random weights are the same in every run
    with loaded(asked) as classifier:
        meter = Meter()
        try:
            summary = jobs.run(
                arguments.folder,
                asked.out,
                classifier,
                explainer_of(asked),
                model=asked.model,
                label=asked.label,
                targets=targets_of(asked, classifier),
                top=asked.top or 1,
                engine=jobs.Local(asked.workers),
                **{name: getattr(arguments, name) for name in ("pictures", "overwrite", "retry")},
                progress=meter,
                say=lambda sentence: print(sentence, flush=True),
            )
        except KeyboardInterrupt:
            print("torchlime: stopped; the same command goes on from here", file=sys.stderr)
            raise
        finally:
            meter.close()
    print(_told(summary, asked.out))
    return 1 if arguments.strict and summary.failures else 0


def _told(summary: "Summary", out: str) -> str:
    there = f"; {summary.before} were there already" if summary.before else ""
    failed = f"; {summary.failures} could not be explained, their rows say why"
    return f"{summary.explained} explained{there}{failed * bool(summary.failures)}; wrote {out}"


@dataclass
class Meter:
    """Photos done, photos a second and the time left: on one line of a terminal, or now and then.

    Args:
        stream: where it is told.
        clock: seconds.
        every: seconds between two lines where the stream is no terminal.
    """

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    every: float = 30.0

    def __post_init__(self) -> None:
        self.start = self.told = self.clock()
        self.live = self.stream.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Tell, if it is time to."""
        now = self.clock()
        if not self.live and now - self.told < self.every:
            return
        self.told = now
        rate = done / max(now - self.start, 1e-9)
        left = duration((total - done) / rate)
        text = f"{done} of {total} photos, {rate:.3g} images/s, {left} left"
        self.stream.write(f"\r\x1b[K{text}" if self.live else f"torchlime: {text}\n")
        self.stream.flush()

    def close(self) -> None:
        """Leave the terminal's line empty."""
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()


def duration(seconds: float) -> str:
    """
    >>> duration(42), duration(60 * 7 + 5), duration(3600 * 30)
    ('42 s', '7 min', '30 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
