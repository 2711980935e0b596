"""Successor: the rows of a new job, which stand beside the old ones until it is complete.

They lie in a folder of their own inside the job's, with a record and pictures. Its name begins with
"_", so nobody who reads the job's folder meets them. If the process is killed at any point, either
all old rows or all new rows can be read.
"""

import contextlib
import os
import shutil
from pathlib import Path

from torchlime.folders import PICTURES, RECORD
from torchlime.jobs import parts
from torchlime.jobs.record import note, record_of

NEXT = "_next"


def replace(folder: Path) -> None:
    """Let the successor's rows be those of the folder. Replacing the record decides it at once."""
    beside = folder / NEXT
    for path in beside.glob("*.parquet"):
        os.replace(path, folder / path.name)
    _sync(folder)
    note(folder, record_of(beside))
    _finish(folder)


def settle(folder: Path) -> None:
    """Finish a :func:`replace` that was killed in the middle, or undo it."""
    beside = folder / NEXT
    if beside.exists() and not (beside / RECORD).exists():
        discard(folder)
    if not beside.exists():
        return
    with contextlib.suppress(ValueError):  # the record is damaged: others report that
        generation = record_of(beside).generation
        if record_of(folder).generation == generation:
            _finish(folder)
            return
        for part in parts.parts_in(folder):
            if part.generation == generation:
                os.replace(part.path, beside / part.path.name)


def discard(folder: Path) -> None:
    """Remove the successor, its record first: without a record, the rest does not count."""
    (folder / NEXT / RECORD).unlink(missing_ok=True)
    if (folder / NEXT).exists():
        shutil.rmtree(folder / NEXT)


def remove_others(folder: Path, generation: int) -> None:
    """Remove the parts of other generations, and before them the pictures of earlier ones.

    New pictures are written only after that. So as long as such parts exist, all pictures are
    theirs.
    """
    others = [part for part in parts.parts_in(folder) if part.generation != generation]
    if any(part.generation < generation for part in others):
        for path in filter(Path.is_file, (folder / PICTURES).rglob("*.png")):
            path.unlink()
    for part in others:
        part.path.unlink()


def _finish(folder: Path) -> None:
    """Remove what was there before the record was replaced, and bring the new pictures."""
    remove_others(folder, record_of(folder).generation)
    if (folder / NEXT / PICTURES).exists():
        if (folder / PICTURES).exists():
            shutil.rmtree(folder / PICTURES)
        os.replace(folder / NEXT / PICTURES, folder / PICTURES)
    discard(folder)


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk, where the system allows it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
