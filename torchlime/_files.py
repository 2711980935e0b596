"""Reading files: only regular ones, of a bounded size."""

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
    """The size in bytes of a regular file; links are followed.

    A pipe or a device is refused before it is opened, because reading it may never end.

    Args:
        path: the path of the file.
        noun: what the error message calls the file: "image", "configuration".
        most: the most bytes; None takes any size.

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
    except (OSError, ValueError) as error:  # no file, a circle of links, or no valid name
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
    """The content of a regular file of at most ``most`` bytes.

    It reads no more than the size that the system reports. For a file of /proc this is 0, so the
    content is empty.

    Raises:
        OSError, ValueError: as :func:`check_file` raises them; or the file cannot be read.
    """
    size = check_file(path, noun, most)
    with Path(path).open("rb") as file:
        return file.read(size)
