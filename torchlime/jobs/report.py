"""Report: one static page with the pictures of a job, by class; its failures come last.

That of a table's job is in table_report.py.
"""

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path

from torch import Tensor

from torchlime._atomic import sweep, whole_file
from torchlime._checks import check_count
from torchlime._reading import samples_in_words
from torchlime.folders import path_of
from torchlime.jobs import pages, summary, table_report
from torchlime.jobs.explanations import Explanations
from torchlime.jobs.pictures import encoded, of_targets
from torchlime.jobs.rows import Row, explanation_of, printable
from torchlime.models import Limits
from torchlime.plot import html_bars

_LONGER_SIDE = 800  # pixels of a picture at most


def write(
    folder: str | os.PathLike[str],
    page: str | os.PathLike[str],
    most: int = 50,
    limits: Limits | None = None,
) -> None:
    """Write the page of a job with all its pictures inside; it needs no other file and no host.

    Args:
        folder: the folder of the job's results.
        page: the .html file.
        most: the most pictures, or rows of a table, of a class.
        limits: of decoding a photo, in time and memory; None = ``Limits()``.

    Raises:
        TypeError: ``most`` is not an int.
        ValueError: ``folder`` is not a job's, a file in it is damaged, or ``most`` is below 1.
        OSError: the page cannot be written.
    """
    check_count(most, "most")
    found = Explanations(folder)
    sweep(Path(page).parent)
    with whole_file(page) as file:
        made = table_report.parts if found.of_table else partial(_parts, limits=limits)
        for part in made(found, most):
            file.write(part.encode())


def _parts(found: Explanations, most: int, *, limits: Limits | None) -> Iterator[str]:
    classes = pages.classes_of(found)
    together = {
        name: summary.together([found[photo_id] for photo_id in ids[:most]])
        for name, ids in classes.items()
    }
    title = escape(printable(found.folder.resolve().name))
    yield pages.start(title)
    yield _head(title, found, classes)
    shown = [photo_id for ids in classes.values() for photo_id in ids[:most]]
    yield _telling([shown[place] for place in summary.most_telling(list(together.values()))])
    yield "<main>\n"
    for number, (name, ids) in enumerate(classes.items()):
        first = f"the first {most} of " if len(ids) > most else ""
        yield (
            f'<section class="class" id="class-{number}" style="--photos: {min(len(ids), most)}">\n'
            f"<h2>{pages.class_of(name)} "
            f"<small>{first}{pages.count(len(ids), 'photo')}</small></h2>\n"
            f'{summary.figure(together[name])}<div class="grid">\n'
        )
        yield from (_figure(found, photo_id, limits) for photo_id in ids[:most])
        yield "</div>\n</section>\n"
    yield "</main>\n"
    yield pages.failures_of(found.failures, "photo")


def _head(
    title: str,
    found: Explanations,
    classes: Mapping[str | None, Sequence[str]],
) -> str:
    links = [
        pages.link(number, name, len(ids)) for number, (name, ids) in enumerate(classes.items())
    ]
    gone = "" if found.photos.is_dir() else (
        '<p class="note">The photos are no longer where they were, so only the evidence is '
        "shown.</p>\n"
    )  # fmt: skip
    legend = (
        ". The numbers rank the segments. The network did not see the faded edges. "
        "Click on a picture to enlarge it and to see its bars and other classes. Hiding a segment "
        "lowers the score by about the length of its blue bar, or raises it by that of its orange "
        f"bar. A number behind ± is a 95 % interval.</p>\n{gone}"
    )
    return pages.head(title, found, "photo", legend, links)


def _figure(found: Explanations, photo_id: str, limits: Limits | None) -> str:
    """A photo with its first class; while the page's address names it, all classes are shown."""
    row = found.row(photo_id)
    explanation, path = explanation_of(row), path_of(found.photos, photo_id)
    pictures = of_targets(explanation, path, tuple(row["box"]), _LONGER_SIDE, limits)
    name, anchor = pages.name_of(photo_id), _anchor(photo_id)
    explained = ", ".join(
        _printed(called) + ("" if math.isnan(fidelity) else f" (fidelity {fidelity:.2f})")
        for called, fidelity in zip(row["target_names"], row["fidelity"], strict=True)
    )
    classes = "".join(
        f'<div class="{"other" if place else "first"}">\n'
        f"{_picture(picture, anchor, f'{name}: evidence for and against {_printed(called)}')}"
        f'<div class="score"><p><b>{_printed(called)}</b>: {_score(row, place)}</p>'
        f"{html_bars.html_of(explanation, place)}</div>\n</div>\n"
        for place, (picture, called) in enumerate(zip(pictures, row["target_names"], strict=True))
    )
    more = "bars and other classes" if len(pictures) > 1 else "bars"
    return (
        f'<div id="at-{anchor}">\n<figure id="{anchor}">\n'
        f'<a class="close" href="#at-{anchor}">Close</a>\n<div class="classes">\n{classes}</div>\n'
        f"<figcaption><b>{name}</b><span>{_prediction(row)}</span>"
        f"<span>explained: {explained}</span>{_samples(row)}"
        f'<a class="enlarge" href="#{anchor}">{more}</a></figcaption>\n</figure>\n</div>\n'
    )


def _samples(row: Row) -> str:
    """How many samples a photo took; nothing for rows of early versions, which do not say it."""
    if row.get("samples_used") is None:
        return ""
    return f"<span>{samples_in_words(row['samples_used'], sure=row['sure'])}</span>"


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
    links = ", ".join(
        f'<a href="#{_anchor(photo_id)}">{pages.name_of(photo_id)}</a>' for photo_id in ids
    )
    return (
        f"<p>Most informative: {links}. "
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


def _printed(name: str) -> str:
    return escape(printable(name))
