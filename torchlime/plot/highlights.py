"""Texts with their words coloured by evidence, as HTML."""

from typing import TYPE_CHECKING

from torchlime._html import marked
from torchlime._names import TextNames
from torchlime.plot._evidence import evidence_of, strongest
from torchlime.plot._numbers import hue_of

if TYPE_CHECKING:
    from torchlime.explanation import Explanation

_DARKEST = 0.6  # opacity behind the strongest word, on which black text is still easy to read


def highlighted(
    explanation: "Explanation", target: int | None = None, top: int | None = None
) -> str:
    """The text with its words marked: blue speaks for the target, orange against it.

    The stronger the evidence, the stronger the colour. The result is a piece of HTML without
    scripts, and what is in the text is escaped. A mark's title has the word's coefficient.

    Args:
        explanation: of one text.
        target: one of ``explanation.targets``; None is the first.
        top: mark the strongest words only; None is all.

    Raises:
        ValueError: more than one text, an explanation that is not of texts, an unknown target or
            ``top`` below 1.

    Example:
        >>> import torch, torchlime
        >>> model = lambda texts: torch.tensor([float("good" in text) for text in texts])
        >>> html = highlighted(torchlime.explain_text(model, "good & cheap", num_samples=50), top=1)
        >>> html.count("<mark"), "&amp; cheap" in html
        (1, True)
    """
    evidence = evidence_of(explanation, target, pixels=False)
    named = explanation.named
    if not isinstance(named, TextNames):
        raise ValueError(
            f"highlighted() shows texts, but this explanation is of a {explanation.kind.input}"
        )
    values = evidence.coefficients.tolist()
    shown = strongest(evidence, len(values) if top is None else top)
    most = max((abs(values[feature]) for feature in shown), default=1.0)
    marks = (
        (begin, end, _attributes(values[feature], most))
        for feature in shown
        for begin, end in named.spans[0][feature]
    )
    text = marked(named.texts[0], marks)
    return f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{text}</div>'


def _attributes(value: float, most: float) -> str:
    red, green, blue = hue_of(value)
    colour = f"rgba({red},{green},{blue},{_DARKEST * abs(value) / most:.2f})"
    return f'style="background:{colour};color:inherit" title="{value:+.3g}"'
