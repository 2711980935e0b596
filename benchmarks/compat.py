"""torchlime.compat beside lime: the same photo, segments, masks and network, in one run."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.settings import Row, Settings, classifier, photos
from benchmarks.tables import digits, markdown
from benchmarks.timer import Readings
from torchlime.compat import lime_image
from torchlime.compat.scikit_image import SegmentationAlgorithm
from torchlime.models import Classifier

LIME = "lime"
PARTS = ("outside", "segmentation", "whole")
CAPTION = (
    "One 8-bit photo, lime's quickshift, the five best classes. *Outside* is the time outside the"
    " classifier function and the segmentation. A module is called within the library's own work,"
    " so for a module only the whole can be compared. Ratios are lime's time over that of the row."
)
Seconds = dict[str, float]


def run(settings: Settings) -> list[Row]:
    samples = 16 if settings.quick else 1000
    rows = []
    for name in settings.models or ("resnet18",):
        settings.say(f"compat: {name}, N={samples}")
        model = classifier(name, settings.device)
        pixels = photos(2, 48 if settings.quick else 224, settings.device)[1:]
        image = (pixels[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        for explain in contenders(model, image, 20).values():  # warm up
            explain()
        sides = contenders(model, image, samples)
        repetitions = settings.timer().repetitions
        rounds = [{side: explain() for side, explain in sides.items()} for _ in range(repetitions)]
        rows += [
            {
                "model": name,
                "implementation": side,
                "samples": samples,
                "dtype": "bfloat16 autocast" if "bfloat16" in side else "float32",
                **parts(rounds, side),
            }
            for side in sides
        ]
    return rows


def parts(rounds: list[dict[str, Seconds]], side: str) -> dict[str, Any]:
    """The readings of each part of a side, and lime's over them."""
    found: dict[str, Any] = {}
    for part in PARTS:
        if part in rounds[0][side]:
            ours = Readings(tuple(seconds[side][part] for seconds in rounds))
            theirs = Readings(tuple(seconds[LIME][part] for seconds in rounds))
            found |= {part: ours.record(), f"lime_{part}_over": theirs.over(ours).record()}
    return found


def contenders(model: Classifier, image: Any, samples: int) -> dict[str, Callable[[], Seconds]]:
    import lime.lime_image

    lime.lime_image.tqdm = iter  # no progress bar on either side

    def side(module: Any, model: Any, **more: Any) -> Callable[[], Seconds]:
        return lambda: explained(module, image, model, samples, **more)

    function, quiet = as_function(model), {"progress_bar": False}
    return {
        LIME: side(lime.lime_image, function),
        "torchlime, the same function": side(lime_image, function, **quiet),
        "torchlime, the module": side(lime_image, model, **quiet),
        "torchlime, the module, bfloat16": side(
            lime_image, model, autocast=torch.bfloat16, **quiet
        ),
    }


def as_function(model: Classifier) -> Callable[[Any], Any]:
    """The function that notebooks write: arrays [n,H,W,3] in, probabilities out."""
    device = model.mean.device

    def predict(images: Any) -> Any:
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            return model(pixels).cpu().numpy()

    return predict


def explained(module: Any, image: Any, model: Any, samples: int, **more: Any) -> Seconds:
    """Seconds of each part of one explanation, whose numbers come back to the host."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(argument: Any) -> Any:
            start = time.perf_counter()
            result = np.asarray(function(argument))
            seconds[part] += time.perf_counter() - start
            return result

        return call

    quickshift = SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2)
    is_module = isinstance(model, nn.Module)
    start = time.perf_counter()
    module.LimeImageExplainer(random_state=0).explain_instance(
        image, model if is_module else timed("classifier", model), top_labels=5,
        num_samples=samples, segmentation_fn=timed("segmentation", quickshift), **more,
    )  # fmt: skip
    whole = time.perf_counter() - start
    if is_module:
        return {**seconds, "whole": whole}
    outside = whole - seconds["segmentation"] - seconds["classifier"]
    return {**seconds, "outside": outside, "whole": whole}


def table(rows: list[Row]) -> str:
    return markdown(
        ["", "model", "N", "outside, ms", "lime / this", "segmentation, ms", "whole, s",
         "lime / this"],
        [
            [
                row["implementation"],
                row["model"],
                row["samples"],
                cell(row.get("outside"), 1e3),
                cell(row.get("lime_outside_over")),
                cell(row["segmentation"], 1e3),
                cell(row["whole"]),
                cell(row["lime_whole_over"]),
            ]
            for row in rows
        ],
    )  # fmt: skip


def cell(reading: dict[str, Any] | None, scale: float = 1) -> str:
    if reading is None:
        return "–"
    return f"{digits(reading['median'] * scale)} ± {digits(reading['spread'] * scale)}"
