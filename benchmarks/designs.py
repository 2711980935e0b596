"""Which masks, and how many: designs at equal forwards, and what decides the defaults."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.curves import evaluations_for
from benchmarks.focused import focused
from benchmarks.games import SQUARES, Game, enumerated, photos
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
STREAM, BLOCKS, LIMES, FOCUSED = "stream", "old blocks", "lime's", "focused"
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
DEFAULTS: tuple[tuple[str, Row], ...] = (
    ("lime's, 512", {"kind": "fixed", "design": LIMES, "at": 512}),
    ("old blocks, 512", {"kind": "fixed", "design": BLOCKS, "at": 512}),
    *((f"stream, {n}", {"kind": "fixed", "design": STREAM, "at": n}) for n in (256, 512, 1024)),
    *((f"Until({t})", {"kind": "until", "design": STREAM, "at": t}) for t in TOLERANCES),
)
CAPTION = (
    "*Stream*: `Orthogonal()`, the input beside it. *Old blocks*: the design before the stream,"
    " the input beside it, or fitted as in 0.1. *Bernoulli*: without the input; *lime's*: with it."
    " Re-implemented from their papers: complement pairs (Covert & Lee 2021), GLIME's sizes (Tan"
    " et al. 2023), leverage sizes in pairs (Musco & Witter 2025), focused sampling (Slack et al."
    " 2021). `Ridge()` with the default kernel. The error is ‖b − β‖ / ‖β‖, β the `LeastSquares()`"
    " fit to all masks, and for photos of 16 to 100 segments (EfficientNet-Lite0 in bfloat16, 96"
    " pixels; a grid for three photos, Slic for three; 2 seeds) the fit to 2048 or 4096 rows of"
    " another seed of the stream. The games without an S are those of *stopping*, 16 seeds. Errors"
    " are geometric means over runs. Second table: the mean rows, the error and its 95th"
    " percentile, of what may be a default; *all photos* are those of 16 to 100 segments together,"
    " and the percentile of one S is nearly the worst of 12 runs. Third: the rule (`most=2048`)"
    " beside the fixed numbers of the stream with the same error. The machine was shared; errors"
    " do not depend on it. What they say: N = 512 is whole blocks for each S ≤ 256, and its error"
    " is below that of the old blocks for 16 segments (0.183 and 0.262, 0.092 and 0.156) and 49"
    " (0.378 and 0.438, 0.209 and 0.247). The rule spends its rows where they are needed: its"
    " geometric mean is that of fewer fixed rows (308 for a mean of 533 at .35, log-odds of all"
    " photos), but its 95th percentile (0.349) is below that of 1024 (0.415). Where we lose: at S"
    " = 25 and 100, N = 512, the stream is about as good as the old blocks, and at S = 49, N ="
    " 128, too; a cycle has 2048 to 32 768 rows there. With fewer rows than 1.5 S errors are near"
    " 1, and pairs or leverage sizes mostly err less. On odd networks at N = 64 the old blocks"
    " with x fitted and GLIME's sizes are as good or better. No design explains the probability of"
    " photos of 100 segments: the reference of one is not sure itself, and errors of that photo"
    " exceed 1 at any N; its log-odds need 1024 rows. For S = 16 and 25 the rule stopped too early"
    " in .17 of the runs on probabilities, of 12."
)


def run(settings: Settings) -> list[Row]:
    runs = [*runs_of_enumerated(settings)]
    for squares in list(SQUARES)[: 1 if settings.quick else None]:
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
        key = (game.of, game.output, FOCUSED, "fixed", number)
        yield key, {"errors": errors_of(found, truth)}
    yield from stopped(
        game, truth, STREAM, DESIGNS[STREAM][0], Ridge(), seed, TOLERANCES, 256 if quick else MOST
    )  # fmt: skip
    settings.say(f"designs: {game.of} {game.output} done")


def table(rows: list[Row]) -> str:
    tables = (table_of_designs, table_of_defaults, table_of_equal_errors)
    return "\n\n".join(of(rows) for of in tables)


def sets_of(rows: list[Row]) -> list[tuple[str, str]]:
    """Which games, and which output."""
    return list(dict.fromkeys((row["games"], row["output"]) for row in rows))


def table_of_designs(rows: list[Row]) -> str:
    """The geometric mean error of each design at equal rows."""
    names = [*DESIGNS, FOCUSED]
    lines = []
    for games, output in sets_of(rows):
        of = select(rows, games=games, output=output, kind="fixed")
        for number in dict.fromkeys(row["at"] for row in of if games != ALL):
            here = {row["design"]: digits(row["geometric"]) for row in select(of, at=number)}
            lines.append([games, output, number, *(here.get(name, "") for name in names)])
    return markdown(["games", "of the", "N", *names], lines)


def table_of_defaults(rows: list[Row]) -> str:
    """Mean rows, geometric mean error and 95th percentile of what may be a default."""
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
    return f"{rows}: {digits(row['geometric'])}, {digits(row['levels'][-1])}"


def table_of_equal_errors(rows: list[Row]) -> str:
    """The rule's rows beside the fixed numbers of the stream that err as much."""
    head = ["games", "of the", "tolerance", "rows, mean", "median", "p95", "sure", "within",
            "equal error: N", "equal p95: N", "rows / N, equal p95"]  # fmt: skip
    lines = []
    for rule in select(rows, kind="until"):
        of = {"games": rule["games"], "output": rule["output"], "design": STREAM, "kind": "fixed"}
        curve = select(rows, **of)
        mean = evaluations_for(rule["geometric"], [(row["at"], row["geometric"]) for row in curve])
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
