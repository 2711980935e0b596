"""Lock: a job's folder has one writer, among all processes and their threads."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOCK = "_lock"

_HELD: set[tuple[int, int]] = set()  # folders, by device and inode
_HELD_LOCK = threading.Lock()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers from a folder.

    A file lock, which ends with this process, keeps out other processes. A list keeps out other
    threads. A process has at most one lock on a file. If it opens the file twice, it loses the lock
    when it closes one of the two. So the file is not opened twice.

    Raises:
        OSError: another job writes there; or the lock cannot be written.
    """
    found = os.stat(folder)
    key = found.st_dev, found.st_ino
    with _HELD_LOCK:
        if key in _HELD:
            raise OSError(f"another job is writing to {folder}")
        _HELD.add(key)
    try:
        with _lock(folder / LOCK):
            yield
    finally:
        with _HELD_LOCK:
            _HELD.discard(key)


def _lock(path: Path) -> BinaryIO:
    """The file at ``path``, locked until it is closed or the process ends in any way."""
    file = path.open("ab")
    with contextlib.suppress(ImportError):  # on systems other than Unix
        import fcntl

        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.close()
            raise OSError(f"another job is writing to {path.parent}") from error
        except OSError:  # a file system without locks
            pass
    return file
