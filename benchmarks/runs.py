"""Runs of designs on games: their errors at fixed numbers of rows, and those of a rule that stops.

A run is a seed of a game. Its error is ‖b − β‖ / ‖β‖, β the fit to all masks.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.games import KERNEL, Game
from benchmarks.settings import Row
from torchlime import Lime
from torchlime._returns import variance_factor
from torchlime.fills import Constant
from torchlime.rounds import Until
from torchlime.segments import Grid
from torchlime.strategies import Surrogate

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95)

Key = tuple[str, str, str, str, float]  # games, output, design, kind, at
Run = tuple[Key, dict[str, Tensor]]


def errors_of(found: Tensor, truth: Tensor) -> Tensor:
    """[R], of coefficients [R,S]."""
    return (found - truth).norm(dim=-1) / truth.norm()


def predicted(found: Tensor, standard_errors: Tensor) -> Tensor:
    """The error that the standard errors [R,S] predict: [R]; ∞ where they exceed b."""
    noise = standard_errors.square().sum(-1)
    signal = found.square().sum(-1) - noise
    return torch.where(signal > 0, (noise / signal.clamp(min=1e-30)).sqrt(), torch.inf)


def fixed(
    game: Game, truth: Tensor, name: str, sampler: Any, surrogate: Surrogate, seed: Tensor,
    numbers: Sequence[int],
) -> Iterator[Run]:  # fmt: skip
    """Fixed numbers of rows; each is a draw of its own."""
    count = game.count.repeat(len(seed))
    for number in numbers:
        masks = sampler(count, game.features, number, seed=seed)
        weighing = getattr(sampler, "weights", None)
        weights = KERNEL(masks, count) if weighing is None else weighing(masks)
        factor = variance_factor(sampler, game.features, number)
        fit = game.fit(surrogate, masks, weights).scaled(factor)
        found = fit.coefficients[:, 0]
        yield (
            (game.of, game.output, name, "fixed", number),
            {
                "errors": errors_of(found, truth),
                "predicted": predicted(found, fit.standard_errors[:, 0]),
            },
        )


def stopped(
    game: Game, truth: Tensor, name: str, sampler: Any, surrogate: Surrogate, seed: Tensor,
    tolerances: Sequence[float], most: int,
) -> Iterator[Run]:  # fmt: skip
    """The library's own rule."""

    def model(images: Tensor) -> Tensor:
        return game.scores(images.flatten(1) > 0.5)[:, None]

    images = torch.ones(len(seed), 1, 1, game.features)
    for tolerance in tolerances:
        explainer = Lime(
            segmenter=Grid(1, game.features), fill=Constant(0.0), sampler=sampler, kernel=KERNEL,
            surrogate=surrogate, rounds=Until(error=tolerance, most=most), chunk_size=4096,
        )  # fmt: skip
        found = explainer.explain(model, images, 0, seed=seed)
        assert found.samples_used is not None
        yield (
            (game.of, game.output, name, "until", tolerance),
            {
                "errors": errors_of(found.coefficients[:, 0], truth),
                "used": found.samples_used,
                "sure": found.problems == 0,
            },
        )


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """A row for each key: the runs of all its games together."""
    together: dict[Key, list[dict[str, Tensor]]] = defaultdict(list)
    for key, found in runs:
        together[key].append(found)
    names = ("games", "output", "design", "kind", "at")
    return [
        dict(zip(names, key, strict=True))
        | summary(key[4], {name: torch.cat([one[name] for one in found]) for name in found[0]})
        | {"dtype": "float64"}
        for key, found in together.items()
    ]


def summary(at: float, found: dict[str, Tensor]) -> Row:
    """What is kept of runs."""
    errors = found["errors"]
    row: Row = {
        "runs": len(errors),
        "rms": errors.square().mean().sqrt().item(),
        "geometric": errors.log().mean().exp().item(),
        "levels": quantiles(errors),
    }
    if "used" not in found:
        return row
    used, sure = found["used"].double(), found["sure"]
    late = sure & (errors > at)
    return row | {
        "mean": used.mean().item(),
        "median": used.median().item(),
        "p95": quantiles(used, (0.95,))[0],
        "sure": sure.double().mean().item(),
        "within": 1 - (late.sum() / sure.sum()).item() if sure.any() else math.nan,
        # The share of runs that stopped too early, and did so at the first look
        "first": (late & (used == used.min())).double().mean().item(),
    }


def quantiles(values: Tensor, levels: Sequence[float] = LEVELS) -> list[float]:
    """Of values [R]."""
    found: list[float] = torch.quantile(values, torch.tensor(levels, dtype=values.dtype)).tolist()
    return found


def select(rows: list[Row], **kind: object) -> list[Row]:
    """The rows whose entries are these."""
    return [row for row in rows if all(row.get(key) == value for key, value in kind.items())]
