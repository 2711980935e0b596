import importlib.util
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


def labelled_photos():
    """Twenty ImageNet photos that foolbox ships, with their classes: [(path, index), …]."""
    foolbox = importlib.util.find_spec("foolbox")
    if foolbox is None:
        pytest.skip("needs the photos in foolbox: pip install --no-deps foolbox")
    photos = sorted(Path(foolbox.origin).parent.glob("data/imagenet_*_*.jpg"))
    return [(photo, int(photo.stem.rpartition("_")[2])) for photo in photos]


def bomb(width=30_000, height=30_000):
    """A whole PNG file of a few bytes that claims to be of that size."""

    def chunk(kind, data=b""):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read_png(path):
    """The picture [3,H,W] uint8 in a file, which must be an RGB one."""
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
