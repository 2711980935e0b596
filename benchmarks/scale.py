"""Time and peak memory against N, S, B and the image size, one of them varied at a time.

The first rows are peak memory with ResNet-18 at many samples and at few. For the others, the
network is an average and a small matrix, so that torchlime's own part shows.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.memory import peak_memory
from benchmarks.settings import Row, Settings, network, photo_batch
from benchmarks.tables import markdown, mebibytes, milliseconds
from torchlime import Lime
from torchlime.masks import Bernoulli
from torchlime.segments import Slic

BASE = {"samples": 1024, "segments": 50, "batch": 1, "size": 224}
AXES = {
    "samples": (128, 512, 1024, 4096, 16384),
    "segments": (25, 50, 100, 200, 400),
    "batch": (1, 8, 32, 64),
    "size": (64, 128, 224, 512, 1024),
}
QUICK_BASE = {"samples": 16, "segments": 4, "batch": 1, "size": 32}
QUICK_AXES = {"batch": (2,)}
CAPTION = (
    "Peak memory is what explain() takes above what was held before it. *Aside* is the same"
    " without masks [B,N,S], scores and weights [B,N]."
)
Calls = tuple[Callable[[], object], Callable[[], object]]


def run(settings: Settings) -> Iterator[Row]:
    """The rows, each when it is measured."""
    base, axes = (QUICK_BASE, QUICK_AXES) if settings.quick else (BASE, AXES)
    settings.say("scale: resnet18")
    # In bfloat16, forward passes take half as long on a CPU.
    few, most = (
        memory(settings, "samples", "resnet18", autocast=True, **(base | {"samples": samples}))
        for samples in ((16, 64) if settings.quick else (1000, 16384))
    )
    yield most | {"bytes_over_fewest": most["bytes_aside"] / few["bytes_aside"]}
    yield few
    for axis, values in axes.items():
        for value in values:
            settings.say(f"scale: {axis} {value}")
            yield measure(settings, axis, "average", **(base | {axis: value}))


def measure(settings: Settings, axis: str, model: str, **sizes: int) -> Row:
    _, explain = prepare(str(settings.device), model, autocast=False, **sizes)
    reading = settings.timer()({"explain": explain})["explain"]
    row = memory(settings, axis, model, autocast=False, **sizes)
    return row | {"seconds": reading.record()}


def memory(settings: Settings, axis: str, model: str, *, autocast: bool, **sizes: int) -> Row:
    call = partial(prepare, str(settings.device), model, autocast=autocast, **sizes)
    taken = peak_memory(settings.device, call)
    kept = sizes["batch"] * sizes["samples"] * (sizes["segments"] + 8 + 8)
    return sizes | {
        "axis": axis,
        "model": model,
        "dtype": "bfloat16 autocast" if autocast else "float32",
        "peak_bytes": taken,
        "bytes_aside": taken - kept,
    }


def prepare(
    device: str, model: str, *, autocast: bool, samples: int, segments: int, batch: int, size: int
) -> Calls:
    """(warm up, explain): the first on one image and few samples."""
    on = torch.device(device)
    images = photo_batch(batch, size, on)
    callee = average(on) if model == "average" else network(model, on)
    settings: dict[str, Any] = {
        "segmenter": Slic(segments),
        "autocast": torch.bfloat16 if autocast else None,
    }
    few = Lime(num_samples=4, sampler=Bernoulli(), **settings)
    explainer = Lime(num_samples=samples, **settings)
    return (
        lambda: few.explain(callee, images[:1]),
        lambda: explainer.explain(callee, images),
    )


def average(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
    return layers.to(device).eval()


def table(rows: list[Row]) -> str:
    head = ["varied", "model", "N", "S", "B", "size", "ms", "peak, MiB", "aside, MiB", "ratio"]
    return markdown(
        head,
        [
            [
                row["axis"],
                row["model"],
                row["samples"],
                row["segments"],
                row["batch"],
                f"{row['size']}²",
                milliseconds(row["seconds"]) if "seconds" in row else "",
                mebibytes(row["peak_bytes"]),
                mebibytes(row["bytes_aside"]),
                f"{row['bytes_over_fewest']:.3f}" if "bytes_over_fewest" in row else "",
            ]
            for row in rows
        ],
    )
