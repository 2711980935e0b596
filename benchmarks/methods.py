"""Every recipe of torchlime.methods at equal forward passes, on games and on photos.

In a game the scores of all masks are known: photos in 3×4 squares (the bank), and random networks.
There every method gets many seeds, and its own limit is known. Methods that show anything between
hidden and shown take part only in the second half, photos in 7×7 squares.
"""

import hashlib
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks import limits
from benchmarks.bank import Photo, bank, cells, chosen
from benchmarks.bootstrap import Mean, difference
from benchmarks.games import KERNEL, Game, every_mask, games_of, networks
from benchmarks.recipes import LIME, Case, evidence, names, takes_part
from benchmarks.settings import Row, Settings
from benchmarks.tables import digits, markdown
from torchlime import metrics
from torchlime._given_masks import score_masks
from torchlime.fills import Blur, Constant, SegmentMean
from torchlime.masks import Bernoulli
from torchlime.metrics._correlation import spearman
from torchlime.segments import Grid

BUDGETS = (256, 1024)
SEEDS, DIRECT_SEEDS = 16, 2
MANY, DRAWS = 32768, 8  # rows and draws of a limit that is sampled
ALIKE = 0.02  # a sampled limit so near to an exact one is that one
TOP = 4
NEAR = 0.75  # of the features are kept in a mask that is near to the input
FRESH = 256  # masks of the fidelity on photos
STEPS = 16  # of deletion and insertion on photos


def run(settings: Settings) -> list[Row]:
    photos = chosen(settings)
    rows: list[Row] = []
    for found in itertools.chain(on_games(settings, photos), on_photos(settings, photos)):
        rows.append(found | {"dtype": "float64" if found["part"] == "game" else "float32"})
    return rows


# ---- games ---------------------------------------------------------------------------------------


class Lookup:
    """A game as a model of images [n,1,…] of K pixels: a pixel of 1 is shown, of 0 hidden.

    Attributes:
        rows: how many it got.
        seconds: how long they took.
    """

    def __init__(self, game: Game):
        self.game, self.rows, self.seconds = game, 0, 0.0

    def __call__(self, images: Tensor) -> Tensor:
        start = time.perf_counter()
        shown = images.flatten(1)
        if not ((shown == 0) | (shown == 1)).all():
            raise ValueError("a method showed something between hidden and shown")
        found = self.game.scores(shown > 0.5)[:, None]
        self.rows += len(images)
        self.seconds += time.perf_counter() - start
        return found


def on_games(settings: Settings, photos: Sequence[Photo]) -> Iterator[Row]:
    """A row for each game, output, method and number of forward passes."""
    for name, grid, games in every_game(settings, photos):
        for game in games:
            common = {"part": "game", "games": game.of, "photo": name, "output": game.output}
            for row in of_game(settings, game, games[0], grid):
                yield common | row
        settings.say(f"methods: {name} done")


Cells = tuple[int, int]


def every_game(
    settings: Settings, photos: Sequence[Photo]
) -> Iterator[tuple[str, Cells | None, list[Game]]]:
    """A name, the places of its features, and its games: the probability, and the log-odds."""
    for one in photos:
        yield one.name, cells(settings.quick), bank(settings, one)
    for place, (of, logits) in enumerate(networks(2 if settings.quick else 12, settings.quick)):
        yield f"network {place}", None, games_of(of, logits, int(logits[-1].argmax()))


def of_game(settings: Settings, game: Game, shown: Game, grid: Cells | None) -> Iterator[Row]:
    """What each method finds in a game; areas are of the probability, ``shown``."""
    exact = {"LIME": game.truth(), "Shapley": limits.shapley(game), "Banzhaf": limits.banzhaf(game)}
    best = {"least deletion": limits.least_deletion(shown)}
    best |= {"most insertion": limits.most_insertion(shown), "random": limits.random_area(shown)}
    seeds = torch.arange(2 if settings.quick else SEEDS)
    budgets = (96, 128) if settings.quick else BUDGETS
    for name in names():
        if not takes_part(name, case_of(game, grid, 1), masks_only=True):
            continue
        own, whose = limit(settings, name, game, grid, exact)
        for budget in budgets:
            case = case_of(game, grid, len(seeds))
            start = time.perf_counter()
            found = evidence(name, case, budget, seeds)
            spent = time.perf_counter() - start - case.model.seconds
            yield {
                "method": name, "samples": budget, "rows": case.model.rows / len(seeds),
                "seconds": spent / len(seeds), "limit": whose, "error": error(found, own),
                "errors": {of: error(found, truth) for of, truth in exact.items()},
                **stability(found), **fidelities(game, found),
                **areas_in_game(shown, found), **best,
            }  # fmt: skip


