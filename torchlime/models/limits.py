"""Limits: what decoding one photo may take. Importing it loads no torch."""

from dataclasses import dataclass, fields

# A photo that is decoded and put on white exists in five copies at once. Pillow takes 4 bytes for
# each pixel, and two pointers for each row.
_COPIES, _BYTES_OF_A_PIXEL, _BYTES_OF_A_ROW = 5, 4, 16
_MEBI = 2**20


@dataclass(frozen=True)
class Limits:
    """What decoding one photo may take; a photo that takes more is refused in a sentence.

    Args:
        seconds: of real time, for one try, once its file was read. A photo that takes longer gets
            a second one.
        pixels: width × height; the default is that of ``PIL.Image.MAX_IMAGE_PIXELS``.
        memory: MiB beside the program itself. What the header claims is checked before anything
            is decoded. On Linux, the system holds a separate decoding process to the limit.

    Raises:
        ValueError: a limit is not above 0.
    """

    seconds: float = 20.0
    pixels: int = 89_478_485
    memory: int = 2048

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < float("inf"):
                value = getattr(self, field.name)
                raise ValueError(f"{field.name} must be a finite number above 0, got {value!r}")

    def check(self, width: int, height: int, name: str) -> None:
        """Raise a ValueError where a photo of this size would take too much."""
        if width * height > self.pixels:
            raise ValueError(
                f"{name} is too large: {width}×{height} pixels are more than the {self.pixels} "
                "that are allowed (pixels=, --max-pixels)"
            )
        needed = memory_for(width, height) // _MEBI
        if needed > self.memory:
            raise ValueError(
                f"{name} is too large: {width}×{height} pixels may take {needed} MiB to decode, "
                f"more than the {self.memory} that are allowed (memory=, --max-memory)"
            )


def memory_for(width: int, height: int) -> int:
    """About how many bytes it takes to decode and convert a photo of this size.

    >>> memory_for(4000, 3000) // 2**20, memory_for(1, 89_000_000) // 2**20
    (229, 8487)
    """
    return _COPIES * (width * height * _BYTES_OF_A_PIXEL + height * _BYTES_OF_A_ROW)
