"""What explain() costs over the bare forward passes of the same model.

The bare forwards take the same rows in the same chunks, dtype and memory format: those that the
model was seen to get from explain().
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import results, samples
from benchmarks.settings import Row, Settings, network, photo_batch
from benchmarks.tables import markdown, milliseconds, percent
from benchmarks.timer import Call
from torchlime import Lime

EVERY_MODEL = ("resnet18", "resnet50", "vit_b_16", "efficientnet_lite0")
CPU_MODELS = ("resnet18", "efficientnet_lite0")
CAPTION = (
    "*torchlime adds* is the time of explain() over that of the model's bare forward passes, minus"
    " one. For it, explain() is given the segments; images/s includes the segmentation. *Captured*"
    " is capture(), which also segments."
)


class Case(NamedTuple):
    precision: str
    compiled: bool = False
    batch: int = 1
    captured: bool = False
    layout: torch.memory_format = torch.channels_last  # of the weights, on a GPU


ON_CPU = (Case("float32"), Case("bfloat16 autocast"))
LARGE = 32
ON_GPU = (  # in the order of their worth
    Case("bfloat16 weights"),
    Case("bfloat16 weights", captured=True),
    Case("bfloat16 weights", compiled=True),
    Case("bfloat16 weights", compiled=True, batch=LARGE),
    Case("bfloat16 weights", batch=LARGE),
    Case("bfloat16 weights", batch=LARGE, captured=True),
    Case("float32"),
    Case("TF32"),
    Case("bfloat16 weights", batch=8),
    Case("bfloat16 autocast"),
    Case("bfloat16 weights", layout=torch.contiguous_format),
)


def run(settings: Settings) -> Iterator[Row]:
    """The rows, each when it is measured. If one cannot be measured, the others still are.

    Raises:
        RuntimeError: at the end, where rows could not be measured.
    """
    names = settings.models or (EVERY_MODEL if settings.on_gpu else CPU_MODELS)
    names, numbers = names[:1] if settings.quick else names, [128 if settings.quick else 1000]
    enough = samples.equal_evaluations(results.of_samples(settings), at=1000)
    if enough is None:
        settings.say("overhead: samples has no result, so there is no row at the N of equal error")
    failed = 0
    for case, name in ordered(ON_GPU if settings.on_gpu else ON_CPU, names):
        at_equal_error = case.compiled and case.batch > 1
        for number in numbers + ([enough] if enough and at_equal_error else []):
            settings.say(f"overhead: {name} {case} N={number}")
            try:
                row = measure(settings, name, case, number)
            except Exception:  # for example, there is no compiler
                traceback.print_exc()
                failed += 1
            else:
                yield row
    if failed:
        raise RuntimeError(f"overhead: {failed} rows could not be measured, as said above")


def ordered(cases: Sequence[Case], names: Sequence[str]) -> list[tuple[Case, str]]:
    """Case by case. Many images take minutes, so all models but the first have them at the end."""
    pairs = [(case, name) for case in cases for name in names]
    return sorted(pairs, key=lambda pair: names.index(pair[1]) if pair[0].batch == LARGE else 0)


def measure(settings: Settings, name: str, case: Case, number: int) -> Row:
    with tf32(case.precision == "TF32"):
        return measured(settings, name, case, number)


@contextlib.contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """All products of float32 in TF32; else torch's own choice, which is convolutions only."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends if wanted else ():
        backend.allow_tf32 = True
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def measured(settings: Settings, name: str, case: Case, number: int) -> Row:
    device = settings.device
    images = photo_batch(case.batch, 64 if settings.quick else 224, device)
    model = network(name, device)
    if settings.on_gpu:
        model.to(memory_format=case.layout)
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

    fast = explainer.capture(callee, images) if case.captured else None

    def forwards(times: int = calls) -> None:
        with torch.no_grad(), torch.autocast(device.type, autocast, enabled=autocast is not None):
            for _ in range(times):
                callee(chunk)

    sides: dict[str, Call] = {"explain": explain, "forwards": forwards}
    if fast is None:
        sides["segmentation"] = lambda: explainer.segmenter(images)
    else:
        sides["explain"] = lambda: fast(images)
    readings = settings.timer()(
        sides,
        # The model was warmed up when it was watched; what a compiler does is still to do.
        warm={"explain": explain, "forwards": forwards} if case.compiled else {
            "forwards": lambda: forwards(1)
        },
    )  # fmt: skip
    return {
        "model": name,
        "dtype": case.precision,
        "compiled": case.compiled,
        "captured": case.captured,
        "batch": case.batch,
        "samples": number,
        "rows": len(chunk),
        "chunks": calls,
        "channels_last": not chunk.is_contiguous(),
        "seconds": {side: reading.record() for side, reading in readings.items()},
    } | {
        f"{side}_over_forwards": readings[side].over(readings["forwards"]).record()
        for side in readings
        if side != "forwards"
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
    parts = [row["seconds"][part]["median"] for part in row["seconds"] if part != "forwards"]
    whole: float = sum(parts)
    return row["batch"] / whole


def said(row: Row) -> str:
    """What is particular about a row, after its precision; results of old have no capture."""
    kinds = {
        ", compiled": row["compiled"],
        ", captured": row.get("captured", False),
        ", channels first": row["dtype"] == "bfloat16 weights" and not row["channels_last"],
    }
    return "".join(kind for kind, is_so in kinds.items() if is_so)


def table(rows: list[Row]) -> str:
    head = ["model", "precision", "B", "N", "forwards, ms", "explain(), ms", "images/s",
            "torchlime adds", "segmentation / forwards"]  # fmt: skip
    return markdown(
        head,
        [
            [
                row["model"],
                row["dtype"] + said(row),
                row["batch"],
                row["samples"],
                milliseconds(row["seconds"]["forwards"]),
                milliseconds(row["seconds"]["explain"]),
                f"{images_per_second(row):.3g}",
                percent(row["explain_over_forwards"]),
                f"{row['segmentation_over_forwards']['median'] * 100:.2g} %"
                if "segmentation" in row["seconds"]
                else "in explain()",
            ]
            for row in rows
        ],
    )
