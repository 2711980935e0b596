"""Bars: the strongest segments or features for one target, as a piece of HTML."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from torchlime._errors import printable
from torchlime._explained import strongest_columns
from torchlime.explanation import Explanation

TOP = 5  # as many as an overlay numbers

STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr minmax(10em, max-content);
  gap: .25rem .5rem; align-items: center; margin: .25rem 0 .75rem;
  font-variant-numeric: tabular-nums }
.bars div { position: relative; height: .9em }
.bars i { position: absolute; top: 0; bottom: 0; height: auto; border-radius: 0 }
.bars b { width: 1.5em; height: 1.5em; border-radius: 50%; color: white; font-weight: 600;
  line-height: 1.5; text-align: center }
.bars.named { grid-template-columns: fit-content(50%) minmax(4em, 1fr) max-content }
"""


def html_of(explanation: Explanation, place: int, top: int = TOP) -> str:
    """The bars of one target of an input; they have names where the features do, else ranks.

    Args:
        explanation: of one input.
        place: of the target.
        top: how many bars at most.
    """
    columns, values = (found[0, place].tolist() for found in strongest_columns(explanation, top))
    errors = explanation.standard_errors[0, place].tolist()
    shown = [(c, v) for c, v in zip(columns, values, strict=True) if c >= 0 and v != 0]
    if not shown:
        return f"<p>No {explanation.kind.part} changes this score.</p>"
    longest = max(abs(value) for _, value in shown)
    names = explanation.names()
    labels = None if names is None else [names[0][c] for c, _ in shown]
    rows = "".join(_rows([(v, errors[c]) for c, v in shown], longest, labels))
    return f'<div class="bars{" named" if labels else ""}">{rows}</div>'


def _rows(
    shown: Sequence[tuple[float, float]], longest: float, labels: Sequence[str] | None
) -> Iterator[str]:
    """Rank or name, bar and number of each feature; 0 is in the middle if there are both signs."""
    for_all, against_all = (all(sign * value > 0 for value, _ in shown) for sign in (1, -1))
    room = 100 if for_all or against_all else 50
    zero = 0 if for_all else room
    for rank, (value, error) in enumerate(shown, start=1):
        width = room * abs(value) / longest
        left = zero if value > 0 else zero - width
        sign = "for" if value > 0 else "against"  # the classes of the page's legend
        error_text = f" ± {1.96 * error:.2g}" if math.isfinite(error) else ""
        label = f'<b class="{sign}">{rank}</b>'
        if labels is not None:
            label = f'<span dir="auto">{escape(printable(labels[rank - 1]))}</span>'
        yield (
            f'{label}<div><i class="{sign}" '
            f'style="left: {left:.1f}%; width: {width:.1f}%"></i></div>'
            f"<span>{value:+.3g}{error_text}</span>"
        )
