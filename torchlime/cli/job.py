"""Jobs: ``torchlime job photos/ --out cats/`` and ``torchlime report cats/ --out cats.html``."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import torch

import torchlime
from torchlime.cli.loading import loaded, targets_of
from torchlime.cli.meanings import UsageError, choice, count
from torchlime.cli.options import (
    OPTIONS,
    Option,
    add_options,
    each_meaning,
    explainer_of,
    limits_of,
    marks_of,
    meaning_of,
    words_of,
)

if TYPE_CHECKING:
    from torchlime.jobs import Engine, Summary

_OF_ONE_PHOTO = ("page", "strongest", "out", "save", "max-side")

JOB_OPTIONS = {
    "label": Option(None, str,
        "only photos/LABEL/…, and explain the category of that name"),
    **{name: option for name, option in OPTIONS.items() if name not in _OF_ONE_PHOTO},
    "target": Option([], str,
        "explain this class, an index or a category's name; repeatable", many=True),
    "top": Option(None, count(1), "explain the TOP best classes (default: the best)"),
    "out": Option(None, str, "the folder of the results (parquet); an unfinished job continues"),
    "engine": Option("local", choice("local", "ray"), "local, or ray: on many machines"),
    "workers": Option(None, count(0),
        "processes: with local, those that decode (default: one for two cores, at most two for a "
        "core); with ray, those that explain (default: one for each GPU, or one for four cores)"),
    "address": Option(None, str, "the address of a Ray cluster (default: Ray on this machine)"),
}  # fmt: skip
_LIMITS = {name: OPTIONS[name] for name in ("max-seconds", "max-pixels", "max-memory")}
_SWITCHES = {
    "any-class": "explain the best class of each photo where the model has no category LABEL",
    "pictures": "draw the overlays too, as PNG files",
    "overwrite":
        "begin anew; what is in the folder is kept until the run is complete; one that was "
        "stopped goes on without --overwrite",
    "retry": "try again the photos that failed",
    "repair": "set damaged result files aside, and explain their photos again",
    "strict": "exit with 1 if any of the photos failed",
}  # fmt: skip


_OF_A_RUN = ("any_class", "pictures", "overwrite", "retry", "repair")


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """The parsers of both commands."""
    job = commands.add_parser("job", help="explain a folder of photos; a job can be restarted")
    job.add_argument("folder", help="photos/<class>/…, or photos/… flat")
    add_options(job, JOB_OPTIONS)
    for name, tells in _SWITCHES.items():
        job.add_argument(f"--{name}", action="store_true", help=tells)
    job.add_argument("--config", help="a TOML file with these options; flags override it")
    page = commands.add_parser("report", help="one page with the pictures of a job")
    page.add_argument("folder", help="the folder that a job wrote")
    page.add_argument("--out", required=True, help="the page, an .html file")
    page.add_argument("--most", default="50", help="pictures of a class (default: 50)")
    add_options(page, _LIMITS)
    return [job, page]


def run(arguments: argparse.Namespace) -> int:
    """``torchlime job``: exit code 0, or 1 where photos failed and ``--strict`` was given."""
    from torchlime import jobs

    words = words_of(vars(arguments), arguments.config, JOB_OPTIONS)
    asked = meaning_of(words, JOB_OPTIONS)
    if asked.out is None:
        raise UsageError("--out: name a folder for the results")
    if asked.address is not None and asked.engine != "ray":
        raise UsageError("--address: goes with --engine ray")
    if arguments.any_class and asked.label is None:
        raise UsageError("--any-class goes with --label")
    if asked.top is not None and asked.label is not None:
        raise UsageError("--top and --label exclude each other: a label's category is explained")
    torch.manual_seed(asked.seed)  # so that random weights are the same in every run
    engine, marks, explainer = _engine(asked), marks_of(asked), _explainer(asked, arguments)
    with loaded(asked) as classifier:
        meter = Meter()
        try:
            summary = jobs.run(
                arguments.folder,
                asked.out,
                classifier,
                explainer,
                model=asked.model,
                label=asked.label,
                targets=targets_of(asked, classifier),
                top=asked.top or 1,
                marks=marks,
                engine=engine,
                **{name: getattr(arguments, name) for name in _OF_A_RUN},
                limits=limits_of(asked),
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


def _explainer(
    asked: argparse.Namespace, arguments: argparse.Namespace
) -> torchlime.Lime | torchlime.Rise:
    """The settings; a job that was begun with a number of samples goes on if no other is named."""
    from torchlime.jobs.earlier import as_begun

    explainer = explainer_of(asked)
    named = asked.given & {"samples", "until", "most-samples", "method"}
    if named or arguments.overwrite or not isinstance(explainer, torchlime.Lime):
        return explainer
    return as_begun(asked.out, explainer, print)


def _engine(asked: argparse.Namespace) -> "Engine":
    from torchlime import jobs

    if asked.engine == "local":
        return jobs.Local(asked.workers)
    from torchlime.jobs.cluster import Ray

    return Ray(asked.workers, address=asked.address)


def told(summary: "Summary", out: str) -> str:
    """What a job says at its end."""
    there = f"; {summary.before} were there already" if summary.before else ""
    failed = f"; {summary.failures} could not be explained, their rows say why"
    return f"{summary.explained} explained{there}{failed * bool(summary.failures)}; wrote {out}"


def report(arguments: argparse.Namespace) -> int:
    """``torchlime report``."""
    from torchlime.jobs.report import write

    try:
        most = count(1)(arguments.most)
    except ValueError as error:
        raise UsageError(f"--most: {error}") from error
    limits = limits_of(each_meaning(words_of(vars(arguments), None, _LIMITS), _LIMITS))
    write(arguments.folder, arguments.out, most, limits)
    print(f"wrote {arguments.out}")
    return 0


@dataclass
class Meter:
    """Shows photos done, photos a second and the time left, on one line or now and then a new one.

    Args:
        stream: where it is written; on a terminal, always on the same line.
        clock: gives seconds.
        every: seconds between two lines where the stream is not a terminal.
        noun: what is counted.
    """

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    every: float = 30.0
    noun: str = "photos"

    def __post_init__(self) -> None:
        self.start = self.told = self.clock()
        self.live = self.stream.isatty()
        self._each = "images" if self.noun == "photos" else self.noun

    def __call__(self, done: int, total: int) -> None:
        """Write, if it is time to."""
        now = self.clock()
        if not self.live and now - self.told < self.every:
            return
        self.told = now
        rate = done / max(now - self.start, 1e-9)
        left = duration((total - done) / rate)
        text = f"{done} of {total} {self.noun}, {rate:.3g} {self._each}/s, {left} left"
        self.stream.write(f"\r\x1b[K{text}" if self.live else f"torchlime: {text}\n")
        self.stream.flush()

    def close(self) -> None:
        """Clear the terminal's line."""
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
