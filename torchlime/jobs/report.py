"""Report: one static page with the pictures of a job, by class; its failures come last."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import unquote_to_bytes

from torch import Tensor

from torchlime._atomic import sweep, whole_file
from torchlime._checks import check_count
from torchlime.folders import path_of
from torchlime.jobs import bars, summary
from torchlime.jobs.explanations import Explanations
from torchlime.jobs.pictures import encoded, of_targets
from torchlime.jobs.rows import Row, explanation_of, printable
from torchlime.models import Limits
from torchlime.plot import AGAINST, FOR

_LONGER_SIDE = 800  # pixels of a picture at most
_STYLE = (
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
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; width: 100%; font-size: .875rem }}
th, td {{ padding: .35rem .75rem .35rem 0; border-top: 1px solid GrayText; text-align: left;
  vertical-align: top }}
td:first-child {{ min-width: 9rem }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem }}
dd {{ margin: 0 }}
"""
    + summary.STYLE
    + bars.STYLE
)


def write(
    folder: str | os.PathLike[str],
    page: str | os.PathLike[str],
    most: int = 50,
    limits: Limits | None = None,
) -> None:
    """Write the page of a job, with all its pictures inside: it needs no other file and no host.

    Args:
        folder: the folder of the job's results.
        page: the .html file.
        most: pictures of a class at most.
        limits: of decoding a photo, in time and memory; None = ``Limits()``.

    Raises:
        ValueError: ``folder`` is not a job's, a file in it is damaged, or ``most`` is below 1.
        OSError: the page cannot be written.
    """
    check_count(most, "most")
    found = Explanations(folder)
    sweep(Path(page).parent)
    with whole_file(page) as file:
        for part in _parts(found, most, limits):
            file.write(part.encode())


def _parts(found: Explanations, most: int, limits: Limits | None) -> Iterator[str]:
    classes = _classes(found)
    together = {
        name: summary.together([found[photo_id] for photo_id in ids[:most]])
        for name, ids in classes.items()
    }
    title = escape(printable(found.folder.resolve().name))
    yield (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{title}: explanations</title>\n<style>{_STYLE}</style>\n"
    )
    yield _head(title, found, classes)
    shown = [photo_id for ids in classes.values() for photo_id in ids[:most]]
    yield _telling([shown[place] for place in summary.most_telling(list(together.values()))])
    yield "<main>\n"
    for number, (name, ids) in enumerate(classes.items()):
        first = f"the first {most} of " if len(ids) > most else ""
        yield (
            f'<section class="class" id="class-{number}" style="--photos: {min(len(ids), most)}">\n'
            f"<h2>{_class(name)} "
            f"<small>{first}{_count(len(ids), 'photo')}</small></h2>\n"
            f'{summary.figure(together[name])}<div class="grid">\n'
        )
        yield from (_figure(found, photo_id, limits) for photo_id in ids[:most])
        yield "</div>\n</section>\n"
    yield "</main>\n"
    if found.failures:
        yield _failures(found.failures)


def _classes(found: Explanations) -> dict[str | None, list[str]]:
    """The ids of the explained photos by class, both in order; photos of no class come first."""
    classes: dict[str | None, list[str]] = {}
    for photo_id, name, status in found.rows("id", "class", "status"):
        if status == "ok":
            classes.setdefault(name, []).append(photo_id)
    ordered = sorted(classes, key=lambda name: (name is not None, name))
    return {name: sorted(classes[name]) for name in ordered}


def _head(
    title: str,
    found: Explanations,
    classes: Mapping[str | None, Sequence[str]],
) -> str:
    failed = f", {len(found.failures)} could not be" if found.failures else ""
    links = [
        f'<li><a href="#class-{number}">{_class(name)}</a> <small>{len(ids)}</small>'
        for number, (name, ids) in enumerate(classes.items())
    ]
    if found.failures:
        links.append(f'<li><a href="#failures">failures</a> <small>{len(found.failures)}</small>')
    gone = "" if found.photos.is_dir() else (
        '<p class="note">The photos are no longer where they were, so only the evidence is '
        "shown.</p>\n"
    )  # fmt: skip
    listed = "".join(
        f"<dt>{escape(key)}<dd>{escape(printable(value))}\n"
        for key, value in found.settings.items()
    )
    return (
        f"<header>\n<h1>{title}</h1>\n"
        f"<p>{_count(len(found), 'photo')} explained{failed}, by "
        f"<b>{escape(printable(found.settings['model']))}</b>.</p>\n"
        '<p><span class="for"></span> speaks for the explained class, '
        '<span class="against"></span> against it; the numbers rank the segments. The network did '
        "not see what is faded at the edges. Click on a picture to enlarge it and to see its bars "
        "and other classes. Hiding a segment lowers the score by about the length of its blue "
        "bar, or raises it by that of its orange bar. A number behind ± is a 95 % interval.</p>\n"
        f"{gone}<details><summary>Settings</summary>\n<dl>\n{listed}</dl>\n</details>\n"
        f"</header>\n<nav><ul>\n{''.join(links)}\n</ul></nav>\n"
    )


