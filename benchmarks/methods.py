"""Every recipe of torchlime.methods at equal forward passes, on games and on photos.

In a game the scores of all masks are known: photos in 3×4 squares (the bank), and random networks.
There every method gets many seeds, and its own limit is known. Methods that show anything between
hidden and shown take part only in the second half, photos in 7×7 squares.
"""

import itertools
import math
import statistics
from collections.abc import Sequence

from benchmarks.bank import chosen
from benchmarks.bootstrap import Mean, difference
from benchmarks.on_games import on_games
from benchmarks.on_photos import on_photos
from benchmarks.recipes import LIME
from benchmarks.settings import Row, Settings
from benchmarks.tables import digits, markdown

CAPTION = (
    "Every recipe of `torchlime.methods` at equal forward passes; *torchlime* is `Lime()` with its"
    " defaults. Games: eight ImageNet photos of foolbox, the first that EfficientNet-Lite0"
    " classifies correctly at 128 pixels, in 3×4 squares, with all 4096 masks scored; and twelve"
    " random networks of 14 inputs; 16 seeds. *Error* is ‖b − β‖ / ‖β‖, the root of its mean"
    " square. β is a method's own limit: that of LIME, the Shapley values or the Banzhaf values,"
    " which are exact; or else the mean of 8 draws of 32 768 rows. *Stability* is Spearman's ρ"
    " between seeds. *Deletion* and *insertion* are areas under the probability; whole squares are"
    " hidden or shown. *Fidelity* is R² over all masks, weighted as LIME does, with the best"
    " intercept. *Near* is the correlation over masks that keep 3/4. The last table is of the"
    " photos in 7×7 squares, with two seeds. There, fidelity is a correlation over 255 fresh"
    " masks, and forwards include the padding of chunks. In brackets is the 95 % bootstrap"
    " interval over photos: of the paired difference to LIME, or of the ratio of errors to LIME's."
    " Bold marks the intervals that exclude 0 (or 1). All other differences are noise. With eight"
    " photos such intervals are a little too narrow, and among hundreds some exclude 0 by chance."
    " Times are without forward passes, on a shared machine; errors do not depend on it. *slime*"
    " and *bayeslime* may stop early. `grid_lime` is LIME."
    "\n\nWhat is better than LIME: torchlime's design has 0.38 to 0.56 of LIME's error to LIME's"
    " own limit, so it needs a seventh to a third of the samples. Banzhaf values, with the same"
    " design, have 0.33 to 0.52 of it to their own limit. With both, seeds agree more; for"
    " torchlime's design, ρ at 256 passes is 0.91, and LIME's is 0.81 (0.59 and 0.35 in 49"
    " squares). GLIME has 0.92 to 0.96 of LIME's error, but on the photos' log-odds the difference"
    " is noise. In 49 squares its seeds agree more (0.49 and 0.35), as its authors say."
    "\n\nWhat is not better: by deletion, no method beats LIME beyond noise. By insertion, three"
    " methods do, in one row each: torchlime (+0.006) and BayLIME (+0.001) in 12 squares, and"
    " Banzhaf (+0.04) in 49."
    "\n\nWhat does not hold here: BayLIME without prior knowledge is LIME in 12 squares, and in 49"
    " its insertion is lower at 256 passes. BELIEF and SLICE are no more stable than LIME at equal"
    " passes. S-LIME and BayesLIME stop early, with larger errors. RISE and DSEG's hierarchy have"
    " higher deletion and lower fidelity at 256 and at 1024 passes, and noise on each pixel needs"
    " many more passes. Leverage sampling has 0.93 of KernelSHAP's error on networks at 1024"
    " passes; on photos the difference is noise. Shapley values fit all scores less well than LIME"
    " does (R² 0.35 and 0.45 at 1024 passes), but those close to the photo better (r 0.66 and"
    " 0.61). `benchmarks/results/methods.svg` shows the differences in 12 squares."
)
OF_GAMES = ("spearman", "deletion", "insertion", "fidelity", "near")
OF_PHOTOS = ("spearman", "deletion", "insertion", "deletion, blurred", "insertion, blurred",
             "correlation")  # fmt: skip
WORDS = {
    "error": "error", "spearman": "stability, ρ", "deletion": "deletion ↓",
    "insertion": "insertion ↑", "fidelity": "fidelity, R² ↑", "near": "near, r ↑",
    "correlation": "fidelity, r ↑", "deletion, blurred": "deletion, blurred ↓",
    "insertion, blurred": "insertion, blurred ↑",
}  # fmt: skip


def run(settings: Settings) -> list[Row]:
    from benchmarks import forest

    photos = chosen(settings)
    rows: list[Row] = []
    for found in itertools.chain(on_games(settings, photos), on_photos(settings, photos)):
        rows.append(found | {"dtype": "float64" if found["part"] == "game" else "float32"})
    if not settings.quick:
        forest.draw(rows, settings.results / "methods.svg")
    return rows


def select(rows: list[Row], **kind: object) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in kind.items())]


