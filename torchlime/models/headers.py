"""Headers: they show which photos are surely cheap to decode, and which are surely not.

Only JPEG, PNG and still WebP are known here. A photo that is not surely cheap may still be cheap.
Importing it loads no torch.
"""

import re
import struct
from typing import NamedTuple

MOST_BYTES = 32 * 2**20  # of a file that may be cheap
_MOST_PIXELS = 25_000_000  # pixels × scans of a JPEG
_LONGEST_SIDE = 2**16
_MOST_SCANS = 500
_JPEG = b"\xff\xd8"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 … SOF15
_SCAN, _END = 0xDA, 0xD9
_MOST_MARKERS = 100_000  # are followed
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # with a length, or the end


class Header(NamedTuple):
    """Size in pixels, and how often every pixel may be processed."""

    width: int
    height: int
    passes: int


def is_cheap(data: bytes) -> bool:
    """Whether decoding takes some two seconds and half a gibibyte at most.

    The time that a progressive JPEG takes grows with the number of its scans. Ten scans are usual;
    a file of 42 KB may hold thousands.
    """
    found = header_of(data)
    if found is None or len(data) > MOST_BYTES or min(found.width, found.height) < 1:
        return False
    work = found.width * found.height * max(1, found.passes // 10)
    return work <= _MOST_PIXELS and max(found.width, found.height) <= _LONGEST_SIDE


def check_scans(data: bytes, name: str) -> None:
    """Raise a ValueError where a JPEG has more scans than any encoder writes.

    Ten are usual, a hundred possible; libjpeg-turbo's own tools stop at 500 where they are asked to
    stop at all.
    """
    found = header_of(data) if data[:2] == _JPEG else None
    if found is not None and found.passes > _MOST_SCANS:
        raise ValueError(
            f"{name} is a JPEG of {found.passes} scans, more than the {_MOST_SCANS} that are read: "
            "save it again with another program"
        )


def header_of(data: bytes) -> Header | None:
    """What the header says; None for other formats, and for headers that cannot be parsed."""
    try:
        if data[:2] == _JPEG:
            return _of_jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            width, height = struct.unpack(">II", data[16:24])
            return Header(width, height, 1)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _of_webp(data)
    except (IndexError, struct.error):
        pass
    return None


def _of_jpeg(data: bytes) -> Header | None:
    """The frame's size, and the number of scans up to the picture's end or where it is cut off.

    What lies in segments, such as previews and comments, and behind the end, such as the film of a
    motion photo, is not counted. Between markers a decoder skips what is none, and so does this.
    """
    size, scans, place = None, 0, 2
    for _ in range(_MOST_MARKERS):
        found = _MARKER.search(data, place)
        if found is None:
            break
        marker, place = data[found.end() - 1], found.end()
        if marker == _END:
            break
        if marker in _JPEG_SIZES and size is None and len(data) >= place + 7:
            size = struct.unpack(">HH", data[place + 3 : place + 7])
        scans += marker == _SCAN
        if len(data) < place + 2:
            break
        place += struct.unpack(">H", data[place : place + 2])[0]
    else:  # nobody's photo
        return None
    return None if size is None else Header(size[1], size[0], scans)


def _of_webp(data: bytes) -> Header | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return Header(width & 0x3FFF, height & 0x3FFF, 1)
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1)
    if kind == b"VP8X" and not data[20] & 2:  # 2: an animation
        sizes = struct.unpack("<II", data[24:27] + b"\0" + data[27:30] + b"\0")
        return Header(sizes[0] + 1, sizes[1] + 1, 1)
    return None
