"""Files that are written wholly or not at all."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_OLD = 60.0  # seconds; an older file that no process holds is left over


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file under a temporary name in the folder of ``path``, renamed to it at the end.

    A reader never meets half a file. If writing fails, the old file is kept.

    Raises:
        OSError: the file cannot be written there; the message names ``path``. An error inside the
            ``with`` that names another file is raised unchanged.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            _hold(file)
            yield file
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, os.fspath(temporary)):
            raise
        reason = f"cannot write the file: {error.strerror or error}"
        raise OSError(error.errno or 0, reason, os.fspath(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def is_temporary(path: Path) -> bool:
    """Whether this is a temporary file of :func:`whole_file`."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.part", path.name) is not None


def sweep(folder: Path) -> None:
    """Remove the files that killed processes left half written; files being written stay."""
    with contextlib.suppress(OSError):
        for path in filter(is_temporary, folder.iterdir()):
            with contextlib.suppress(OSError), path.open("rb+") as file:
                if path.stat().st_mtime < time.time() - _OLD and _hold(file):
                    path.unlink()


def _hold(file: BinaryIO) -> bool:
    """Lock a file until it is closed or the process ends; return whether nobody else holds it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # another system, or a file system without locks
        pass
    return True
