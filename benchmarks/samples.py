"""How many forward passes an explanation needs: error and agreement against N.

Each photo is cut into 7×7 squares, its best class explained. The reference is the fit of many
orthogonal masks; the error of a seed's fit is ‖β − β*‖² / ‖β*‖². Every draw is scored once, and
a shorter draw that begins a longer one takes that one's scores.
"""

import itertools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.settings import PHOTOS, Row, Settings, classifier, photo
from benchmarks.tables import digits, markdown
from torchlime.fills import SegmentMean
from torchlime.lime import score_masks
from torchlime.masks import Bernoulli, Orthogonal
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares, Ridge
from torchlime.weights import Exponential

NUMBERS = (64, 128, 256, 512, 1000)
REFERENCE, REFERENCE_SEED = 16384, 10_000
SEEDS = 5
TOP = 5
SAMPLERS = (Bernoulli(), Orthogonal())
SURROGATES = (LeastSquares(), Ridge())
CAPTION = (
    "Error: ‖β − β*‖² / ‖β*‖², geometric mean over the photos of the mean over the seeds."
    " Equal error: Bernoulli's samples for the error of Orthogonal's N, by interpolation on each"
    " photo's curve (log-log), over N; geometric mean. Top-5: Jaccard index between two seeds."
)

Score = Callable[[Tensor], Tensor]  # masks [N,S] → scores [B,N,1]


def run(settings: Settings) -> list[Row]:
    device = settings.device
    numbers = (32, 64) if settings.quick else NUMBERS
    seeds = 2 if settings.quick else SEEDS
    names = PHOTOS[: settings.photos or (2 if settings.quick else 6)]
    model = classifier("efficientnet_lite0", device)
    images = torch.cat([model.preprocess(photo(name)) for name in names])
    if settings.quick:
        images = torch.nn.functional.interpolate(images, 64)
    rows, columns = (2, 3) if settings.quick else (7, 7)
    segments = Grid(rows, columns)(images)
    autocast = None if settings.on_gpu or settings.float32 else torch.bfloat16
    with torch.no_grad():
        targets = model(images).argmax(1)

    def score(masks: Tensor) -> Tensor:
        return score_masks(
            model, images, segments, SegmentMean(), masks, targets, autocast=autocast
        )

    def draw(sampler: Callable[..., Tensor], number: int, seed: int) -> Tensor:
        with warnings.catch_warnings():  # below 128 masks Orthogonal is Bernoulli, and says so
            warnings.simplefilter("ignore", UserWarning)
            return sampler(segments.count[:1], segments.bound, number, seed=seed)[0]

    def fits(masks: Tensor, scores: Tensor) -> list[Tensor]:
        """Each surrogate's coefficients [B,S]."""
        masks = masks.expand(len(images), -1, -1)
        weights = Exponential()(masks, segments.count)
        return [s(masks, scores, weights, segments.count).coefficients[:, 0] for s in SURROGATES]

    reference = settings.reference or (128 if settings.quick else REFERENCE)
    drawn = [[[draw(s, n, seed) for n in numbers] for seed in range(seeds)] for s in SAMPLERS]
    longest = draw(Orthogonal(), reference, REFERENCE_SEED)
    announce(settings, score, longest, drawn)
    truths = fits(longest, score(longest))
    found = []
    for sampler, by_seed in zip(SAMPLERS, drawn, strict=True):
        fitted = [  # [seed][number][surrogate] of [B,S]
            [fits(*pair) for pair in zip(masks, scored(score, masks), strict=True)]
            for masks in by_seed
        ]
        for n, number in enumerate(numbers):
            for s, surrogate in enumerate(SURROGATES):
                common = {
                    "sampler": type(sampler).__name__,
                    "surrogate": str(surrogate),
                    "samples": number,
                    "segments": segments.bound,
                    "reference": reference,
                    "model": "efficientnet_lite0",
                    "dtype": "bfloat16 autocast" if autocast else "float32",
                }
                coefficients = torch.stack([of_seed[n][s] for of_seed in fitted])
                found += [common | row for row in by_photo(names, coefficients, truths[s])]
        settings.say(f"samples: {sampler} done")
    return found


def by_photo(names: Sequence[str], coefficients: Tensor, truths: Tensor) -> Iterator[Row]:
    """How coefficients [seeds,B,S] differ from the truths [B,S] and from seed to seed."""
    errors = relative_errors(coefficients, truths)
    for index, name in enumerate(names):
        top = agreement(coefficients[:, index], TOP)
        yield {"photo": name, "errors": errors[:, index].tolist(), "top5": top}


