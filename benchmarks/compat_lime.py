"""torchlime.compat beside lime in one run: the same photo, segments, masks and network.

Each repetition runs every side once, in turn. The classifier function and the segmentation are
timed inside their calls; what is left is the library's own work. Spread is the interquartile range.

    python -m benchmarks.compat_lime [--samples 1000] [--repetitions 5] [--out FILE.json]
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its pool and torch's fight over the cores

import lime.lime_image
import numpy as np
import torch
from torch import Tensor, nn

from torchlime import models
from torchlime.compat import lime_image
from torchlime.compat.scikit_image import SegmentationAlgorithm

RESULTS = Path(__file__).parent / "results"
LIME = "lime"
PARTS = ("outside", "segmentation", "classifier", "whole")
PACKAGES = ("torchlime", "torch", "numpy", "lime", "scikit-image", "scikit-learn")


class Stopwatch:
    """Adds up the seconds that wrapped calls take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            self.seconds[part] += time.perf_counter() - start
            return result

        return call


def as_function(classifier: models.Classifier) -> Callable[[Any], Any]:
    """The function that notebooks write: arrays [n,H,W,3] in, probabilities out."""

    def predict(images: Any) -> Any:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            return classifier(pixels / 255 if images.dtype == np.uint8 else pixels).numpy()

    return predict


def measure(
    module: Any, image: Any, classifier: Any, segmenter: Any, samples: int, **arguments: Any
) -> dict[str, float]:
    """Seconds of each part of one explanation."""
    watch = Stopwatch()
    if not isinstance(classifier, nn.Module):
        classifier = watch.timed("classifier", classifier)
    explainer = module.LimeImageExplainer(random_state=0)
    start = time.perf_counter()
    explainer.explain_instance(
        image, classifier, top_labels=5, num_samples=samples,
        segmentation_fn=watch.timed("segmentation", segmenter), **arguments,
    )  # fmt: skip
    whole = time.perf_counter() - start
    # A module is called within the library's own work: then only the whole can be compared.
    rest = whole - watch.seconds["segmentation"]
    if "classifier" in watch.seconds:
        return {**watch.seconds, "outside": rest - watch.seconds["classifier"], "whole": whole}
    return {**watch.seconds, "whole": whole}


def sides(
    classifier: models.Classifier, pixels: Tensor, samples: int
) -> dict[str, dict[str, Callable[[], dict[str, float]]]]:
    """{dtype of the image: {name: one explanation}}."""
    quickshift = SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2)
    function = as_function(classifier)
    lime.lime_image.tqdm = iter  # no progress bar on either side
    unit = pixels[0].permute(1, 2, 0).double().numpy()
    found: dict[str, dict[str, Callable[[], dict[str, float]]]] = {}
    for image in ((unit * 255).round().astype(np.uint8), unit):

        def side(
            module: Any, model: Any, image: Any = image, **more: Any
        ) -> Callable[[], dict[str, float]]:
            return lambda: measure(module, image, model, quickshift, samples, **more)

        quiet = {"progress_bar": False}
        found[str(image.dtype)] = {
            LIME: side(lime.lime_image, function),
            "torchlime, the same function": side(lime_image, function, **quiet),
            "torchlime, the module": side(lime_image, classifier, **quiet),
            "torchlime, the module, bfloat16": side(
                lime_image, classifier, autocast=torch.bfloat16, **quiet
            ),
        }
    return found


def run(samples: int, repetitions: int, size: int = 224) -> list[dict[str, Any]]:
    from skimage.data import chelsea

    torch.manual_seed(0)
    classifier = models.load("resnet18", None)
    pixels = nn.functional.interpolate(classifier.preprocess(chelsea()), (size, size))
    for by_name in sides(classifier, pixels, 20).values():  # warm up
        for explain in by_name.values():
            explain()
    rows = []
    for dtype, by_name in sides(classifier, pixels, samples).items():
        rounds = [
            {name: explain() for name, explain in by_name.items()} for _ in range(repetitions)
        ]
        for name in by_name:
            row: dict[str, Any] = {"implementation": name, "image": dtype, "samples": samples}
            for part in PARTS:
                if part in rounds[0][name]:
                    row[part] = summary([r[name][part] for r in rounds])
                    row[f"lime's {part} / this"] = summary(
                        [r[LIME][part] / r[name][part] for r in rounds]
                    )
            rows.append(row)
    return rows


def summary(values: list[float]) -> dict[str, Any]:
    """
    >>> summary([1.0, 2.0, 3.0, 4.0, 10.0])["median"]
    3.0
    """
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "spread": high - low, "values": values}


def table(rows: list[dict[str, Any]]) -> str:
    head = [
        "",
        "image",
        "outside, ms",
        "lime / this",
        "segmentation, ms",
        "whole, s",
        "lime / this",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [row["implementation"], row["image"]]
        for part, scale in (("outside", 1e3), ("segmentation", 1e3), ("whole", 1)):
            cells.append(cell(row.get(part), scale))
            if part != "segmentation":
                cells.append(cell(row.get(f"lime's {part} / this")))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(reading: dict[str, Any] | None, scale: float = 1) -> str:
    if reading is None:
        return "–"
    return f"{reading['median'] * scale:.3g} ± {reading['spread'] * scale:.2g}"


def record(rows: list[dict[str, Any]]) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    capability = torch.backends.cpu.get_cpu_capability()
    hardware = {"cpu": capability, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {
        "benchmark": "compat_lime",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions,
        "hardware": hardware,
        "rows": rows,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compat_lime", description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="of the image, in pixels")
    parser.add_argument("--out", type=Path, default=RESULTS / "compat_lime.json")
    options = parser.parse_args(arguments)
    rows = run(options.samples, options.repetitions, options.size)
    print(table(rows))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record(rows), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
