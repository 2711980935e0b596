"""Successor: the rows of a job that is done anew, beside those before it until it is complete.

They lie in a folder of their own inside the job's, with a record and pictures. Its name begins with
"_", so nobody who reads the job's folder meets them; a kill at any point leaves the rows of one of
the two to be read, all of them.
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
    """Let the successor's rows be those of the folder: at once, when the record is replaced."""
    beside = folder / NEXT
    for path in beside.glob("*.parquet"):
        os.replace(path, folder / path.name)
    _sync(folder)
    note(folder, record_of(beside))
    _finish(folder)


def settle(folder: Path) -> None:
    """Bring to an end what a kill in the middle of :func:`replace` left, or take it back."""
    beside = folder / NEXT
    if beside.exists() and not (beside / RECORD).exists():
        discard(folder)
    if not beside.exists():
        return
    with contextlib.suppress(ValueError):  # of a damaged record, which others tell of
        generation = record_of(beside).generation
        if record_of(folder).generation == generation:
            _finish(folder)
            return
        for part in parts.parts_in(folder):
            if part.generation == generation:
                os.replace(part.path, beside / part.path.name)


def discard(folder: Path) -> None:
    """Remove the successor, its record first: without one, the rest is nothing."""
    (folder / NEXT / RECORD).unlink(missing_ok=True)
    if (folder / NEXT).exists():
        shutil.rmtree(folder / NEXT)


def remove_others(folder: Path, generation: int) -> None:
    """Remove the parts of other generations; before those of earlier ones, their pictures.

    New pictures come after that: so while there are such parts, all pictures are theirs.
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
    """Let the names in a folder stand on the disk, where the system can be told so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
