"""Bars: the strongest segments of a photo for each explained class, as pieces of HTML."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from torchlime._explained import strongest_columns
from torchlime.explanation import Explanation
from torchlime.plot import AGAINST, FOR

TOP = 5  # as many as an overlay numbers

STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .15rem .5rem;
  align-items: center; margin: .25rem 0 .75rem; font-variant-numeric: tabular-nums }
.bars div { position: relative; height: .8em }
.bars i { position: absolute; top: 0; bottom: 0 }
"""


def html_of(explanation: Explanation, names: Sequence[str]) -> str:
    """The bars of one photo's targets, whose names are given, one below the other."""
    return "".join(_of_target(explanation, place, name) for place, name in enumerate(names))


def _of_target(explanation: Explanation, place: int, name: str) -> str:
    columns, values = (found[0, place].tolist() for found in strongest_columns(explanation, TOP))
    errors = explanation.standard_errors[0, place].tolist()
    shown = [(c, v) for c, v in zip(columns, values, strict=True) if c >= 0 and v != 0]
    score = explanation.scores[0, place].item()
    head = f"<p>{escape(name)}: {escape(explanation.unit)} {score:.3g}</p>"
    if not shown:
        return f"{head}<p>No segment changes it.</p>"
    longest = max(abs(value) for _, value in shown)
    rows = "".join(_rows([(v, errors[c]) for c, v in shown], longest))
    return f'{head}<div class="bars">{rows}</div>'


def _rows(shown: Sequence[tuple[float, float]], longest: float) -> Iterator[str]:
    """Rank, bar and number of each segment; 0 is in the middle if there are both signs."""
    for_all, against_all = (all(sign * value > 0 for value, _ in shown) for sign in (1, -1))
    room = 100 if for_all or against_all else 50
    zero = 0 if for_all else room
    for rank, (value, error) in enumerate(shown, start=1):
        width = room * abs(value) / longest
        left = zero if value > 0 else zero - width
        red, green, blue = FOR if value > 0 else AGAINST
        error_text = f" ± {1.96 * error:.2g}" if math.isfinite(error) else ""
        yield (
            f'<span>{rank}</span><div><i style="left: {left:.1f}%; width: {width:.1f}%; '
            f'background: rgb({red} {green} {blue})"></i></div>'
            f"<span>{value:+.3g}{error_text}</span>"
        )
