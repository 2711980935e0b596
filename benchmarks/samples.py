"""How many forward passes an explanation needs: error and agreement against N.

Each photo is cut into 7×7 squares, its best class explained: its probability, and its logit. The
reference is the fit of many orthogonal masks; the error of a seed's fit is ‖β − β*‖² / ‖β*‖². Every
draw is scored once, and a shorter draw that begins a longer one takes that one's scores. Then what
bfloat16 does to the coefficients of the same masks.
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
LEAST_REFERENCE = 128  # with fewer, Orthogonal is Bernoulli
SEEDS = 5
TOP = 5
SAMPLERS = (Bernoulli(), Orthogonal())
SURROGATES = (LeastSquares(), Ridge())
OUTPUTS = ("probability", "logit")
CAPTION = (
    "`Ridge()`, of a probability and of its logit; `LeastSquares()` is in the JSON."
    " Error: ‖β − β*‖² / ‖β*‖², geometric mean over the photos of the mean over the seeds."
    " Equal error: Bernoulli's samples for the error of Orthogonal's N, by interpolation on each"
    " photo's curve (log-log), over N; geometric mean. Top-5: Jaccard index between two seeds."
    " Then bfloat16: the difference from float32's fit of the same masks."
)

Score = Callable[[Tensor], Tensor]  # masks [N,S] → scores [B,N,T]


class Photos:
    """Photos in squares, the classifier that saw them, and an output for each target."""

    def __init__(self, settings: Settings) -> None:
        quick = settings.quick
        self.names = PHOTOS[: settings.photos or (2 if quick else 6)]
        self.model = classifier("efficientnet_lite0", settings.device)
        images = torch.cat([self.model.preprocess(photo(name)) for name in self.names])
        self.images = torch.nn.functional.interpolate(images, 64) if quick else images
        rows, columns = (2, 3) if quick else (7, 7)
        self.segments = Grid(rows, columns)(self.images)
        with torch.no_grad():
            probabilities = self.model(self.images)
        best = probabilities.argmax(1)
        self.targets = torch.stack([best, best + probabilities.shape[1]], dim=1)
        self.model.output = "logit"

    def outputs(self, pixels: Tensor) -> Tensor:
        logits = self.model(pixels)
        return torch.cat([logits.softmax(1), logits], dim=1)

    def draw(self, sampler: Callable[..., Tensor], number: int, seed: int) -> Tensor:
        """Masks [N,S], the same for every photo."""
        with warnings.catch_warnings():  # below 128 masks Orthogonal is Bernoulli, and says so
            warnings.simplefilter("ignore", UserWarning)
            return sampler(self.segments.count[:1], self.segments.bound, number, seed=seed)[0]

    def score(self, masks: Tensor, autocast: torch.dtype | None = None) -> Tensor:
        return score_masks(
            self.outputs, self.images, self.segments, SegmentMean(), masks, self.targets,
            autocast=autocast,
        )  # fmt: skip

    def fits(self, masks: Tensor, scores: Tensor) -> list[Tensor]:
        """Each surrogate's coefficients [B,T,S]."""
        masks = masks.expand(len(self.images), -1, -1)
        weights = Exponential()(masks, self.segments.count)
        return [s(masks, scores, weights, self.segments.count).coefficients for s in SURROGATES]


def run(settings: Settings) -> list[Row]:
    photos = Photos(settings)
    numbers = (32, 64) if settings.quick else NUMBERS
    seeds = range(2 if settings.quick else SEEDS)
    size = settings.reference or (128 if settings.quick else REFERENCE)
    drawn = {s: [[photos.draw(s, n, seed) for n in numbers] for seed in seeds] for s in SAMPLERS}
    reference = photos.draw(Orthogonal(), size, REFERENCE_SEED)
    announce(settings, photos.score, reference, [*itertools.chain(*drawn.values())])
    truths = photos.fits(reference, photos.score(reference))
    common = {"segments": photos.segments.bound, "reference": size, "model": "efficientnet_lite0"}
    rows: list[Row] = []
    for sampler, by_seed in drawn.items():
        fitted = [  # [seed][number][surrogate] of [B,T,S]
            [photos.fits(*pair) for pair in zip(masks, scored(photos.score, masks), strict=True)]
            for masks in by_seed
        ]
        kind = common | {"sampler": type(sampler).__name__}
        for (n, number), (s, surrogate) in itertools.product(
            enumerate(numbers), enumerate(SURROGATES)
        ):
            kind |= {"surrogate": str(surrogate), "samples": number, "dtype": "float32"}
            found = torch.stack([of_seed[n][s] for of_seed in fitted])
            errors = relative_errors(found, truths[s])
            rows += [kind | row for row in by_photo(photos.names, errors, found[None])]
        settings.say(f"samples: {sampler} done")
        # The most masks once more, fitted by the last surrogate: `kind` is still theirs.
        longest = [masks[-1] for masks in by_seed]
        rounded = [photos.fits(m, photos.score(m, torch.bfloat16))[-1] for m in longest]
        kind |= {"dtype": "bfloat16 autocast"}
        pairs = torch.stack([found, torch.stack(rounded)], dim=1)  # [seeds,2,B,T,S]
        errors = relative_errors(pairs[:, 1], pairs[:, 0])
        rows += [kind | row for row in by_photo(photos.names, errors, pairs)]
    return rows


