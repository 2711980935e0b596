"""How many forward passes an explanation needs: error and agreement against N.

Each photo is cut into 7×7 squares, its best class explained: its probability, and its logit. The
reference is the fit of many orthogonal masks; the error of a seed's fit is ‖β − β*‖² / ‖β*‖². Every
draw is scored once, and a shorter draw that begins a longer one takes that one's scores. Each is
fitted as lime does and without the unmasked image; the reference without. Then what bfloat16 does
to the coefficients of the same masks.
"""

import itertools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.curves import Curves, equal_error, times
from benchmarks.settings import PHOTOS, Row, Settings, classifier, photo
from benchmarks.tables import digits, markdown
from torchlime._given_masks import score_masks
from torchlime.black_box import Forward
from torchlime.fills import SegmentMean
from torchlime.masks import Bernoulli, Orthogonal
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares, Ridge
from torchlime.weights import Exponential, WithoutUnmasked

NUMBERS = (64, 128, 256, 512, 1000)
REFERENCE, REFERENCE_SEED = 16384, 10_000
LEAST_REFERENCE = 128  # with fewer, Orthogonal is Bernoulli
SEEDS = 5
TOP = 5
OUTPUTS = ("probability", "logit")
Sampler = Bernoulli | Orthogonal
Kernel = Exponential | WithoutUnmasked
Design = tuple[Kernel, Sampler]
SAMPLERS: tuple[Sampler, ...] = (Bernoulli(), Orthogonal())
KERNELS: tuple[Kernel, ...] = (Exponential(), WithoutUnmasked())
SURROGATES = (LeastSquares(), Ridge())
DESIGNS: tuple[Design, ...] = tuple(itertools.product(KERNELS, SAMPLERS))
LIMES, ORTHOGONAL, DRAWN, BEST = DESIGNS  # DRAWN: Bernoulli without the unmasked image
CAPTION = (
    "`Ridge()`, of a probability and of its logit; `LeastSquares()` is in the JSON. *−x*: without"
    " the unmasked image in the fit, `WithoutUnmasked()`. Error: ‖β − β*‖² / ‖β*‖², geometric mean"
    " over the photos of the mean over the seeds, β* the fit of 16 384 orthogonal masks −x. For"
    " equal error: the samples that lime's design (Bernoulli), or Bernoulli −x, needs for the error"
    " of this design's N, by interpolation on each photo's curve (log-log), over N; geometric mean;"
    " ≥ where that curve ends before. Top-5: Jaccard index between two seeds. Then what bfloat16"
    " changes in the fits of the same masks, with the unmasked image."
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
            forward=Forward(autocast=autocast),
        )  # fmt: skip

    def fits(self, masks: Tensor, scores: Tensor, kernel: Kernel) -> list[Tensor]:
        """Each surrogate's coefficients [B,T,S]."""
        masks = masks.expand(len(self.images), -1, -1)
        weights = kernel(masks, self.segments.count)
        return [s(masks, scores, weights, self.segments.count).coefficients for s in SURROGATES]


def run(settings: Settings) -> list[Row]:
    photos = Photos(settings)
    numbers = (32, 64) if settings.quick else NUMBERS
    seeds = range(2 if settings.quick else SEEDS)
    size = settings.reference or (128 if settings.quick else REFERENCE)
    drawn: dict[Sampler, list[list[Tensor]]] = {
        s: [[photos.draw(s, n, seed) for n in numbers] for seed in seeds] for s in SAMPLERS
    }
    reference = photos.draw(Orthogonal(), size, REFERENCE_SEED)
    announce(settings, photos.score, reference, [*itertools.chain(*drawn.values())])
    truths = photos.fits(reference, photos.score(reference), KERNELS[-1])
    common = {"segments": photos.segments.bound, "reference": size, "model": "efficientnet_lite0"}
    rows: list[Row] = []
    for sampler, by_seed in drawn.items():
        draws = [  # [seed][number] of masks and scores
            list(zip(masks, scored(photos.score, masks), strict=True)) for masks in by_seed
        ]
        settings.say(f"samples: {sampler} scored")
        found = [*rows_of(photos, draws, truths), *rows_of_bfloat16(photos, draws)]
        rows += [common | {"sampler": type(sampler).__name__} | row for row in found]
    return rows


