"""The report of a table's job: what counts over all rows, and the bars of each row."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from torchlime._reading import samples_in_words, with_fidelity
from torchlime.jobs import pages
from torchlime.jobs.explanations import Explanations
from torchlime.jobs.rows import Row, explanation_of, printable
from torchlime.plot import html_bars

_COLUMNS = 10  # of a class's means
_CLASSES = 20  # whose means are shown
_LEGEND = (
    ". Being in a bin, instead of elsewhere in the column, raises the score by about the length of "
    "its blue bar, or lowers it by that of its orange bar. For numbers without bins, a bar is the "
    "change of the score per unit. A number behind ± is a 95 % interval.</p>\n"
)


def parts(found: Explanations, most: int) -> Iterator[str]:
    """The page, piece by piece, with ``most`` rows of a class at most."""
    classes = pages.classes_of(found)
    title = escape(printable(found.folder.resolve().name))
    yield pages.start(title)
    links = [
        pages.link(number, name, len(ids)) for number, (name, ids) in enumerate(classes.items())
    ]
    yield pages.head(title, found, "row", _LEGEND, links)
    yield _means(found)
    yield "<main>\n"
    for number, (name, ids) in enumerate(classes.items()):
        first = f"the first {most} of " if len(ids) > most else ""
        yield (
            f'<section class="class" id="class-{number}" style="--photos: {2 * min(len(ids), most)}'
            f'">\n<h2>{pages.class_of(name)} '
            f'<small>{first}{pages.count(len(ids), "row")}</small></h2>\n<div class="rows">\n'
        )
        yield from (_figure(found.row(item_id)) for item_id in ids[:most])
        yield "</div>\n</section>\n"
    yield "</main>\n"
    yield pages.failures_of(found.failures, "row")


def _figure(row: Row) -> str:
    """A row: what the model said of it, and the bars of each of its targets."""
    explanation = explanation_of(row)
    targets = "".join(
        f"<div><p><b>{_called(called)}</b>: "
        f"{with_fidelity(_score(row, place), row['fidelity'][place])}</p>\n"
        f"{html_bars.html_of(explanation, place)}</div>\n"
        for place, called in enumerate(row["target_names"])
    )
    number = row["id"]
    few = "" if row.get("sure", True) else samples_in_words(row["samples_used"], sure=False)
    samples = f"<span>{few}</span>" if few else ""
    caption = f"<figcaption><b>row {number}</b>{samples}</figcaption>"
    return f'<figure id="row-{number}">\n{caption}\n{targets}</figure>\n'


def _score(row: Row, place: int) -> str:
    score = row["scores"][place]
    if row["unit"] == "probability":
        return f"probability {score:.1%}"
    return f"{escape(printable(row['unit']))} {score:.3g}"


def _called(name: str) -> str:
    return escape(f"class {name}" if name.isdecimal() else printable(name))


def _means(found: Explanations) -> str:
    """Which columns count most for each explained class: the mean of |coefficient| over rows."""
    names = ("status", "target_names", "columns", "coefficients", "vectors")
    sums: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    for status, targets, columns, coefficients, vectors in found.rows(*names):
        if status != "ok" or vectors is not None:  # per unit: units cannot be compared
            continue
        for name, values in zip(targets, coefficients, strict=True):
            counts[name] = counts.get(name, 0) + 1
            mine = sums.setdefault(name, dict.fromkeys(columns, 0.0))
            for column, value in zip(columns, values, strict=True):
                mine[column] += abs(value)
    shown = [name for name in sorted(counts, key=lambda n: (-counts[n], n)) if counts[name] > 1]
    if not shown:
        return ""
    listed = "".join(_mean(name, sums[name], counts[name]) for name in shown[:_CLASSES])
    return (
        '<section id="means">\n<h2>What counts over the rows</h2>\n<p>The mean length of a '
        f'column\'s bars, whether for or against.</p>\n<div class="grid">\n{listed}</div>\n'
        "</section>\n"
    )


def _mean(name: str, sums: Mapping[str, float], rows: int) -> str:
    ranked: Sequence[tuple[str, float]] = sorted(sums.items(), key=lambda one: (-one[1], one[0]))
    longest = ranked[0][1] or 1.0
    lines = "".join(
        f'<span dir="auto">{escape(printable(column))}</span><div><i class="share" '
        f'style="left: 0; width: {100 * value / longest:.1f}%"></i></div>'
        f"<span>{value / rows:.3g}</span>"
        for column, value in ranked[:_COLUMNS]
    )
    return (
        f"<div><p><b>{_called(name)}</b> <small>{pages.count(rows, 'row')}</small></p>\n"
        f'<div class="bars named">{lines}</div></div>\n'
    )
