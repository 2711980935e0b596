"""In a few minutes what a GPU can tell, in the order of its worth.

Every part is a process of its own with a limit, so that one that fails or hangs costs the others
nothing. Results, a log of each part and a summary are in the folder, and are written as they come.
"""

import argparse
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import source
from benchmarks.results import newest, partial, read
from benchmarks.tables import markdown

ROOT = Path(__file__).parents[1]
LEAST = 5.0  # seconds: with less there is no time for a part
MODELS = ("resnet18", "resnet50", "vit_b_16")


@dataclass(frozen=True)
class Part:
    """A command of Python.

    Args:
        name: also of its log.
        arguments: after ``python``.
        seconds: the most that it may take.
        needs: the modules that it cannot do without, and the packages that bring them.
        benchmark: whose table is shown.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float
    needs: tuple[tuple[str, str], ...] = ()
    benchmark: str | None = None


class Outcome(NamedTuple):
    """How a part went: done, failed, cut off, skipped, or no time."""

    part: Part
    state: str
    seconds: float = 0.0
    reason: str = ""


KORNIA = ("kornia", "kornia")
PYTEST = (("pytest", "pytest"), ("pytest_timeout", "pytest-timeout"))
PHOTOS = (KORNIA, ("skimage", "scikit-image"))


def parts(options: argparse.Namespace) -> list[Part]:
    """All parts for the options of the command line, or those that it names."""
    shared = ["--device", options.device or "cuda", "--out", str(options.out.resolve())]
    shared += ["--quick"] if options.quick else []
    shared += ["--commit", options.commit] if options.commit else []

    def benchmark(name: str, seconds: float, *more: str, needs: Sequence[tuple[str, str]]) -> Part:
        command = ("-m", "benchmarks", name, *shared, *more)
        return Part(name, command, seconds, tuple(needs), name)

    models = ("--models", *(options.models or MODELS))
    tests = ("-m", "pytest", "-m", "gpu", "tests/test_gpu.py", "-q", "-p", "no:cacheprovider")
    every = [
        Part("tests", tests, 120, (KORNIA, *PYTEST)),
        benchmark("kernels", 45, needs=[KORNIA]),
        benchmark("overhead", 180, *models, needs=PHOTOS),
        benchmark("superpixels", 45, needs=[*PHOTOS, ("scipy", "scipy")]),
        benchmark("versus", 90, needs=[*PHOTOS, ("lime", "lime")]),
        benchmark("stages", 60, needs=PHOTOS),
        benchmark("scale", 90, needs=PHOTOS),
    ]  # fmt: skip
    named = options.parts or [part.name for part in every]
    unknown = sorted({*named} - {part.name for part in every})
    if unknown:
        raise SystemExit(f"unknown --parts: {', '.join(unknown)}")
    return [part for part in every if part.name in named]


def run(parts: Sequence[Part], minutes: float, out: Path) -> int:
    """Run parts in their order; the exit status is 1 if one failed."""
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    outcomes: list[Outcome] = []
    for part in parts:
        print(f"{part.name}: at most {part.seconds:.0f} s", flush=True)
        outcomes.append(done(part, end - time.monotonic(), out))
        (out / "summary.md").write_text(summary(outcomes, parts, out), encoding="utf-8")
    print(summary(outcomes, parts, out))
    return int(any(outcome.state == "failed" for outcome in outcomes))


def done(part: Part, left: float, out: Path) -> Outcome:
    """Run a part for at most its time and what is left."""
    missing = [package for name, package in part.needs if not importlib.util.find_spec(name)]
    if missing:
        return Outcome(part, "skipped", reason=f"without {', '.join(missing)}")
    if left < LEAST:
        return Outcome(part, "no time")
    limit, start = min(part.seconds, left), time.monotonic()
    with (out / f"{part.name}.log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [sys.executable, "-u", *part.arguments], cwd=ROOT, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # and what it started
            child.wait()
            return Outcome(part, "cut off", limit, f"after {limit:.0f} s")
    seconds = time.monotonic() - start
    if status:
        return Outcome(part, "failed", seconds, f"exit status {status}, see {part.name}.log")
    return Outcome(part, "done", seconds)


def summary(outcomes: Sequence[Outcome], parts: Sequence[Part], out: Path) -> str:
    """How the parts went, and their tables, in Markdown."""
    lines = [[o.part.name, o.state, f"{o.seconds:.0f}", o.reason] for o in outcomes]
    lines += [[part.name, "to come", "", ""] for part in parts[len(outcomes) :]]
    texts = ["# What ran", markdown(["part", "state", "s", "why"], lines)]
    for outcome in outcomes:
        part, log = outcome.part, out / f"{outcome.part.name}.log"
        texts += tables(part.benchmark, out) if part.benchmark else []
        if log.exists() and (outcome.state in ("failed", "cut off") or not part.benchmark):
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            texts.append("\n".join([f"## The end of {log.name}", "```", *last, "```"]))
    return "\n\n".join(texts) + "\n"


def tables(name: str, out: Path) -> list[str]:
    """The table of a benchmark, also of one that was cut off."""
    found, cut = newest(name, out), partial(name, out)
    if cut.exists():
        found = [*found, read(cut)]
    module = importlib.import_module(f"benchmarks.{name}")
    texts = [f"{source(result)}\n\n{module.table(result['rows'])}" for result in found]
    return [f"## {name}", module.CAPTION, *texts] if texts else []
