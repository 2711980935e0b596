"""Evidence on the photo: its strongest segments, all of it as colours, or the segments alone."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchlime._checks import check_count
from torchlime.plot._canvas import (
    AGAINST,
    FOR,
    WHITE,
    Color,
    canvas_of,
    check_size,
    grey,
    picture_of,
    rgb,
)
from torchlime.plot._evidence import Segments, Sign, evidence_of, label_map, ranks_of, strongest
from torchlime.plot._lines import draw_borders, line_width
from torchlime.plot._numbers import numbered
from torchlime.plot.photos import Box, faded, on_photo, placed

if TYPE_CHECKING:
    import numpy as np

    from torchlime.explanation import Explanation
    from torchlime.plot._canvas import PhotoLike

# The strongest segment has opacity 1 (times the caller's), the weakest has this opacity.
_FAINTEST = 0.2
# How far colours fade to grey under an overlay, so that only the evidence has a hue.
_MUTING = 0.6


def overlay(
    explanation: "Explanation",
    image: "PhotoLike",
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
    weakest evidence is still faintly visible. Without evidence to show, the photo stays as it is.

    Convention:
        ``top`` counts the segments of the given sign by |coefficient|; ties go to the lower id. A
        coefficient that is 0 or not finite is not evidence. Numbers are the ranks 1…top, each
        at a point well inside its segment. An image that is too small for a number has none.

    Args:
        explanation: of one image (index a batch first).
        image: the explained image, as the package describes it.
        target: one of ``explanation.targets``; None is the first.
        top: the largest number of segments.
        sign: "positive" (evidence for), "negative" (against) or "both".
        opacity: the opacity of the strongest tint, in [0,1].
        numbers: whether to draw the ranks.
        box: where the explained pixels lie in ``image``, as the package describes it.

    Raises:
        TypeError: an image of another type, or ``top`` is not an int.
        ValueError: more than one image, an unknown target or sign, ``top`` below 1, an opacity
            outside [0,1], or an image whose shape or size does not fit.

    Example:
        >>> import torchlime
        >>> explanation = torchlime.explain(
        ...     lambda x: x.sum((2, 3)), torch.ones(1, 1, 1, 4), num_samples=8,
        ...     segments=torch.tensor([[0, 0, 0, 1]]))
        >>> overlay(explanation, torch.zeros(3, 1, 4), target=0, top=1).shape
        torch.Size([3, 1, 4])
    """
    evidence = evidence_of(explanation, target)
    shown = strongest(evidence, top, sign)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0,1], got {opacity!r}")
    canvas, evidence = placed(image, evidence, box)
    if not shown:
        return picture_of(faded(canvas, box))
    ranks = ranks_of(evidence, shown)
    values = evidence.coefficients[shown]
    strengths = (values / evidence.coefficients.abs().max()).abs().float()
    tints = pad(opacity * (_FAINTEST + (1 - _FAINTEST) * strengths), (1, 0))
    hues = pad(_hues(values), (0, 0, 1, 0))
    canvas.lerp_(grey(canvas), _MUTING)
    canvas.lerp_(hues.T[:, ranks], tints[ranks])
    draw_borders(canvas, ranks, WHITE, line_width(canvas))
    faded(canvas, box)
    picture = picture_of(canvas)
    return numbered(picture, ranks, values.tolist()) if numbers else picture


def boundaries(
    segments: "Tensor | Segments | np.ndarray[Any, Any]",
    image: "PhotoLike",
    color: Color = (255, 255, 255),
    width: int | None = None,
    *,
    box: Box | None = None,
) -> Tensor:
    """The borders of all segments on the photo, a line with a dark rim: [3,H,W].

    Args:
        segments: a label map [H,W] or [1,H,W] of any ids, or the Segments of one image.
        image: as the package describes it.
        color: the colour of the line, RGB in 0…255.
        width: the width of the line in pixels, without its rim; None grows it with the image.
        box: where the segments lie in ``image``, as the package describes it.

    Raises:
        TypeError: an image of another type, or a width that is not an int.
        ValueError: label maps of several images, an image of another size, a width below 1
            or a colour out of range.

    Example:
        >>> halves = torch.tensor([[0, 0, 0, 1, 1, 1]])
        >>> boundaries(halves, torch.zeros(1, 1, 6), color=(255, 0, 0), width=1)[0].tolist()
        [[0, 14, 255, 14, 0, 0]]
    """
    labels = label_map(segments)
    if len(color) != 3 or not all(0 <= channel <= 255 for channel in color):
        raise ValueError(f"color must be three channels in 0…255, got {color!r}")
    if width is not None:
        check_count(width, "width")
    canvas = canvas_of(image)
    if box is not None:
        labels = on_photo(labels, (canvas.shape[1], canvas.shape[2]), box)
    check_size(canvas, labels)
    draw_borders(canvas, labels, color, width or line_width(canvas))
    return picture_of(faded(canvas, box))


def heatmap_picture(
    explanation: "Explanation",
    image: "PhotoLike | None" = None,
    target: int | None = None,
    *,
    box: Box | None = None,
) -> Tensor:
    """All coefficients as colours, blended over the grey photo if ``image`` is given: [3,H,W].

    Convention:
        Colours run from orange (−m) over white (0) to blue (+m), where m is the largest
        |coefficient| of the target. The limits are symmetric, so white means no evidence.

    Args:
        explanation, target, box: as for :func:`overlay`.
        image: as for :func:`overlay`; None = the colours alone, in the size of the label map.

    Raises:
        TypeError, ValueError: as :func:`overlay` does.
    """
    evidence = evidence_of(explanation, target)
    if image is not None:
        canvas, evidence = placed(image, evidence, box)
    strength = evidence.coefficients / evidence.coefficients.abs().max().clamp(min=1e-300)
    strength = pad(strength, (0, 1))  # the background, −1, takes the last entry
    colors = rgb(WHITE).lerp(_hues(strength), strength.abs().float()[:, None])
    heat = colors.T[:, evidence.segments]
    if image is None:
        return picture_of(heat)
    return picture_of(faded(grey(canvas).lerp(heat, 0.65), box))


def _hues(values: Tensor) -> Tensor:
    """The colour [n,3] of each coefficient [n]."""
    return torch.where(values[:, None] > 0, rgb(FOR), rgb(AGAINST))
