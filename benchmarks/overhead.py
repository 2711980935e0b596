"""What explain() costs over the bare forward passes of the same model.

The bare forwards take the same rows in the same chunks, dtype and memory format: those that the
model was seen to get from explain().
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import results, samples
from benchmarks.settings import Row, Settings, network, photo_batch
from benchmarks.tables import markdown, milliseconds, percent
from torchlime import Lime

EVERY_MODEL = ("resnet18", "resnet50", "vit_b_16", "efficientnet_lite0")
CPU_MODELS = ("resnet18", "efficientnet_lite0")
CAPTION = (
    "Ratio minus one is what torchlime adds to the model's bare forward passes. explain() is given"
    " the segments; images/s is with segmentation."
)


class Case(NamedTuple):
    precision: str
    compiled: bool = False
    batch: int = 1


ON_CPU = (Case("float32"), Case("bfloat16 autocast"))
ON_GPU = (
    Case("float32"),
    Case("bfloat16 autocast"),
    Case("bfloat16 weights"),
    Case("bfloat16 weights", compiled=True),
    Case("bfloat16 weights", compiled=True, batch=32),
)


def run(settings: Settings) -> list[Row]:
    names = settings.models or (EVERY_MODEL if settings.on_gpu else CPU_MODELS)
    numbers = [128 if settings.quick else 1000]
    enough = samples.equal_evaluations(results.of_samples(settings), at=1000)
    if enough is None:
        settings.say("overhead: of samples there is no result, so no row at the N of equal error")
    rows = []
    for name in names[:1] if settings.quick else names:
        for case in ON_GPU if settings.on_gpu else ON_CPU:
            for number in numbers + ([enough] if enough and case.batch > 1 else []):
                settings.say(f"overhead: {name} {case} N={number}")
                rows.append(measure(settings, name, case, number))
    return rows


def measure(settings: Settings, name: str, case: Case, number: int) -> Row:
    device = settings.device
    images = photo_batch(case.batch, 64 if settings.quick else 224, device)
    model = network(name, device)
    if case.precision == "bfloat16 weights":
        model.bfloat16()
    autocast = torch.bfloat16 if case.precision == "bfloat16 autocast" else None
    explainer = Lime(num_samples=number, autocast=autocast)
    segments = explainer.segmenter(images)
    chunk, calls = seen(model, lambda: explainer.explain(model, images, segments=segments))
    callee: Any = model
    if case.compiled:
        torch.compiler.reset()  # else the shapes of all cases count towards its limit
        callee = torch.compile(model, dynamic=False)

    def explain() -> None:
        explainer.explain(callee, images, segments=segments)

    def forwards(times: int = calls) -> None:
        with torch.no_grad(), torch.autocast(device.type, autocast, enabled=autocast is not None):
            for _ in range(times):
                callee(chunk)

    readings = settings.timer()(
        {
            "explain": explain,
            "forwards": forwards,
            "segmentation": lambda: explainer.segmenter(images),
        },
        # The model was warmed up when it was watched; what a compiler does is still to do.
        warm={"explain": explain, "forwards": forwards} if case.compiled else {
            "forwards": lambda: forwards(1)
        },
    )  # fmt: skip
    return {
        "model": name,
        "dtype": case.precision,
        "compiled": case.compiled,
        "batch": case.batch,
        "samples": number,
        "rows": len(chunk),
        "chunks": calls,
        "channels_last": not chunk.is_contiguous(),
        "seconds": {side: reading.record() for side, reading in readings.items()},
        "explain_over_forwards": readings["explain"].over(readings["forwards"]).record(),
        "segmentation_over_forwards": (
            readings["segmentation"].over(readings["forwards"]).record()
        ),
    }


def seen(model: nn.Module, call: Callable[[], object]) -> tuple[Tensor, int]:
    """The first chunk that ``model`` gets during ``call``, and how many it gets."""
    chunks: list[Tensor] = []
    count = 0

    def watch(module: nn.Module, arguments: tuple[Tensor]) -> None:
        nonlocal count
        count += 1
        if not chunks:
            chunks.append(arguments[0].clone())

    handle = model.register_forward_pre_hook(watch)
    try:
        call()
    finally:
        handle.remove()
    return chunks[0], count


def images_per_second(row: Row) -> float:
    whole: float = sum(row["seconds"][part]["median"] for part in ("explain", "segmentation"))
    return row["batch"] / whole


def table(rows: list[Row]) -> str:
    head = ["model", "precision", "B", "N", "forwards, ms", "explain(), ms", "images/s",
            "torchlime adds", "segmentation / forwards"]  # fmt: skip
    return markdown(
        head,
        [
            [
                row["model"],
                row["dtype"] + (", compiled" if row["compiled"] else ""),
                row["batch"],
                row["samples"],
                milliseconds(row["seconds"]["forwards"]),
                milliseconds(row["seconds"]["explain"]),
                f"{images_per_second(row):.3g}",
                percent(row["explain_over_forwards"]),
                f"{row['segmentation_over_forwards']['median'] * 100:.2g} %",
            ]
            for row in rows
        ],
    )
