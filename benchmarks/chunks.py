"""What a perturbed image costs in chunks of 2 to 64, and what memory allocation has to do with it.

Each allocation is a process of its own, started with its environment; both take turns.
"""

import contextlib
import functools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.settings import Row, Settings, network, photos
from benchmarks.tables import markdown, milliseconds
from benchmarks.timer import synchroniser
from torchlime import Lime
from torchlime._labelmap import Segments
from torchlime.masks import Bernoulli
from torchlime.segments import Slic

MODELS = ("resnet18", "efficientnet_lite0")
SIZES = (2, 4, 8, 16, 32, 64)
GPU_SIZES = (32, 64, 128, 256, 512)
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
ALLOCATIONS = {"as it comes": {}, "kept": KEPT}
CAPTION = (
    "Milliseconds of `explain()` per perturbed image, by `chunk_size`. With the allocation *kept*,"
    f" `{' '.join(f'{name}={value}' for name, value in KEPT.items())}` tells glibc to give no"
    " memory back to the system, and not to map new memory for each large tensor."
)


def run(settings: Settings) -> list[Row]:
    sizes: tuple[int, ...] = GPU_SIZES if settings.on_gpu else SIZES
    if settings.quick:
        sizes = sizes[:2]
    allocations = {"as it comes": {}} if settings.on_gpu else ALLOCATIONS
    names = settings.models or MODELS
    rows = []
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(process(environment))
            for name, environment in allocations.items()
        }
        for name in names[:1] if settings.quick else names:
            for autocast in (None, torch.bfloat16):
                settings.say(f"chunks: {name} {autocast or 'float32'}")
                rows += measure(settings, processes, name, autocast, sizes)
    return rows


@contextlib.contextmanager
def process(environment: dict[str, str]) -> Iterator[Executor]:
    """A process that was started with these variables, for many calls."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        with mock.patch.dict(os.environ, environment):
            pool.submit(torch.set_num_threads, torch.get_num_threads()).result()
        yield pool


def measure(
    settings: Settings,
    processes: dict[str, Executor],
    name: str,
    autocast: torch.dtype | None,
    sizes: tuple[int, ...],
) -> list[Row]:
    samples = 2 * max(sizes)
    pixels = 64 if settings.quick else 224
    explain = partial(explain_there, str(settings.device), name, autocast, pixels, samples)

    def wait_for(pool: Executor, size: int) -> None:
        pool.submit(explain, size).result()

    readings = settings.timer()(
        {
            f"{allocation} {size}": partial(wait_for, pool, size)
            for size in sizes
            for allocation, pool in processes.items()
        }
    )
    return [
        {
            "model": name,
            "dtype": "bfloat16 autocast" if autocast else "float32",
            "allocation": allocation,
            "samples": samples,
            "chunk_size": size,
            "seconds_per_row": readings[f"{allocation} {size}"].per(samples).record(),
        }
        for allocation in processes
        for size in sizes
    ]


def explain_there(
    device: str, name: str, autocast: torch.dtype | None, pixels: int, samples: int, size: int
) -> None:
    model, image, segments = prepared(device, name, pixels)
    explainer = Lime(
        segmenter=Slic(),
        sampler=Bernoulli(),
        num_samples=samples,
        chunk_size=size,
        autocast=autocast,
    )
    explainer.explain(model, image, segments=segments)
    synchroniser(image.device)()


@functools.cache
def prepared(device: str, name: str, pixels: int) -> tuple[nn.Module, Tensor, Segments]:
    image = photos(1, pixels, torch.device(device))
    return network(name, image.device), image, Slic()(image)


def table(rows: list[Row]) -> str:
    sizes = list(dict.fromkeys(row["chunk_size"] for row in rows))
    lines: dict[tuple[str, ...], dict[int, str]] = {}
    for row in rows:
        line = lines.setdefault((row["model"], row["dtype"], row["allocation"]), {})
        line[row["chunk_size"]] = milliseconds(row["seconds_per_row"])
    return markdown(
        ["model", "precision", "allocation", *sizes],
        [[*names, *(cells[size] for size in sizes)] for names, cells in lines.items()],
    )
