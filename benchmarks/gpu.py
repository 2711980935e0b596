"""What a GPU can tell in a few minutes, the most useful first.

Every part is a process of its own with a limit, so a part that fails or hangs costs the others
nothing. The limit is the part's share of the time that is left, so the time that a part does not
use goes to the parts after it. Results, a log of each part and a summary are in the folder, and are
written as they come.
"""

import argparse
import contextlib
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import source
from benchmarks.results import keep, newest, partial, read
from benchmarks.tables import markdown
from torchlime._atomic import whole_file

ROOT = Path(__file__).parents[1]
TOLD = ("failed", "cut off", "interrupted")  # states of which the summary shows the log's end
LEAST = 5.0  # seconds: with less there is no time for a part
GRACE = 5.0  # seconds that a part has to end by itself, before it is killed
MODELS = ("resnet18", "resnet50", "vit_b_16")

Modules = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Part:
    """A command of Python.

    Args:
        name: also of its log.
        arguments: after ``python``.
        share: of the time that is left, in proportion to the shares of the parts that follow.
        needs: the modules that it cannot do without, and the packages that bring them.
        wants: the modules without which a few rows or tests are missing, and their packages.
        benchmark: whose table is shown.
    """

    name: str
    arguments: tuple[str, ...]
    share: float
    needs: Modules = ()
    wants: Modules = ()
    benchmark: str | None = None


class Outcome(NamedTuple):
    """How a part went: done, failed, cut off, interrupted, skipped, or no time."""

    part: Part
    state: str
    seconds: float = 0.0
    reason: str = ""
    signal: int = 0  # that asked the run to end


PYTEST = (("pytest", "pytest"), ("pytest_timeout", "pytest-timeout"))
PHOTOS = (("skimage", "scikit-image"),)
BLUR = (("kornia", "kornia"), ("kornia_rs", "kornia-rs"))
OTHERS = (*PHOTOS, ("hypothesis", "hypothesis"), ("PIL", "pillow"))  # of tests in several files


def parts(options: argparse.Namespace) -> list[Part]:
    """All parts for the options of the command line, or those that it names."""
    shared = ["--device", options.device, "--out", str(options.out.resolve())]
    shared += ["--quick"] if options.quick else []
    shared += ["--commit", options.commit] if options.commit else []

    def benchmark(name: str, share: float, *more: str, needs: Modules, wants: Modules = ()) -> Part:
        command = ("-m", "benchmarks", name, *shared, *more)
        return Part(name, command, share, needs, wants, name)

    models = ("--models", *(options.models or MODELS))
    every = [
        Part("tests", tests(), 110, PYTEST, (*BLUR, *OTHERS)),
        benchmark("kernels", 40, needs=()),
        benchmark("overhead", 210, *models, needs=PHOTOS),
        benchmark("superpixels", 40, needs=(*PHOTOS, ("scipy", "scipy")),
                  wants=(("fast_slic", "fast-slic"),)),
        benchmark("versus", 70, needs=(*PHOTOS, ("lime", "lime")), wants=(("captum", "captum"),)),
        benchmark("stages", 35, needs=(*PHOTOS, *BLUR)),
        benchmark("scale", 35, needs=PHOTOS),
    ]  # fmt: skip
    named = options.parts or [part.name for part in every]
    unknown = sorted({*named} - {part.name for part in every})
    if unknown:
        raise SystemExit(f"unknown --parts: {', '.join(unknown)}")
    return [part for part in every if part.name in named]


def tests() -> tuple[str, ...]:
    """The command of all tests that need a GPU.

    Only the files that have such tests are collected: to collect all files takes a minute, and
    many import packages that a GPU machine lacks. If a file cannot be imported, the others run.
    """
    files = [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob("tests/**/test_*.py"))
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]
    options = ("--continue-on-collection-errors", "--timeout", "60", "-p", "no:cacheprovider")
    return ("-m", "pytest", "-v", "-m", "gpu", *options, *files)


class Interrupted(BaseException):
    """A signal asked the run to end; ``args`` has its number."""


