"""Kernels counted as ``launches`` does, beside what a profiler sees of the same call on the device.

A few operators launch several kernels, and a copy is none: so the numbers differ, and this says by
how much. Of a captured call the host launches graphs. Without a GPU there is the count alone.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.launches import counted
from benchmarks.settings import Row, Settings
from benchmarks.tables import markdown
from torchlime import Lime

LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch")  # …Kernel, …KernelExC, …KernelEx
CAPTION = (
    "Default settings and N samples. The model is a single operator, which is counted with the"
    " rest. *Operators* are counted as *launches* counts them. Kernels and copies are those that"
    " the device ran. *Launches* are those of the host."
)


def run(settings: Settings) -> Iterator[Row]:
    number, size = (16, 32) if settings.quick else (512, 224)
    explainer = Lime(num_samples=number)
    batches = (1,) if settings.quick else (1, 8, 32)
    for kind in ("eager", "captured"):  # eager is first, since a capture may fail
        for batch in batches:
            settings.say(f"kernels: {kind} B={batch}")
            images = torch.rand(batch, 3, size, size, device=settings.device)
            call: Any = partial(explainer.explain, mean)
            if kind == "captured":
                call = explainer.capture(mean, images)
            yield {
                "call": kind, "batch": batch, "samples": number, "dtype": "float32",
                "operators": operators(explainer, batch, size),
            } | (profiled(partial(call, images)) if settings.on_gpu else {})  # fmt: skip


def mean(images: Tensor) -> Tensor:
    """The model."""
    return images.mean((2, 3))


@cache
def operators(explainer: Lime, batch: int, size: int) -> int:
    """How many operators an eager call has, with those of the model."""
    launches = counted(
        lambda: explainer.explain(mean, torch.empty(batch, 3, size, size, device="cuda"))
    )
    return launches.kernels.total()


def profiled(call: Callable[[], object]) -> dict[str, int]:
    """Kernels, copies and launches of the host in a call."""
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    return of_events([(str(e.device_type()).rpartition(".")[2], e.name())
                      for e in seen.profiler.kineto_results.events()])  # fmt: skip


def of_events(events: list[tuple[str, str]]) -> dict[str, int]:
    """
    >>> host = [("CPU", "cudaLaunchKernel"), ("CPU", "cuLaunchKernelEx"), ("CPU", "aten::add")]
    >>> of_events([*host, ("CUDA", "add"), ("CUDA", "gemm"), ("CUDA", "Memcpy DtoD")])
    {'kernels': 2, 'copies': 1, 'launches': 2}
    """
    device = [name for kind, name in events if kind == "CUDA"]
    copies = sum(name.startswith(("Memcpy", "Memset")) for name in device)
    launches = sum(kind == "CPU" and name.startswith(LAUNCHES) for kind, name in events)
    return {"kernels": len(device) - copies, "copies": copies, "launches": launches}


def table(rows: list[Row]) -> str:
    names = ("call", "batch", "samples", "operators", "kernels", "copies", "launches")
    head = ["call", "B", "N", *names[3:]]
    return markdown(head, [[row.get(name, "–") for name in names] for row in rows])