def case_of(game: Game, grid: Cells | None, batch: int) -> Case:
    """A game as images of one pixel for a feature, the same for each of ``batch`` seeds."""
    shape = grid or (1, game.features)
    return Case(
        Lookup(game), torch.ones(batch, 1, *shape), grid,
        torch.arange(game.features).view(shape), Constant(0.0), chunk_size=65536,
    )  # fmt: skip


def limit(
    settings: Settings, name: str, game: Game, grid: Cells | None, exact: dict[str, Tensor]
) -> tuple[Tensor, str]:
    """The coefficients [K] of a method with endless samples, and whose these are.

    They are the mean of several draws of many rows, unless they are as near to an exact one as the
    draws can tell.
    """
    seeds = 10_000 + torch.arange(2 if settings.quick else DRAWS)
    many = 512 if settings.quick else MANY
    mean = evidence(name, case_of(game, grid, len(seeds)), many, seeds, endless=True).mean(0)
    off = {of: error(mean[None], truth) for of, truth in exact.items()}
    nearest = min(off, key=lambda of: off[of])
    return (exact[nearest], nearest) if off[nearest] < ALIKE else (mean, "its own")


def areas_in_game(shown: Game, found: Tensor) -> Row:
    """Deletion and insertion of draws [R,K], their mean."""
    images = torch.ones(len(found), 1, 1, shown.features)
    labels = torch.arange(shown.features)[None]
    heatmap = metrics.Heatmap(values=found, targets=0, segments=labels)
    return {
        area.__name__: area(Lookup(shown), images, heatmap, fill=Constant(0.0)).mean().item()
        for area in (metrics.deletion, metrics.insertion)
    }


def error(found: Tensor, truth: Tensor) -> float:
    """The root of the mean of ‖b − β‖² / ‖β‖² over draws [R,K]."""
    return ((found - truth).square().sum(1).mean() / truth.square().sum()).sqrt().item()


def stability(found: Tensor) -> Row:
    """How alike the draws [R,K] are: Spearman's ρ, and Jaccard's index of the strongest."""
    first, second = torch.combinations(torch.arange(len(found)), 2).unbind(1)
    top = torch.zeros_like(found, dtype=torch.bool)
    top.scatter_(1, found.abs().argsort(dim=1, descending=True, stable=True)[:, :TOP], True)
    both, either = top[first] & top[second], top[first] | top[second]
    return {
        "spearman": spearman(found[first], found[second]).nan_to_num(1.0).mean().item(),
        "top": (both.sum(1) / either.sum(1)).mean().item(),
    }


def fidelities(game: Game, found: Tensor) -> Row:
    """How well draws [R,K] predict the scores of all masks, as linear models.

    "fidelity" is R² with the best intercept, of masks weighed as LIME does; "near" the correlation
    over masks that keep most, each size alike.
    """
    masks = every_mask(game.features)
    sizes = masks.sum(1)
    near = torch.where(sizes >= NEAR * game.features, 1 / sizes.bincount()[sizes], 0.0).double()
    fitted = found @ masks.double().T
    return {
        "fidelity": r2(fitted, game.table, KERNEL(masks[None], game.count)[0]).mean().item(),
        "near": correlation(fitted, game.table, near).mean().item(),
    }


