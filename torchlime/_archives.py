"""Archives: the memory that an .npz file would take, from its headers, before it is inflated."""

import io
import math
import os
import struct
import zipfile
from typing import BinaryIO

import numpy as np

from torchlime._errors import first_line
from torchlime._files import check_file

MOST_BYTES = 2**30
_MOST_ARRAYS = 1000
_LONGEST_HEADER = 10_000  # bytes, as in NumPy, which inflates it all before it looks
_HEADERS = {
    (1, 0): (np.lib.format.read_array_header_1_0, struct.Struct("<H")),
    (2, 0): (np.lib.format.read_array_header_2_0, struct.Struct("<I")),
}


def check_archive(
    file: str | os.PathLike[str] | BinaryIO, noun: str = "archive", most: int = MOST_BYTES
) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """The shapes and types of the arrays in an .npz file. No array is read.

    A kilobyte of a file may stand for a megabyte of zeros, and an array's header may claim any
    shape. This checks that both agree and stay within ``most``, so ``numpy.load`` takes no more.

    Args:
        file: a path, or an open file, whose position is kept.
        noun: what the error message calls the file: "explanation".
        most: bytes of all arrays together.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        ValueError: the file is not regular or not an archive of arrays, it holds objects, it is
            larger than ``most``, or an array is not as large as its header says.

    Example:
        >>> import io
        >>> buffer = io.BytesIO()
        >>> np.savez_compressed(buffer, zeros=np.zeros(2**20))
        >>> len(buffer.getvalue()) < 10_000, check_archive(buffer)
        (True, {'zeros': ((1048576,), dtype('float64'))})
        >>> check_archive(buffer, most=2**20)
        Traceback (most recent call last):
        ValueError: the archive would take 8388736 bytes of memory, more than 1048576
    """
    if isinstance(file, str | os.PathLike):
        check_file(file, noun)
        with open(file, "rb") as opened:
            return _checked(opened, os.fspath(file), most)
    place = file.tell()
    try:
        return _checked(file, f"the {noun}", most)
    finally:
        file.seek(place)


def _checked(
    file: BinaryIO, name: str, most: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    size = file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > most:
                raise ValueError(f"{name} would take {total} bytes of memory, more than {most}")
            if len(members) > _MOST_ARRAYS or sum(m.compress_size for m in members) > size:
                raise ValueError(f"{name} is no .npz file: its parts overlap")
            found = [_header(archive, member, name) for member in members]
    except ValueError:
        raise
    except Exception as error:  # the bytes may be anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name} is no .npz file, or is damaged: {reason}") from error
    names = [member.filename.removesuffix(".npy") for member in members]
    if len(set(names)) < len(names):
        raise ValueError(f"{name} is no .npz file: it holds two arrays of one name")
    return dict(zip(names, found, strict=True))


def _header(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str
) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """The shape and type of one array."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is no .npz file: it uses another compression")
    with archive.open(member) as file:
        known = _HEADERS.get(np.lib.format.read_magic(file))
        if known is None:
            raise ValueError(f"{name}: {member.filename} has a header of an unknown version")
        read, prefix = known
        size = file.read(prefix.size)
        (length,) = prefix.unpack(size)
        if length > _LONGEST_HEADER:
            raise ValueError(
                f"{name}: {member.filename} has a header of {length} bytes, more than the "
                f"{_LONGEST_HEADER} that NumPy reads"
            )
        try:
            shape, _, dtype = read(io.BytesIO(size + file.read(length)))
        except Exception as error:  # it is Python's text, which may be anything
            raise ValueError(
                f"{name}: {member.filename} has a damaged header: {first_line(error)[:200]}"
            ) from error
        rest = member.file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name}: {member.filename} holds objects, which could run code")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(
            f"{name}: {member.filename} has {rest} bytes, not the size of {list(shape)} {dtype}"
        )
    return tuple(shape), dtype
