"""Explanation → RGB pictures, drawn with tensors: no plotting library is needed to save one.

Every picture is a uint8 tensor [3,H,W] on the CPU. Evidence for the target is blue, evidence
against it vermillion: a pair of Okabe and Ito's palette (2008), which colour-blind readers tell
apart.
Drawing runs on the host and reads the explanation back; it is no part of the pipeline.

An ``image`` is [C,H,W] or [1,C,H,W], uint8 or floating point, with 1 channel (shown as grey), 3
(RGB) or 4 (RGBA, laid on white). Floats within [0,1] are taken as they are; any other range, such
as that of a normalised network input, is stretched to [0,1] by the image's own minimum and
maximum. A pixel with a non-finite channel is shown as mid-grey.

With ``box`` an image is the whole photo of which the explained pixels are a part: (left, top,
right, bottom) as ``Classifier.crop_box`` gives it. The segments are laid on the photo at its own
resolution, and what lies outside of the box, which the network did not see, is faded and framed.
"""

import itertools
import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d, pad

from torchlime._atomic import whole_file
from torchlime._checks import check_count
from torchlime._labelmap import Segments
from torchlime.explanation import label_map_of, row_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchlime.explanation import Explanation

Color = tuple[int, int, int]
Box = tuple[float, float, float, float]
Sign = Literal["positive", "negative", "both"]

FOR: Color = (0, 114, 178)
AGAINST: Color = (213, 94, 0)
_WHITE: Color = (255, 255, 255)
_DARK: Color = (25, 25, 25)
_GREY: Color = (140, 140, 140)
_PALE: Color = (228, 228, 228)

# The strongest segment has opacity 1 (times the caller's), the weakest still this much.
_FAINTEST = 0.2
# How far colours fade to grey under an overlay, so that hue is left to the evidence.
_MUTING = 0.6
# How far what the network did not see fades to white.
_FADING = 0.7

# Glyphs are strokes through points (column, row) of a 5×7 grid, so they are smooth at any size.
_STROKES = {
    "0": "10 30 41 45 36 16 05 01 10",
    "1": "11 20 26, 16 36",
    "2": "01 10 30 41 42 06 46",
    "3": "01 10 30 41 42 33 44 45 36 16 05, 23 33",
    "4": "36 30 04 44",
    "5": "40 00 02 32 43 45 36 16 05",
    "6": "41 30 10 01 05 16 36 45 43 32 12 03",
    "7": "00 40 16",
    "8": "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33",
    "9": "05 16 36 45 41 30 10 01 03 14 34 43",
    ".": "26 26",
    "-": "03 43",
    "+": "03 43, 21 25",
    "e": "04 44 43 32 12 03 05 16 36",
    "#": "10 16, 30 36, 02 42, 04 44",
}


def overlay(
    explanation: "Explanation",
    image: Tensor,
    target: int | None = None,
    top: int = 5,
    sign: Sign = "both",
    *,
    opacity: float = 0.6,
    numbers: bool = True,
    box: Box | None = None,
) -> Tensor:
    """The strongest segments tinted, outlined and numbered on the muted photo: [3,H,W].

    The opacity of a tint grows with |coefficient| relative to the largest of the target; the
    weakest evidence is still faintly there. Without any evidence to show, the photo stays as it is.

    Convention:
        ``top`` ranks by |coefficient| among the segments of the asked sign, ties to the lower
        id; a coefficient of 0, or one that is not finite, is no evidence. Numbers are ranks 1…top
        and stand at a point well inside their segment; an image too small for one has none.

    Args:
        explanation: of one image (index a batch first).
        image: the explained image, as the module describes it.
        target: one of ``explanation.targets``; None is the first.
        top: how many segments at most.
        sign: "positive" (evidence for), "negative" (against) or "both".
        opacity: of the strongest tint, in [0,1].
        numbers: whether to draw the ranks.
        box: where the explained pixels lie in ``image``, as the module describes it.

    Raises:
        ValueError: more than one image, an unknown target or sign, ``top`` below 1, an opacity
            outside [0,1], or an image whose shape or size does not fit.

    Example:
        >>> from types import SimpleNamespace
        >>> explanation = SimpleNamespace(
        ...     coefficients=torch.tensor([[[0.5, -1.0]]]), standard_errors=torch.zeros(1, 1, 2),
        ...     targets=torch.tensor([[281]]), segments=torch.tensor([[[0, 0, 0, 1]]]),
        ...     segment_count=torch.tensor([2]))
        >>> overlay(explanation, torch.zeros(3, 1, 4), target=281, top=1).shape
        torch.Size([3, 1, 4])
    """
    evidence = _evidence(explanation, target)
    shown = _strongest(evidence, top, sign)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0,1], got {opacity!r}")
    canvas, evidence = _placed(image, evidence, box)
    if not shown:
        return _picture(_faded(canvas, box))
    ranks = _ranks(evidence, shown)
    values = evidence.coefficients[shown]
    strengths = (values / evidence.coefficients.abs().max()).abs().float()
    tints = pad(opacity * (_FAINTEST + (1 - _FAINTEST) * strengths), (1, 0))
    hues = pad(torch.where(values[:, None] > 0, _rgb(FOR), _rgb(AGAINST)), (0, 0, 1, 0))
    canvas.lerp_(_grey(canvas), _MUTING)
    canvas.lerp_(hues[ranks].permute(2, 0, 1), tints[ranks])
    _draw_borders(canvas, ranks, _WHITE, _line_width(canvas))
    _faded(canvas, box)
    if numbers:
        _draw_numbers(canvas, ranks, [FOR if value > 0 else AGAINST for value in values.tolist()])
    return _picture(canvas)