def of_method(rows: list[Row], name: str, what: str) -> list[float]:
    """A number of a method, photo by photo; where its rows lack one, none."""
    return [row[what] for row in rows if row["method"] == name]


def ratio(rows: list[Row], name: str) -> Mean | None:
    """The error of a method over LIME's, the geometric mean over photos; each to its own limit."""
    ours, theirs = (of_method(rows, who, "error") for who in (name, LIME))
    if not ours or min(ours) <= 0:
        return None
    logs = difference([math.log(e) for e in ours], [math.log(e) for e in theirs])
    return Mean(*(math.exp(value) for value in logs))


def against(rows: list[Row], name: str, what: str) -> str:
    """The mean of a method's number; then its difference to LIME's, unless that is noise."""
    ours, theirs = (of_method(rows, who, what) for who in (name, LIME))
    if not ours:
        return "–"
    text = f"{sum(ours) / len(ours):.3f}"
    if name == LIME:
        return text
    off = difference(ours, theirs)
    return text if off.noise else f"**{text}** ({off.low:+.3f} … {off.high:+.3f})"


def table(rows: list[Row]) -> str:
    parts = []
    for output in ("probability", "log-odds"):
        of = select(rows, part="game", games="photos", output=output)
        parts.append(table_of_photos(of, f"photos, 12 squares, {output}", OF_GAMES))
    parts += [table_of_errors(rows), table_of_targets(rows)]
    parts.append(table_of_photos(select(rows, part="photo"), "photos, 49 squares", OF_PHOTOS))
    return "\n\n".join(parts)


def methods_of(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def compared(rows: list[Row], name: str, what: str) -> Mean | None:
    """A method against LIME: the ratio of errors, or the difference of other numbers."""
    if what == "error":
        return ratio(rows, name)
    return difference(of_method(rows, name, what), of_method(rows, LIME, what))


def table_of_photos(rows: list[Row], what: str, numbers: Sequence[str]) -> str:
    """Each method's means, bold where the difference to LIME's is no noise."""
    games = rows[0]["part"] == "game"
    head = [what, "N", "forwards", *(["limit", "error"] if games else [])]
    head += [*(WORDS[n] for n in numbers), "ms besides"]
    lines = []
    for budget, name in itertools.product(budgets_in(rows), methods_of(rows)):
        of = select(rows, samples=budget)
        mine = select(of, method=name)
        passes, spent = (sum(r[k] for r in mine) / len(mine) for k in ("rows", "seconds"))
        cells = [limit_in(mine), error_against(of, name)] if games else []
        cells += [against(of, name, number) for number in numbers]
        lines.append([name, budget, f"{passes:.0f}", *cells, digits(spent * 1e3)])
    return markdown(head, lines)


def budgets_in(rows: list[Row]) -> list[int]:
    return sorted({row["samples"] for row in rows})


def limit_in(rows: list[Row]) -> str:
    """Whose limit a method has, if it is the same in most games."""
    return statistics.mode(row["limit"] for row in rows)


def error_against(rows: list[Row], name: str) -> str:
    """The mean error to the method's own limit, and its ratio to LIME's, unless that is noise."""
    ours = of_method(rows, name, "error")
    text, over = f"{sum(ours) / len(ours):.3f}", ratio(rows, name)
    if name == LIME or over is None:
        return text
    if over.low <= 1 <= over.high:
        return text
    return f"**{text}** (×{over.low:.2f} … {over.high:.2f})"


def table_of_errors(rows: list[Row]) -> str:
    """Errors over LIME's in all sets of games."""
    kinds = list(dict.fromkeys(
        (row["games"], row["output"], row["samples"]) for row in select(rows, part="game")
    ))  # fmt: skip
    head = ["error / LIME's", *(f"{of}, {output}, {number}" for of, output, number in kinds)]
    lines = []
    for name in methods_of(select(rows, part="game")):
        cells = []
        for of, output, number in kinds:
            these = select(rows, part="game", games=of, output=output, samples=number)
            over = ratio(these, name)
            cells.append("–" if over is None else interval(over))
        lines.append([name, *cells])
    return markdown(head, lines)


def table_of_targets(rows: list[Row]) -> str:
    """How far methods are from the limits of others, with most forward passes."""
    of_games = select(rows, part="game", games="photos")
    most = select(of_games, samples=budgets_in(of_games)[-1])
    outputs = list(dict.fromkeys(row["output"] for row in most))
    targets = list(most[0]["errors"])
    head = ["error to the limit of", *(f"{t}, {o}" for o in outputs for t in targets)]
    lines = []
    for name in methods_of(most):
        of = {o: select(most, method=name, output=o) for o in outputs}
        means = [statistics.fmean(r["errors"][t] for r in of[o]) for o in outputs for t in targets]
        lines.append([name, *(f"{mean:.3f}" for mean in means)])
    return markdown(head, lines)


def interval(over: Mean) -> str:
    """A ratio, bold where its interval has no 1 in it."""
    text = f"{over.mean:.2f}"
    if over.low <= 1 <= over.high:
        return f"{text} ({over.low:.2f} … {over.high:.2f})"
    return f"**{text}** ({over.low:.2f} … {over.high:.2f})"