Draws = list[list[tuple[Tensor, Tensor]]]


def rows_of(photos: Photos, draws: Draws, truths: list[Tensor]) -> Iterator[Row]:
    """The errors of each kernel, number and surrogate."""
    for kernel, of_number in itertools.product(KERNELS, zip(*draws, strict=True)):
        fitted = [photos.fits(masks, scores, kernel) for masks, scores in of_number]
        for surrogate, truth, *of_seeds in zip(SURROGATES, truths, *fitted, strict=True):
            kind = {
                "kernel": type(kernel).__name__,
                "surrogate": str(surrogate),
                "samples": len(of_number[0][0]),
                "dtype": "float32",
            }
            found = torch.stack(of_seeds)
            errors = relative_errors(found, truth)
            for row in by_photo(photos.names, errors, found[None]):
                yield kind | row


def rows_of_bfloat16(photos: Photos, draws: Draws) -> Iterator[Row]:
    """The default fit of the most masks, and again of the scores in bfloat16."""
    found = []
    for of_seed in draws:
        masks, scores = of_seed[-1]
        both = (scores, photos.score(masks, torch.bfloat16))
        found.append(torch.stack([photos.fits(masks, s, KERNELS[0])[-1] for s in both]))
    pairs = torch.stack(found)  # [seeds,2,B,T,S]
    kind = {
        "kernel": type(KERNELS[0]).__name__,
        "surrogate": str(SURROGATES[-1]),
        "samples": len(draws[0][-1][0]),
        "dtype": "bfloat16 autocast",
    }
    errors = relative_errors(pairs[:, 1], pairs[:, 0])
    for row in by_photo(photos.names, errors, pairs):
        yield kind | row


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


def curves(rows: list[Row], output: str, design: Design) -> Curves:
    """Each photo's (N, mean error over the seeds), of the default surrogate."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in select(rows, **key_of(design), output=output, surrogate=str(Ridge())):
        mean = statistics.fmean(row["errors"])
        found.setdefault(row["photo"], []).append((row["samples"], mean))
    return found


def key_of(design: Design) -> Row:
    kernel, sampler = design
    return {
        "sampler": type(sampler).__name__,
        "kernel": type(kernel).__name__,
        "dtype": "float32",
    }


def select(rows: list[Row], **kind: object) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in kind.items())]


def equal_evaluations(rows: list[Row], at: int) -> int | None:
    """How many samples of the best design err no more than ``at`` of lime's; None if not known.

    Of a probability.
    """
    if not any(row["samples"] == at for row in rows):
        return None
    limes, best = (curves(rows, OUTPUTS[0], design) for design in (LIMES, BEST))
    needed, mark = equal_error(at, limes, best)
    return None if "≥" in mark else math.ceil(needed)


def table(rows: list[Row]) -> str:
    return f"{table_of_samples(rows)}\n\n{table_of_precision(rows)}"


def table_of_samples(rows: list[Row]) -> str:
    names = [
        type(sampler).__name__ + " −x" * (kernel is not KERNELS[0]) for kernel, sampler in DESIGNS
    ]
    head = ["of the", "N", *(f"error, {name}" for name in names),
            *(f"lime's for {name}" for name in names[1:]), "Bernoulli −x for Orthogonal −x",
            f"top-5, {names[0]}", f"top-5, {names[-1]}"]  # fmt: skip
    lines = []
    for output in OUTPUTS:
        of = {design: curves(rows, output, design) for design in DESIGNS}
        for number in dict.fromkeys(row["samples"] for row in rows):
            errors = [
                digits(statistics.geometric_mean(dict(curve)[number] for curve in found.values()))
                for found in of.values()
            ]
            over = [times(number, of[design], of[LIMES]) for design in DESIGNS[1:]]
            alike = times(number, of[BEST], of[DRAWN])
            tops = [
                mean_top(select(rows, **key_of(design), output=output, samples=number))
                for design in (LIMES, BEST)
            ]
            lines.append([output, number, *errors, *over, alike, *tops])
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