def _figure(found: Explanations, photo_id: str, limits: Limits | None) -> str:
    """A photo: its first class; all classes fill the window while the page's address names it."""
    row = found.row(photo_id)
    explanation, path = explanation_of(row), path_of(found.photos, photo_id)
    pictures = of_targets(explanation, path, tuple(row["box"]), _LONGER_SIDE, limits)
    name, anchor = _name(photo_id), _anchor(photo_id)
    explained = ", ".join(
        f"{_printed(called)} (fidelity {fidelity:.2f})"
        for called, fidelity in zip(row["target_names"], row["fidelity"], strict=True)
    )
    classes = "".join(
        f'<div class="{"other" if place else "first"}">\n'
        f"{_picture(picture, anchor, f'{name}: evidence for and against {_printed(called)}')}"
        f'<div class="score"><p><b>{_printed(called)}</b>: {_score(row, place)}</p>'
        f"{bars.html_of(explanation, place)}</div>\n</div>\n"
        for place, (picture, called) in enumerate(zip(pictures, row["target_names"], strict=True))
    )
    more = "bars and other classes" if len(pictures) > 1 else "bars"
    return (
        f'<div id="at-{anchor}">\n<figure id="{anchor}">\n'
        f'<a class="close" href="#at-{anchor}">Close</a>\n<div class="classes">\n{classes}</div>\n'
        f"<figcaption><b>{name}</b><span>{_prediction(row)}</span>"
        f"<span>explained: {explained}</span>"
        f'<a class="enlarge" href="#{anchor}">{more}</a></figcaption>\n</figure>\n</div>\n'
    )


def _picture(picture: Tensor, anchor: str, what: str) -> str:
    """A picture that a click enlarges; ``what`` is escaped."""
    height, width = picture.shape[1:]
    data = base64.b64encode(encoded(picture, "JPEG")).decode()
    return (
        f'<a href="#{anchor}" title="Enlarge"><img src="data:image/jpeg;base64,{data}" '
        f'width="{width}" height="{height}" loading="lazy" alt="{what}"></a>\n'
    )


def _score(row: Row, place: int) -> str:
    """What the model said of a target, in the unit of its scores."""
    score, unit = row["scores"][place], json.loads(row["settings"]).get("output")
    if row["predicted_name"] is None:  # a region or a box
        return f"score {score:.3g}"
    if unit in ("softmax", "sigmoid"):
        return f"probability {score:.1%}"
    return f"{'logit' if unit == 'logit' else 'score'} {score:.3g}"


def _telling(ids: Sequence[str]) -> str:
    """Links to the photos that together show most."""
    if not ids:
        return ""
    links = ", ".join(f'<a href="#{_anchor(photo_id)}">{_name(photo_id)}</a>' for photo_id in ids)
    return (
        f"<p>Most telling: {links}. "
        "<small>Together they show most of what the network looks at.</small></p>\n"
    )


def _anchor(photo_id: str) -> str:
    """Where the photo is on the page; an id is ASCII, but has signs that a link may not."""
    return f"photo-{hashlib.sha256(photo_id.encode()).hexdigest()[:16]}"


def _prediction(row: Row) -> str:
    if row["predicted_name"] is None:  # its region or box was explained
        return ""
    share = "" if row["probability"] is None else f", {row['probability']:.1%}"
    return f"predicted: {escape(row['predicted_name'])}{share}"


def _failures(failures: Mapping[str, str]) -> str:
    lines = "".join(
        f"<tr><td>{_name(photo_id)}<td>{escape(printable(reason))}\n"
        for photo_id, reason in sorted(failures.items())
    )
    return (
        f'<section id="failures">\n<h2>Could not be explained <small>{len(failures)}</small></h2>\n'
        f'<div class="scroll"><table>\n<tr><th>photo<th>reason\n{lines}</table></div>\n</section>\n'
    )


def _class(name: str | None) -> str:
    return "<i>no class</i>" if name is None else escape(name)


def _name(photo_id: str) -> str:
    """The path that an id stands for, for people to read."""
    return escape(printable(os.fsdecode(unquote_to_bytes(photo_id))))


def _printed(name: str) -> str:
    return escape(printable(name))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
