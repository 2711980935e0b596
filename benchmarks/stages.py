"""Each stage alone, with the bytes that it must move and the bandwidth that it reaches.

The bytes are those of its arguments, each read once, and of its result, written once: no stage can
move fewer, most move more. The row "copy", of more than any cache holds, says what the device
reaches where that is all.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from benchmarks.settings import Row, Settings, photo_batch
from benchmarks.tables import digits, markdown, milliseconds
from torchlime._softmap import as_soft_segments
from torchlime.features.pixels import Blended, Perturbed, default_chunk_size
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, FixedCount, Orthogonal, Permutations
from torchlime.segments import Grid, Slic
from torchlime.surrogates import (
    BayesianRidge,
    Lasso,
    LeastSquares,
    MarginalContributions,
    MarginalMean,
    Ridge,
    SignEntropy,
)
from torchlime.weights import Exponential, InverseDistance, Uniform

SHOWN = {"batch": (1, 32), "segments": (50,), "samples": (1000,)}  # in the table; and the copy
GRIDS = {10: (2, 5), 50: (5, 10), 100: (10, 10)}
CAPTION = (
    "P pixels of an image, C channels, T = 1 target. *Bytes* counts each argument as read once and"
    " the result as written once. The table shows S = 50 and N = 1000; the JSON has the rest."
)


class Case(NamedTuple):
    """A stage on one size; ``formula`` gives its bytes in B, C, P, S and N."""

    stage: str
    strategy: object
    formula: str
    call: Callable[[], object]
    dtype: str = "float32"


def run(settings: Settings) -> Iterator[Row]:
    """The rows, each when it is measured."""
    sizes = [  # those of the table first
        (images, segments, samples)
        for segments in ((10,) if settings.quick else (50, 100))
        for samples in ((64,) if settings.quick else (1000, 128))
        for images in ((1, 2) if settings.quick else (1, 32, 8))
    ]
    yield measure(copy(settings), {}, settings)
    for images, segments, samples in sizes:
        settings.say(f"stages: B={images} S={segments} N={samples}")
        pixels = side(settings) ** 2
        letters = {"B": images, "C": 3, "P": pixels, "S": segments, "N": samples}
        for case in cases(images, segments, samples, settings):
            yield measure(case, letters, settings)


def measure(case: Case, letters: dict[str, int], settings: Settings) -> Row:
    """A row; ``letters`` are the sizes in its formula."""
    timer = settings.timer(warm_ups=2, least=0.0 if settings.quick else 0.02)
    reading = timer({"stage": case.call})["stage"]
    size = eval(case.formula.replace("·", "*"), {}, letters)
    return {
        "stage": case.stage,
        "strategy": str(case.strategy),
        "batch": letters.get("B"),
        "segments": letters.get("S"),
        "samples": letters.get("N"),
        "pixels": letters.get("P"),
        "dtype": case.dtype,
        "bytes": size,
        "formula": case.formula,
        "seconds": reading.record(),
        "bytes_per_second": size / reading.median,
    }


def copy(settings: Settings) -> Case:
    size = 2**20 if settings.quick else 2**29
    source = torch.ones(size, dtype=torch.uint8, device=settings.device)
    target = torch.empty_like(source)
    call = bind(target.copy_, source)
    return Case("copy", f"{size // 2**20} MiB", f"2·{size}", call, "uint8")


def side(settings: Settings) -> int:
    return 32 if settings.quick else 224


def cases(size: int, number: int, samples: int, settings: Settings) -> Iterator[Case]:
    device = settings.device
    images = photo_batch(size, side(settings), device)
    segmenter = Slic(number)
    segments = segmenter(images)
    count, bound = segments.count, segments.bound
    masks = Bernoulli()(count, bound, samples, seed=0)
    fill = SegmentMean()(images, segments)
    energy = torch.rand(size, bound, dtype=torch.float64, device=device)
    weights = Exponential()(masks, count)
    scores = torch.rand(size, samples, 1, dtype=torch.float64, device=device)

    for cut in (segmenter, Grid(*GRIDS[number])):
        yield Case("segments", cut, "4·B·C·P + 8·B·P", bind(cut, images))
    # With fewer samples than a block has rows, Orthogonal is Bernoulli.
    samplers = (Orthogonal(),) if samples >= 2 << (bound - 1).bit_length() else ()
    for sampler in (*samplers, Bernoulli(), FixedCount()):
        draw = bind(sampler, count, bound, samples, seed=0)
        yield Case("masks", sampler, "8·B + B·N·S", draw, "bool")
    for filler, formula in (
        (SegmentMean(), "2·4·B·C·P + 8·B·P"),
        (ImageMean(), "4·B·C·P + 4·B·C"),
        (Constant(0.5), "4·C"),
        (Blur(), "2·4·B·C·P"),
    ):
        yield Case("fills", filler, formula, bind(filler, images, segments))
    rows = default_chunk_size(device, side(settings) ** 2)
    for layout, dtype, width in (
        ("channels first", torch.float32, 4),
        ("channels_last", torch.float32, 4),
        ("channels_last", torch.bfloat16, 2),
    ):
        make = Perturbed(
            images, fill, segments, masks, dtype=dtype, channels_last=layout == "channels_last"
        )
        yield Case(
            "perturbed",
            layout,
            f"2·{width}·B·C·P + 8·B·P + B·N·S + {width}·B·N·C·P",
            bind(perturb_all, make, size, samples, rows),
            str(dtype).removeprefix("torch."),
        )
    soft = as_soft_segments(torch.rand(bound, *images.shape[2:], device=device), images)
    blend = Blended(images, fill, soft, masks)
    yield Case(
        "perturbed",
        "soft",
        "2·4·B·C·P + 4·B·S·P + B·N·S + 4·B·N·C·P",
        bind(perturb_all, blend, size, samples, rows),
    )
    kernels: tuple[Exponential | InverseDistance | Uniform, ...] = (
        Exponential(), Uniform(), Exponential(1.0, "pixel_euclidean"), InverseDistance(),
    )  # fmt: skip
    for kernel in kernels:
        read = "B·N·S + 8·B·S + 8·B·N" if kernel.needs_energy else "B·N·S + 8·B·N"
        yield Case("weights", kernel, read, bind(kernel, masks, count, energy), "float64")
    for surrogate in (
        Ridge(), LeastSquares(), Lasso(fraction=0.2), BayesianRidge(), MarginalMean(),
        SignEntropy(),
    ):  # fmt: skip
        fit = bind(surrogate, masks, scores, weights, count)
        yield Case("surrogates", surrogate, "B·N·S + 2·8·B·N + 2·8·B·S", fit, "float64")
    walks = Permutations()(count, bound, samples, seed=0)
    fit = bind(MarginalContributions(), walks, scores, weights, count)
    yield Case("surrogates", MarginalContributions(), "B·N·S + 2·8·B·N + 2·8·B·S", fit, "float64")


def bind(function: Callable[..., object], *values: object, **more: object) -> Callable[[], object]:
    return lambda: function(*values, **more)


def perturb_all(make: Perturbed, size: int, samples: int, rows: int) -> None:
    """Make every row of the batch, in chunks of ``rows`` of one image."""
    for image in range(size):
        for start in range(0, samples, rows):
            stop = min(start + rows, samples)
            make([(slice(image, image + 1), slice(start, stop))], rows)


def table(rows: list[Row]) -> str:
    shown = [r for r in rows if all(r[key] in (None, *allowed) for key, allowed in SHOWN.items())]
    if not any(row["batch"] for row in shown):  # a quick run's sizes
        shown = rows
    head = ["stage", "strategy", "dtype", "B", "ms", "bytes", "MB", "GB/s"]
    return markdown(
        head,
        [
            [
                row["stage"],
                row["strategy"],
                row["dtype"],
                row["batch"] or "–",
                milliseconds(row["seconds"]),
                row["formula"],
                digits(row["bytes"] / 1e6),
                digits(row["bytes_per_second"] / 1e9),
            ]
            for row in shown
        ],
    )
