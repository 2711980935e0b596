"""Photos: shown unchanged, in a good size, with the evidence in its place."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from torchlime._checks import check_count
from torchlime.plot._canvas import WHITE, canvas_of, check_size, picture_of
from torchlime.plot._evidence import Evidence
from torchlime.plot._lines import draw_borders, line_width

if TYPE_CHECKING:
    from torchlime.plot._canvas import PhotoLike

Box = tuple[float, float, float, float]

# How far the part that the network did not see fades to white.
_FADING = 0.7


def photo(image: "PhotoLike") -> Tensor:
    """The image itself as a picture [3,H,W], as the package describes it.

    Raises:
        TypeError, ValueError: an image of another type, shape or number of channels.

    Example:
        >>> photo(torch.tensor([[[0.0, 1.0]]])).tolist()
        [[[0, 255]], [[0, 255]], [[0, 255]]]
    """
    return picture_of(canvas_of(image))


def on_photo(labels: Tensor, size: tuple[int, int], box: Box, outside: int = -1) -> Tensor:
    """The label map [h,w] of a part of a photo as a label map [H,W] of the whole photo.

    Args:
        labels: the label map of the pixels that were explained.
        size: (H, W) of the photo.
        box: (left, top, right, bottom) of the part in the photo, in its pixels; it may reach
            outside of the photo.
        outside: the label of the pixels outside of the box.

    Convention:
        Nearest neighbour by pixel centres: a photo's pixel has the label of the explained pixel
        that its centre falls into. A centre on the box's right or bottom edge is outside.

    Returns:
        [H,W] on the CPU, in the dtype of ``labels``.

    Raises:
        ValueError: an empty box.

    Example:
        >>> on_photo(torch.tensor([[7, 8]]), (2, 6), (1, 0, 5, 1))
        tensor([[-1,  7,  7,  8,  8, -1],
                [-1, -1, -1, -1, -1, -1]])
    """
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        raise ValueError(f"box must be (left, top, right, bottom) and not empty, got {box}")
    y, y_inside = _places(size[0], top, bottom, labels.shape[0])
    x, x_inside = _places(size[1], left, right, labels.shape[1])
    placed = labels.cpu()[y[:, None], x]
    return placed.masked_fill(~(y_inside[:, None] & x_inside), outside)


def resized(
    image: "PhotoLike", box: Box, seen: tuple[int, ...], max_side: int | None = None
) -> tuple[Tensor, Box]:
    """The photo and its box, in a size that is good to look at.

    A photo is enlarged by a whole factor, to at most 2048 pixels a side, if its explained part is
    smaller than the pixels that the network saw. Then it is reduced if its longer side is above
    ``max_side``.

    Args:
        image: the photo, as the package describes it.
        box: the explained part, in the photo's pixels.
        seen: (h, w) of the network's picture of it.
        max_side: the most pixels of the longer side; None = no limit.

    Returns:
        The photo and its box. A tensor whose size is good is returned as it is; else the photo is
        [3,H,W] uint8.

    Raises:
        TypeError, ValueError: an image that :func:`photo` does not take, or ``max_side`` is not an
            int of at least 1.

    Example:
        >>> picture, box = resized(torch.rand(3, 60, 80), (10, 0, 70, 60), (224, 224))
        >>> list(picture.shape), box
        ([3, 240, 320], (40.0, 0.0, 280.0, 240.0))
    """
    canvas = canvas_of(image)
    longest = max(canvas.shape[1:])
    enough = max(seen[0] / (box[3] - box[1]), seen[1] / (box[2] - box[0]))
    scale: float = max(1, min(math.ceil(enough), 2048 // longest))
    if max_side is not None:
        check_count(max_side, "max_side")
        scale = min(scale, max_side / longest)
    if scale == 1:
        return image if isinstance(image, Tensor) else picture_of(canvas), box
    size = [max(1, round(side * scale)) for side in canvas.shape[1:]]
    large = interpolate(canvas[None], size, mode="bilinear", antialias=True)[0]
    x, y = size[1] / canvas.shape[2], size[0] / canvas.shape[1]
    return picture_of(large.clamp(0, 1)), (box[0] * x, box[1] * y, box[2] * x, box[3] * y)


def placed(image: "PhotoLike", evidence: Evidence, box: Box | None) -> tuple[Tensor, Evidence]:
    """The image as a canvas, and the evidence on its pixels: none of it outside of the box."""
    canvas = canvas_of(image)
    if box is not None:
        outside = len(evidence.coefficients)
        size = (canvas.shape[1], canvas.shape[2])
        evidence = evidence._replace(
            segments=on_photo(evidence.segments, size, box, outside),
            coefficients=pad(evidence.coefficients, (0, 1)),
            errors=pad(evidence.errors, (0, 1), value=math.nan),
        )
    check_size(canvas, evidence.segments)
    return canvas, evidence


def faded(canvas: Tensor, box: Box | None) -> Tensor:
    """Fade what lies outside of the box, in place, and draw the box's edge inside of it."""
    if box is None or is_whole(box, canvas.shape[1:]):
        return canvas
    size = (canvas.shape[1], canvas.shape[2])
    inside = on_photo(torch.ones(1, 1, dtype=torch.int64, device="cpu"), size, box)
    canvas.lerp_(torch.ones_like(canvas), _FADING * (inside < 0))
    draw_borders(canvas, inside, WHITE, line_width(canvas))
    return canvas


def is_whole(box: Box, size: Sequence[int]) -> bool:
    """Whether the centre of every pixel of a photo of (height, width) lies in the box."""
    left, top, right, bottom = box
    return left <= 0.5 and top <= 0.5 and right > size[1] - 0.5 and bottom > size[0] - 0.5


def columns_for(height: int, width: int) -> int:
    """How many photos of a size stand side by side: 1 if very wide, 3 if very high, else 2."""
    return 1 if width > 2 * height else 3 if height > 1.7 * width else 2


def _places(size: int, start: float, stop: float, parts: int) -> tuple[Tensor, Tensor]:
    """For each of ``size`` pixels, which of the ``parts`` between start and stop it is in."""
    centre = torch.arange(size, dtype=torch.float64, device="cpu") + 0.5
    part = ((centre - start) * parts / (stop - start)).floor().long()
    return part.clamp(0, parts - 1), (part >= 0) & (part < parts)