def announce(
    settings: Settings, score: Score, reference: Tensor, drawn: list[list[list[Tensor]]]
) -> None:
    """Say how long it will take, from the time of a few masks."""
    rows = len(reference)
    for masks in itertools.chain.from_iterable(drawn):
        rows += sum(len(m) for m in masks if not begins(m, masks[-1])) + len(masks[-1])
    few = reference[:32]
    score(few)
    start = time.perf_counter()
    score(few).sum().item()  # waits for the device
    minutes = (time.perf_counter() - start) / len(few) * rows / 60
    settings.say(f"samples: {rows} masks for each photo, about {minutes:.1f} minutes")


def begins(short: Tensor, long: Tensor) -> bool:
    return torch.equal(short, long[: len(short)])


def scored(score: Score, draws: Sequence[Tensor]) -> list[Tensor]:
    """The scores [B,N,1] of each draw [N,S], the last of which is the longest."""
    longest = score(draws[-1])
    return [
        longest[:, : len(masks)] if begins(masks, draws[-1]) else score(masks) for masks in draws
    ]


def relative_errors(coefficients: Tensor, truth: Tensor) -> Tensor:
    """‖β − β*‖² / ‖β*‖² of […,S]."""
    return (coefficients - truth).square().sum(-1) / truth.square().sum(-1)


def agreement(coefficients: Tensor, top: int) -> float:
    """Mean Jaccard index of the ``top`` strongest of [seeds,S], over all pairs of seeds."""
    strongest = coefficients.abs().argsort(dim=1, descending=True, stable=True)[:, :top]
    sets = [set(row) for row in strongest.tolist()]
    return statistics.fmean(len(a & b) / len(a | b) for a, b in itertools.combinations(sets, 2))


def evaluations_for(error: float, curve: Sequence[tuple[int, float]]) -> tuple[float, bool]:
    """The N at which a curve of (N, error) comes down to ``error``, and whether it does.

    Linear in the logarithms between two points; beyond the curve's ends, its end and False.

    >>> evaluations_for(0.02, [(100, 0.08), (400, 0.01)])
    (252.0, True)
    >>> evaluations_for(0.001, [(100, 0.08), (400, 0.01)])
    (400, False)
    """
    if error > curve[0][1]:
        return curve[0][0], False
    for (n0, e0), (n1, e1) in itertools.pairwise(curve):
        if e1 <= error <= e0:
            share = 0.0 if e0 == e1 else math.log(e0 / error) / math.log(e0 / e1)
            return round(n0 * (n1 / n0) ** share, 1), True
    return curve[-1][0], False


def curves(rows: list[Row], sampler: str, surrogate: str) -> dict[str, list[tuple[int, float]]]:
    """Each photo's (N, mean error over the seeds)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if (row["sampler"], row["surrogate"]) == (sampler, surrogate):
            mean = statistics.fmean(row["errors"])
            found.setdefault(row["photo"], []).append((row["samples"], mean))
    return found


def equal_error(
    rows: list[Row], surrogate: str, number: int, ours: str, theirs: str
) -> tuple[float, int]:
    """Samples of ``theirs`` for the error of ``number`` samples of ``ours``.

    The geometric mean over the photos; and for how many their curve does not reach that error,
    so that its end was taken.
    """
    found = [
        evaluations_for(dict(curve)[number], curves(rows, theirs, surrogate)[name])
        for name, curve in curves(rows, ours, surrogate).items()
    ]
    return statistics.geometric_mean(n for n, _ in found), sum(not reached for _, reached in found)


def equal_evaluations(rows: list[Row], at: int) -> int | None:
    """How many orthogonal samples err like ``at`` Bernoulli samples; None if not measured."""
    if not any(row["samples"] == at for row in rows):
        return None
    needed, _ = equal_error(rows, str(SURROGATES[1]), at, "Bernoulli", "Orthogonal")
    return math.ceil(needed)


def table(rows: list[Row]) -> str:
    head = ["surrogate", "N", "error, Bernoulli", "error, Orthogonal", "equal error: Bernoulli / N",
            "top-5, Bernoulli", "top-5, Orthogonal"]  # fmt: skip
    lines = []
    for surrogate, number in dict.fromkeys((r["surrogate"], r["samples"]) for r in rows):
        errors, tops = [], []
        for sampler in ("Bernoulli", "Orthogonal"):
            curve_of = curves(rows, sampler, surrogate).values()
            errors.append(digits(statistics.geometric_mean(dict(c)[number] for c in curve_of)))
            key = (sampler, surrogate, number)
            same = [r for r in rows if (r["sampler"], r["surrogate"], r["samples"]) == key]
            tops.append(f"{statistics.fmean(r['top5'] for r in same):.2f}")
        needed, beyond = equal_error(rows, surrogate, number, "Orthogonal", "Bernoulli")
        note = f" ({beyond} at the end of the curve)" if beyond else ""
        lines.append([f"`{surrogate}`", number, *errors, f"{needed / number:.2f}{note}", *tops])
    return markdown(head, lines)
