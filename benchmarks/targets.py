"""What is asked of torchlime, beside what the committed results say."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import overhead, samples
from benchmarks.curves import times
from benchmarks.designs import BERNOULLI, LIMES, STREAM
from benchmarks.results import OF_ANY_HARDWARE, newest, newest_rows
from benchmarks.samples import select
from benchmarks.settings import Row
from benchmarks.tables import markdown, percent

CAPTION = "What is asked of torchlime, beside the newest of the results below."
Rows = Callable[[str], list[Row]]  # of a benchmark, on one kind of device


class Target(NamedTuple):
    what: str
    asked: str
    measured: Callable[[Rows], str]  # raises LookupError or StopIteration where it was not


def adds(**case: object) -> Callable[[Rows], str]:
    def measured(rows: Rows) -> str:
        row = select(rows("overhead"), samples=1000, batch=1, **case)[0]
        return percent(row["explain_over_forwards"])

    return measured


def speed(**case: object) -> Callable[[Rows], str]:
    return lambda rows: f"{images_per_second(rows, **case):.3g} images/s"


def images_per_second(rows: Rows, **case: object) -> float:
    row = select(rows("overhead"), model="resnet18", **COMPILED, **case)[0]
    return overhead.images_per_second(row)


def batch_over_single(rows: Rows) -> str:
    of = {size: images_per_second(rows, samples=1000, batch=size) for size in (1, 32)}
    return f"{of[32] / of[1]:.2f} times the images/s"


def speed_at_equal_error(rows: Rows) -> str:
    number = samples.equal_evaluations(rows("samples"), at=1000)
    return f"N = {number}: {speed(samples=number, batch=32)(rows)}"


def evaluations(theirs: str) -> Callable[[Rows], str]:
    """How many masks a design needs for the error of 256 of the stream, divided by 256."""

    def measured(rows: Rows) -> str:
        found = rows("samples")
        parts = []
        for output in samples.OUTPUTS:
            stream, other = (samples.curves(found, output, d) for d in (STREAM, theirs))
            parts.append(f"{times(256, stream, other)} ({output})")
        return ", ".join(parts)

    return measured


def peak_memory(rows: Rows) -> str:
    ratio = next(row["bytes_over_fewest"] for row in rows("scale") if "bytes_over_fewest" in row)
    return f"{round(ratio * 100 - 100, 1) + 0.0:+.1f} %"


def beside_slic(*rivals: str) -> Callable[[Rows], str]:
    def measured(rows: Rows) -> str:
        found = {row["implementation"]: row for row in select(rows("superpixels"), num_segments=50)}
        parts = [
            f"{name}: {found[name]['over_slic']['median']:.2f} of Slic's time, EV"
            f" {found[name]['explained_variation']:.3f}"
            for name in rivals
        ]
        return "; ".join([*parts, f"Slic: EV {found['Slic']['explained_variation']:.3f}"])

    return measured


def of_a_batch(kind: str) -> Callable[[Rows], str]:
    def measured(rows: Rows) -> str:
        name = f"Slic, B = 32{kind}"
        row = select(rows("superpixels"), num_segments=50, implementation=name)[0]
        return f"{row['seconds_per_image']['median'] * row['images'] * 1e3:.2f} ms"

    return measured


COMPILED = {"dtype": "bfloat16 weights", "compiled": True}
ON_CPU = (
    Target("explain() over the forwards, resnet18, N = 1000, float32", "≤ +5 %",
           adds(model="resnet18", dtype="float32")),
    Target("the same in bfloat16", "≤ +15 %", adds(model="resnet18", dtype="bfloat16 autocast")),
    Target("peak memory, N = 16 384 over N = 1000", "≤ +5 %", peak_memory),
    Target("lime's masks for the error of 256 of the default design, over 256", "≥ 2",
           evaluations(LIMES)),
    Target("the same of Bernoulli masks, with the unmasked image beside both", "≥ 2",
           evaluations(BERNOULLI)),
    Target("Slic at 224², 50 segments", "no slower than scikit-image, better quality",
           beside_slic("scikit-image", "scikit-image, as many")),
    Target("and its distance to fast-slic", "stated", beside_slic("fast-slic")),
)  # fmt: skip
ON_GPU = (
    Target("explain() over the forwards, resnet18, compiled, bfloat16, N = 1000", "≤ +10 %",
           adds(model="resnet18", **COMPILED)),
    *(Target(f"the same of {model}", "≤ +5 %", adds(model=model, **COMPILED))
      for model in ("resnet50", "vit_b_16")),
    Target("B = 32 in one call", "no worse than B = 1", batch_over_single),
    Target("Slic, B = 32, captured", "≤ 3 ms", of_a_batch(", captured")),
    Target("Slic, B = 32, eager", "≤ 6 ms", of_a_batch("")),
    Target("resnet18, 1000 samples of one photo", "≥ 16.7 images/s (60 ms)",
           speed(samples=1000, batch=1)),
    Target("resnet18, 1000 samples, B = 32", "≥ 20 images/s",
           speed(samples=1000, batch=32)),
    Target("resnet18, B = 32, at as many masks of the default design as err no more than 1000 of"
           " lime's", "≥ 80 images/s", speed_at_equal_error),
)  # fmt: skip


def table(results: Path) -> str:
    lines = []
    for device, targets in (("CPU", ON_CPU), ("GPU", ON_GPU)):
        rows = partial(rows_of, results, device == "GPU")
        for target in targets:
            try:
                measured = target.measured(rows)
            except (LookupError, StopIteration):
                measured = "not measured"
            lines.append([device, target.what, target.asked, measured])
    return markdown(["on a", "what", "asked", "measured"], lines)


def rows_of(results: Path, on_gpu: bool, name: str) -> list[Row]:
    """Of the newest version; of errors, which are no times, on any device."""
    found = [
        result
        for result in newest(name, results)
        if name in OF_ANY_HARDWARE or bool(result["hardware"]["gpu"]) == on_gpu
    ]
    if not found:
        raise LookupError(name)
    return newest_rows(found)
