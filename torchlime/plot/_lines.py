"""Lines where labels change."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchlime.plot._canvas import DARK, Color, rgb


def line_width(canvas: Tensor) -> int:
    """Lines keep their share of the picture: 1 pixel at 224×224, 13 at 4000×4000."""
    return max(1, round(math.sqrt(canvas[0].numel()) / 300))


def draw_borders(canvas: Tensor, labels: Tensor, color: Color, width: int) -> None:
    """Lines where labels change, with a dark rim so that they read on any background."""
    edge = torch.zeros_like(labels, dtype=torch.bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    rim = (width + 1) // 2
    dark = _thick(edge, width // 2 + rim, (width - 1) // 2 + rim)
    line = _thick(edge, width // 2, (width - 1) // 2)
    canvas.lerp_(rgb(DARK)[:, None, None], 0.55 * dark.float())
    canvas.lerp_(rgb(color)[:, None, None], line.float())


def _thick(edge: Tensor, before: int, after: int) -> Tensor:
    """``edge`` grown by ``after`` pixels up and left and by ``before`` down and right."""
    grown = pad(edge, (before, after, before, after))
    for axis in (0, 1):
        span, length = 1, before + after + 1
        while span < length:  # each pixel covers `span` pixels; two of them cover twice as many
            step = min(span, length - span)
            rest = grown.shape[axis] - step
            grown = grown.narrow(axis, 0, rest) | grown.narrow(axis, step, rest)
            span += step
    return grown