def photo(image: Tensor) -> Tensor:
    """The image itself as a picture [3,H,W], as the module describes it.

    Raises:
        ValueError: an image of another shape or number of channels.

    Example:
        >>> photo(torch.tensor([[[0.0, 1.0]]])).tolist()
        [[[0, 255]], [[0, 255]], [[0, 255]]]
    """
    return _picture(_photo(image))


def boundaries(
    segments: Tensor | Segments,
    image: Tensor,
    color: Color = (255, 255, 255),
    width: int | None = None,
    *,
    box: Box | None = None,
) -> Tensor:
    """The borders of all segments on the photo, a line with a dark rim: [3,H,W].

    Args:
        segments: a label map [H,W] or [1,H,W] of any ids, or the Segments of one image.
        image: as the module describes it.
        color: of the line, RGB in 0…255.
        width: of the line in pixels, without its rim; None grows it with the image.
        box: where the segments lie in ``image``, as the module describes it.

    Raises:
        ValueError: label maps of several images, an image of another size, a width below 1
            or a colour out of range.

    Example:
        >>> halves = torch.tensor([[0, 0, 0, 1, 1, 1]])
        >>> boundaries(halves, torch.zeros(1, 1, 6), color=(255, 0, 0), width=1)[0].tolist()
        [[0, 14, 255, 14, 0, 0]]
    """
    labels = (segments.labels if isinstance(segments, Segments) else segments).cpu()
    if labels.dim() == 3 and len(labels) == 1:
        labels = labels[0]
    if labels.dim() != 2:
        raise ValueError(f"segments must be one label map [H,W], got {list(labels.shape)}")
    if len(color) != 3 or not all(0 <= channel <= 255 for channel in color):
        raise ValueError(f"color must be three channels in 0…255, got {color!r}")
    if width is not None:
        check_count(width, "width")
    canvas = _photo(image)
    if box is not None:
        labels = on_photo(labels, (canvas.shape[1], canvas.shape[2]), box)
    _check_size(canvas, labels)
    _draw_borders(canvas, labels, color, width or _line_width(canvas))
    return _picture(_faded(canvas, box))


def heatmap_picture(
    explanation: "Explanation",
    image: Tensor | None = None,
    target: int | None = None,
    *,
    box: Box | None = None,
) -> Tensor:
    """All coefficients as colours, blended over the grey photo if ``image`` is given: [3,H,W].

    Convention:
        Vermillion (−m) to white (0) to blue (+m), where m is the largest |coefficient| of the
        target: the limits are symmetric, so white is no evidence.

    Raises:
        ValueError: as :func:`overlay` does.
    """
    evidence = _evidence(explanation, target)
    if image is not None:
        canvas, evidence = _placed(image, evidence, box)
    strength = evidence.coefficients / evidence.coefficients.abs().max().clamp(min=1e-300)
    hues = torch.where(strength[:, None] > 0, _rgb(FOR), _rgb(AGAINST))
    colors = _rgb(_WHITE).lerp(hues, strength.abs().float()[:, None])
    heat = colors[evidence.segments].permute(2, 0, 1)
    if image is None:
        return _picture(heat)
    return _picture(_faded(_grey(canvas).lerp(heat, 0.65), box))


