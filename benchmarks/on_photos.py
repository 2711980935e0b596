"""Methods on photos in 7×7 squares, each mask or noisy image through the network.

``python -m benchmarks.on_photos 256`` scores beforehand what a run with so many passes needs.
"""

import hashlib
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.bank import FOLDER, PIXELS, Photo, chosen, save
from benchmarks.games import KERNEL
from benchmarks.on_games import correlation, stability
from benchmarks.recipes import Case, evidence, names
from benchmarks.settings import Row, Settings
from torchlime import metrics
from torchlime._given_masks import score_masks
from torchlime.fills import Blur, SegmentMean
from torchlime.lime import AnyFill
from torchlime.masks import Bernoulli
from torchlime.segments import Grid

BUDGETS = (256, 1024)
SEEDS = 2
FRESH = 256  # masks of the fidelity
STEPS = 16  # of deletion and insertion


class Seen:
    """The probability [n,1] of a photo's class, each image scored once.

    Args:
        photo: what is explained.
        path: where the scores are kept, so that a run that was cut off goes on; None = nowhere.

    Attributes:
        rows: how many it got.
        seconds: how long they took.
    """

    def __init__(self, photo: Photo, path: Path | None):
        self.photo, self.path, self.rows, self.seconds = photo, path, 0, 0.0
        self.known: dict[bytes, float] = {}
        if path is not None and path.exists():
            self.known = torch.load(path)

    def __call__(self, images: Tensor) -> Tensor:
        start = time.perf_counter()
        keys = [hashlib.sha1(image.contiguous().numpy().tobytes()).digest() for image in images]
        new = {key: place for place, key in enumerate(keys) if key not in self.known}
        if new:
            found = self.photo.model(images[list(new.values())])[:, self.photo.target]
            self.known.update(zip(new, found.tolist(), strict=True))
        self.rows += len(images)
        self.seconds += time.perf_counter() - start
        return torch.tensor([[self.known[key]] for key in keys])

    def keep(self) -> None:
        """Write the scores so far."""
        if self.path is not None:
            save(self.known, self.path)


def on_photos(
    settings: Settings, photos: Sequence[Photo], budgets: Sequence[int] = BUDGETS
) -> Iterator[Row]:
    """A row for each photo, method and number of forward passes, in smaller squares."""
    for photo in photos:
        path = None if settings.quick else FOLDER / f"{photo.name}-{PIXELS}-49.pt"
        model = Seen(photo, path)
        grid = (3, 4) if settings.quick else (7, 7)
        segments = Grid(*grid)(photo.pixels)
        count, bound = segments.count, segments.bound
        masks = Bernoulli()(count, bound, FRESH, seed=10_000)[:, 1:]
        scores = score_masks(model, photo.pixels, segments, SegmentMean(), masks, 0)[0, :, 0]
        weights = KERNEL(masks, count)[0]
        case = Case(model, photo.pixels, grid, segments.labels[0], SegmentMean())
        for budget, name in itertools.product((96,) if settings.quick else budgets, names()):
            found, rows, spent = [], [], []
            for seed in range(SEEDS):
                begun, model.rows, model.seconds = time.perf_counter(), 0, 0.0
                found.append(evidence(name, case, budget, seed))
                rows.append(model.rows)
                spent.append(time.perf_counter() - begun - model.seconds)
            model.keep()
            values = torch.cat(found)
            fitted = values @ masks[0].double().T
            yield {
                "part": "photo", "games": "photos", "photo": photo.name, "output": "probability",
                "method": name, "samples": budget, "rows": sum(rows) / len(rows),
                "seconds": sum(spent) / len(spent), **stability(values),
                "correlation": correlation(fitted, scores.double(), weights).mean().item(),
                **areas_of(model, photo, values, segments.labels),
            }  # fmt: skip
        settings.say(f"methods: {photo.name} in {bound} squares done, {len(model.known)} images")


def areas_of(model: Seen, photo: Photo, values: Tensor, labels: Tensor) -> Row:
    """Deletion and insertion of coefficients [R,S], each from two fills."""
    areas: Row = {}
    fills: dict[str, AnyFill] = {"": SegmentMean(), ", blurred": Blur(5.0)}
    for name, fill in fills.items():
        for area in (metrics.deletion, metrics.insertion):
            found = []
            for one in values:
                heatmap = metrics.Heatmap(values=one[None], targets=0, segments=labels)
                found.append(area(model, photo.pixels, heatmap, fill=fill, steps=STEPS).item())
            areas[area.__name__ + name] = sum(found) / len(found)
    return areas


if __name__ == "__main__":
    on_cpu = Settings(torch.device("cpu"))
    for asked in sys.argv[1:]:
        for _ in on_photos(on_cpu, chosen(on_cpu), [int(asked)]):
            pass
