"""The local engine: decoding in processes of their own, explaining in this one."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from torchlime.checks import check_count
from torchlime.folders import Photo
from torchlime.jobs.rows import Row
from torchlime.jobs.worker import Decode, Decoded, Work
from torchlime.models import refuse_bombs


@dataclass(frozen=True)
class Local:
    """Explain in this process, on the classifier's device.

    Args:
        workers: processes that decode; 0 = this one; None = one for two cores, at most 8.
        at_once: photos that are explained in one call, and lost if the process is killed.
    """

    workers: int | None = None
    at_once: int = 8

    def __post_init__(self) -> None:
        check_count(self.at_once, "at_once")
        if self.workers is not None:
            check_count(self.workers, "workers", least=0)

    def __call__(self, work: Work, photos: Sequence[Photo]) -> Iterator[list[Row]]:
        """The rows of the photos in their order, ``at_once`` at a time."""
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
        for decoded in loader:
            yield work.rows(decoded)


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
