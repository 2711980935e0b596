"""Five rows for the main README, from the committed results."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.samples import select
from benchmarks.settings import Row
from benchmarks.tables import markdown
from benchmarks.targets import Rows, adds, rows_of

CAPTION = "Medians on an AMD EPYC with two cores. Nothing was measured on a GPU."


class Line(NamedTuple):
    what: str
    case: str
    measured: Callable[[Rows], str]  # raises LookupError where it was not


def _row(rows: list[Row], **case: object) -> Row:
    return select(rows, **case)[0]


def _over(benchmark: str, ratio: str, **case: object) -> Callable[[Rows], str]:
    """A median of ratios."""
    return lambda rows: f"{_row(rows(benchmark), **case)[ratio]['median']:.2f}"


LINES = (
    Line("what explain() adds to the bare forward passes", "ResNet-18, N = 1000, float32",
         adds(model="resnet18", dtype="float32")),
    Line("lime's time over torchlime's", "ResNet-18, N = 512",
         _over("versus", "over_torchlime", implementation="lime, batch_size 10")),
    Line("Captum's time over torchlime's", "ResNet-18, N = 512, 64 images a call",
         _over("versus", "over_torchlime",
               implementation="Captum, perturbations_per_eval 64")),
    Line("the time of a loop over scikit-learn, over torchlime's", "100 vectors, a random forest",
         _over("vectors", "loop_over", implementation="torchlime, the estimator",
               model="random forest", batch=100)),
    Line("fast-slic's time over Slic's: a loss", "50 segments at 224²",
         _over("superpixels", "over_slic", implementation="fast-slic", num_segments=50)),
)  # fmt: skip


def table(results: Path) -> str:
    rows = partial(rows_of, results, False)
    lines = []
    for line in LINES:
        try:
            measured = line.measured(rows)
        except LookupError:
            measured = "not measured"
        lines.append([line.what, line.case, measured])
    return markdown(["what", "case", "measured"], lines)
