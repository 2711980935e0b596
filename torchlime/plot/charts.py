"""Bars: how much each of the strongest segments or features counts."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from torchlime._checks import check_count
from torchlime._reading import part_names
from torchlime.plot._canvas import DARK, Color
from torchlime.plot._evidence import Evidence, evidence_of, is_pictured, strongest
from torchlime.plot._images import tensor_of
from torchlime.plot._numbers import badge_width, draw_badge, hue_of
from torchlime.plot._text import Face, face_of
from torchlime.plot._words import axis_title

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from torchlime.explanation import Explanation

QUIET: Color = (90, 90, 90)  # for less important text; its contrast with white is about 7:1
_ZERO: Color = (140, 140, 140)
_PALE: Color = (228, 228, 228)
_WIDTH = 480
_LABELS = 0.42  # the share of a chart's width that labels have at most


def bars(
    explanation: "Explanation",
    target: int | None = None,
    top: int = 10,
    size: tuple[int, int] | None = None,
    *,
    names: Sequence[str] | None = None,
    name: str | None = None,
    unit: str | None = None,
) -> Tensor:
    """The strongest segments (or features) as horizontal bars with 95 % error bars: [3,h,w].

    A segment's row has its rank, the number that :func:`overlay` draws on it. A row of a feature,
    or of a segment that no overlay can draw, has its name, or its number; a long name takes two
    lines where there is room. Hiding a segment or a word lowers the score by about the length of
    its bar. For a bin of a table, the bar is what the score gains because the value is in this bin,
    not elsewhere in its column. For numbers without bins, it is the change of the score per unit.
    Error bars are ±1.96 standard errors; where there is no finite standard error, as after a Lasso,
    there is no error bar.

    Args:
        explanation: of one input: an image, a vector, a row of a table or a text.
        target: one of ``explanation.targets``; None is the first.
        top: the largest number of segments, ranked as :func:`overlay` does.
        size: (w, h) of the chart in pixels; None is 480 wide and as high as its rows need.
        names: of all segments or features, in the order of the coefficients; None = the names that
            the explanation has, else numbers.
        name: the target's name for the axis: "tiger cat"; None is the explanation's name of it,
            or "class" and its number.
        unit: what the scores are, for the axis: "probability", "logit"; None is the explanation's.

    Raises:
        TypeError: ``names`` is one str, or ``top`` or a size is not an int.
        ValueError: more than one input, an unknown target, a wrong number of names, ``top`` or a
            size below 1.
    """
    evidence = evidence_of(explanation, target, pixels=False, name=name, unit=unit)
    ranked = evidence.noun == "segment" and is_pictured(explanation)
    given = _own_names(explanation, evidence, ranked) if names is None else names
    rows = _rows(evidence, strongest(evidence, top), given, ranked)
    axis = axis_title(evidence)
    if size is None:
        text = round(_WIDTH / 30)
        size = (_WIDTH, needed_height(len(rows), text, _lines_of(rows, _WIDTH, text)))
    else:
        check_count(size[0], "size[0]")
        check_count(size[1], "size[1]")
        text = min(size[0] // 26, size[1] // 16, round(size[1] / (1.6 * len(rows) + 4)))
    face = face_of(axis, *(row.label for row in rows))
    return chart(rows, axis, size, max(7, text), face)


class Row(NamedTuple):
    """A bar: its rank (None for a feature), label, coefficient, and half its interval (or 0)."""

    rank: int | None
    label: str
    value: float
    reach: float


def rows_of(evidence: Evidence, shown: list[int]) -> list[Row]:
    """The bars of segments without names."""
    return _rows(evidence, shown, None, ranked=True)


def needed_height(rows: int, text: int, lines: int = 1) -> int:
    """The height in pixels that ``rows`` of ``lines`` each need, for ``text`` pixels an em."""
    return round(text * ((0.7 + lines) * max(rows, 2) + 4))


def has_intervals(rows: Sequence[Row]) -> bool:
    """Whether any bar has an error bar."""
    return any(row.reach > 0 for row in rows)


def chart(rows: Sequence[Row], axis: str, size: tuple[int, int], text: int, face: Face) -> Tensor:
    """Draw rows above an axis and its title: [3,h,w]."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    if rows:
        place = _laid_out(rows, face, size, text)
        _draw_axis(draw, place, face, axis)
        for i, row in enumerate(rows):
            _draw_row(draw, place, face, row, i)
    else:
        draw.text((size[0] / 2, size[1] / 2), "no evidence", QUIET, face.font(text), anchor="mm")
    return tensor_of(image)


class _Place(NamedTuple):
    """Where the parts of a chart lie, in pixels; text is pixels an em."""

    width: int
    text: int
    rank: float  # the middle of the ranks
    label: float  # the right end of the labels
    room: float  # of a label
    left: float
    right: float
    top: float
    bottom: float
    row: float
    low: float
    scale: float  # pixels a unit

    def x(self, value: float) -> float:
        return self.left + (value - self.low) * self.scale

    def y(self, row: int) -> float:
        return self.top + (row + 0.5) * self.row


def _own_names(
    explanation: "Explanation", evidence: Evidence, ranked: bool
) -> Sequence[str] | None:
    """What the explanation calls its features; a segment without a rank has its id."""
    own = explanation.names()
    if own or ranked:
        return own[0] if own else None
    count = len(evidence.coefficients)
    ids = range(count) if explanation.ids is None else explanation.ids[0, :count].tolist()
    called = part_names(explanation)
    return [f"{evidence.noun} {called.get(i, str(i))}" for i in ids]


def _lines_of(rows: Sequence[Row], width: int, text: int) -> int:
    """How many lines the labels need."""
    face = face_of(*(row.label for row in rows))
    widths = [face.width(face.readable(row.label), text) for row in rows]
    return 2 if max(widths, default=0) > _LABELS * width else 1


