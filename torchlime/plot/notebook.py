"""What a notebook shows of an explanation: its lines, and pictures of its strongest evidence.

The explained images are not kept in an explanation. So the pictures show the segments alone;
``Classifier.sheet`` and :func:`torchlime.plot.overlay` draw them on the photo.
"""

import base64
import io
import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torchlime._names import TextNames
from torchlime._reading import (
    first_name,
    headline,
    others_in_words,
    problems_in_words,
    target_in_words,
)
from torchlime.plot._evidence import evidence_of, is_pictured, ranks_of, strongest
from torchlime.plot._numbers import numbered
from torchlime.plot.charts import bars
from torchlime.plot.files import save_png
from torchlime.plot.highlights import highlighted
from torchlime.plot.overlays import heatmap_picture

if TYPE_CHECKING:
    from torchlime.explanation import Explanation

_INPUTS, _TARGETS, _TOP = 4, 3, 5
_SIDE = 240  # pixels of the longer side of a picture
_CHART = (400, 240)


def html_of(explanation: "Explanation") -> str:
    """An explanation as a piece of HTML that needs no other file, no script and no host."""
    parts = [_line(headline(explanation))]
    for number in range(min(len(explanation), _INPUTS)):
        one = explanation[number]
        if len(explanation) > 1:
            parts.append(_line(f"{one.kind.input} {number}"))
        parts += [_line(sentence) for sentence in problems_in_words(one)]
        parts += [_row(one, place) for place in range(min(one.targets.shape[1], _TARGETS))]
    if len(explanation) > _INPUTS:
        parts.append(_line(others_in_words(explanation, _INPUTS)))
    return f"<div>{''.join(parts)}</div>"


def _line(text: str) -> str:
    return f'<div style="margin: 4px 0">{escape(text)}</div>'


def _row(one: "Explanation", place: int) -> str:
    """The pictures of one input and target, beside each other where there is room."""
    target = int(one.targets[0, place])
    name = first_name(one.category(target))
    pictures = "".join(
        f'<img src="data:image/png;base64,{_encoded(picture)}" alt="{escape(title)}" '
        f'title="{escape(title)}" style="max-width: 100%; background: white">'
        for title, picture in _pictures(one, target, name)
    )
    style = "display: flex; flex-wrap: wrap; align-items: flex-start; gap: 8px; margin: 4px 0"
    text = highlighted(one, target) if isinstance(one.named, TextNames) else ""
    return f'{_line(target_in_words(one, place))}{text}<div style="{style}">{pictures}</div>'


def _pictures(one: "Explanation", target: int, name: str) -> Iterator[tuple[str, Tensor]]:
    if is_pictured(one):
        yield f"segments for (blue) and against (orange) {name}", _segments(one, target)
    yield f"the strongest {one.kind.part}s of {name}", bars(one, target, _TOP, _CHART)


def _segments(one: "Explanation", target: int) -> Tensor:
    """All evidence as colours, with the ranks of the strongest segments: [3,h,w]."""
    evidence = evidence_of(one, target)
    shown = strongest(evidence, _TOP)
    ranks, heat = ranks_of(evidence, shown), heatmap_picture(one, None, target)
    height, width = ranks.shape
    rows, columns = (_sampled(side, max(height, width)) for side in (height, width))
    ranks, heat = ranks[rows][:, columns], heat[:, rows][:, :, columns]
    return numbered(heat, ranks, evidence.coefficients[shown].tolist())


def _sampled(side: int, longest: int) -> Tensor:
    """Which pixels of a side are shown, so that the longest one has :data:`_SIDE` of them."""
    size = max(1, math.ceil(side * _SIDE / longest))
    return torch.arange(size, device="cpu") * side // size


def _encoded(picture: Tensor) -> str:
    buffer = io.BytesIO()
    save_png(picture, buffer)
    return base64.b64encode(buffer.getvalue()).decode()
