"""The page of texts or rows: words marked, and bars. It has no script and needs no host."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torchlime._atomic import whole_file
from torchlime._checks import check_count
from torchlime._errors import printable
from torchlime._html import document_start, encoded, text_of
from torchlime._names import TextNames
from torchlime._reading import output_name, problems_in_words, with_fidelity
from torchlime.plot import html_bars
from torchlime.plot._canvas import AGAINST, FOR
from torchlime.plot.highlights import highlighted

if TYPE_CHECKING:
    from torchlime.explanation import Explanation

_STYLE = (
    f"""
:root {{ color-scheme: light; font: 16px/1.5 system-ui, sans-serif }}
body {{ margin: 0 auto; max-width: 46rem; padding: 1rem; overflow-wrap: anywhere;
  color: #1a1a1a; background: #fff }}
h1 {{ margin: 0; font-size: 1.4rem }}
h2 {{ margin: 2.5rem 0 0; font-size: 1.25rem }}
h3 {{ margin: 1.25rem 0 .5rem; font-size: 1.1rem }}
p {{ margin: .5rem 0 }}
small {{ color: #5a5a5a; font-weight: 400 }}
mark {{ border-radius: 2px }}
.text {{ margin: 1rem 0; padding: .75rem 1rem; border: 1px solid #c8c8c8; border-radius: 4px }}
.for, .against {{ display: inline-block; width: .9em; height: .9em; border-radius: 2px }}
.for {{ background: rgb{FOR} }}
.against {{ background: rgb{AGAINST} }}
"""
    + html_bars.STYLE
)
_OF_BINS = (
    "Being in a bin, instead of elsewhere in the column, raises the score by about the length of "
    "its blue bar, or lowers it by that of its orange bar."
)
_OF_NUMBERS = "A bar is the change of the score per unit of the feature."
_OF_PARTS = (
    "Hiding a {} lowers the score by about the length of its blue bar, or raises it by that of "
    "its orange bar."
)


def page(explanation: "Explanation", title: str | None = None, top: int = 10) -> str:
    """An explanation of texts, rows or vectors as one static page of HTML.

    For each input and target it has what the model said, the fidelity, the words marked as by
    :func:`highlighted`, and bars of the strongest features with their 95 % intervals. It has no
    script and needs no other file or host, and every text is escaped. The same explanation gives
    the same page.

    Args:
        explanation: of any number of inputs.
        title: the heading; None = "Explanation of 3 rows".
        top: how many bars at most.

    Raises:
        TypeError, ValueError: ``top`` is not a whole number of at least 1, or the explanation is of
            images.

    Example:
        >>> import torch, torchlime
        >>> model = lambda texts: torch.tensor([float("good" in text) for text in texts])
        >>> html = page(torchlime.explain_text(model, "a good <film>", num_samples=50), "Films")
        >>> "<title>Films</title>" in html, "&lt;" in html, "<script" in html
        (True, True, False)
    """
    check_count(top, "top")
    if explanation.segments is not None:
        raise ValueError(
            "page() shows texts, rows and vectors; plot.sheet() and plot.overlay() draw images"
        )
    number, noun = len(explanation), explanation.kind.input
    name = text_of(printable(title or f"Explanation of {number} {noun}{'s' * (number > 1)}"))
    inputs = "".join(_input(explanation, place, top) for place in range(number))
    start = document_start(name, _STYLE)
    return encoded(
        f"{start}<h1>{name}</h1>\n"
        '<p><span class="for"></span> speaks for the explained score, <span class="against"></span>'
        f" against it. {_legend(explanation)} A number behind ± is a 95 % interval.</p>\n"
        f"{inputs}</html>\n"
    ).decode()


def save_page(
    explanation: "Explanation",
    path: str | os.PathLike[str],
    title: str | None = None,
    top: int = 10,
) -> None:
    """Write :func:`page` as an HTML file, wholly or not at all.

    Raises:
        OSError: the file cannot be written there; the message names ``path``.
        TypeError, ValueError: as :func:`page` does.
    """
    content = page(explanation, title, top).encode()
    with whole_file(path) as file:
        file.write(content)


def _legend(explanation: "Explanation") -> str:
    if explanation.vectors is not None:
        return _OF_NUMBERS
    return _OF_PARTS.format(explanation.kind.part) if explanation.bins is None else _OF_BINS


def _input(explanation: "Explanation", place: int, top: int) -> str:
    one = explanation[place]
    head = f"<h2>{one.kind.input} {place}</h2>\n" if len(explanation) > 1 else ""
    wrong = "".join(f"<p>{text_of(sentence)}</p>\n" for sentence in problems_in_words(one))
    return f"{head}{wrong}{''.join(_targets(one, top))}"


def _targets(one: "Explanation", top: int) -> Iterator[str]:
    for place, target in enumerate(one.targets[0].tolist()):
        score, fidelity = one.scores[0, place].item(), one.fidelity[0, place].item()
        said = f"{score:.1%}" if one.unit == "probability" else f"{score:.4g}"
        said = with_fidelity(f"{text_of(one.unit)} {said}", fidelity)
        name = output_name(one, target)
        name = f"class {name}" if name.isdecimal() else printable(name)
        text = ""
        if isinstance(one.named, TextNames):
            text = f'<div class="text" dir="auto">{highlighted(one, target)}</div>\n'
        yield (
            f"<section>\n<h3>{text_of(name)} <small>{said}</small></h3>\n"
            f"{text}{html_bars.html_of(one, place, top)}\n</section>\n"
        )
