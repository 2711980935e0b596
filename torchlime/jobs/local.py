"""The local engine: decoding in processes of their own, explaining in this one."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from torchlime._checks import check_count
from torchlime.folders import Photo
from torchlime.jobs.rows import Row
from torchlime.jobs.worker import Decode, Decoded, Work
from torchlime.models import refuse_bombs

_SECONDS_OF_A_CALL = 5.0


@dataclass(frozen=True)
class Local:
    """Explain in this process, on the classifier's device.

    Args:
        workers: processes that decode; 0 = this one; None = one for two cores, at most 8.
        at_once: photos that are explained in one call at most; fewer where that would take more
            than some five seconds. They are lost if the process is killed.
    """

    workers: int | None = None
    at_once: int = 8

    def __post_init__(self) -> None:
        check_count(self.at_once, "at_once")
        if self.workers is not None:
            check_count(self.workers, "workers", least=0)

    def __call__(self, work: Work, photos: Sequence[Photo]) -> Generator[list[Row]]:
        """The rows of the photos in their order, a call's at a time."""
        workers = self.workers
        if workers is None:
            workers = min(8, max(1, (os.cpu_count() or 1) // 2), len(photos))
        loader: DataLoader[Any] = DataLoader(  # of list[Decoded]
            _Photos(photos, work.decode),
            batch_size=self.at_once,
            num_workers=workers,
            collate_fn=list,
            worker_init_fn=_settle,
            generator=torch.Generator(),  # else it would draw from the global one
        )
        size = 1  # of a call, until it is known how long one takes
        for decoded in loader:
            while decoded:
                start = time.monotonic()
                rows = work.rows(decoded[:size])
                seconds = time.monotonic() - start
                yield rows
                count = sum(one.pixels is not None for one in decoded[:size])
                decoded = decoded[size:]
                if count:  # a photo that cannot be read takes no time
                    fitting = int(_SECONDS_OF_A_CALL * count / max(seconds, 1e-9))
                    size = max(1, min(self.at_once, fitting))


class _Photos(Dataset[Decoded]):
    def __init__(self, photos: Sequence[Photo], decode: Decode) -> None:
        self.photos = photos
        self.decode = decode

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Decoded:
        return self.decode(self.photos[index])


def _settle(worker: int) -> None:
    """In a process that decodes: bombs are errors, and an interrupt is the parent's to handle."""
    refuse_bombs()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """Leave when the parent was killed: else this process would wait for ever to hand over pixels
    that nobody reads, and keep its memory and the files that it inherited."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    while os.getppid() == parent.pid:
        time.sleep(1)
    os._exit(1)
