"""A photo of 12 megapixels: segments of a reduced copy beside those of the photo itself.

Then what a reduced copy costs in quality, on photos that have all their detail.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.memory import peak_memory
from benchmarks.settings import PHOTOS, Row, Settings, photo
from benchmarks.superpixels import measures
from benchmarks.tables import digits, markdown, mebibytes
from torchlime import models
from torchlime.compat import lime_image
from torchlime.segments import Reduced, Slic

SIDES: dict[str, Any] = {
    "Slic": Slic(50),
    "Reduced(Slic, 1024)": Reduced(Slic(50), 1024),
    "Reduced(Slic, 512)": Reduced(Slic(50), 512),
    "scikit-image": None,
}
CAPTION = (
    "50 segments of one photo of 4000×3000, enlarged from a smaller one. *compat* is the whole of"
    ' `explain_instance(photo, function, segmentation_fn="slic", hide_color=0, num_samples=10)`;'
    " at full size it is called with `segmentation_fn=Slic()`. Peak memory is above what was held"
    " before the call. The photo takes 34 MiB in 8 bits and 137 MiB in float32. The last rows are"
    " the photos of *superpixels* in their own size: means for Slic's segments, and for the"
    " segments of copies with a half and a quarter of the side."
)
Array = npt.NDArray[np.uint8]
Calls = tuple[Callable[[], object], Callable[[], object]]


def run(settings: Settings) -> list[Row]:
    size = (400, 300) if settings.quick else (4000, 3000)
    return [*of_segments(settings, size), *of_compat(settings, size), *of_quality(settings)]


def of_segments(settings: Settings, size: tuple[int, int]) -> list[Row]:
    settings.say(f"large: segments of {size[0]}×{size[1]}")
    device = str(settings.device)
    calls = {name: segment(device, name, size) for name in SIDES}
    found = measured(
        settings, calls, {name: partial(segment, device, name, size) for name in SIDES}
    )
    image = large_photo(size)
    for row in found:
        labels = calls[row["implementation"]][1]()
        row |= measures(np.asarray(labels), image)
    return found


def of_compat(settings: Settings, size: tuple[int, int]) -> list[Row]:
    settings.say("large: compat")
    sides = {"compat, at full size": Slic(50), "compat": "slic"}
    prepare = {name: partial(explain, given, size) for name, given in sides.items()}
    return measured(settings, {name: make() for name, make in prepare.items()}, prepare)


def measured(
    settings: Settings, calls: Mapping[str, Calls], prepare: Mapping[str, Callable[[], Calls]]
) -> list[Row]:
    """Seconds and peak memory of each side."""
    warm = {name: call[0] for name, call in calls.items()}
    readings = settings.timer()({name: call[1] for name, call in calls.items()}, warm)
    slowest = next(iter(calls))
    return [
        {
            "implementation": name,
            "dtype": "uint8" if "compat" in name else "float32",
            "seconds": readings[name].record(),
            "over_full_size": readings[name].over(readings[slowest]).record(),
            "peak_bytes": peak_memory(settings.device, prepare[name]),
        }
        for name in calls
    ]


def segment(device: str, name: str, size: tuple[int, int]) -> Calls:
    """(warm up on a smaller photo, labels of a large one)."""

    def call_on(size: tuple[int, int]) -> Callable[[], object]:
        image = large_photo(size)
        if name == "scikit-image":
            return partial(scikit_image, image)
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().to(device) / 255
        return lambda: SIDES[name](pixels).labels[0].cpu()

    return call_on((400, 300)), call_on(size)


def scikit_image(image: Array) -> object:
    from skimage.segmentation import slic

    return slic(image, n_segments=50, compactness=10, start_label=0)


def explain(segmentation: Any, size: tuple[int, int]) -> Calls:
    """(warm up on a smaller photo, explain a large one) through lime's interface."""

    def call(image: Array) -> object:
        return lime_image.LimeImageExplainer(random_state=0).explain_instance(
            image, brightness, segmentation_fn=segmentation, hide_color=0, num_samples=10,
            progress_bar=False,
        )  # fmt: skip

    return partial(call, large_photo((400, 300))), partial(call, large_photo(size))


def brightness(images: Array) -> npt.NDArray[np.float64]:
    """A function of no weight: a few pixels of each image."""
    bright = images[:, ::50, ::50].mean((1, 2, 3)) / 255
    return np.stack([bright, 1 - bright], axis=1)


def large_photo(size: tuple[int, int]) -> Array:
    """[H,W,3] in 8 bits, of (width, height) ``size``."""
    return np.array(models.read_photo(photo("astronaut")).resize(size))


def of_quality(settings: Settings) -> list[Row]:
    """Means over the photos in their own size, for copies of some shares of the side."""
    settings.say("large: quality")
    count = settings.photos or (1 if settings.quick else len(PHOTOS))
    quality: dict[str, list[dict[str, float]]] = {}
    for name in PHOTOS[:count]:
        image = np.array(models.read_photo(photo(name)))
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().to(settings.device) / 255
        for share in (1, 2, 4):
            segmenter = Reduced(Slic(50), max(image.shape) // share)
            labels = segmenter(pixels).labels[0].cpu().numpy()
            side = "Slic, own size" if share == 1 else f"Reduced, 1/{share} of the side"
            quality.setdefault(side, []).append(measures(labels, image))
    return [
        {"implementation": side, "dtype": "float32", "images": len(found)}
        | {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        for side, found in quality.items()
    ]


def table(rows: list[Row]) -> str:
    head = ["", "s", "time / full size", "peak, MiB", "segments", "EV", "CO", "split"]
    return markdown(head, [[row["implementation"], *_costs(row), *_quality(row)] for row in rows])


def _costs(row: Row) -> list[str]:
    if "seconds" not in row:
        return [""] * 3
    reading = row["seconds"]
    return [
        f"{digits(reading['median'])} ± {digits(reading['spread'])}",
        f"{row['over_full_size']['median']:.3f}",
        mebibytes(row["peak_bytes"]),
    ]


def _quality(row: Row) -> list[str]:
    if "explained_variation" not in row:
        return [""] * 4
    return [
        f"{row['segments']:.1f}",
        f"{row['explained_variation']:.3f}",
        f"{row['compactness']:.3f}",
        f"{row['disconnected']:.2f}",
    ]
