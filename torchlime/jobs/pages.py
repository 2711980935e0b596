"""Page: what the reports of photos and of tables have in common."""

import os
from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import unquote_to_bytes

from torchlime._html import document_start
from torchlime.jobs import summary
from torchlime.jobs.explanations import Explanations
from torchlime.jobs.rows import printable
from torchlime.plot import AGAINST, FOR, html_bars

STYLE = (
    f"""
:root {{ color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif }}
body {{ margin: 0 auto; max-width: 1400px; padding: 1rem; overflow-wrap: anywhere }}
h1 {{ margin: 0 0 .25rem; font-size: 1.6rem }}
h2 {{ margin: 2rem 0 .75rem; font-size: 1.25rem }}
p, ul, dl {{ margin: .5rem 0 }}
small, figcaption, dl {{ font-size: .875rem }}
small, .note {{ color: GrayText }}
nav ul {{ display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none }}
.for, .against {{ display: inline-block; width: .9em; height: .9em; border-radius: 2px }}
.for {{ background: rgb{FOR} }}
.against {{ background: rgb{AGAINST} }}
main {{ display: flex; flex-wrap: wrap; column-gap: 2.5rem }}
.class {{ flex: 0 1 calc(var(--photos) * 276px); min-width: min(100%, 260px) }}
@media (max-width: 640px) {{ .class {{ flex-basis: 100% }} }}
.grid {{ display: grid; gap: 1.25rem 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr)) }}
figure {{ margin: 0 }}
img {{ display: block; width: 100%; height: auto; max-height: 26rem; object-fit: contain;
  object-position: left top; border-radius: 4px }}
figcaption {{ padding-top: .35rem }}
figcaption b {{ font-weight: 600 }}
figcaption span {{ display: block }}
summary {{ cursor: pointer; color: LinkText }}
.close {{ display: none; position: sticky; top: 0; z-index: 1; width: max-content;
  margin: 0 0 .5rem auto; padding: .25rem .75rem; border: 1px solid GrayText; border-radius: 4px;
  background: Canvas; text-decoration: none }}
.other, .score {{ display: none }}
figure:target {{ position: fixed; inset: 0; z-index: 1; overflow: auto; padding: 1rem;
  overscroll-behavior: contain; background: Canvas }}
figure:target .close, figure:target .other, figure:target .score {{ display: block }}
figure:target .classes {{ display: grid; gap: 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)) }}
figure:target img {{ max-height: 75vh }}
figure:target .bars {{ max-width: 40rem }}
figure:target .enlarge {{ display: none }}
.rows {{ display: grid; gap: 1.25rem 2.5rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)) }}
.rows figure > div > p {{ margin: .1rem 0 }}
i.share {{ background: GrayText }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; width: 100%; font-size: .875rem }}
th, td {{ padding: .35rem .75rem .35rem 0; border-top: 1px solid GrayText; text-align: left;
  vertical-align: top }}
td:first-child {{ min-width: 9rem }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem }}
dd {{ margin: 0 }}
"""
    + summary.STYLE
    + html_bars.STYLE
)


def start(title: str) -> str:
    """The beginning of a page that needs no other file and no host; ``title`` is escaped."""
    return document_start(f"{title}: explanations", STYLE, images=True)


def classes_of(found: Explanations) -> dict[str | None, list[str]]:
    """The ids of the explained inputs by class, both in order; those of no class come first."""
    classes: dict[str | None, list[str]] = {}
    for item_id, name, status in found.rows("id", "class", "status"):
        if status == "ok":
            classes.setdefault(name, []).append(item_id)
    ordered = sorted(classes, key=lambda name: (name is not None, name))
    return {name: sorted(classes[name], key=in_order) for name in ordered}


def in_order(item_id: str) -> tuple[int, str]:
    """The order of ids: that of the numbers of rows, or of the names of photos.

    >>> sorted(["10", "9"], key=in_order), sorted(["b10.jpg", "b9.jpg"], key=in_order)
    (['9', '10'], ['b10.jpg', 'b9.jpg'])
    """
    return (int(item_id) if item_id.isdecimal() else -1, item_id)


def head(title: str, found: Explanations, noun: str, legend: str, links: Iterable[str]) -> str:
    """How many inputs there are, what colours mean, the settings, and links into the page.

    Args:
        title: escaped.
        found: the job.
        noun: what an input is called.
        legend: HTML.
        links: HTML of the list's items.
    """
    failed = f", {len(found.failures)} could not be" if found.failures else ""
    every, samples = [*links], found.samples
    taken = f", with {samples}" if samples.used else ""
    if found.failures:
        every.append(f'<li><a href="#failures">failures</a> <small>{len(found.failures)}</small>')
    listed = "".join(
        f"<dt>{escape(key)}<dd>{escape(printable(value))}\n"
        for key, value in found.settings.items()
    )
    return (
        f"<header>\n<h1>{title}</h1>\n"
        f"<p>{count(len(found), noun)} explained{failed}, by "
        f"<b>{escape(printable(found.settings['model']))}</b>{taken}.</p>\n"
        '<p><span class="for"></span> speaks for the explained class, '
        f'<span class="against"></span> against it{legend}'
        f"<details><summary>Settings</summary>\n<dl>\n{listed}</dl>\n</details>\n"
        f"</header>\n<nav><ul>\n{''.join(every)}\n</ul></nav>\n"
    )


def link(number: int, name: str | None, inputs: int) -> str:
    """An item that leads to a class."""
    return f'<li><a href="#class-{number}">{class_of(name)}</a> <small>{inputs}</small>'


def failures_of(failures: Mapping[str, str], noun: str) -> str:
    """The inputs that could not be explained, and why; nothing where there are none."""
    if not failures:
        return ""
    lines = "".join(
        f"<tr><td>{name_of(item_id)}<td>{escape(printable(failures[item_id]))}\n"
        for item_id in sorted(failures, key=in_order)
    )
    return (
        f'<section id="failures">\n<h2>Could not be explained <small>{len(failures)}</small></h2>\n'
        f'<div class="scroll"><table>\n<tr><th>{noun}<th>reason\n{lines}</table></div>\n'
        "</section>\n"
    )


def class_of(name: str | None) -> str:
    """A class, escaped."""
    return "<i>no class</i>" if name is None else escape(name)


def name_of(item_id: str) -> str:
    """What an id stands for, such as a path, for people to read, escaped."""
    return escape(printable(os.fsdecode(unquote_to_bytes(item_id))))


def count(number: int, noun: str) -> str:
    """
    >>> count(1, "row"), count(2, "row")
    ('1 row', '2 rows')
    """
    return f"{number} {noun}{'s' * (number != 1)}"
