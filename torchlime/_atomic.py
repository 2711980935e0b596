"""Files that are written wholly or not at all."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_OLD = 60.0  # seconds after which what nobody holds is nobody's


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file under a temporary name in the folder of ``path``, renamed to it at the end.

    So a reader never meets half a file, and what stood there is kept when writing fails.

    Raises:
        OSError: the file cannot be written there; the message names ``path``. An error inside that
            names another file is that file's, and stays as it is.
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
    """Whether this is what :func:`whole_file` writes to."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.part", path.name) is not None


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; what is being written stays."""
    with contextlib.suppress(OSError):
        for path in filter(is_temporary, folder.iterdir()):
            with contextlib.suppress(OSError), path.open("rb+") as file:
                if path.stat().st_mtime < time.time() - _OLD and _hold(file):
                    path.unlink()


def _hold(file: BinaryIO) -> bool:
    """Lock a file until it is closed or the process ends; whether nobody else holds it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # another system, or a file system without locks
        pass
    return True
