"""A sheet: the whole explanation of an image on one page, which explains itself."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchlime._checks import check_count
from torchlime.plot._canvas import DARK, Color, canvas_of, check_picture, check_size
from torchlime.plot._evidence import evidence_of, strongest
from torchlime.plot._images import tensor_of
from torchlime.plot._text import Face, face_of
from torchlime.plot._words import axis_title, effect_title, legend, shown_title
from torchlime.plot.charts import QUIET, chart, has_intervals, needed_height, rows_of
from torchlime.plot.overlays import heatmap_picture, overlay
from torchlime.plot.photos import Box, columns_for, is_whole, photo, resized

if TYPE_CHECKING:
    from torchlime.explanation import Explanation
    from torchlime.plot._canvas import PhotoLike

# A panel has at least this width, and a photo's longer side this length: text needs room.
_LEAST = 270
# An em of text as a share of the page's width: 6 points when it is printed 85 mm wide.
_EM = 1 / 40


def side_by_side(*pictures: Tensor, gap: int = 8) -> Tensor:
    """Pictures [3,H,W] of one height in a row on white, ``gap`` pixels apart: [3,H,W'].

    Raises:
        TypeError: a picture is not a uint8 tensor [3,H,W], or the gap is not an int.
        ValueError: no picture, several heights, or a gap below 0.

    Example:
        >>> black = torch.zeros(3, 1, 1, dtype=torch.uint8)
        >>> side_by_side(black, black, gap=2)[0].tolist()
        [[0, 255, 255, 0]]
    """
    check_count(gap, "gap", least=0)
    for picture in pictures:
        check_picture(picture)
    heights = [picture.shape[1] for picture in pictures]
    if len(set(heights)) != 1:
        raise ValueError(f"pictures must be given and have one height, got heights {heights}")
    white = pictures[0].new_full((3, heights[0], gap), 255).cpu()
    row = [part for picture in pictures for part in (white, picture.cpu())]
    return torch.cat(row[1:], dim=2)


def sheet(
    explanation: "Explanation",
    image: "PhotoLike",
    target: int | None = None,
    top: int = 5,
    *,
    box: Box | None = None,
    caption: str = "",
    max_side: int | None = None,
    name: str | None = None,
    unit: str | None = None,
) -> Tensor:
    """The whole explanation on one page: photo, overlay, all evidence, bars, a legend: [3,H,W].

    The panels stand two by two. They stand one below the other where the photo is very wide. The
    bars stand below the others where the photo is very high. Text is large enough to be read when
    the page is printed 85 mm wide.

    Args:
        explanation, image, target, top, box: as for :func:`overlay`. A photo whose explained part
            is smaller than the pixels that the network saw is enlarged, as :func:`resized` does.
        caption: text above.
        max_side: the most pixels of the photo's longer side on the sheet; None = no limit.
        name: the target's name: "tiger cat"; None is the explanation's name of it, or "class" and
            its number.
        unit: what the scores are: "probability", "logit"; None is the explanation's.

    Raises:
        TypeError, ValueError: as :func:`overlay` does; or ``max_side`` is not an int of at least 1.
    """
    evidence = evidence_of(explanation, target, name=name, unit=unit)
    image, box = _sized(image, box, evidence.segments, max_side)
    rows = rows_of(evidence, strongest(evidence, top))
    faded = not is_whole(box, image.shape[-2:])
    key = legend(evidence, intervals=has_intervals(rows), faded=faded)
    look = _look(image.shape[-2], image.shape[-1], face_of(caption, key))
    size, axis = look.chart_size(len(rows)), axis_title(evidence)
    panels = {
        "photo": photo(image),
        shown_title(len(rows)): overlay(explanation, image, target, top, box=box),
        "all segments": heatmap_picture(explanation, image, target, box=box),
        effect_title(evidence.unit): chart(rows, axis, size, look.text, look.face),
    }
    parts = [_paragraph(caption, 1.3 * look.text, look.across, look.face, DARK)] if caption else []
    parts += _grid(panels, look)
    parts.append(_paragraph(key, 0.9 * look.text, look.across, look.face, QUIET))
    page = torch.cat([pad(part, (0, 0, 0, look.gap), value=255) for part in parts], dim=1)
    return pad(page, (look.gap, look.gap, look.gap, 0), value=255)


class _Look(NamedTuple):
    """How a sheet is laid out; lengths are in pixels, ``text`` is an em."""

    face: Face
    columns: int
    panel: int  # the width of a column
    height: int  # of a photo
    text: int

    @property
    def gap(self) -> int:
        return self.text

    @property
    def across(self) -> int:
        return self.columns * (self.panel + self.gap) - self.gap

    def chart_size(self, rows: int) -> tuple[int, int]:
        needed = needed_height(rows, self.text)
        if self.columns == 2:  # beside a photo
            return self.panel, max(self.height, needed)
        return self.across, needed


def _look(height: int, width: int, face: Face) -> _Look:
    columns = columns_for(height, width)
    panel = max(width, _LEAST)
    return _Look(face, columns, panel, height, max(11, round(columns * panel * _EM)))


def _sized(
    image: "PhotoLike", box: Box | None, segments: Tensor, max_side: int | None
) -> tuple[Tensor, Box]:
    """The photo and its box, large enough to look at; a tiny one keeps its pixels square."""
    if box is None:
        canvas = canvas_of(image)
        check_size(canvas, segments)
        box = (0, 0, canvas.shape[2], canvas.shape[1])
    pixels, box = resized(image, box, tuple(segments.shape), max_side)
    longest = max(pixels.shape[-2:])
    factor = max(1, min(math.ceil(_LEAST / longest), (max_side or 2 * _LEAST) // longest))
    large = pixels.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    left, top, right, bottom = (factor * edge for edge in box)
    return large, (left, top, right, bottom)


def _grid(panels: Mapping[str, Tensor], look: _Look) -> list[Tensor]:
    """The rows of a page: panels under their titles, in columns."""
    cells = list(panels.items())
    rows = [cells[i : i + look.columns] for i in range(0, len(cells), look.columns)]
    return [_row(row, look) for row in rows]


def _row(cells: Sequence[tuple[str, Tensor]], look: _Look) -> Tensor:
    """Panels beside each other, on white, as wide as the page: [3,h,w]."""
    widths = [max(look.panel, panel.shape[2]) for _, panel in cells]
    titles = [
        _paragraph(title, look.text, width, look.face, DARK)
        for (title, _), width in zip(cells, widths, strict=True)
    ]
    above = max(title.shape[1] for title in titles)  # one may have more lines
    below = max(panel.shape[1] for _, panel in cells)
    done = []
    for title, (_, panel), width in zip(titles, cells, widths, strict=True):
        free = (0, width - panel.shape[2], 0, below - panel.shape[1])
        title = pad(title, (0, 0, 0, above - title.shape[1]), value=255)
        done.append(torch.cat([title, pad(panel, free, value=255)], dim=1))
    row = side_by_side(*done, gap=look.gap)
    return pad(row, (0, look.across - row.shape[2]), value=255)


def _paragraph(text: str, size: float, width: int, face: Face, color: Color) -> Tensor:
    """Text in lines, on white: [3,h,width]."""
    from PIL import Image, ImageDraw

    lines = face.lines(text, size, width)
    image = Image.new("RGB", (width, round((1.3 * len(lines) + 0.2) * size)), "white")
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        draw.text((0, (1.3 * i + 1) * size), line, color, face.font(size), anchor="ls")
    return tensor_of(image)
