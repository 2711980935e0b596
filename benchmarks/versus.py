"""torchlime beside lime and Captum: the same photo, model, segments and number of samples."""

import contextlib
import importlib.util
import io
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks import results, samples
from benchmarks.settings import Row, Settings, classifier, photos
from benchmarks.tables import markdown, milliseconds
from benchmarks.timer import Call
from torchlime import Lime
from torchlime.fills import SegmentMean
from torchlime.masks import Bernoulli, Orthogonal
from torchlime.models import Classifier
from torchlime.segments import Slic

OURS = "torchlime"
CAPTION = (
    "One photo and one class; the segments are given. The others keep their own defaults for the"
    " kernel and the surrogate. Captum's image is channels_last, so that its forward passes are as"
    " fast as ours. *At equal error* takes as many masks of the default design as have the error of"
    " N of lime's masks. That number is from the table of *samples*, for EfficientNet-Lite0's"
    " probabilities."
)


def run(settings: Settings) -> Iterator[Row]:
    """The rows, each model's when they are measured."""
    number = 1000 if settings.on_gpu else 512
    if settings.quick:
        number = 16
    for name in settings.models or ("resnet18",):
        settings.say(f"versus: {name}, N={number}")
        image = photos(1, 64 if settings.quick else 224, settings.device)
        model = classifier(name, settings.device)
        equal = samples.equal_evaluations(results.of_samples(settings), number)
        if equal is None:
            settings.say("versus: of samples there is no result, so no row of equal error")
        sides = contenders(model, image, number, equal)
        # A GPU's first call of a shape is slow; on a CPU a few rows do.
        few = sides if settings.on_gpu else contenders(model, image, 4, equal and 4)
        readings = settings.timer()(
            {side: call for side, (call, _) in sides.items()},
            warm={side: call for side, (call, _) in few.items()},
        )
        for side, (_, drawn) in sides.items():
            yield {
                "model": name,
                "implementation": side,
                "samples": drawn,
                "dtype": "bfloat16 autocast" if "bfloat16" in side else "float32",
                "seconds": readings[side].record(),
                "over_torchlime": readings[side].over(readings[OURS]).record(),
            }


Side = tuple[Call, int]  # and how many samples it takes


def contenders(model: Classifier, image: Tensor, number: int, equal: int | None) -> dict[str, Side]:
    segments = Slic(50)(image)

    def ours(samples: int, **settings: Any) -> Side:
        explainer = Lime(num_samples=samples, **settings)
        return lambda: explainer.explain(model, image, segments=segments), samples

    labels = segments.labels[0].cpu().numpy()
    fill = SegmentMean()(image, segments)
    target = int(model(image).argmax())
    sides = {
        OURS: ours(number, sampler=Bernoulli()),
        "torchlime, bfloat16": ours(number, sampler=Bernoulli(), autocast=torch.bfloat16),
    }
    if equal:
        sides["torchlime, Orthogonal at equal error"] = ours(equal, sampler=Orthogonal())
    for size in (10, 64):
        sides[f"lime, batch_size {size}"] = with_lime(model, image, labels, number, size), number
    if importlib.util.find_spec("captum"):
        for size in (1, 64):
            call = with_captum(model, image, segments.labels, fill, target, number, size)
            sides[f"Captum, perturbations_per_eval {size}"] = call, number
    return sides


def with_lime(model: Classifier, image: Tensor, labels: Any, number: int, size: int) -> Call:
    from lime.lime_image import LimeImageExplainer

    array = image[0].permute(1, 2, 0).cpu().numpy()
    explainer = LimeImageExplainer(random_state=0)

    def classify(arrays: Any) -> Any:
        # The permuted array is channels_last.
        pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2).to(image.device)
        with torch.inference_mode():
            return model(pixels).cpu().numpy()

    def explain() -> object:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            return explainer.explain_instance(
                array, classify, top_labels=1, num_samples=number, batch_size=size,
                segmentation_fn=lambda _: labels,
            )  # fmt: skip

    return explain


def with_captum(
    model: Classifier, image: Tensor, labels: Tensor, fill: Tensor, target: int,
    number: int, size: int,
) -> Call:  # fmt: skip
    from captum.attr import Lime as CaptumLime

    image = image.contiguous(memory_format=torch.channels_last)
    explainer = CaptumLime(model)
    return lambda: explainer.attribute(
        image, baselines=fill, target=target, feature_mask=labels[:, None], n_samples=number,
        perturbations_per_eval=size,
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    return markdown(
        ["", "model", "precision", "N", "ms", "time / torchlime's"],
        [
            [
                row["implementation"],
                row["model"],
                row["dtype"],
                row["samples"],
                milliseconds(row["seconds"]),
                f"{row['over_torchlime']['median']:.2f} ± {row['over_torchlime']['spread']:.2f}",
            ]
            for row in rows
        ],
    )
