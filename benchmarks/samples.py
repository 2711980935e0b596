"""How many forward passes an explanation needs: error and agreement against N, old beside new.

Each photo is cut into 7×7 squares. The probability and the logit of its best class are explained.
The reference is the fit of many masks of the stream. The error of a seed's fit is
‖β − β*‖² / ‖β*‖². Each mask of a photo is scored once, even if several designs draw it. The last
rows show how bfloat16 changes the coefficients of the same masks.
"""

import itertools
import math
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks import designs
from benchmarks.curves import Curves, equal_error, times
from benchmarks.designs import BERNOULLI, FITTED, LIMES, STREAM
from benchmarks.games import KERNEL, Bank
from benchmarks.settings import PHOTOS, Row, Settings, classifier, photo
from benchmarks.tables import digits, markdown
from torchlime._given_masks import score_masks
from torchlime.black_box import Forward
from torchlime.fills import SegmentMean
from torchlime.masks import Orthogonal
from torchlime.segments import Grid
from torchlime.strategies import Sampler, Surrogate
from torchlime.surrogates import LeastSquares, Ridge

NUMBERS = (64, 128, 256, 512, 1000)
REFERENCE, REFERENCE_SEED = 16384, 10_000
LEAST_REFERENCE = 128  # a block of the stream for 7×7 squares
SEEDS, SEEDS_IN_BFLOAT16 = 4, 2
TOP = 5
OUTPUTS = ("probability", "logit")
DESIGNS = (LIMES, BERNOULLI, FITTED, STREAM)
IN_BFLOAT16 = (LIMES, STREAM)
SURROGATES: tuple[Surrogate, ...] = (LeastSquares(), Ridge())
CAPTION = (
    "`Ridge()`, of a probability and of its logit; `LeastSquares()` is in the JSON. *Lime's* are"
    " Bernoulli masks with the unmasked image x in the fit, and *Bernoulli* has x beside them, with"
    " weight 0. *Old blocks* are those of version 0.1, with x in the fit; below 128 masks they are"
    " lime's. *Stream* is today's default, `Orthogonal()` with x beside. *Error* is"
    " ‖β − β*‖² / ‖β*‖², the geometric mean over the photos of the mean over the seeds. *For the"
    " stream's error* is the number of masks that another design needs for the error of N masks of"
    " the stream, divided by N. It is interpolated on each photo's curve (log-log), and is a"
    " geometric mean over the photos; ≥ or ≤ where the curve of one photo or more ends before."
    " *Top-5* is the Jaccard index between two seeds. The last table shows what bfloat16 changes in"
    " the fits of the same masks."
)


class Photos:
    """Photos in squares, the classifier that saw them, and an output for each target."""

    def __init__(
        self, settings: Settings, names: Sequence[str] = (), pixels: int | None = None
    ) -> None:
        quick = settings.quick
        self.names = names or names_of(settings)
        self.model = classifier("efficientnet_lite0", settings.device)
        images = torch.cat([self.model.preprocess(photo(name)) for name in self.names])
        pixels = 64 if quick else pixels or images.shape[-1]
        self.images = torch.nn.functional.interpolate(images, pixels, mode="area")
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

    def draw(self, sampler: Sampler, number: int, seed: int) -> Tensor:
        """Masks [N,S], the same for every photo."""
        return sampler(self.segments.count[:1], self.segments.bound, number, seed=seed)[0]

    def score(self, masks: Tensor, autocast: torch.dtype | None = None) -> Tensor:
        """The scores [B,N,T] of masks [N,S]."""
        return score_masks(
            self.outputs, self.images, self.segments, SegmentMean(), masks, self.targets,
            forward=Forward(autocast=autocast),
        )  # fmt: skip


def names_of(settings: Settings) -> Sequence[str]:
    return PHOTOS[: settings.photos or (2 if settings.quick else 6)]


def run(settings: Settings) -> Iterator[Row]:
    """The rows, one photo after the other."""
    for name in names_of(settings):
        yield from rows_of_photo(settings, name)


