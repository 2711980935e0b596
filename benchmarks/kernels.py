"""What launches counts, beside what a profiler sees of the same call on the device.

A few operators launch several kernels, and a copy is none: so the numbers differ, and this says by
how much. Of a captured call the host launches graphs. Without a GPU there is the count alone.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.launches import counted, explain
from benchmarks.settings import Row, Settings
from benchmarks.tables import markdown
from torchlime import Lime

LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC", "cudaGraphLaunch")
CAPTION = (
    "Default settings and N samples. The model is a single operator, which is counted with the"
    " rest. *Operators* are those that *launches* counts. Kernels and copies are those that the"
    " device ran. *Launches* are those of the host."
)


def run(settings: Settings) -> Iterator[Row]:
    number, size = (16, 32) if settings.quick else (512, 224)
    explainer = Lime(num_samples=number)
    for batch in (1,) if settings.quick else (1, 8, 32):
        settings.say(f"kernels: B={batch}")
        row = {"batch": batch, "samples": number, "dtype": "float32"}
        launches = counted(partial(explain, explainer, batch, size))
        row["operators"] = sum(launches.kernels.values())
        images = torch.rand(batch, 3, size, size, device=settings.device)
        fast = explainer.capture(_mean, images)
        for kind, call in {
            "eager": partial(explainer.explain, _mean, images),
            "captured": partial(fast, images),
        }.items():
            yield row | {"call": kind} | (profiled(call) if settings.on_gpu else {})


def _mean(images: Any) -> Any:
    return images.mean((2, 3))


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
    >>> of_events([("CPU", "cudaLaunchKernel"), ("CUDA", "add"), ("CUDA", "Memcpy DtoD")])
    {'kernels': 1, 'copies': 1, 'launches': 1}
    """
    device = [name for kind, name in events if kind == "CUDA"]
    copies = sum(name.startswith(("Memcpy", "Memset")) for name in device)
    launches = sum(kind == "CPU" and name in LAUNCHES for kind, name in events)
    return {"kernels": len(device) - copies, "copies": copies, "launches": launches}


def table(rows: list[Row]) -> str:
    names = ("call", "batch", "samples", "operators", "kernels", "copies", "launches")
    head = ["call", "B", "N", *names[3:]]
    return markdown(head, [[row.get(name, "–") for name in names] for row in rows])
