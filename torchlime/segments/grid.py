"""A grid of boxes: rectangles for images, stretches for series, blocks for volumes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_count, check_inputs
from torchlime._labelmap import Segments
from torchlime.segments.axis import Axis


@dataclass(frozen=True, init=False, repr=False)
class Grid:
    """As many boxes along each axis as ``parts`` says; their sides differ by at most 1.

    ``Grid(2, 3)`` cuts images into 2 rows × 3 columns, ``Grid(8)`` series into 8 stretches, and
    ``Grid(2, 4, 4)`` volumes or videos into 2 × 4 × 4 blocks. They are the same for every input.

    Args:
        parts: a number for each axis behind the channels. For images the two numbers may be named,
            ``Grid(rows=2, cols=3)``.

    Convention:
        Ids run row by row, the last axis first. Rectangle (i, j) covers the rows
        i·H//rows … (i+1)·H//rows − 1.

    Raises:
        TypeError: the parts are not whole numbers, or only one of ``rows`` and ``cols`` is given.
        ValueError: there are no parts, or one is below 1; or, when called, the inputs have another
            number of axes, or fewer pixels along an axis than parts.

    Example:
        >>> Grid(1, 2)(torch.zeros(1, 3, 2, 4)).labels.tolist()
        [[[0, 0, 1, 1], [0, 0, 1, 1]]]
        >>> Grid(3)(torch.zeros(1, 2, 5)).labels.tolist()
        [[0, 1, 1, 2, 2]]
    """

    parts: tuple[int, ...]

    def __init__(self, *parts: int, rows: int | None = None, cols: int | None = None):
        if rows is not None or cols is not None:
            if parts or rows is None or cols is None:
                raise TypeError("Grid takes rows= and cols=, or one number for each axis")
            parts = (rows, cols)
        if not parts:
            raise ValueError("Grid needs a number for each axis, such as Grid(4, 4) for images")
        names = ("rows", "cols") if len(parts) == 2 else ("a number of Grid",) * len(parts)
        for part, name in zip(parts, names, strict=True):
            check_count(part, name)
        object.__setattr__(self, "parts", tuple(int(part) for part in parts))

    def __repr__(self) -> str:
        if len(self.parts) == 2:
            return f"Grid(rows={self.parts[0]}, cols={self.parts[1]})"
        return f"Grid({', '.join(map(str, self.parts))})"

    def __call__(self, images: Tensor) -> Segments:
        """Segments of images [B,C,*axes]; ``bound`` is the exact count."""
        check_inputs(images)
        batch, _, *axes = images.shape
        if len(axes) != len(self.parts):
            fewer = "add the batch axis: images[None], or " * (len(axes) == len(self.parts) - 1)
            raise ValueError(
                f"{self!r} is for inputs with {len(self.parts)} axes behind the channels, got "
                f"{list(images.shape)}; {fewer}pass one number for each axis: "
                f"Grid({', '.join(['4'] * len(axes)) or '…'})"
            )
        if any(part > length for part, length in zip(self.parts, axes, strict=True)):
            numbers, size = ", ".join(map(str, self.parts)), "×".join(map(str, axes))
            raise ValueError(f"Grid({numbers}) does not fit images of {size} pixels")
        places = [
            Axis(length, part).part(images.device)
            for part, length in zip(self.parts, axes, strict=True)
        ]
        labels = places[0]
        for part, along in zip(self.parts[1:], places[1:], strict=True):
            labels = torch.add(along, labels[..., None], alpha=part)
        bound = math.prod(self.parts)
        count = torch.full((batch,), bound, device=images.device)
        ok = torch.ones(batch, dtype=torch.bool, device=images.device)
        return Segments(labels.expand(batch, *axes), count, ok, bound)
