"""Peak memory of a call, above what was held before it."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import torch

STATUS = Path("/proc/self/status")
FORGET_PEAK = Path("/proc/self/clear_refs")
Prepare = Callable[[], tuple[Callable[[], object], Callable[[], object]]]


def peak_memory(device: torch.device, prepare: Prepare) -> int:
    """Bytes that a call takes at most: on a GPU the allocator's, else a fresh process's.

    ``prepare()`` gives (warm up, call). It must pickle, a module's function or a partial of one,
    since another process imports and runs it.
    """
    if device.type == "cuda":
        return _on_gpu(device, *prepare())
    # glibc else keeps what was freed, more or less of it from run to run.
    unmap_what_is_freed = mock.patch.dict(os.environ, MALLOC_MMAP_THRESHOLD_="65536")
    context = multiprocessing.get_context("spawn")
    with unmap_what_is_freed, ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_on_cpu, torch.get_num_threads(), prepare).result()


def _on_gpu(device: torch.device, warm_up: Callable[[], object], call: Callable[[], object]) -> int:
    warm_up()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(threads: int, prepare: Prepare) -> int:
    torch.set_num_threads(threads)
    warm_up, call = prepare()
    warm_up()
    if FORGET_PEAK.exists():
        FORGET_PEAK.write_text("5")
    before = resident()
    call()
    return _peak() - before


def resident() -> int:
    """Bytes that this process holds now; without /proc, the most that it ever held."""
    return _status("VmRSS")


def _peak() -> int:
    """The most memory that this process ever held.

    Not getrusage where there is another way: after fork and exec, Linux starts its maximum at
    what the parent held.
    """
    if STATUS.exists():
        return _status("VmHWM")
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(field: str) -> int:
    """Bytes of a field of /proc/self/status; without that file, the peak so far."""
    if not STATUS.exists():
        return _peak()
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
