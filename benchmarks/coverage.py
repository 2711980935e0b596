"""Whether the standard errors are right: how often a nominal 95 % interval holds the coefficient.

The games are networks of a few segments, so the fit of all 2^S masks is known: it is what the fit
of N masks estimates. Then photos, whose reference is the fit of many orthogonal masks; their draws
are parts of those masks, one after another, so they cost nothing more. Errors by pair are the
library's own. Errors by row are those of the same masks in another order, in which no pair is
found. The design's factor of variances is in both.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.samples import OUTPUTS, REFERENCE, REFERENCE_SEED, Photos, select
from benchmarks.settings import Row, Settings
from benchmarks.tables import markdown
from torchlime._returns import variance_factor
from torchlime.masks import Bernoulli, Exhaustive, Orthogonal
from torchlime.strategies import Sampler, Surrogate
from torchlime.surrogates import LeastSquares, Ridge
from torchlime.weights import Exponential

SEGMENTS = (8, 10, 12, 14)
GAMES = 15  # of each number of segments
SEEDS = 20
PIXELS = 112  # of the photos: half the network's own size, so there is time for more of them
NUMBERS = (64, 128, 256, 512, 1024)
OF_PHOTOS = (256, 512, 1024)
NORMAL = 1.96
SAMPLERS: tuple[Sampler, ...] = (Orthogonal(), Bernoulli())
SURROGATES: tuple[Surrogate, ...] = (LeastSquares(), Ridge())
ERRORS = ("by pair", "by row")
CAPTION = (
    "The coverage of β ± 1.96 SE, and beside it √(mean SE² / mean (β − β*)²). The coverage should"
    " be 0.93 to 0.98. There are 60 networks of 8 to 14 segments with 20 seeds, and β* is the fit"
    " of all 2^S masks. The photos are in 7×7 squares, for EfficientNet-Lite0, and each draw is a"
    " part of the masks of β*. The weights are `Exponential()`. The table is for `LeastSquares()`;"
    " `Ridge()` is in the JSON."
)

Found = tuple[Tensor, Tensor]  # errors β − β* and standard errors, [seeds,games,S]


def run(settings: Settings) -> Iterator[Row]:
    """The rows of the games, then those of the photos."""
    yield from rows_of_games(settings)
    yield from rows_of_photos(settings)


def rows_of_games(settings: Settings) -> Iterator[Row]:
    quick = settings.quick
    games, seeds = (5, 10) if quick else (GAMES, SEEDS)
    numbers = NUMBERS[:2] if quick else NUMBERS
    for segments in SEGMENTS[:2] if quick else SEGMENTS:
        settings.say(f"coverage: games of {segments} segments")
        game = networks(segments, games)
        for surrogate in SURROGATES:
            truth = fitted(surrogate, Exhaustive(), segments, 1 << segments, game, [0])[0]
            for sampler, number, errors in itertools.product(SAMPLERS, numbers, ERRORS):
                found, errors_of = fitted(
                    surrogate, sampler, segments, number, game, range(seeds), errors == "by pair"
                )
                yield {
                    "of": "games", "segments": segments, "surrogate": str(surrogate),
                    "sampler": type(sampler).__name__, "samples": number, "errors": errors,
                    **measured((found - truth, errors_of)),
                }  # fmt: skip


def rows_of_photos(settings: Settings) -> Iterator[Row]:
    quick = settings.quick
    photos = Photos(settings, pixels=PIXELS)
    size = settings.reference or (256 if quick else REFERENCE)
    settings.say(f"coverage: {size} masks of each of {len(photos.names)} photos")
    pool = photos.draw(Orthogonal(), size, REFERENCE_SEED)
    scores = photos.score(pool)
    for surrogate in SURROGATES:
        truth = of_scores(surrogate, pool[None], scores.transpose(0, 1).flatten(1)[None])[0]
        for number, errors in itertools.product((64,) if quick else OF_PHOTOS, ERRORS):
            masks = pool.unflatten(0, (-1, number))
            y = scores.transpose(0, 1).flatten(1).unflatten(0, (-1, number))
            found, errors_of = of_scores(surrogate, masks, y, errors == "by pair")
            errors_of = errors_of * math.sqrt(left_by(size, number, pool.shape[1]))
            for place, output in enumerate(OUTPUTS):
                every = slice(place, None, len(OUTPUTS))
                yield {
                    "of": "photos", "segments": pool.shape[1], "surrogate": str(surrogate),
                    "sampler": "Orthogonal", "samples": number, "errors": errors,
                    "output": output, "reference": size, "photos": list(photos.names),
                    "pixels": photos.images.shape[-1],
                    **measured((found[:, every] - truth[:, every], errors_of[:, every])),
                }  # fmt: skip


def left_by(size: int, number: int, segments: int) -> float:
    """The factor of the variance of a draw of N of so many masks, less that of all the masks.

    The fit of all is about the mean of the fits of its parts, so what they share does not show.
    """
    part, whole = (variance_factor(Orthogonal(), segments, n) for n in (number, size))
    return part - whole * number / size


def networks(segments: int, number: int, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Networks of two layers and a softmax: masks [B,N,S] → the first class of each [B,N,number].

    The class is the best one of the whole input.
    """
    g = torch.Generator().manual_seed(1000 * seed + segments)
    hidden, classes = 16, 4

    def random(*shape: int) -> Tensor:
        return torch.randn(number, *shape, generator=g, dtype=torch.float64)

    first, shift = random(segments, hidden) * 3.3 / math.sqrt(segments), random(1, hidden) * 0.7
    last = random(hidden, classes) * 2.4 / math.sqrt(hidden)

    def probabilities(masks: Tensor) -> Tensor:
        """[number,n,classes] of masks [n,S]."""
        return (nn.functional.relu((masks - 0.5) @ first + shift) @ last).softmax(dim=2)

    best = probabilities(torch.ones(1, segments, dtype=torch.float64)).argmax(dim=2)

    def game(masks: Tensor) -> Tensor:
        flat = probabilities(masks.flatten(0, 1).double())
        own = flat.gather(2, best[:, None].expand(-1, flat.shape[1], 1))[..., 0]
        return own.mT.unflatten(0, masks.shape[:2])

    return game