def r2(fitted: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """1 − Σ w (y − g)² / Σ w (y − ȳ)² [R] of fitted [R,M] and scores [M], with the best intercept.

    >>> r2(torch.tensor([[5.0, 6.0]]), torch.tensor([0.0, 1.0]), torch.ones(2)).tolist()
    [1.0]
    """
    share = weights / weights.sum()
    off = scores - fitted
    unexplained = (share * (off - (off @ share)[:, None]).square()).sum(1)
    return 1 - unexplained / (share * (scores - scores @ share).square()).sum()


# ---- photos --------------------------------------------------------------------------------------


class Seen:
    """The probability [n,1] of a photo's class, each image scored once.

    Attributes:
        rows: how many it got.
        seconds: how long they took.
    """

    def __init__(self, photo: Photo):
        self.photo, self.rows, self.seconds = photo, 0, 0.0
        self.known: dict[bytes, Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        start = time.perf_counter()
        keys = [hashlib.sha1(image.contiguous().numpy().tobytes()).digest() for image in images]
        new = {key: place for place, key in enumerate(keys) if key not in self.known}
        if new:
            found = self.photo.model(images[list(new.values())])[:, [self.photo.target]]
            self.known.update(zip(new, found, strict=True))
        self.rows += len(images)
        self.seconds += time.perf_counter() - start
        return torch.stack([self.known[key] for key in keys])


def on_photos(settings: Settings, photos: Sequence[Photo]) -> Iterator[Row]:
    """A row for each photo, method and number of forward passes, in smaller squares."""
    for photo in photos:
        model = Seen(photo)
        grid = (3, 4) if settings.quick else (7, 7)
        segments = Grid(*grid)(photo.pixels)
        count, bound = segments.count, segments.bound
        masks = Bernoulli()(count, bound, FRESH, seed=10_000)[:, 1:]
        scores = score_masks(model, photo.pixels, segments, SegmentMean(), masks, 0)[0, :, 0]
        weights = KERNEL(masks, count)[0]
        case = Case(model, photo.pixels, grid, segments.labels[0], SegmentMean())
        for budget, name in itertools.product(budgets_of(settings), names()):
            found, rows, spent = [], [], []
            for seed in range(DIRECT_SEEDS):
                begun, model.rows, model.seconds = time.perf_counter(), 0, 0.0
                found.append(evidence(name, case, budget, seed))
                rows.append(model.rows)
                spent.append(time.perf_counter() - begun - model.seconds)
            values = torch.cat(found)
            fitted = values @ masks[0].double().T
            yield {
                "part": "photo", "games": "photos", "photo": photo.name, "output": "probability",
                "method": name, "samples": budget, "rows": sum(rows) / len(rows),
                "seconds": sum(spent) / len(spent), **stability(values),
                "correlation": correlation(fitted, scores.double(), weights).mean().item(),
                **areas_of(model, photo, values, segments.labels),
            }  # fmt: skip
        settings.say(f"methods: {photo.name} in {bound} squares done, {len(model.known)} images")


def budgets_of(settings: Settings) -> tuple[int, ...]:
    return (96,) if settings.quick else BUDGETS[:1]


def correlation(fitted: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """Pearson's correlation [R] of fitted [R,M] and scores [M]; of no unit."""
    share = weights / weights.sum()
    a = (fitted - (fitted @ share)[:, None]) * share.sqrt()
    b = (scores - scores @ share) * share.sqrt()
    return (a @ b) / (a.norm(dim=1) * b.norm()).clamp(min=1e-300)


def areas_of(model: Seen, photo: Photo, values: Tensor, labels: Tensor) -> Row:
    """Deletion and insertion of coefficients [R,S], each from two fills."""
    areas: Row = {}
    for name, fill in {"": SegmentMean(), ", blurred": Blur(5.0)}.items():
        for area in (metrics.deletion, metrics.insertion):
            found = []
            for one in values:
                heatmap = metrics.Heatmap(values=one[None], targets=0, segments=labels)
                found.append(area(model, photo.pixels, heatmap, fill=fill, steps=STEPS).item())
            areas[area.__name__ + name] = sum(found) / len(found)
    return areas


# ---- what the rows say ---------------------------------------------------------------------------

CAPTION = "TODO"
HIGHER = {"error": -1, "spearman": 1, "deletion": -1, "insertion": 1, "fidelity": 1, "near": 1,
          "correlation": 1, "deletion, blurred": -1, "insertion, blurred": 1}  # fmt: skip
OF_GAMES = ("spearman", "deletion", "insertion", "fidelity", "near")
OF_PHOTOS = ("spearman", "deletion", "insertion", "deletion, blurred", "insertion, blurred",
             "correlation")  # fmt: skip
WORDS = {
    "error": "error", "spearman": "stability, ρ", "deletion": "deletion ↓",
    "insertion": "insertion ↑", "fidelity": "fidelity, R² ↑", "near": "near, r ↑",
    "correlation": "fidelity, r ↑", "deletion, blurred": "deletion, blurred ↓",
    "insertion, blurred": "insertion, blurred ↑",
}  # fmt: skip


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
    parts.append(table_of_errors(rows))
    parts.append(table_of_photos(select(rows, part="photo"), "photos, 49 squares", OF_PHOTOS))
    return "\n\n".join(parts)


def methods_of(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


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


def interval(over: Mean) -> str:
    """A ratio, bold where its interval has no 1 in it."""
    text = f"{over.mean:.2f}"
    if over.low <= 1 <= over.high:
        return f"{text} ({over.low:.2f} … {over.high:.2f})"
    return f"**{text}** ({over.low:.2f} … {over.high:.2f})"
