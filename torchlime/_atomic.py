"""Files that are written wholly or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file under a temporary name in the folder of ``path``, renamed to it at the end.

    So a reader never meets half a file, and what stood there is kept when writing fails.

    Raises:
        OSError: the file cannot be written there; the message names ``path``.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        reason = f"cannot write the file: {error.strerror or error}"
        raise OSError(error.errno or 0, reason, os.fspath(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