def fitted(
    surrogate: Surrogate,
    sampler: Sampler,
    segments: int,
    number: int,
    game: Callable[[Tensor], Tensor],
    seeds: range | list[int],
    pairs: bool = True,
) -> Found:
    """Coefficients and standard errors [seeds,games,S] of draws of ``number`` masks."""
    count = torch.tensor([segments])
    masks = torch.cat([sampler(count, segments, number, seed=seed) for seed in seeds])
    found, errors = of_scores(surrogate, masks, game(masks), pairs)
    return found, errors * math.sqrt(variance_factor(sampler, segments, number))


def of_scores(surrogate: Surrogate, masks: Tensor, scores: Tensor, pairs: bool = True) -> Found:
    """Of masks [B,N,S] and scores [B,N,T]: coefficients and standard errors [B,T,S]."""
    count = torch.full((len(masks),), masks.shape[2])
    if not pairs:
        masks, scores = masks.roll(1, dims=1), scores.roll(1, dims=1)
    fit = surrogate(masks, scores, Exponential()(masks, count), count)
    return fit.coefficients, fit.standard_errors


def measured(found: Found) -> Row:
    """Coverage, and the standard errors over the true ones, of β − β* and SE [seeds,games,S]."""
    off, errors = found
    ratios = (errors.square().mean(dim=(0, 2)) / off.square().mean(dim=(0, 2))).sqrt()
    return {
        "coverage": (off.abs() <= NORMAL * errors).double().mean().item(),
        "ratio": ratios.mean().item(),
        "intervals": off.numel(),
        "dtype": "float64",
    }


def table(rows: list[Row]) -> str:
    return f"{sentence(rows)}\n\n{table_of_coverage(rows)}"


def sentence(rows: list[Row]) -> str:
    """Which photos, and how many masks."""
    row = select(rows, of="photos")[0]
    return (
        f"Photos of {row['pixels']} pixels: {', '.join(row['photos'])}; {row['reference']} masks"
        " of each."
    )


def table_of_coverage(rows: list[Row]) -> str:
    kinds = list(itertools.product([type(s).__name__ for s in SAMPLERS], ERRORS))
    head = ["of", "S", "N", *(f"{sampler}, {errors}" for sampler, errors in kinds)]
    cells: dict[tuple[object, ...], dict[tuple[str, str], str]] = {}
    for row in select(rows, surrogate=str(SURROGATES[0])):
        of = f"{row['of']} {row.get('output', '')}".strip()
        found = cells.setdefault((of, row["segments"], row["samples"]), {})
        found[row["sampler"], row["errors"]] = f"{row['coverage']:.3f} / {row['ratio']:.2f}"
    lines = [[*case, *(found.get(kind, "–") for kind in kinds)] for case, found in cells.items()]
    return markdown(head, lines)
