"""Methods on games: the scores of all masks are known, so many seeds cost nothing.

Photos in 3×4 squares (the bank), and random networks. A method's error is to its own limit, which
is an exact one, or the mean of draws of many rows.
"""

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks import limits
from benchmarks.bank import Photo, bank, cells
from benchmarks.games import KERNEL, Game, Network, every_mask, games_of
from benchmarks.recipes import Case, evidence, names, takes_part
from benchmarks.settings import Row, Settings
from torchlime import metrics
from torchlime.fills import Constant
from torchlime.metrics._correlation import spearman

BUDGETS = (256, 1024)
SEEDS = 16
MANY, DRAWS = 32768, 8  # rows and draws of a limit that is sampled
ALIKE = 0.02  # a sampled limit so near to an exact one is that one
TOP = 4
NEAR = 0.75  # of the features are kept in a mask that is near to the input


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
    number, features = (2, 6) if settings.quick else (12, 14)
    for seed in range(number):
        logits = Network(seed, number, features, odd=False)(every_mask(features))
        yield f"network {seed}", None, games_of("networks", logits)


def of_game(settings: Settings, game: Game, shown: Game, grid: Cells | None) -> Iterator[Row]:
    """What each method finds in a game; areas are of the probability, ``shown``."""
    exact = {"LIME": game.truth(), "Shapley": limits.shapley(game), "Banzhaf": limits.banzhaf(game)}
    best = {"least deletion": limits.least_deletion(shown)}
    best |= {"most insertion": limits.most_insertion(shown), "random": limits.random_area(shown)}
    seeds = torch.arange(2 if settings.quick else SEEDS)
    budgets = (96, 128) if settings.quick else BUDGETS
    for name in names():
        if not takes_part(name, case_of(Lookup(game), grid, 1), masks_only=True):
            continue
        own, whose = limit(settings, name, game, grid, exact)
        for budget in budgets:
            model = Lookup(game)
            case = case_of(model, grid, len(seeds))
            start = time.perf_counter()
            found = evidence(name, case, budget, seeds)
            spent = time.perf_counter() - start - model.seconds
            yield {
                "method": name, "samples": budget, "rows": model.rows / len(seeds),
                "seconds": spent / len(seeds), "limit": whose, "error": error(found, own),
                "errors": {of: error(found, truth) for of, truth in exact.items()},
                **stability(found), **fidelities(game, found),
                **areas_in_game(shown, found), **best,
            }  # fmt: skip


def case_of(model: Lookup, grid: Cells | None, batch: int) -> Case:
    """A game as images of one pixel for a feature, the same for each of ``batch`` seeds."""
    features = model.game.features
    shape = grid or (1, features)
    labels = torch.arange(features).view(shape)
    return Case(model, torch.ones(batch, 1, *shape), grid, labels, Constant(0.0), chunk_size=65536)


def limit(
    settings: Settings, name: str, game: Game, grid: Cells | None, exact: dict[str, Tensor]
) -> tuple[Tensor, str]:
    """The coefficients [K] of a method with endless samples, and whose these are.

    They are the mean of several draws of many rows, unless they are as near to an exact one as the
    draws can tell.
    """
    seeds = 10_000 + torch.arange(2 if settings.quick else DRAWS)
    many = 512 if settings.quick else MANY
    mean = evidence(name, case_of(Lookup(game), grid, len(seeds)), many, seeds, endless=True).mean(
        0
    )
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


def correlation(fitted: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """Pearson's correlation [R] of fitted [R,M] and scores [M]; of no unit."""
    share = weights / weights.sum()
    a = (fitted - (fitted @ share)[:, None]) * share.sqrt()
    b = (scores - scores @ share) * share.sqrt()
    return (a @ b) / (a.norm(dim=1) * b.norm()).clamp(min=1e-300)
