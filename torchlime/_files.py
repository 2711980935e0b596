"""Files that are read: regular ones alone, of a bounded size."""

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_file(path: str | os.PathLike[str], noun: str, most: int | None = None) -> int:
    """The size in bytes of a regular file, or of the one that a link leads to.

    A pipe or a device is refused before it is opened: reading it may never end.

    Args:
        path: of the file.
        noun: what the file should be, for the sentence: "image", "configuration".
        most: bytes; None takes any size.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        ValueError: it is a pipe, a socket or a device, or has more than ``most`` bytes.
    """
    a = "an" if noun[0] in "aeiou" else "a"
    try:
        found = os.stat(path)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # none, or a link in a circle, or no name at all
        raise FileNotFoundError(f"there is no {noun} {os.fspath(path)}") from error
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{os.fspath(path)} is a folder, not {a} {noun}")
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise ValueError(
            f"{os.fspath(path)} is {kind}, not {a} {noun}: copy its content to a file first"
        )
    if most is not None and found.st_size > most:
        raise ValueError(
            f"{os.fspath(path)} has {found.st_size} bytes, more than the {most} of {a} {noun}"
        )
    return found.st_size


def bytes_of(path: str | os.PathLike[str], noun: str, most: int) -> bytes:
    """What is in a regular file of at most ``most`` bytes.

    No more is read than the size that the system names, so that a file of /proc, whose size is
    named as 0, is empty.

    Raises:
        OSError, ValueError: as :func:`check_file` raises them; or the file cannot be read.
    """
    size = check_file(path, noun, most)
    with Path(path).open("rb") as file:
        return file.read(size)
