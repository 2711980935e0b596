"""Photos whose scores of all masks are kept, so that many seeds of many methods cost nothing.

The photos are those of ImageNet that foolbox ships with their classes (``pip install --no-deps
foolbox``), the first that EfficientNet-Lite0 tells right. ``python -m benchmarks.bank`` scores
them beforehand, or ``python -m benchmarks.bank 0 1`` the first two; a run that was cut off goes on
where it was.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.games import Game, every_mask, games_of
from benchmarks.settings import PHOTOS, Settings, classifier, photo
from torchlime import models
from torchlime._given_masks import score_masks
from torchlime.fills import SegmentMean
from torchlime.segments import Grid

CELLS = (3, 4)
PIXELS = 128
NUMBER = 8
PART = 256  # masks that are scored and kept at a time
FOLDER = Path(tempfile.gettempdir()) / "torchlime-benchmarks"


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo, the class that is explained, and the model that saw it.

    Args:
        pixels: [1,3,H,W] in [0,1].
        target: the model's best class.
    """

    name: str
    pixels: Tensor
    target: int
    model: models.Classifier


def chosen(settings: Settings) -> list[Photo]:
    """The photos of a study: the first that the model tells right, if they have classes.

    A quick run takes one of scikit-image's, small.
    """
    model = classifier("efficientnet_lite0", settings.device)
    model = model.to(memory_format=torch.channels_last)
    found: list[Photo] = []
    for name, image, known in _pictures(settings.quick):
        pixels = model.preprocess(image)
        size = 64 if settings.quick else PIXELS
        pixels = torch.nn.functional.interpolate(pixels, size, mode="area")
        with torch.no_grad():
            target = int(model(pixels).argmax())
        if known in (None, target):
            found.append(Photo(name, pixels, target, model))
        if len(found) == (settings.photos or (2 if settings.quick else NUMBER)):
            break
    return found


def _pictures(quick: bool) -> Iterator[tuple[str, Any, int | None]]:
    """Name, picture, and class where it is known."""
    if quick:
        yield from ((name, photo(name), None) for name in PHOTOS)
        return
    foolbox = importlib.util.find_spec("foolbox")
    if foolbox is None or foolbox.origin is None:
        raise ImportError("methods needs the photos of foolbox: pip install --no-deps foolbox")
    for path in sorted(Path(foolbox.origin).parent.glob("data/imagenet_*_*.jpg")):
        yield path.stem, models.read_photo(path), int(path.stem.rpartition("_")[2])


def cells(quick: bool) -> tuple[int, int]:
    """The rows and columns of squares that are shown or hidden."""
    return (2, 3) if quick else CELLS


def bank(settings: Settings, shown: Photo) -> list[Game]:
    """The photo's games: the probability of its class, and the log-odds."""
    return games_of("photos", logits(settings, shown), shown.target)


def logits(settings: Settings, shown: Photo) -> Tensor:
    """The logits [2^K,classes] of all masks; a square's mean hides it."""
    segments = Grid(*cells(settings.quick))(shown.pixels)
    masks = every_mask(segments.bound)
    path = FOLDER / f"{shown.name}-{PIXELS}-{segments.bound}.pt"
    kept = path.exists() and not settings.quick
    parts: list[Tensor] = torch.load(path) if kept else []
    every = torch.arange(1000, device=settings.device)[None]
    shown.model.output = "logit"
    for first in range(PART * len(parts), len(masks), PART):
        some = masks[first : first + PART].to(settings.device)
        scores = score_masks(shown.model, shown.pixels, segments, SegmentMean(), some, every)
        parts.append(scores[0].float().cpu())
        if not settings.quick:
            settings.say(f"bank: {shown.name}, {first + len(some)} of {len(masks)} masks")
            save(parts, path)
    shown.model.output = "softmax"
    return torch.cat(parts)


def save(what: object, path: Path) -> None:
    """Write a file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    torch.save(what, part)
    part.replace(path)


if __name__ == "__main__":
    settings = Settings(torch.device("cpu"))
    numbers = [int(text) for text in sys.argv[1:]]
    photos = chosen(settings)
    for place in numbers or range(len(photos)):
        logits(settings, photos[place])