def by_photo(names: Sequence[str], errors: Tensor, rivals: Tensor) -> Iterator[Row]:
    """Each photo's and output's errors [seeds,B,T], and how far rivals agree.

    rivals: coefficients [groups,rivals,B,T,S], of which those in a group are compared.
    """
    for (b, name), (t, output) in itertools.product(enumerate(names), enumerate(OUTPUTS)):
        top = statistics.fmean(agreement(group[:, b, t], TOP) for group in rivals)
        yield {"photo": name, "output": output, "errors": errors[:, b, t].tolist(), "top5": top}


def announce(
    settings: Settings, score: Score, reference: Tensor, drawn: Sequence[Sequence[Tensor]]
) -> None:
    """Say how long it will take, from the time of a few masks."""
    rows = len(reference)
    for masks in drawn:
        rows += sum(len(m) for m in masks if not begins(m, masks[-1])) + 2 * len(masks[-1])
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


Curves = dict[str, list[tuple[int, float]]]


def curves(rows: list[Row], sampler: str, output: str, surrogate: str) -> Curves:
    """Each photo's (N, mean error over the seeds)."""
    found: Curves = {}
    for row in select(rows, sampler=sampler, output=output, surrogate=surrogate, dtype="float32"):
        mean = statistics.fmean(row["errors"])
        found.setdefault(row["photo"], []).append((row["samples"], mean))
    return found


def curves_of_both(rows: list[Row], output: str) -> tuple[Curves, Curves]:
    """Orthogonal's and Bernoulli's, of the default surrogate."""
    orthogonal, bernoulli = (
        curves(rows, type(sampler).__name__, output, str(Ridge())) for sampler in SAMPLERS[::-1]
    )
    return orthogonal, bernoulli


def select(rows: list[Row], **kind: object) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in kind.items())]


def equal_error(number: int, ours: Curves, theirs: Curves) -> tuple[float, int]:
    """Samples of theirs for the error of ``number`` samples of ours.

    The geometric mean over the photos; and for how many their curve does not reach that error,
    so that its end was taken.
    """
    found = [evaluations_for(dict(curve)[number], theirs[name]) for name, curve in ours.items()]
    return statistics.geometric_mean(n for n, _ in found), sum(not reached for _, reached in found)


def equal_evaluations(rows: list[Row], at: int) -> int | None:
    """How many orthogonal samples err like ``at`` Bernoulli samples; None if that is not known.

    For the default surrogate, of a probability.
    """
    if not any(row["samples"] == at for row in rows):
        return None
    orthogonal, bernoulli = curves_of_both(rows, OUTPUTS[0])
    needed, beyond = equal_error(at, bernoulli, orthogonal)
    return None if beyond else math.ceil(needed)


def table(rows: list[Row]) -> str:
    return f"{table_of_samples(rows)}\n\n{table_of_precision(rows)}"


def table_of_samples(rows: list[Row]) -> str:
    head = ["of the", "N", "error, Bernoulli", "error, Orthogonal", "equal error: Bernoulli / N",
            "top-5, Bernoulli", "top-5, Orthogonal"]  # fmt: skip
    lines = []
    for output in OUTPUTS:
        orthogonal, bernoulli = curves_of_both(rows, output)
        for number in dict.fromkeys(row["samples"] for row in rows):
            same = select(
                rows, output=output, samples=number, surrogate=str(Ridge()), dtype="float32"
            )
            errors = [
                digits(statistics.geometric_mean(dict(curve)[number] for curve in of.values()))
                for of in (bernoulli, orthogonal)
            ]
            tops = [mean_top(select(same, sampler=type(s).__name__)) for s in SAMPLERS]
            needed, beyond = equal_error(number, orthogonal, bernoulli)
            least = "≥ " if beyond else ""  # Bernoulli's curve ends before
            lines.append([output, number, *errors, f"{least}{needed / number:.2f}", *tops])
    return markdown(head, lines)


def table_of_precision(rows: list[Row]) -> str:
    head = ["bfloat16 autocast, of the", "N", "sampler", "difference", "top-5, float32's"]
    lines = []
    for output, sampler in itertools.product(OUTPUTS, SAMPLERS):
        name = type(sampler).__name__
        same = select(rows, dtype="bfloat16 autocast", output=output, sampler=name)
        off = statistics.geometric_mean(statistics.fmean(row["errors"]) for row in same)
        lines.append([output, same[0]["samples"], name, digits(off), mean_top(same)])
    return markdown(head, lines)


def mean_top(rows: list[Row]) -> str:
    return f"{statistics.fmean(row['top5'] for row in rows):.2f}"