def _rows(
    evidence: Evidence, shown: list[int], names: Sequence[str] | None, ranked: bool
) -> list[Row]:
    count = len(evidence.coefficients)
    if isinstance(names, str):
        raise TypeError(f"names must be {count} names, got the str {names!r}")
    if names is not None and len(names) != count:
        raise ValueError(f"names must be {count} names, got {len(names)}")
    values = evidence.coefficients[shown].tolist()
    reaches = (1.96 * evidence.errors[shown]).nan_to_num(0).tolist()
    labels = ["" if names is None else str(names[i]) for i in shown]
    return [
        Row(rank if ranked else None, label, value, reach)
        for rank, (label, value, reach) in enumerate(
            zip(labels, values, reaches, strict=True), start=1
        )
    ]


def _laid_out(rows: Sequence[Row], face: Face, size: tuple[int, int], text: int) -> _Place:
    width, height = size
    ranks = [badge_width(str(row.rank), text) for row in rows if row.rank is not None]
    labels = [face.width(face.readable(row.label), text) for row in rows if row.label]
    rank_room = max(ranks, default=0)
    room = min(max(labels, default=0), _LABELS * width)
    label = 0.5 * text + rank_room + (0.5 * text if ranks and labels else 0) + room
    left, right = label + 0.7 * text, max(label + 1.7 * text, width - 1.2 * text)
    top, bottom = 0.3 * text, max(1.0, height - 3.6 * text)
    low, high = _span(rows)
    return _Place(
        width, text, 0.5 * text + rank_room / 2, label, room, left, right, top, bottom,
        (bottom - top) / len(rows), low, (right - left) / (high - low),
    )  # fmt: skip


def _span(rows: Sequence[Row]) -> tuple[float, float]:
    """The ends of the axis: all bars and their intervals, and 0."""
    low = min(0.0, *(row.value - row.reach for row in rows))
    high = max(0.0, *(row.value + row.reach for row in rows))
    return (low, high) if high - low >= 1e-300 else (-1.0, 1.0)


def _draw_axis(draw: "ImageDraw", place: _Place, face: Face, title: str) -> None:
    text, font, line = place.text, face.font(place.text), _line(place)
    high = place.low + (place.right - place.left) / place.scale
    for tick in _spaced_ticks(place, face, high):
        x, label = place.x(tick), spelled(tick)
        left = round(x - line / 2)
        _draw_box(draw, (left, place.top, left + line, place.bottom), _PALE if tick else _ZERO)
        half = face.width(label, text) / 2 + text / 4
        middle = min(max(x, half), place.width - half)
        draw.text((middle, place.bottom + 1.2 * text), label, QUIET, font, anchor="ms")
    title = face.shortened(title, text, place.width - text)
    half = face.width(title, text) / 2
    middle = (place.left + place.right) / 2
    middle = min(max(middle, half + text / 2), place.width - half - text / 2)
    draw.text((middle, place.bottom + 2.8 * text), title, DARK, font, anchor="ms")


def _spaced_ticks(place: _Place, face: Face, high: float) -> list[float]:
    """Ticks whose labels stand apart: as many as fit, up to 6 steps."""
    for most in range(6, 2, -1):
        found = ticks(place.low, high, most)
        widest = max(face.width(spelled(tick), place.text) for tick in found)
        apart = (found[1] - found[0]) * place.scale if len(found) > 1 else math.inf
        if widest + 0.6 * place.text <= apart:
            return found
    return ticks(place.low, high, 2)


def _draw_row(draw: "ImageDraw", place: _Place, face: Face, row: Row, i: int) -> None:
    text, y = place.text, place.y(i)
    half = min(0.34 * place.row, 0.75 * text)
    left, right = sorted((place.x(0), place.x(row.value)))
    _draw_box(draw, (left, y - half, right, y + half), hue_of(row.value))
    if row.reach > 0:
        _draw_interval(draw, place, row, y)
    if row.rank is not None:
        draw_badge(draw, str(row.rank), place.rank, y, text, hue_of(row.value))
    most = 2 if place.row >= 2.2 * text else 1
    lines = face.lines(row.label, text, place.room, most)
    for number, line in enumerate(lines):
        baseline = y + face.cap(text) / 2 + (number - (len(lines) - 1) / 2) * 1.1 * text
        draw.text((place.label, baseline), line, DARK, face.font(text), anchor="rs")


def _draw_interval(draw: "ImageDraw", place: _Place, row: Row, y: float) -> None:
    """A thin line from end to end, and a cap at each end."""
    line, cap = _line(place), min(0.17 * place.row, 0.375 * place.text)
    top = round(y - line / 2)
    start, stop = place.x(row.value - row.reach), place.x(row.value + row.reach)
    _draw_box(draw, (start, top, stop, top + line), DARK)
    for end in (round(start - line / 2), round(stop - line / 2)):
        _draw_box(draw, (end, y - cap, end + line, y + cap), DARK)


def _line(place: _Place) -> int:
    """The thickness of a line in pixels: a whole number, so that all lines are the same."""
    return max(1, round(place.text / 10))


def _draw_box(draw: "ImageDraw", edges: tuple[float, float, float, float], color: Color) -> None:
    """Fill (left, top, right, bottom), at least one pixel thick."""
    left, top, right, bottom = map(round, edges)
    draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), color)


def spelled(tick: float) -> str:
    """A tick in digits, with its sign, since it is a change.

    >>> spelled(0.2), spelled(-1e-07), spelled(0.0)
    ('+0.2', '-1e-07', '0')
    """
    return f"{tick:+.6g}" if tick else "0"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` steps of 1, 2 or 5 times 10ⁿ."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= 0.9999 * least)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
