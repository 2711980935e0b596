"""Which masks, and how many: designs at equal forwards, and what decides the defaults."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.curves import evaluations_for
from benchmarks.focused import focused
from benchmarks.games import SQUARES, Game, enumerated, photos
from benchmarks.results import other_rows
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
STREAM, BLOCKS, FITTED, BERNOULLI, LIMES, FOCUSED = (
    "stream", "old blocks", "old blocks, x fitted", "Bernoulli", "lime's", "focused",
)  # fmt: skip
DESIGNS: dict[str, tuple[Any, int]] = {  # and the most rows where each costs a forward pass
    STREAM: (Orthogonal(), 1024),
    BLOCKS: (Blocks(), 512),
    FITTED: (Blocks(beside=False), 0),
    BERNOULLI: (Independent(), 512),
    LIMES: (Bernoulli(), 512),
    "paired": (Paired(), 256),
    "GLIME's sizes": (BySize(glime), 256),
    "leverage sizes": (BySize(leverage, paired=True), 256),
}
DEFAULTS: tuple[tuple[str, Row], ...] = (
    ("lime's, 512", {"kind": "fixed", "design": LIMES, "at": 512}),
    ("old blocks, 512", {"kind": "fixed", "design": BLOCKS, "at": 512}),
    *((f"stream, {n}", {"kind": "fixed", "design": STREAM, "at": n}) for n in (256, 512, 1024)),
    *((f"Until({t})", {"kind": "until", "design": STREAM, "at": t}) for t in TOLERANCES),
)
CAPTION = (
    "Games of `stopping`, whose scores of all masks are known, and six photos in S segments (a grid"
    " and Slic in turn; EfficientNet-Lite0, 96 pixels, bfloat16), whose reference is 2048 (S = 16,"
    " 25) or 4096 masks of another seed; 16 seeds of each game and 2 of each photo. `Ridge()` with"
    " the default kernel; the error is ‖b − β‖ / ‖β‖. Above, the root of its mean square at equal"
    " rows. *Stream* is Orthogonal(), *old blocks* are those of version 0.2, with the input beside"
    " them or fitted; *Bernoulli* has the input beside, *lime's* has it fitted. Published designs"
    " are re-implemented from their papers: complement pairs (Covert & Lee 2021), GLIME's sizes"
    " (Tan et al. 2023), leverage sizes in pairs (Musco & Witter 2025), focused sampling (Slack et"
    " al. 2021); a blank was not run. In the middle, rows and two errors (root of the mean square,"
    " 95th percentile) of what may be a default. Below, the rows of the rule beside the fixed"
    " number of the stream that errs as much."
)


def run(settings: Settings) -> Iterator[Row]:
    """The rows, one set of games after the other; with ``only``, beside other committed rows."""
    if settings.only:
        yield from other_rows("designs", settings.only)
    yield from rows_of(runs_of_enumerated(settings))
    every: list[Run] = []
    for squares in list(SQUARES)[: 1 if settings.quick else None]:
        of_photos = [*runs_of_photos(settings, squares)]
        yield from rows_of(of_photos)
        every += [((ALL, *key[1:]), found) for key, found in of_photos]
    yield from rows_of(every)


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
    if settings.only is None:
        yield from runs_of_fixed(game, truth, seed, costly, quick)
    yield from stopped(
        game, truth, STREAM, DESIGNS[STREAM][0], Ridge(), seed, TOLERANCES, 256 if quick else MOST
    )  # fmt: skip
    settings.say(f"designs: {game.of} {game.output} done")


def runs_of_fixed(
    game: Game, truth: Tensor, seed: Tensor, costly: bool, quick: bool
) -> Iterator[Run]:
    """Every design at its numbers of rows."""
    for name, (sampler, most) in DESIGNS.items():
        numbers = [n for n in NUMBERS if n <= (most if costly else MOST)]
        yield from fixed(game, truth, name, sampler, Ridge(), seed, numbers[: 2 if quick else None])
    numbers = [n for n in NUMBERS[: 2 if quick else None] if n <= (256 if costly else 512)]
    for number, found in focused(game, Ridge(), seed, numbers):
        key = (game.of, game.output, FOCUSED, "fixed", number)
        yield key, {"errors": errors_of(found, truth)}


def table(rows: list[Row]) -> str:
    tables = (table_of_designs, table_of_defaults, table_of_equal_errors)
    return "\n\n".join([*sentence_of_commits(rows), *(of(rows) for of in tables)])


def sentence_of_commits(rows: list[Row]) -> list[str]:
    """Which rows an earlier commit measured, if some are."""
    commits = dict.fromkeys(row["commit"] for row in rows if "commit" in row)
    return [
        f"Fixed numbers were measured at commit {commit}; only the rule was measured again."
        for commit in commits
    ]


def sets_of(rows: list[Row]) -> list[tuple[str, str]]:
    """Which games, and which output."""
    return list(dict.fromkeys((row["games"], row["output"]) for row in rows))


def table_of_designs(rows: list[Row]) -> str:
    """The root of the mean squared error of each design at equal rows."""
    names = [*DESIGNS, FOCUSED]
    lines = []
    for games, output in sets_of(rows):
        of = select(rows, games=games, output=output, kind="fixed")
        for number in dict.fromkeys(row["at"] for row in of if games != ALL):
            here = {row["design"]: digits(row["rms"]) for row in select(of, at=number)}
            lines.append([games, output, number, *(here.get(name, "") for name in names)])
    return markdown(["games", "of the", "N", *names], lines)


def table_of_defaults(rows: list[Row]) -> str:
    """Mean rows, root mean squared error and its 95th percentile of what may be a default."""
    head = ["games", "of the", *(words for words, _ in DEFAULTS)]
    lines = []
    for games, output in sets_of(rows):
        cells = []
        for _, choice in DEFAULTS:
            found = select(rows, games=games, output=output, **choice)
            cells += [of_default(found[0])] if found else [""]
        lines.append([games, output, *cells])
    return markdown(head, lines)


def of_default(row: Row) -> str:
    """Rows: error, and its 95th percentile."""
    rows = f"{row.get('mean', row['at']):.0f}"
    return f"{rows}: {digits(row['rms'])}, {digits(row['levels'][-1])}"


def table_of_equal_errors(rows: list[Row]) -> str:
    """The rule's rows beside the fixed numbers of the stream that err as much."""
    head = ["games", "of the", "tolerance", "rows, mean", "median", "p95", "sure", "within",
            "equal error: N", "equal p95: N", "rows / N, equal p95"]  # fmt: skip
    lines = []
    for rule in select(rows, kind="until"):
        of = {"games": rule["games"], "output": rule["output"], "design": STREAM, "kind": "fixed"}
        curve = select(rows, **of)
        mean = evaluations_for(rule["rms"], [(row["at"], row["rms"]) for row in curve])
        high = evaluations_for(
            rule["levels"][-1], [(row["at"], row["levels"][-1]) for row in curve]
        )
        mark = "≤≥".replace(high[1], "") if high[1] else ""
        lines.append([
            rule["games"], rule["output"], rule["at"], f"{rule['mean']:.0f}",
            f"{rule['median']:.0f}", f"{rule['p95']:.0f}", f"{rule['sure']:.2f}",
            f"{rule['within']:.2f}", *(f"{m} {n:.0f}".strip() for n, m in (mean, high)),
            f"{mark} {rule['mean'] / high[0]:.2f}".strip(),
        ])  # fmt: skip
    return markdown(head, lines)