def on_photo(labels: Tensor, size: tuple[int, int], box: Box, outside: int = -1) -> Tensor:
    """A label map [h,w] of a photo's part as one of the whole photo: [H,W].

    Args:
        labels: of the pixels that were explained.
        size: (H, W) of the photo.
        box: (left, top, right, bottom) of the part in the photo, in its pixels; it may reach
            outside of the photo.
        outside: the label of what lies outside of the box.

    Convention:
        Nearest neighbour by pixel centres: a photo's pixel has the label of the explained pixel
        that its centre falls into. A centre on the box's right or bottom edge is outside.

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


def _places(size: int, start: float, stop: float, parts: int) -> tuple[Tensor, Tensor]:
    """Which of the ``parts`` between start and stop each of ``size`` pixels is in, if any."""
    centre = torch.arange(size, dtype=torch.float64, device="cpu") + 0.5
    part = ((centre - start) * parts / (stop - start)).floor().long()
    return part.clamp(0, parts - 1), (part >= 0) & (part < parts)


def bars(
    explanation: "Explanation",
    target: int | None = None,
    top: int = 10,
    size: tuple[int, int] = (480, 320),
) -> Tensor:
    """The strongest segments (or features) as horizontal bars with 95 % error bars: [3,h,w].

    A row is labelled with its rank (the number that :func:`overlay` draws) and ``#`` segment id;
    the axis counts the model's output. Error bars are ±1.96 standard errors; a segment without
    a finite standard error has none.

    Args:
        explanation: of one image, or of one vector, whose features stand for segments.
        target: one of ``explanation.targets``; None is the first.
        top: how many segments at most, ranked as :func:`overlay` does.
        size: (w, h) of the chart in pixels.

    Raises:
        ValueError: more than one image, an unknown target, ``top`` or a size below 1.
    """
    evidence = _evidence(explanation, target, pixels=False)
    shown = _strongest(evidence, top, "both")
    width, height = size
    check_count(width, "size[0]")
    check_count(height, "size[1]")
    values = evidence.coefficients[shown].tolist()
    errors = [1.96 * error for error in evidence.errors[shown].nan_to_num(0).tolist()]
    low = min((v - e for v, e in zip(values, errors, strict=True)), default=0.0)
    high = max((v + e for v, e in zip(values, errors, strict=True)), default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-300:
        low, high = -1.0, 1.0

    text = max(7, min(height // 22, width // 32, round(0.6 * height / (len(shown) + 2))))
    line = max(1, text // 10)
    labels = [f"#{segment}" for segment in shown]
    rank_right = text // 2 + max(
        (_text_width(str(i + 1), text) for i in range(len(shown))), default=0
    )
    label_right = rank_right + text + max((_text_width(s, text) for s in labels), default=0)
    left, right = label_right + text, width - 2 * text
    top_edge, bottom = text, height - 5 * text // 2
    row = (bottom - top_edge) / max(1, len(shown))
    half = min(0.34 * row, 1.5 * text)
    scale = (right - left) / (high - low)

    canvas = _rgb(_WHITE)[:, None, None].repeat(1, height, width)
    for tick in _ticks(low, high, most=max(2, (right - left) // (6 * text))):
        x = left + (tick - low) * scale
        shade = _GREY if tick == 0 else _PALE
        _draw_box(canvas, x - line / 2, top_edge, x + line / 2, bottom, shade)
        _draw_text(canvas, f"{tick:.6g}", x, bottom + text, text, _GREY, align=0.5)
    zero = left - low * scale
    for i, (value, error) in enumerate(zip(values, errors, strict=True)):
        y = top_edge + (i + 0.5) * row
        x = left + (value - low) * scale
        hue = FOR if value > 0 else AGAINST
        _draw_box(canvas, min(x, zero), y - half, max(x, zero), y + half, hue)
        if error > 0:
            reach, cap = error * scale, half / 2
            _draw_box(canvas, x - reach, y - line / 2, x + reach, y + line / 2, _DARK)
            for end in (x - reach, x + reach):
                _draw_box(canvas, end - line / 2, y - cap, end + line / 2, y + cap, _DARK)
        _draw_text(canvas, str(i + 1), rank_right, y, text, _DARK, align=1)
        _draw_text(canvas, labels[i], label_right, y, text, _GREY, align=1)
    return _picture(canvas)


def side_by_side(*pictures: Tensor, gap: int = 8) -> Tensor:
    """Pictures [3,H,W] of one height in a row on white, ``gap`` pixels apart: [3,H,W'].

    Raises:
        TypeError: a picture is not a uint8 tensor [3,H,W].
        ValueError: no picture, several heights, or a gap below 0.

    Example:
        >>> black = torch.zeros(3, 1, 1, dtype=torch.uint8)
        >>> side_by_side(black, black, gap=2)[0].tolist()
        [[0, 255, 255, 0]]
    """
    check_count(gap, "gap", least=0)
    for picture in pictures:
        _check_picture(picture)
    heights = [picture.shape[1] for picture in pictures]
    if len(set(heights)) != 1:
        raise ValueError(f"pictures must be given and have one height, got heights {heights}")
    white = pictures[0].new_full((3, heights[0], gap), 255).cpu()
    row = [part for picture in pictures for part in (white, picture.cpu())]
    return torch.cat(row[1:], dim=2)


def sheet(
    explanation: "Explanation",
    image: Tensor,
    target: int | None = None,
    top: int = 5,
    *,
    box: Box | None = None,
    caption: str = "",
    max_side: int | None = None,
) -> Tensor:
    """The whole explanation on one page: photo, overlay, all evidence, bars: [3,H,W].

    Two by two, or in a row where the photo is higher than broad. A photo whose explained part is
    smaller than the pixels that the network saw is enlarged by a whole number, up to 2048 pixels.

    Args:
        explanation, image, target, top, box: as for :func:`overlay`.
        caption: a line of text above.
        max_side: the longer side of the photo on the sheet at most; None keeps its size.

    Raises:
        ValueError: as :func:`overlay` does; or ``max_side`` below 1.
    """
    if box is not None:
        image, box = resized(image, box, tuple(label_map_of(explanation).shape[1:]), max_side)
    original = photo(image)
    height, width = original.shape[1:]
    shown = len(_strongest(_evidence(explanation, target), top, "both"))
    titles = {0: "no segment has any evidence", 1: "the strongest segment"}
    panels = {
        "photo": original,
        titles.get(shown, f"the {shown} strongest segments"): overlay(
            explanation, image, target, top, box=box
        ),
        "evidence for (blue) and against (orange)": heatmap_picture(
            explanation, image, target, box=box
        ),
        "change of the score, 95 % interval": bars(
            explanation, target, top, size=(max(width, 240), max(height, 180))
        ),
    }
    gap = max(8, round(math.sqrt(height * width) / 30))
    text = max(11, round(math.sqrt(height * width) / 26))
    page = _page(panels, 2 if width >= height else 4, gap, text)
    if caption:
        page = torch.cat([_line(caption, page.shape[2], round(1.3 * text)), page], dim=1)
    return pad(page, (gap, gap, gap, gap), value=255)


def resized(
    image: Tensor, box: Box, seen: tuple[int, ...], max_side: int | None = None
) -> tuple[Tensor, Box]:
    """The photo and its box, of a size that is good to look at.

    A photo whose explained part is smaller than the pixels that the network saw is enlarged by a
    whole number, up to 2048 pixels; then it is made no larger than ``max_side``.

    Args:
        image: the photo, as the module describes it.
        box: the explained part.
        seen: (h, w) of the network's picture of it.
        max_side: the longer side at most; None keeps what a photo has.

    Returns:
        The photo (``image`` itself where its size is good, else [3,H,W] uint8), and its box.

    Example:
        >>> picture, box = resized(torch.rand(3, 60, 80), (10, 0, 70, 60), (224, 224))
        >>> list(picture.shape), box
        ([3, 240, 320], (40.0, 0.0, 280.0, 240.0))
    """
    canvas = _photo(image)
    longest = max(canvas.shape[1:])
    enough = max(seen[0] / (box[3] - box[1]), seen[1] / (box[2] - box[0]))
    scale: float = max(1, min(math.ceil(enough), 2048 // longest))
    if max_side is not None:
        check_count(max_side, "max_side")
        scale = min(scale, max_side / longest)
    if scale == 1:
        return image, box
    size = [max(1, round(side * scale)) for side in canvas.shape[1:]]
    resized = interpolate(canvas[None], size, mode="bilinear", antialias=True)[0]
    x, y = size[1] / canvas.shape[2], size[0] / canvas.shape[1]
    return _picture(resized.clamp(0, 1)), (box[0] * x, box[1] * y, box[2] * x, box[3] * y)


def _page(panels: dict[str, Tensor], columns: int, gap: int, text: int) -> Tensor:
    """Pictures under their titles in rows of ``columns``, on white: [3,H,W]."""
    height, width = (max(panel.shape[axis] for panel in panels.values()) for axis in (1, 2))
    cells = []
    for title, panel in panels.items():
        right, below = width - panel.shape[2], height - panel.shape[1]
        cell = torch.cat([_line(title, panel.shape[2], text), panel], dim=1)
        cells.append(pad(cell, (0, right, 0, below), value=255))
    rows = [side_by_side(*cells[i : i + columns], gap=gap) for i in range(0, 4, columns)]
    return torch.cat(
        [pad(row, (0, 0, gap * (i > 0), 0), value=255) for i, row in enumerate(rows)], 1
    )


def _line(text: str, width: int, height: int) -> Tensor:
    """A line of text with room below, on white: [3,1.6·height,width]; smaller where it is long."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    line = Image.new("RGB", (width, round(1.6 * height)), "white")
    draw = ImageDraw.Draw(line)
    room = draw.textlength(text, ImageFont.load_default(height))
    font = ImageFont.load_default(max(4, min(height, height * width / max(room, 1))))
    draw.text((0, 0.7 * height), text, _DARK, font, anchor="lm")
    return torch.from_numpy(np.array(line)).permute(2, 0, 1)


def save_png(picture: Tensor, path: str | os.PathLike[str]) -> None:
    """Write ``picture`` [3,H,W] uint8 as a PNG file, wholly or not at all.

    Raises:
        TypeError: ``picture`` is not a uint8 tensor [3,H,W].
        OSError: the file cannot be written there; the message names ``path``.
    """
    from torchvision.transforms.functional import to_pil_image

    _check_picture(picture)
    image = to_pil_image(picture.cpu())
    with whole_file(path) as file:
        image.save(file, "PNG")


def figure(
    explanation: "Explanation",
    image: Tensor,
    target: int | None = None,
    top: int = 5,
    *,
    box: Box | None = None,
    caption: str = "",
) -> "Figure":
    """Photo, overlay, segments and bars as a matplotlib Figure, for papers and notebooks.

    The Figure belongs to no window and no pyplot state: ``figure(…).savefig("cat.pdf")``.

    Args:
        explanation, image, target, top, box, caption: as for :func:`sheet`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: as :func:`overlay` does.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "figure() needs matplotlib (pip install matplotlib); "
            "overlay(), bars() and save_png() do without"
        ) from error

    evidence = _evidence(explanation, target)
    shown = _strongest(evidence, top, "both")
    pictures = {
        "image": _picture(_placed(image, evidence, box)[0]),
        f"evidence for and against {evidence.target}": overlay(
            explanation, image, target, top, box=box
        ),
        f"{len(evidence.coefficients)} segments": boundaries(evidence.segments, image, box=box),
    }
    aspect = image.shape[-2] / image.shape[-1]
    result = Figure(figsize=(13, min(max(3.1 * aspect, 1.5), 8) + 0.5), layout="constrained")
    if caption:
        result.suptitle(caption)
    *photos, chart = result.subplots(1, 4)
    for axes, (title, picture) in zip(photos, pictures.items(), strict=True):
        axes.imshow(picture.permute(1, 2, 0).numpy())
        axes.set_title(title, fontsize="medium")
        axes.set_axis_off()
    values = evidence.coefficients[shown].tolist()
    chart.barh(
        range(len(shown)),
        values,
        xerr=[1.96 * error for error in evidence.errors[shown].tolist()],
        color=[tuple(c / 255 for c in (FOR if value > 0 else AGAINST)) for value in values],
        ecolor="0.1",
        capsize=3,
    )
    names = [f"{rank}  #{segment}" for rank, segment in enumerate(shown, start=1)]
    chart.set_yticks(range(len(shown)), names)
    chart.invert_yaxis()
    chart.axvline(0, color="0.5", linewidth=0.8)
    chart.spines[["top", "right"]].set_visible(False)
    chart.set_box_aspect(aspect)
    chart.set_title("coefficients, 95 % interval", fontsize="medium")
    return result


class _Evidence(NamedTuple):
    """What is drawn of an explanation: one image, one target, on the CPU.

    Convention:
        segments: [H,W] int64.
        coefficients: [count] float64, 0 where the explanation's is not finite.
        errors: [count] float64, standard errors, NaN where not finite.
    """

    target: int
    segments: Tensor
    coefficients: Tensor
    errors: Tensor


def _evidence(explanation: "Explanation", target: int | None, *, pixels: bool = True) -> _Evidence:
    if pixels:
        label_map_of(explanation)
    row, count = row_of(explanation, target), int(explanation.segment_count[0])
    coefficients, errors = (
        values[0, row, :count].detach().cpu().double()
        for values in (explanation.coefficients, explanation.standard_errors)
    )
    return _Evidence(
        int(explanation.targets[0, row]),
        torch.empty(0, 0) if explanation.segments is None else explanation.segments[0].cpu(),
        coefficients.nan_to_num(0, 0, 0),
        errors.where(errors.isfinite(), math.nan),
    )


def _strongest(evidence: _Evidence, top: int, sign: Sign) -> list[int]:
    """Ids of the segments to show, strongest first."""
    check_count(top, "top")
    if sign not in ("positive", "negative", "both"):
        raise ValueError(f'sign must be "positive", "negative" or "both", got {sign!r}')
    c = evidence.coefficients
    wanted = {"positive": c > 0, "negative": c < 0, "both": c != 0}[sign]
    order = c.abs().argsort(descending=True, stable=True)
    return order[wanted[order]][:top].tolist()


def _ranks(evidence: _Evidence, shown: list[int]) -> Tensor:
    """Rank of each pixel's segment [H,W]: 1…k, and 0 where it is not shown."""
    ranks = torch.zeros_like(evidence.coefficients, dtype=torch.int64)
    ranks[shown] = torch.arange(1, len(shown) + 1, device="cpu")
    return ranks[evidence.segments]


# Photos and pictures. A canvas is float32 [3,H,W] in [0,1] and is drawn on in place.


def _photo(image: Tensor) -> Tensor:
    """``image`` as a new canvas; the module's docstring says how."""
    if not isinstance(image, Tensor):
        raise TypeError(f"image must be a tensor [C,H,W], got {type(image).__name__}")
    pixels = image.detach().cpu()
    if pixels.dim() == 4 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.dim() != 3 or pixels.shape[0] not in (1, 3, 4) or 0 in pixels.shape:
        raise ValueError(
            "image must be [C,H,W] or [1,C,H,W] with 1, 3 or 4 channels and at least one pixel, "
            f"got {list(image.shape)}"
        )
    if pixels.dtype == torch.uint8:
        return _rgb_of(pixels.float() / 255)
    if not pixels.is_floating_point():
        raise TypeError(f"image must be uint8 or floating point, got {pixels.dtype}")
    if _in_unit_range(pixels):
        return _rgb_of(pixels.to(torch.float32, copy=True))
    broken = ~pixels.isfinite().all(dim=0)
    return _rgb_of(_stretched(pixels)).masked_fill(broken, 0.5)


def _rgb_of(pixels: Tensor) -> Tensor:
    """[3,H,W] of grey, RGB or RGBA pixels in [0,1]; transparency is laid on white."""
    if len(pixels) == 4:
        pixels = 1 - pixels[3:] * (1 - pixels[:3])
    return pixels.expand(3, -1, -1).contiguous()


def _in_unit_range(pixels: Tensor) -> bool:
    low, high = pixels.aminmax()  # both NaN where any pixel is
    return bool((low >= 0) & (high <= 1))


def _stretched(pixels: Tensor) -> Tensor:
    """Float32 in [0,1], by their finite extremes if those lie outside of it."""
    finite = pixels[pixels.isfinite()]
    if not len(finite) or _in_unit_range(finite):
        return pixels.float()
    low, high = (extreme.double() for extreme in finite.aminmax())
    return ((pixels.double() - low) / (high - low)).nan_to_num(0.5).float()


def _placed(image: Tensor, evidence: _Evidence, box: Box | None) -> tuple[Tensor, _Evidence]:
    """The image as a canvas, and the evidence on its pixels: none of it outside of the box."""
    canvas = _photo(image)
    if box is not None:
        outside = len(evidence.coefficients)
        size = (canvas.shape[1], canvas.shape[2])
        evidence = evidence._replace(
            segments=on_photo(evidence.segments, size, box, outside),
            coefficients=pad(evidence.coefficients, (0, 1)),
            errors=pad(evidence.errors, (0, 1), value=math.nan),
        )
    _check_size(canvas, evidence.segments)
    return canvas, evidence


def _faded(canvas: Tensor, box: Box | None) -> Tensor:
    """Fade what lies outside of the box, in place, and draw the box's edge inside of it."""
    if box is None:
        return canvas
    inside = on_photo(torch.ones(1, 1, dtype=torch.int64), (canvas.shape[1], canvas.shape[2]), box)
    if (inside == 1).all():
        return canvas
    canvas.lerp_(torch.ones_like(canvas), _FADING * (inside < 0))
    _draw_borders(canvas, inside, _WHITE, _line_width(canvas))
    return canvas


def _check_size(canvas: Tensor, labels: Tensor) -> None:
    if canvas.shape[1:] != labels.shape:
        (h, w), (rows, columns) = canvas.shape[1:], labels.shape
        raise ValueError(f"image is {h}×{w} pixels, but its segments are {rows}×{columns}")


def _check_picture(picture: Tensor) -> None:
    if picture.dtype != torch.uint8 or picture.dim() != 3 or picture.shape[0] != 3:
        raise TypeError(
            f"a picture is a uint8 tensor [3,H,W], got {picture.dtype} {list(picture.shape)}"
        )


def _picture(canvas: Tensor) -> Tensor:
    return (canvas * 255).round().to(torch.uint8)


def _rgb(color: Iterable[float]) -> Tensor:
    return torch.tensor([c / 255 for c in color], dtype=torch.float32, device="cpu")


def _grey(canvas: Tensor) -> Tensor:
    """Luma of the canvas (ITU-R BT.601) in all three channels."""
    luma = 0.299 * canvas[0] + 0.587 * canvas[1] + 0.114 * canvas[2]
    return luma.expand_as(canvas)


# Lines


def _line_width(canvas: Tensor) -> int:
    """Lines keep their share of the picture: 1 pixel at 224×224, 13 at 4000×4000."""
    return max(1, round(math.sqrt(canvas[0].numel()) / 300))


def _draw_borders(canvas: Tensor, labels: Tensor, color: Color, width: int) -> None:
    """Lines where labels change, with a dark rim so that they read on any background."""
    edge = torch.zeros_like(labels, dtype=torch.bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    rim = (width + 1) // 2
    canvas.lerp_(
        _rgb(_DARK)[:, None, None], 0.55 * _thick(edge, width // 2 + rim, (width - 1) // 2 + rim)
    )
    canvas.lerp_(_rgb(color)[:, None, None], _thick(edge, width // 2, (width - 1) // 2))


def _thick(edge: Tensor, before: int, after: int) -> Tensor:
    """``edge`` grown by ``after`` pixels up and left and by ``before`` down and right."""
    grown = pad(edge.float(), (before, after, before, after))[None]
    length = before + after + 1
    return max_pool2d(max_pool2d(grown, (1, length), 1), (length, 1), 1)[0]


def _draw_box(
    canvas: Tensor, left: float, top: float, right: float, bottom: float, color: Color
) -> None:
    """Fill a box, at least one pixel thick, as far as it lies on the canvas."""
    x, y = round(left), round(top)
    width, height = max(1, round(right) - x), max(1, round(bottom) - y)
    canvas[:, max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = _rgb(color)[
        :, None, None
    ]


# Numbers


def _draw_numbers(canvas: Tensor, ranks: Tensor, hues: list[Color]) -> None:
    """Ranks, rimmed in the hues of their evidence: a number may hide a small segment."""
    height, width = ranks.shape
    text = max(9, round(math.sqrt(height * width) / 19))
    for rank, hue in enumerate(hues, start=1):
        number = str(rank)
        half_height, half_width = text / 2 + 1, _text_width(number, text) / 2 + 1
        inside = ranks == rank
        if 2 * half_height > height or 2 * half_width > width or not inside.any():
            continue  # too small a picture for the number, or for the segment
        row, column = _inner_point(inside)
        y = min(max(row + 0.5, half_height), height - half_height)
        x = min(max(column + 0.5, half_width), width - half_width)
        rim = (hue, max(2, text // 6))
        _draw_text(canvas, number, x, y, text, _WHITE, align=0.5, rim=rim)


def _inner_point(inside: Tensor) -> tuple[int, int]:
    """(row, column) of a point deep inside a region [H,W], which may have any shape.

    Of the pixels about as far from the border as any (within 10 %), the one nearest to the
    centroid; the centroid itself can lie outside. Large regions are read on a coarser grid.
    """
    rows, columns = inside.any(dim=1).nonzero()[:, 0], inside.any(dim=0).nonzero()[:, 0]
    top, left = int(rows[0]), int(columns[0])
    region = inside[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    step = math.ceil(max(region.shape) / 128)
    coarse = region[::step, ::step]
    if not coarse.any():  # thinner than the grid: any pixel is as deep as another
        y, x = region.nonzero()[0].tolist()
        return top + y, left + x
    depth = _depth(coarse)
    deep = (depth >= 0.9 * depth.max()).nonzero()
    centroid = coarse.nonzero().double().mean(dim=0)
    y, x = deep[(deep - centroid).square().sum(dim=1).argmin()].tolist()
    return top + step * y, left + step * x


def _depth(inside: Tensor) -> Tensor:
    """Euclidean distance [H,W] of each pixel to the nearest one outside; the frame is outside.

    Along the columns first, then the best over each row: exact, O(H·W²).
    """
    inside = pad(inside, (1, 1, 1, 1))
    height, width = inside.shape
    y = torch.arange(height, device="cpu")[:, None].expand(height, width)
    x = torch.arange(width, device="cpu")
    above = torch.where(inside, 0, y).cummax(dim=0).values
    below = torch.where(inside, height, y).flip(0).cummin(dim=0).values.flip(0)
    column = torch.minimum(y - above, below - y).square()
    squared = (column[:, None, :] + (x[:, None] - x).square()).amin(dim=2)
    return squared[1:-1, 1:-1].double().sqrt()


def _text_width(text: str, height: int) -> int:
    return max(1, round((6 * len(text) - 1) * height / 7))


def _stroke_distance(text: str, height: int, margin: int) -> Tensor:
    """Distance in pixels [height+2m, width+2m] from each pixel to the strokes of ``text``."""
    lines = [
        [(int(point[0]) + 6 * place + 0.5, int(point[1]) + 0.5) for point in path.split()]
        for place, glyph in enumerate(text)
        for path in _STROKES[glyph].split(",")
    ]
    ends = [pair for line in lines for pair in itertools.pairwise(line)]
    start, stop = (torch.tensor(ends, dtype=torch.float32, device="cpu") * height / 7).unbind(1)
    x, y = (
        torch.arange(-margin, length + margin, dtype=torch.float32, device="cpu") + 0.5
        for length in (_text_width(text, height), height)
    )
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None]
    along = stop - start
    share = ((points - start) * along).sum(-1) / along.square().sum(-1).clamp(min=1e-6)
    nearest = start + share.clamp(0, 1)[..., None] * along
    return (points - nearest).norm(dim=-1).amin(dim=2)


def _draw_text(
    canvas: Tensor,
    text: str,
    x: float,
    y: float,
    height: int,
    color: Color,
    *,
    align: float,
    rim: tuple[Color, int] | None = None,
) -> None:
    """Write ``text``, its middle at ``y``, its left (align 0), middle (½) or right (1) at ``x``."""
    margin = rim[1] if rim else 0
    distance = _stroke_distance(text, height, margin)
    top = round(y - distance.shape[0] / 2)
    left = round(x - align * _text_width(text, height)) - margin
    ink = 0.62 * height / 7 + 0.5 - distance
    if rim:
        _blend(canvas, rim[0], (ink + margin).clamp(0, 1), top, left)
    _blend(canvas, color, ink.clamp(0, 1), top, left)


def _blend(canvas: Tensor, color: Color, cover: Tensor, top: int, left: int) -> None:
    """Lay ``color`` on the canvas through ``cover`` [h,w], clipped to the canvas."""
    part = canvas[:, max(0, top) : max(0, top + cover.shape[0])]
    part = part[:, :, max(0, left) : max(0, left + cover.shape[1])]
    cover = cover[max(0, -top) :, max(0, -left) :][: part.shape[1], : part.shape[2]]
    part.lerp_(_rgb(color)[:, None, None], cover)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` steps of 1, 2 or 5 times 10ⁿ."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= 0.9999 * least)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
