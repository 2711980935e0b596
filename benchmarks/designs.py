"""Which masks, and how many: designs at equal forwards, and what decides the defaults."""

import itertools
import statistics
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.focused import focused
from benchmarks.games import OUTPUTS, SQUARES, Game, enumerated, photos
from benchmarks.rivals import Blocks, BySize, Independent, Paired, glime, leverage
from benchmarks.runs import Run, errors_of, fixed, rows_of, select, stopped
from benchmarks.settings import Row, Settings
from benchmarks.tables import digits, markdown
from torchlime.masks import Bernoulli, Orthogonal
from torchlime.surrogates import Ridge

NUMBERS = (64, 128, 256, 512, 1024, 2048)
TOLERANCES = (0.5, 0.35, 0.25, 0.2)
MOST = 2048
SEEDS = {True: 2, False: 16}  # by whether each mask costs a forward pass
ALL = "all photos"
STREAM, BLOCKS, LIMES = "stream", "old blocks", "lime's"
DESIGNS: dict[str, tuple[Any, int]] = {  # and the most rows where each costs a forward pass
    STREAM: (Orthogonal(), 1024),
    BLOCKS: (Blocks(), 512),
    "old blocks, x fitted": (Blocks(beside=False), 0),
    "Bernoulli": (Independent(), 512),
    LIMES: (Bernoulli(), 512),
    "paired": (Paired(), 256),
    "GLIME's sizes": (BySize(glime), 256),
    "leverage sizes": (BySize(leverage, paired=True), 256),
}
CAPTION = "TODO"


def run(settings: Settings) -> list[Row]:
    runs = [*runs_of_enumerated(settings)]
    for squares in SQUARES[:1] if settings.quick else SQUARES:
        of_photos = [*runs_of_photos(settings, squares)]
        runs += of_photos
        runs += [((ALL, *key[1:]), found) for key, found in of_photos]
    return rows_of(runs)


def runs_of_enumerated(settings: Settings) -> Iterator[Run]:
    for place, game in enumerate(enumerated(settings)):
        yield from runs_of(game, 1000 * place, False, settings)


def runs_of_photos(settings: Settings, squares: int) -> Iterator[Run]:
    for place, game in enumerate(photos(settings, squares)):
        # Both outputs of a photo have the same masks.
        yield from runs_of(game, 1000 * (place // 2), True, settings)


def runs_of(game: Game, first_seed: int, costly: bool, settings: Settings) -> Iterator[Run]:
    """Every design at its numbers of rows, and the rule on the stream."""
    quick = settings.quick
    truth = game.truth()
    seed = torch.arange(1 if quick else SEEDS[costly]) + first_seed
    for name, (sampler, most) in DESIGNS.items():
        numbers = [n for n in NUMBERS if n <= (most if costly else MOST)]
        yield from fixed(game, truth, name, sampler, Ridge(), seed, numbers[: 2 if quick else None])
    numbers = [n for n in NUMBERS[: 2 if quick else None] if n <= (256 if costly else 512)]
    for number, found in focused(game, Ridge(), seed, numbers):
        key = (game.of, game.output, "focused", "fixed", number)
        yield key, {"errors": errors_of(found, truth)}
    yield from stopped(
        game, truth, STREAM, DESIGNS[STREAM][0], Ridge(), seed, TOLERANCES, 256 if quick else MOST
    )  # fmt: skip
    settings.say(f"designs: {game.of} {game.output} done")


def table(rows: list[Row]) -> str:
    return f"{table_of_designs(rows)}\n\n{table_of_defaults(rows)}"


def table_of_designs(rows: list[Row]) -> str:
    names = [*DESIGNS, "focused"]
    lines = []
    cases = dict.fromkeys(
        (row["games"], row["output"], row["at"])
        for row in select(rows, kind="fixed", design=STREAM)
    )
    for games, output, number in cases:
        if games == ALL:
            continue
        here = {
            row["design"]: digits(row["rms"])
            for row in select(rows, games=games, output=output, kind="fixed", at=number)
        }
        lines.append([games, output, number, *(here.get(name, "") for name in names)])
    return markdown(["games", "of the", "N", *names], lines)


def table_of_defaults(rows: list[Row]) -> str:
    return ""