def rows_of_photo(settings: Settings, name: str) -> Iterator[Row]:
    """The errors of each design, number and surrogate; then those of bfloat16."""
    photos = Photos(settings, [name])
    size = settings.reference or (128 if settings.quick else REFERENCE)
    reference = photos.draw(Orthogonal(), size, REFERENCE_SEED).cpu()
    drawn = drawn_by_designs(photos, settings.quick)
    announce(settings, photos, torch.cat([reference, *(m.flatten(0, 1) for m in drawn.values())]))
    bank = Bank(lambda masks: scored(photos, masks))
    truths = fits(reference[None], bank)
    common = {
        "photo": name, "pixels": photos.images.shape[-1], "segments": photos.segments.bound,
        "reference": size, "model": "efficientnet_lite0",
    }  # fmt: skip
    for (design, number), masks in drawn.items():
        kind = common | {"design": design, "samples": number, "dtype": "float32"}
        for surrogate, found, truth in zip(SURROGATES, fits(masks, bank), truths, strict=True):
            errors = relative_errors(found, truth)
            yield from (kind | row for row in of_outputs(surrogate, errors, found[None]))
    half = Bank(lambda masks: scored(photos, masks, torch.bfloat16))
    for design in IN_BFLOAT16:
        number = max(number for _, number in drawn)
        masks = drawn[design, number][:SEEDS_IN_BFLOAT16]
        pairs = torch.stack([fits(masks, of)[-1] for of in (bank, half)], dim=1)  # [seeds,2,T,S]
        kind = common | {"design": design, "samples": number, "dtype": "bfloat16 autocast"}
        errors = relative_errors(pairs[:, 1], pairs[:, 0])
        yield from (kind | row for row in of_outputs(SURROGATES[-1], errors, pairs))


def drawn_by_designs(photos: Photos, quick: bool) -> dict[tuple[str, int], Tensor]:
    """The masks [seeds,N,S] of each design and number."""
    bound, seed = photos.segments.bound, torch.arange(2 if quick else SEEDS)
    count = torch.full_like(seed, bound)
    return {
        (name, number): designs.DESIGNS[name][0](count, bound, number, seed=seed)
        for name in DESIGNS
        for number in ((32, 64) if quick else NUMBERS)
    }


def scored(photos: Photos, masks: Tensor, autocast: torch.dtype | None = None) -> Tensor:
    """The scores [n,T] of masks [n,S], of the first photo."""
    return photos.score(masks.to(photos.images.device), autocast)[0].cpu()


def fits(masks: Tensor, bank: Bank) -> list[Tensor]:
    """Each surrogate's coefficients [R,T,S] of R draws of masks [R,N,S]."""
    count = torch.full((len(masks),), masks.shape[2])
    weights, scores = KERNEL(masks, count), bank(masks)
    return [of(masks, scores, weights, count).coefficients for of in SURROGATES]


def of_outputs(surrogate: Surrogate, errors: Tensor, rivals: Tensor) -> Iterator[Row]:
    """Each output's errors [seeds,T], and how far rivals agree.

    rivals: coefficients [groups,rivals,T,S], of which those in a group are compared.
    """
    for t, output in enumerate(OUTPUTS):
        top = statistics.fmean(agreement(group[:, t], TOP) for group in rivals)
        yield {
            "surrogate": str(surrogate), "output": output, "errors": errors[:, t].tolist(),
            "top5": top,
        }  # fmt: skip


def announce(settings: Settings, photos: Photos, masks: Tensor) -> None:
    """Say how long a photo will take, from the time of a few masks."""
    rows, few = len(masks.unique(dim=0)), masks[:32]
    scored(photos, few)
    start = time.perf_counter()
    scored(photos, few)
    minutes = (time.perf_counter() - start) / len(few) * rows / 60
    settings.say(f"samples: {photos.names[0]}, {rows} masks, about {minutes:.1f} minutes")


