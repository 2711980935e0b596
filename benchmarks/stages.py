"""Each stage alone, with the bytes that it must move and the bandwidth that it reaches.

The bytes are those of its arguments, each read once, and of its result, written once: no stage can
move fewer, most move more. The row "copy" says what the device reaches where that is all.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from benchmarks.settings import Row, Settings, photo_batch
from benchmarks.tables import digits, markdown, milliseconds
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, FixedCount, Orthogonal
from torchlime.perturbed import Perturbed
from torchlime.predictions import default_chunk_size
from torchlime.segments import Slic
from torchlime.surrogates import Lasso, LeastSquares, Ridge
from torchlime.weights import Exponential, InverseDistance

SHOWN = {"batch": (1, 32), "segments": (50,), "samples": (1000,)}  # in the table
CAPTION = (
    "P pixels of an image, C channels, T = 1 target. Bytes: each argument read once, the result"
    " written once. For S = 50, N = 1000; the rest is in the JSON."
)


class Case(NamedTuple):
    """A stage on one size; ``formula`` gives its bytes in B, C, P, S and N."""

    stage: str
    strategy: object
    formula: str
    call: Callable[[], object]


def run(settings: Settings) -> list[Row]:
    sizes = [
        (images, segments, samples)
        for images in ((1, 2) if settings.quick else (1, 8, 32))
        for segments in ((10,) if settings.quick else (50, 100))
        for samples in ((64,) if settings.quick else (128, 1000))
    ]
    timer = settings.timer(warm_ups=2, least=0.0 if settings.quick else 0.02)
    rows = []
    for images, segments, samples in sizes:
        settings.say(f"stages: B={images} S={segments} N={samples}")
        for case in cases(images, segments, samples, settings):
            pixels = side(settings)
            names = {"B": images, "C": 3, "P": pixels**2, "S": segments, "N": samples}
            size = eval(case.formula.replace("·", "*"), {}, names)
            reading = timer({"stage": case.call})["stage"]
            rows.append(
                {
                    "stage": case.stage,
                    "strategy": str(case.strategy),
                    "batch": images,
                    "segments": segments,
                    "samples": samples,
                    "pixels": pixels,
                    "dtype": "float32",
                    "bytes": size,
                    "formula": case.formula,
                    "seconds": reading.record(),
                    "bytes_per_second": size / reading.median,
                }
            )
    return rows


def side(settings: Settings) -> int:
    return 32 if settings.quick else 224


def cases(size: int, number: int, samples: int, settings: Settings) -> Iterator[Case]:
    device = settings.device
    images = photo_batch(size, side(settings), device)
    segmenter = Slic(number)
    segments = segmenter(images)
    count, bound = segments.count, segments.bound
    seeds = torch.arange(size, device=device)
    masks = Bernoulli()(count, bound, samples, seed=seeds)
    fill = SegmentMean()(images, segments)
    energy = torch.rand(size, bound, dtype=torch.float64, device=device)
    weights = Exponential()(masks, count)
    scores = torch.rand(size, samples, 1, dtype=torch.float64, device=device)

    target = torch.empty_like(images)
    yield Case("copy", "of the images", "2·4·B·C·P", lambda: target.copy_(images))
    yield Case("segments", segmenter, "4·B·C·P + 8·B·P", lambda: segmenter(images))
    # With fewer samples than a block has rows, Orthogonal is Bernoulli.
    samplers = (Orthogonal(),) if samples >= 2 << (bound - 1).bit_length() else ()
    for sampler in (*samplers, Bernoulli(), FixedCount()):
        draw = bind(sampler, count, bound, samples, seed=seeds)
        yield Case("masks", sampler, "8·B + B·N·S", draw)
    for filler, formula in (
        (SegmentMean(), "2·4·B·C·P + 8·B·P"),
        (ImageMean(), "4·B·C·P + 4·B·C"),
        (Constant(0.5), "4·C"),
        (Blur(), "2·4·B·C·P"),
    ):
        yield Case("fills", filler, formula, bind(filler, images, segments))
    rows = default_chunk_size(device, side(settings) ** 2)
    for channels_last in (False, True):
        make = Perturbed(images, fill, segments, masks, channels_last=channels_last)
        yield Case(
            "perturbed",
            "channels_last" if channels_last else "channels first",
            "2·4·B·C·P + 8·B·P + B·N·S + 4·B·N·C·P",
            bind(perturb_all, make, size, samples, rows),
        )
    yield Case("weights", Exponential(), "B·N·S + 8·B·N", bind(Exponential(), masks, count))
    inverse = InverseDistance()
    yield Case("weights", inverse, "B·N·S + 8·B·S + 8·B·N", bind(inverse, masks, count, energy))
    for surrogate in (Ridge(), LeastSquares(), Lasso(fraction=0.2)):
        fit = bind(surrogate, masks, scores, weights, count)
        yield Case("surrogates", surrogate, "B·N·S + 2·8·B·N + 2·8·B·S", fit)


def bind(function: Callable[..., object], *values: object, **more: object) -> Callable[[], object]:
    return lambda: function(*values, **more)


def perturb_all(make: Perturbed, size: int, samples: int, rows: int) -> None:
    """Make every row of the batch, in chunks of ``rows`` of one image."""
    for image in range(size):
        for start in range(0, samples, rows):
            stop = min(start + rows, samples)
            make([(slice(image, image + 1), slice(start, stop))], rows)


def table(rows: list[Row]) -> str:
    shown = [r for r in rows if all(r[key] in allowed for key, allowed in SHOWN.items())] or rows
    head = ["stage", "strategy", "B", "ms", "bytes", "MB", "GB/s"]
    return markdown(
        head,
        [
            [
                row["stage"],
                row["strategy"].partition("(")[0],
                row["batch"],
                milliseconds(row["seconds"]),
                row["formula"],
                digits(row["bytes"] / 1e6),
                digits(row["bytes_per_second"] / 1e9),
            ]
            for row in shown
        ],
    )
