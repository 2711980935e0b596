"""The local engine: separate processes decode, and this process explains."""

import contextlib
import itertools
import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from torchlime._checks import check_count
from torchlime.folders import PhotoFile
from torchlime.jobs.decoders import Decoded, Decoders
from torchlime.jobs.rows import Row
from torchlime.jobs.worker import Work

_SECONDS_OF_A_CALL = 5.0
_PROCESSES_OF_A_CORE = 2  # at most; this helps where photos come slowly, as over a network


@dataclass(frozen=True)
class Local:
    """Explain in this process, on the classifier's device.

    Args:
        workers: processes that decode, at most two for a core; None = one for two cores, at most 8;
            0 = this process decodes, except photos that are not surely cheap to decode.
        at_once: the most photos that one call explains. A call takes fewer where it would last more
            than about five seconds. Its photos are lost if the process is killed.
    """

    workers: int | None = None
    at_once: int = 8

    def __post_init__(self) -> None:
        check_count(self.at_once, "at_once")
        if self.workers is not None:
            check_count(self.workers, "workers", least=0)

    def __call__(self, work: Work, photos: Sequence[PhotoFile]) -> Generator[list[Row]]:
        """The rows of the photos in their order, those of one call at a time."""
        size = 1  # the first call, which shows how long a photo takes
        with contextlib.closing(self._decoded(work, photos)) as every:
            while decoded := list(itertools.islice(every, self.at_once)):
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

    def _decoded(self, work: Work, photos: Sequence[PhotoFile]) -> Generator[Decoded]:
        """The photos' pixels, in their order."""
        count = processes(self.workers, len(photos), os.cpu_count() or 1)
        if count == 0:
            yield from map(work.decode, photos)
            return
        with Decoders(work.decode, count) as decoders:
            yield from decoders(photos, ahead=self.at_once + count)


def processes(asked: int | None, photos: int, cores: int) -> int:
    """The number of processes that decode: at most one for each photo and two for each core.

    >>> processes(None, 1000, cores=16), processes(99_999_999, 1000, cores=16)
    (8, 32)
    """
    if asked is None:
        asked = min(8, max(1, cores // 2))
    return min(asked, photos, _PROCESSES_OF_A_CORE * cores)
