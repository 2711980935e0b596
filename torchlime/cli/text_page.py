"""The page of a text: its words marked, and their bars. It has no script and needs no host."""

from html import escape

from torchlime import plot
from torchlime._errors import printable
from torchlime._reading import output_name
from torchlime.cli.numbers import class_name, spelled
from torchlime.explanation import Explanation
from torchlime.jobs import bars
from torchlime.plot import AGAINST, FOR

_STYLE = (
    f"""
:root {{ color-scheme: light; font: 16px/1.5 system-ui, sans-serif }}
body {{ margin: 0 auto; max-width: 46rem; padding: 1rem; overflow-wrap: anywhere;
  color: #1a1a1a; background: #fff }}
h1 {{ margin: 0; font-size: 1.4rem }}
h2 {{ margin: 2rem 0 .5rem; font-size: 1.15rem }}
p {{ margin: .5rem 0 }}
small {{ color: #5a5a5a }}
mark {{ border-radius: 2px }}
.text {{ margin: 1rem 0; padding: .75rem 1rem; border: 1px solid #c8c8c8; border-radius: 4px }}
.for, .against {{ display: inline-block; width: .9em; height: .9em; border-radius: 2px }}
.for {{ background: rgb{FOR} }}
.against {{ background: rgb{AGAINST} }}
"""
    + bars.STYLE
)


def page_of(explanation: Explanation, title: str, strongest: int) -> str:
    """The page of an explanation of one text, with a part for each of its targets."""
    name = escape(printable(title))
    parts = "".join(
        _part(explanation, place, target, strongest)
        for place, target in enumerate(explanation.targets[0].tolist())
    )
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{name}: explanation</title>\n<style>{_STYLE}</style>\n<h1>{name}</h1>\n"
        '<p><span class="for"></span> speaks for the explained class, <span class="against"></span>'
        " against it. Hiding a word lowers the score by about the length of its blue bar, or "
        "raises it by that of its orange bar. A number behind ± is a 95 % interval.</p>\n"
        f"{parts}</html>\n"
    )


def _part(explanation: Explanation, place: int, target: int, strongest: int) -> str:
    score = explanation.scores[0, place].item()
    said = f"{explanation.unit} {spelled(score, explanation.unit)}"
    fidelity = explanation.fidelity[0, place].item()
    return (
        f"<section>\n<h2>{escape(class_name(output_name(explanation, target)))} "
        f"<small>{said}, fidelity {fidelity:.2f}</small></h2>\n"
        f'<div class="text" dir="auto">{plot.highlighted(explanation, target)}</div>\n'
        f"{bars.html_of(explanation, place, strongest)}\n</section>\n"
    )
