"""Static HTML of an explanation: without scripts or other hosts, and with every text escaped."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchlime._html import document_start, encoded, marked, text_of
from torchlime.compat.arrays import Array

if TYPE_CHECKING:
    from torchlime.compat.explanation import Explanation

FOR, AGAINST = (0, 114, 178), (213, 94, 0)  # as in torchlime.plot
_MOST_CLASSES = 5
_STYLE = """
#ID{font:14px/1.45 system-ui,sans-serif;display:flex;flex-wrap:wrap;gap:1.25rem 2.5rem;
 overflow-wrap:anywhere;color:#1a1a1a;background:#fff;padding:1rem}
#ID section{flex:1 1 17rem;max-width:34rem;min-width:min(100%,15rem)}
#ID .text{flex-basis:100%;max-width:60rem}
#ID h2{font-size:1rem;margin:0 0 .5rem;display:flex;justify-content:space-between;gap:1rem}
#ID h2 .a{color:rgb(AGAINST)}#ID h2 .f{color:rgb(FOR);margin-left:auto}
#ID table{border-collapse:collapse;width:100%}
#ID td,#ID th{padding:.15rem .5rem .15rem 0;text-align:left;vertical-align:middle}
#ID tr[style] td:first-child{padding-left:.35rem}
#ID .n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
#ID .b{width:45%}#ID .b div{display:flex}
#ID i{display:block;height:.9em;border-radius:1px}
#ID .p i{background:#767676}
#ID .track{background:#e3e3e3}
#ID pre{font:inherit;white-space:pre-wrap;margin:0}
#ID mark{color:inherit;border-radius:2px}
"""


def explanation_page(
    explanation: "Explanation", labels: Sequence[Any], shown: bool, instance: str
) -> str:
    """The page of an explanation.

    Args:
        explanation: what is shown.
        labels: the labels whose bars are shown.
        shown: whether to show what the model said.
        instance: HTML of the row or the text.
    """
    said = ""
    if shown:
        said = (
            _classes(explanation) if explanation.mode == "classification" else _value(explanation)
        )
    bars = "".join(_bars(explanation, label) for label in labels)
    body = f"{said}{bars}{instance}"
    own = "lime-" + hashlib.sha256(body.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    style = _STYLE.replace("#ID", f"#{own}")
    for name, color in (("FOR", FOR), ("AGAINST", AGAINST)):
        style = re.sub(rf"\b{name}\b", ",".join(map(str, color)), style)
    start = document_start("Explanation", style)
    return encoded(f'{start}<div class="lime" id="{own}">\n{body}</div>\n</html>\n').decode()


def _section(title: str, rows: Iterable[str]) -> str:
    table = "".join(rows)
    return f"<section>\n<h2>{title}</h2>\n<table>\n{table}</table>\n</section>\n"


def _bar(share: float, color: str = "") -> str:
    style = f";background:rgb({color})" if color else ""
    return f'<i style="width:{100 * share:.1f}%{style}"></i>'


def _classes(explanation: "Explanation") -> str:
    """Up to five classes in their order; if there are more, the best four and the others' sum."""
    scores = np.asarray(explanation.predict_proba, dtype=np.float64)
    named = [(text_of(explanation.name_of(j)), scores[j]) for j in range(len(scores))]
    if len(named) > _MOST_CLASSES:
        order = np.argsort(-scores, kind="stable")
        best, others = order[: _MOST_CLASSES - 1], order[_MOST_CLASSES - 1 :]
        named = [named[j] for j in best] + [("Other", scores[others].sum())]
    rows = [
        f'<tr><td>{name}<td class="b p"><div class="track">{_bar(_share(score))}</div>'
        f'<td class="n">{score:.2f}\n'
        for name, score in named
    ]
    return _section("Prediction probabilities", rows)


def _share(score: float) -> float:
    return float(min(max(score, 0.0), 1.0)) if np.isfinite(score) else 0.0


