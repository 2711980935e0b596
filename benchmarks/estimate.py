"""What a photo costs on an H100, on paper: an estimate until somebody measures it.

Kernels and bytes outside the model are those of the committed ``launches``; the operations of a
forward pass are counted by torch on the device "meta". What a GPU does with them is assumed from
its data sheet, so nothing here is a time that was measured.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import rows
from benchmarks.samples import select
from benchmarks.settings import Row
from benchmarks.tables import digits, markdown

MODELS = ("resnet18", "resnet50", "vit_b_16")
BATCHES = (1, 32)
SAMPLES = 1000
# NVIDIA H100 Tensor Core GPU data sheet, H100 SXM, without sparsity.
BANDWIDTH = 3.35e12  # bytes a second
DENSE = {"bf16": 989e12, "TF32": 494e12}  # operations a second
USED = 0.4  # of those that a network reaches: assumed
LAUNCH = (4e-6, 8e-6)  # seconds of the host for a kernel, eager: assumed
KERNEL = 2e-6  # seconds of the device for a kernel of a graph, however little it does: assumed
CORE = 100  # photos that a core of the host decodes a second: assumed
GPUS = 8  # of a node
CAPTION = (
    "**An estimate, not a measurement.** It is for the default settings at N = 1000, 224² and one"
    " H100 SXM. NVIDIA's H100 Tensor Core GPU data sheet gives 3.35 TB/s, and 989 (bf16) and 494"
    " (TF32) TFLOPS without sparsity. It is assumed that a network reaches 40 % of those TFLOPS,"
    " that a launch costs the host 4 to 8 µs, that a kernel of a graph takes the device 2 µs,"
    " however little it does, and that a core decodes 100 photos a second. Outside the model, a"
    " photo takes the time of its launches or that of its bytes, whichever is longer, while the"
    " model waits. A captured call still launches the kernels that make and score the rows of each"
    " chunk; it is shown for 8 µs."
)


class Cost(NamedTuple):
    """Seconds for one photo."""

    forwards: float
    launches: tuple[float, float]
    bytes: float
    captured_launches: float  # of the loop, and the kernels of the graphs

    @property
    def captured(self) -> float:
        return max(self.captured_launches, self.bytes)

    @property
    def outside(self) -> tuple[float, float]:
        low, high = (max(seconds, self.bytes) for seconds in self.launches)
        return low, high

    @property
    def photos(self) -> tuple[float, float]:
        """A second on one GPU, at dear and at cheap launches."""
        low, high = self.outside
        return 1 / (self.forwards + high), 1 / (self.forwards + low)


@cache
def operations(model: str) -> int:
    """Of a forward pass of one image of 224²: a multiplication and an addition are two."""
    import torchvision

    # In train mode, since in eval mode attention is one operator that nobody counts.
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        torchvision.models.get_model(model).train()(torch.empty(2, 3, 224, 224))
    return counter.get_total_flops() // 2


def cost(launches: Row, model: str, precision: str) -> Cost:
    """Of a photo, by a row of ``launches`` of B photos."""
    batch, kernels = launches["batch"], sum(launches["kernels"].values())
    low, high = (kernels * each / batch for each in LAUNCH)
    seconds = launches["samples"] * operations(model) / (USED * DENSE[precision])
    loop = sum(launches["kernels"].get(stage, 0) for stage in ("rows", "scores"))
    captured = loop * LAUNCH[1] + (kernels - loop) * KERNEL
    moved = sum(launches["bytes"].values())
    return Cost(seconds, (low, high), moved / BANDWIDTH / batch, captured / batch)


def table(results: Path) -> str:
    counted = select(rows("launches", results), what="default", samples=SAMPLES)
    of = {row["batch"]: row for row in counted}
    if not all(batch in of for batch in BATCHES):
        return "*Not counted.*"
    return "\n\n".join([_table(of), *_sentences(of)])


def _table(of: dict[int, Row]) -> str:
    head = ["model", "GFLOP a row", "precision", "B", "forwards, ms", "launches, ms", "bytes, ms",
            "outside, of the whole", "captured", "photos/s"]  # fmt: skip
    return markdown(head, _lines(of))


def _lines(of: dict[int, Row]) -> Iterator[list[object]]:
    for model in MODELS:
        for precision in DENSE:
            for batch in BATCHES:
                one = cost(of[batch], model, precision)
                parts = [
                    100 * part / (part + one.forwards) for part in (*one.outside, one.captured)
                ]
                low, high = one.photos
                yield [
                    model, digits(operations(model) / 1e9), precision, batch,
                    digits(one.forwards * 1e3), between(*(s * 1e3 for s in one.launches)),
                    digits(one.bytes * 1e3), f"{between(*parts[:2])} %", f"{digits(parts[2])} %",
                    between(low, high),
                ]  # fmt: skip


def _sentences(of: dict[int, Row]) -> Iterator[str]:
    kernels = {batch: sum(row["kernels"].values()) for batch, row in of.items()}
    single, many = (of[batch] for batch in BATCHES)
    ends = [bound_until(single, many, each) for each in LAUNCH]
    yield (
        f"Launches: {kernels[1]} kernels for one photo and {kernels[32]} for 32. They take longer"
        f" than the bytes up to about B = {between(*ends)}; more photos in one call, or a capture,"
        " help until then, and no longer."
    )
    most = max(cost(of[32], model, "bf16").photos[1] for model in MODELS)
    yield (
        f"Several GPUs: photos do not know each other, so GPUs exchange nothing. A node of {GPUS}"
        f" explains at most {digits(GPUS * most)} photos a second (the smallest model, bf16,"
        f" B = 32), which {digits(GPUS * most / CORE)} cores decode; with fewer cores a job is"
        " decode-bound, and no further GPU makes it faster. Nodes share only the storage."
    )


def bound_until(single: Row, many: Row, launch: float) -> float:
    """The B from which bytes take longer than launches, both linear in B between two rows."""
    first, last = float(single["batch"]), float(many["batch"])
    spare = [
        sum(row["kernels"].values()) * launch - sum(row["bytes"].values()) / BANDWIDTH
        for row in (single, many)
    ]
    if spare[0] <= 0:
        return first
    slope = (spare[0] - spare[1]) / (last - first)
    return first + spare[0] / slope if slope > 0 else float("inf")


def between(low: float, high: float) -> str:
    """
    >>> between(3.14159, 6.28), between(2.0, 2.0)
    ('3.14 to 6.28', '2')
    """
    texts = digits(low), digits(high)
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)
