"""Figures of matplotlib, for papers and notebooks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from torchlime._checks import check_positive
from torchlime._extras import imported
from torchlime.plot._evidence import evidence_of, strongest
from torchlime.plot._numbers import hue_of
from torchlime.plot._text import broken
from torchlime.plot._words import axis_title, effect_title, legend, shown_title
from torchlime.plot.charts import Row, has_intervals, rows_of
from torchlime.plot.overlays import boundaries, overlay
from torchlime.plot.photos import Box, columns_for, is_whole, photo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchlime.explanation import Explanation
    from torchlime.plot._canvas import PhotoLike

_POINTS = 7.5  # of text
_INCH = 25.4  # mm
_BARS = 32.0  # mm in height, at least
_HIGHEST = 200.0  # mm of a photo


def figure(
    explanation: "Explanation",
    image: "PhotoLike",
    target: int | None = None,
    top: int = 5,
    *,
    box: Box | None = None,
    caption: str = "",
    name: str | None = None,
    unit: str | None = None,
    width: float = 170.0,
) -> "Figure":
    """Photo, overlay, segments and bars as a matplotlib Figure, for papers and notebooks.

    The Figure belongs to no window and no pyplot state: ``figure(…).savefig("cat.pdf")``. Text is
    in matplotlib's own typeface, as its ``rcParams`` set it. It is 7.5 points high at any width,
    and the caption 1.3 times as high.

    Args:
        explanation, image, target, top, box, caption, name, unit: as for :func:`sheet`.
        width: of the Figure in mm: 85 is a column of most journals, 170 a page.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError, ValueError: as :func:`overlay` does; or ``width`` is not a number above 0.
    """
    Figure = imported("matplotlib.figure", "figure()", "plot").Figure

    check_positive(width, "width")
    evidence = evidence_of(explanation, target, name=name, unit=unit)
    original = photo(image)
    shown = strongest(evidence, top)
    panels = {
        "photo": original,
        shown_title(len(shown)): overlay(explanation, image, target, top, box=box),
        f"all {len(evidence.coefficients)} segments": boundaries(evidence.segments, image, box=box),
    }
    rows, axis = rows_of(evidence, shown), axis_title(evidence)
    faded = box is not None and not is_whole(box, original.shape[1:])
    key = legend(evidence, intervals=has_intervals(rows), faded=faded)
    caption, key = _wrapped(caption, width, 1.3 * _POINTS), _wrapped(key, width)
    axis = _wrapped(axis, 0.42 * width)
    lines = 1.3 * len(caption.splitlines()) + len(key.splitlines()) + axis.count("\n")
    result, (*photos, chart) = _laid_out(Figure, width, original, 4 * lines)
    for axes, (title, picture) in zip(photos, panels.items(), strict=True):
        _draw_photo(axes, picture, title)
    _draw_bars(chart, rows, effect_title(evidence.unit), axis)
    _write_around(result, caption, key)
    return result


def _laid_out(
    new: Any, width: float, original: Tensor, around: float
) -> "tuple[Figure, list[Any]]":
    """A Figure and its four axes; each photo has the height that its width gives it.

    ``around`` is the height in mm of the caption, the legend and further lines of the axis.
    """
    columns = columns_for(*original.shape[1:])
    mosaic = {
        1: [["photo"], ["overlay"], ["segments"], ["bars"]],
        2: [["photo", "overlay"], ["segments", "bars"]],
        3: [["photo", "overlay", "segments"], ["bars"] * 3],
    }[columns]
    photo_height = min(width / columns * original.shape[1] / original.shape[2], _HIGHEST)
    bars_height = max(photo_height, _BARS) if columns == 2 else _BARS
    ratios = [photo_height] * (len(mosaic) - 1) + [bars_height]
    total = sum(ratios) + 6 * len(mosaic) + 10 + around  # with titles, and an axis
    result = new(figsize=(width / _INCH, total / _INCH), layout="constrained")
    axes = result.subplot_mosaic(mosaic, height_ratios=ratios)
    return result, [axes[name] for name in ("photo", "overlay", "segments", "bars")]


def _draw_photo(axes: Any, picture: Tensor, title: str) -> None:
    axes.imshow(picture.permute(1, 2, 0).numpy())
    axes.set_title(title, fontsize=_POINTS, loc="left")
    axes.set_axis_off()
    axes.set_anchor("NW")  # the bars beside it may be higher


def _draw_bars(axes: Any, rows: Sequence[Row], title: str, axis: str) -> None:
    """The strongest segments, by their ranks."""
    places, values = range(len(rows)), [row.value for row in rows]
    hues = [tuple(c / 255 for c in hue_of(value)) for value in values]
    axes.barh(places, values, color=hues)
    sure = [(place, row) for place, row in zip(places, rows, strict=True) if row.reach > 0]
    if sure:
        axes.errorbar(
            [row.value for _, row in sure], [place for place, _ in sure],
            xerr=[row.reach for _, row in sure], fmt="none", ecolor="0.1", elinewidth=0.8,
            capsize=2,
        )  # fmt: skip
    axes.set_yticks(places, [str(row.rank) for row in rows])
    axes.tick_params(labelsize=_POINTS, length=2)
    axes.locator_params(axis="x", nbins=4)
    axes.invert_yaxis()
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=_POINTS, loc="left")
    axes.set_xlabel(axis, fontsize=_POINTS, parse_math=False)


def _write_around(result: "Figure", caption: str, key: str) -> None:
    """The caption above and the legend below."""
    left: dict[str, Any] = {"x": 0.01, "ha": "left", "parse_math": False}
    result.supxlabel(key, fontsize=_POINTS, color="0.35", **left)
    if caption:
        result.suptitle(caption, fontsize=1.3 * _POINTS, **left)


def _wrapped(text: str, width: float, points: float = _POINTS) -> str:
    """``text`` in lines that fit into 93 % of ``width`` mm."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points)

    def measure(line: str) -> float:
        return text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]

    return "\n".join(broken(" ".join(text.split()), measure, 0.93 * width / _INCH * 72, most=9))