def run(parts: Sequence[Part], minutes: float, out: Path) -> int:
    """Run parts in their order; the exit status is 1 if one failed, 128 + n after signal n."""
    end, status = time.monotonic() + 60 * minutes - GRACE, 0
    outcomes: list[Outcome] = []
    with interruptible():
        try:
            write_summary(outcomes, parts, out)
            for place, part in enumerate(parts):
                limit = share_of(end - time.monotonic(), parts[place:])
                print(f"{part.name}: at most {limit:.0f} s", flush=True)
                outcomes.append(done(part, limit, out))
                if part.benchmark and outcomes[-1].state in TOLD:
                    keep(part.benchmark, out)
                if outcomes[-1].signal:
                    break
                write_summary(outcomes, parts, out)
        except Interrupted as error:  # between two parts
            status = 128 + error.args[0]
    write_summary(outcomes, parts, out)
    print(summary(outcomes, parts, out))
    if outcomes and outcomes[-1].signal:
        status = 128 + outcomes[-1].signal
    return status or int(any(outcome.state == "failed" for outcome in outcomes))


def write_summary(outcomes: Sequence[Outcome], parts: Sequence[Part], out: Path) -> None:
    """Write the summary so far; exit with a sentence where the folder cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with whole_file(out / "summary.md") as file:
            file.write(summary(outcomes, parts, out).encode())
    except OSError as error:
        raise SystemExit(f"--out {out} cannot be written: {error}") from error


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise :class:`Interrupted` inside."""

    def interrupt(number: int, _: object) -> None:
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def share_of(seconds: float, parts: Sequence[Part]) -> float:
    """How many of the seconds that are left for all parts the first part may take."""
    rest = sum(part.share for part in parts[1:] if not without(part.needs))
    return seconds * parts[0].share / (parts[0].share + rest)


def without(modules: Modules) -> str:
    """The packages that are not installed, as a reason; empty if none is missing."""
    missing = [package for name, package in modules if not importlib.util.find_spec(name)]
    return f"without {', '.join(missing)}" if missing else ""


def done(part: Part, limit: float, out: Path) -> Outcome:
    """Run a part for at most ``limit`` seconds."""
    if reason := without(part.needs):
        return Outcome(part, "skipped", reason=reason)
    if limit < LEAST:
        return Outcome(part, "no time")
    start = time.monotonic()
    with (out / f"{part.name}.log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [sys.executable, "-u", *part.arguments], cwd=ROOT, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            stop(child)
            return Outcome(part, "cut off", limit, f"after {limit:.0f} s")
        except Interrupted as error:
            stop(child)
            number, seconds = error.args[0], time.monotonic() - start
            return Outcome(
                part, "interrupted", seconds, f"by {signal.Signals(number).name}", number
            )
    seconds = time.monotonic() - start
    if status:
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return Outcome(part, "failed", seconds, f"{how}, see {part.name}.log")
    return Outcome(part, "done", seconds, without(part.wants))


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a part to end, so that pytest can report failures; then kill it and what it started."""
    try:
        child.send_signal(signal.SIGINT)
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def summary(outcomes: Sequence[Outcome], parts: Sequence[Part], out: Path) -> str:
    """How the parts went, and their tables, in Markdown."""
    lines = [[o.part.name, o.state, f"{o.seconds:.0f}", o.reason] for o in outcomes]
    lines += [[part.name, "to come", "", ""] for part in parts[len(outcomes) :]]
    texts = ["# What ran", markdown(["part", "state", "s", "why"], lines)]
    for outcome in outcomes:
        part, log = outcome.part, out / f"{outcome.part.name}.log"
        texts += tables(part.benchmark, out) if part.benchmark else []
        if log.exists() and (outcome.state in TOLD or not part.benchmark):
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            texts.append("\n".join([f"## The end of {log.name}", "```", *last, "```"]))
    return "\n\n".join(texts) + "\n"


def tables(name: str, out: Path) -> list[str]:
    """The table of a benchmark, also of one that was cut off; or why there is none."""
    try:
        found, cut = newest(name, out), partial(name, out)
        if cut.exists():
            found = [*found, read(cut)]
        if not found:
            return []
        module = importlib.import_module(f"benchmarks.{name}")
        texts = [f"{source(result)}\n\n{module.table(result['rows'])}" for result in found]
    except Exception as error:  # the other parts' tables are not lost with this one
        return [f"## {name}", f"There is no table: {type(error).__name__}: {error}"]
    return [f"## {name}", module.CAPTION, *texts]