def _value(explanation: "Explanation") -> str:
    least, most, value = (
        float(x)
        for x in (explanation.min_value, explanation.max_value, explanation.predicted_value)
    )
    share = _share((value - least) / (most - least)) if most > least else 0.0
    rows = [
        f'<tr><td class="n">{least:.2f}<td class="b p"><div class="track">{_bar(share)}</div>'
        f'<td class="n">{most:.2f}\n<tr><td colspan="3"><b>{value:.2f}</b> '
        "<small>between the lowest and the highest prediction of the samples</small>\n"
    ]
    return _section("Predicted value", rows)


def _bars(explanation: "Explanation", label: Any) -> str:
    """Bars to both sides of 0; the longest takes all the room of its side."""
    exp = explanation.as_list(label)
    most = max((abs(weight) for _, weight in exp), default=0.0) or 1.0
    rows = []
    for name, weight in exp:
        color, share = color_of(weight), abs(weight) / most / 2
        left = 0.5 - share if weight < 0 else 0.5
        rows.append(
            f'<tr><td>{text_of(name)}<td class="b"><div>'
            f"{_bar(left)}{_bar(share, color)}</div>"
            f'<td class="n">{number(weight)}\n'
        )
    against, speaks_for = _sides(explanation, label)
    title = f'<span class="a">{against}</span><span class="f">{speaks_for}</span>'
    return _section(title, rows)


def _sides(explanation: "Explanation", label: Any) -> tuple[str, str]:
    if explanation.mode == "regression":
        return "negative", "positive"
    name = text_of(explanation.name_of(label))
    if len(explanation.predict_proba) == 2 and label in (0, 1):
        return text_of(explanation.name_of(1 - label)), name
    return f"NOT {name}", name


def color_of(weight: float) -> str:
    """The numbers of a weight's colour, as CSS has them."""
    return ",".join(map(str, FOR if weight > 0 else AGAINST))


def number(weight: float) -> str:
    """A weight with two decimals, or in powers of ten where these would show nothing.

    >>> number(0.1234), number(-0.00021), number(0.0)
    ('0.12', '-2.1e-04', '0.00')
    """
    return f"{weight:.2f}" if weight == 0 or abs(weight) >= 0.005 else f"{weight:.1e}"


def row_table(rows: Iterable[tuple[Any, Any, float]]) -> str:
    """(name, value, weight) of the features: a table, coloured by the weights' signs."""
    rows = list(rows)
    most = max((abs(weight) for *_, weight in rows), default=0.0) or 1.0
    cells = [
        f'<tr style="background:rgba({color_of(weight)},{0.5 * abs(weight) / most:.2f})">'
        f'<td>{text_of(name)}<td class="n">{text_of(value)}\n'
        for name, value, weight in rows
    ]
    return _section("Row", ['<tr><th>Feature<th class="n">Value\n', *cells])


def marked_text(raw: str, marks: Iterable[tuple[int, int, float]], opacity: bool) -> str:
    """A text with parts (start, stop, weight) marked in the colours of their weights.

    Positions count characters, as Python does.
    """
    marks = list(marks)
    most = max((abs(weight) for *_, weight in marks), default=0.0) or 1.0
    shares = (abs(weight) / most if opacity else 1.0 for *_, weight in marks)
    text = marked(
        raw,
        (
            (start, stop, f'style="background:rgba({color_of(weight)},{0.6 * alpha:.2f})"')
            for (start, stop, weight), alpha in zip(marks, shares, strict=True)
        ),
    )
    title = "Text with highlighted words"
    return f'<section class="text">\n<h2>{title}</h2>\n<pre>{text}</pre>\n</section>\n'


def weights_by_column(exp: Iterable[tuple[Any, Any]], count: int) -> Array:
    """[(id, weight), …] as weights [count], 0 where no feature was selected."""
    weights = np.zeros(count)
    for feature, weight in exp:
        weights[feature] = weight
    return weights
