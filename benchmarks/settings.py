"""What a run was asked for, and what every benchmark shares: photos, networks, the timer."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timer import Timer, synchroniser
from torchlime import models

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
PHOTOS = (
    "astronaut", "chelsea", "coffee", "rocket", "motorcycle", "hubble_deep_field",
    "retina", "immunohistochemistry",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The options of the command line; None leaves a choice to the benchmark."""

    device: torch.device
    quick: bool = False
    models: tuple[str, ...] | None = None
    photos: int | None = None
    reference: int | None = None
    repetitions: int = 5
    only: str | None = None
    results: Path = RESULTS

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def timer(self, **settings: Any) -> Timer:
        """A Timer of so many rounds; of two in a quick run, whose times mean nothing."""
        rounds = 2 if self.quick else self.repetitions
        return Timer(synchroniser(self.device), repetitions=rounds, **settings)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def photo(name: str) -> Any:
    """A colour photo that comes with scikit-image: [H,W,3] uint8."""
    from skimage import data

    return data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()


def photos(count: int, size: int, device: torch.device) -> Tensor:
    """The first photos [count,3,size,size] in [0,1], their centres cut out."""
    geometry = models.Geometry(resize=(size, size), crop=(size, size))
    cut = [geometry.cut(models.read_photo(photo(name))) for name in PHOTOS[:count]]
    return torch.stack(cut).to(device)


def photo_batch(size: int, pixels: int, device: torch.device) -> Tensor:
    """Images [size,3,pixels,pixels]: the photos again and again."""
    few = photos(min(size, len(PHOTOS)), pixels, device)
    return few.repeat(-(-size // len(few)), 1, 1, 1)[:size]


def classifier(name: str, device: torch.device) -> models.Classifier:
    """A classifier of pixels in [0,1]: EfficientNet-Lite0 as trained, others at random.

    On a GPU its weights are channels_last.
    """
    torch.manual_seed(0)
    weights = "DEFAULT" if name == "efficientnet_lite0" else None
    loaded = models.load(name, weights, device)
    return loaded.to(memory_format=torch.channels_last) if device.type == "cuda" else loaded


def network(name: str, device: torch.device) -> nn.Module:
    """The same without its normalisation."""
    return classifier(name, device).network
