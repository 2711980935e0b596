"""Numbers on segments: where they stand, and how they look."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchlime.plot._canvas import AGAINST, FOR, WHITE, Color
from torchlime.plot._images import image_of, tensor_of
from torchlime.plot._text import Face

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_FACE = Face()  # digits are in every typeface


def hue_of(value: float) -> Color:
    """The colour of a coefficient."""
    return FOR if value > 0 else AGAINST


def numbered(picture: Tensor, ranks: Tensor, values: list[float]) -> Tensor:
    """A picture with ranks on their segments; a number may hide a small segment.

    The strongest segment's number is drawn last, so that no other lies on it.

    Args:
        picture: [3,H,W] uint8.
        ranks: [H,W] int64, 1…k, and 0 where there is nothing to number.
        values: k coefficients, strongest first.
    """
    from PIL import ImageDraw

    height, width = ranks.shape
    digit = max(9, round(math.sqrt(height * width) / 19))
    half_height = digit / 2 + 1
    image = image_of(picture)
    draw = ImageDraw.Draw(image)
    for rank in range(len(values), 0, -1):
        inside = ranks == rank
        half_width = number_width(str(rank), digit) / 2 + 1
        if 2 * half_height > height or 2 * half_width > width or not inside.any():
            continue  # the picture is too small for the number, or has no pixel of the segment
        row, column = inner_point(inside)
        y = min(max(row + 0.5, half_height), height - half_height)
        x = min(max(column + 0.5, half_width), width - half_width)
        draw_number(draw, str(rank), x, y, digit, hue_of(values[rank - 1]))
    return tensor_of(image)


def number_width(number: str, digit: float) -> float:
    """The width of a number in pixels, without its rim."""
    return _FACE.width(number, _em(digit))


def draw_number(
    draw: "ImageDraw", number: str, x: float, y: float, digit: float, hue: Color
) -> None:
    """White digits of a height, with a rim in the hue of their evidence, centred at (x, y)."""
    font, bold = _FACE.font(_em(digit)), round(digit / 36)
    left, top, right, bottom = font.getbbox(number, anchor="ls")
    x, y = x - (left + right) / 2, y - (top + bottom) / 2
    rim = max(2, round(digit / 6)) + max(1, bold)
    draw.text((x, y), number, hue, font, anchor="ls", stroke_width=rim, stroke_fill=hue)
    for shift in (0.0,) if bold else (-0.35, 0.35):  # a whole pixel more would close small loops
        place = (x + shift, y)
        draw.text(place, number, WHITE, font, anchor="ls", stroke_width=bold, stroke_fill=WHITE)


def badge_width(number: str, text: float) -> float:
    """The width of a badge in pixels, beside text of ``text`` pixels an em."""
    return max(1.3 * text, _FACE.width(number, 0.9 * text) + 0.6 * text)


def draw_badge(draw: "ImageDraw", number: str, x: float, y: float, text: float, hue: Color) -> None:
    """A number in a disc of the hue of its evidence, centred at (x, y), for white paper."""
    half, font = badge_width(number, text) / 2, _FACE.font(0.9 * text)
    edges = (x - half, y - 0.65 * text, x + half, y + 0.65 * text)
    draw.rounded_rectangle(edges, 0.65 * text, hue)
    draw.text((x, y + _FACE.cap(0.9 * text) / 2), number, WHITE, font, anchor="ms")


def _em(digit: float) -> float:
    """The font's size at which digits are ``digit`` pixels high."""
    return digit / 0.7


def inner_point(inside: Tensor) -> tuple[int, int]:
    """(row, column) of a point deep inside a region [H,W], which may have any shape.

    Of the pixels that are deepest, within 10 % of the largest distance to the border, it is the one
    nearest to the centroid. The centroid itself can lie outside. Large regions are read on a
    coarser grid.
    """
    rows, columns = (inside.amax(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    region = inside[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    step = math.ceil(max(region.shape) / 128)
    coarse = region[::step, ::step]
    if not coarse.any():  # thinner than the grid: any pixel is as deep as another
        y, x = region.nonzero()[0].tolist()
        return top + y, left + x
    distance = depth(coarse)
    deep = (distance >= 0.9 * distance.max()).nonzero()
    centroid = coarse.nonzero().double().mean(dim=0)
    y, x = deep[(deep - centroid).square().sum(dim=1).argmin()].tolist()
    return top + step * y, left + step * x


def depth(inside: Tensor) -> Tensor:
    """Euclidean distance [H,W] of each pixel to the nearest one outside; the frame is outside.

    It goes along the columns first, then takes the best over each row. It is exact, O(H·W²).
    """
    inside = pad(inside, (1, 1, 1, 1))
    height, width = inside.shape
    y = torch.arange(height, device="cpu")[:, None].expand(height, width)
    x = torch.arange(width, device="cpu")
    above = torch.where(inside, 0, y).cummax(dim=0).values
    below = torch.where(inside, height, y).flip(0).cummin(dim=0).values.flip(0)
    column = torch.minimum(y - above, below - y).float().square()
    squared = (column[:, None, :] + (x[:, None] - x).float().square()).amin(dim=2)
    return squared[1:-1, 1:-1].double().sqrt()