def relative_errors(coefficients: Tensor, truth: Tensor) -> Tensor:
    """‖β − β*‖² / ‖β*‖² of […,S]."""
    return (coefficients - truth).square().sum(-1) / truth.square().sum(-1)


def agreement(coefficients: Tensor, top: int) -> float:
    """Mean Jaccard index of the ``top`` strongest of [seeds,S], over all pairs of seeds."""
    strongest = coefficients.abs().argsort(dim=1, descending=True, stable=True)[:, :top]
    sets = [set(row) for row in strongest.tolist()]
    return statistics.fmean(len(a & b) / len(a | b) for a, b in itertools.combinations(sets, 2))


def curves(rows: list[Row], output: str, design: str) -> Curves:
    """Each photo's (N, mean error over the seeds), of the default surrogate."""
    found: dict[str, list[tuple[int, float]]] = {}
    kind = {"design": design, "output": output, "surrogate": str(Ridge()), "dtype": "float32"}
    for row in select(rows, **kind):
        mean = statistics.fmean(row["errors"])
        found.setdefault(row["photo"], []).append((row["samples"], mean))
    return found


def select(rows: list[Row], **kind: object) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in kind.items())]


def equal_evaluations(rows: list[Row], at: int) -> int | None:
    """How many masks of the stream have the error of ``at`` of lime's masks; None if not known.

    The error is that of the probability.
    """
    if not any(row["samples"] == at for row in rows):
        return None
    limes, stream = (curves(rows, OUTPUTS[0], design) for design in (LIMES, STREAM))
    needed, mark = equal_error(at, limes, stream)
    return None if "≥" in mark else math.ceil(needed)


def table(rows: list[Row]) -> str:
    return f"{sentence(rows)}\n\n{table_of_samples(rows)}\n\n{table_of_precision(rows)}"


def sentence(rows: list[Row]) -> str:
    """What was measured."""
    photos = dict.fromkeys(row["photo"] for row in rows)
    return (
        f"{len(photos)} photos ({', '.join(photos)}) of {rows[0]['pixels']} pixels in"
        f" {rows[0]['segments']} squares, EfficientNet-Lite0; {len(rows[0]['errors'])} seeds. β* is"
        f" the fit of {rows[0]['reference']} masks of the stream, of another seed."
    )


def table_of_samples(rows: list[Row]) -> str:
    others = [design for design in DESIGNS if design != STREAM]
    head = ["of the", "N", *(f"error, {design}" for design in DESIGNS),
            *(f"{design}, for the stream's error" for design in others),
            *(f"top-5, {design}" for design in DESIGNS)]  # fmt: skip
    lines = []
    for output in OUTPUTS:
        of = {design: curves(rows, output, design) for design in DESIGNS}
        for number in dict.fromkeys(row["samples"] for row in rows):
            here = [
                select(rows, design=design, output=output, samples=number, dtype="float32",
                       surrogate=str(Ridge()))
                for design in DESIGNS
            ]  # fmt: skip
            errors = [digits(mean_error(found)) for found in here]
            over = [times(number, of[STREAM], of[design]) for design in others]
            lines.append([output, number, *errors, *over, *map(mean_top, here)])
    return markdown(head, lines)


def table_of_precision(rows: list[Row]) -> str:
    head = ["bfloat16 autocast, of the", "N", "design", "difference", "top-5, float32's"]
    lines = []
    for output, design in itertools.product(OUTPUTS, IN_BFLOAT16):
        same = select(rows, dtype="bfloat16 autocast", output=output, design=design)
        of_these = [output, same[0]["samples"], design]
        lines.append([*of_these, digits(mean_error(same)), mean_top(same)])
    return markdown(head, lines)


def mean_error(rows: list[Row]) -> float:
    """The geometric mean over the photos of the mean over the seeds."""
    return statistics.geometric_mean(statistics.fmean(row["errors"]) for row in rows)


def mean_top(rows: list[Row]) -> str:
    return f"{statistics.fmean(row['top5'] for row in rows):.2f}"
