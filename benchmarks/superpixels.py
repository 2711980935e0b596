"""Slic beside fast-slic and scikit-image: time and quality on scikit-image's colour photos."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.settings import PHOTOS, Row, Settings, classifier, photo_batch, photos
from benchmarks.tables import markdown, milliseconds
from torchlime.capture import graphed
from torchlime.segments import FastSlic, Slic
from torchlime.segments.fast_slic import implementation

CAPTION = (
    "Means over the photos. Each call has one photo, except where B is given. *EV* is the"
    " explained variation of the colours, which grows with the number of segments. So *as many*"
    " asks scikit-image for a number with which it returns as many segments as Slic. *CO* is"
    " compactness, which is 0.79 for a square. *Split* counts labels that are not one connected"
    " region. scikit-image runs on one thread. fast-slic gets 8-bit images; *FastSlic* is"
    " torchlime's wrapper of it. A network runs in the process before the first call, as in any"
    " explanation: from then on the C library keeps memory for the next call."
)


def run(settings: Settings) -> Iterator[Row]:
    """The rows, each when it is measured."""
    size, count = (64, 2) if settings.quick else (224, len(PHOTOS))
    images = photos(settings.photos or count, size, settings.device)
    many = photo_batch(4 if settings.quick else 32, size, settings.device)
    run_a_network(images)
    kinds = [partial(others, images)]
    if settings.on_gpu:  # the most useful first; a compiler takes a minute
        kinds = [partial(batched, many), partial(captured, many), *kinds, partial(compiled, many)]
    for kind in kinds:
        for number in (50, 100):
            sides = {"Slic": one_by_one(Slic(number), images)} | kind(number)
            settings.say(f"superpixels: {number}, {', '.join(sides)}")
            rows = measured(sides, settings)
            yield from (
                {"num_segments": number, "size": size, "dtype": "float32"} | row
                for row in rows
                if row["implementation"] != "Slic" or kind is kinds[0]
            )


def run_a_network(images: Tensor) -> None:
    """Make large tensors once, so that the C library keeps memory from call to call."""
    with torch.inference_mode():
        classifier("resnet18", images.device)(images.repeat(4, 1, 1, 1))


Side = tuple[Callable[[], Tensor], Tensor]  # gives the labels [B,H,W] of the images [B,3,H,W]


def measured(sides: dict[str, Side], settings: Settings) -> Iterator[Row]:
    """Time and quality of each side."""
    readings = settings.timer(warm_ups=2)({name: call for name, (call, _) in sides.items()})
    per_image = {name: readings[name].per(len(shown)) for name, (_, shown) in sides.items()}
    for name, (segment, shown) in sides.items():
        pairs = zip(segment().cpu().numpy(), pixels_last(shown), strict=True)
        quality = [measures(labels, image) for labels, image in pairs]
        yield {
            "implementation": name,
            "images": len(shown),
            "seconds_per_image": per_image[name].record(),
            "over_slic": per_image[name].over(per_image["Slic"]).record(),
        } | {key: float(np.mean([q[key] for q in quality])) for key in quality[0]}


def one_by_one(segmenter: Slic | FastSlic, images: Tensor) -> Side:
    """An image at a time."""
    return lambda: torch.cat([segmenter(image[None]).labels for image in images]), images


def others(images: Tensor, number: int) -> dict[str, Side]:
    """The other implementations, an image at a time."""
    from skimage.segmentation import slic

    arrays = pixels_last(images)
    bytes_of = [np.ascontiguousarray((a * 255).round().astype(np.uint8)) for a in arrays]

    def scikit_image(asked: int = number) -> Tensor:
        maps = [slic(a, n_segments=asked, compactness=10, start_label=0) for a in arrays]
        return torch.from_numpy(np.stack(maps))

    def fast_slic() -> Tensor:
        slic = implementation()
        maps = [slic(num_components=number, compactness=10).iterate(a) for a in bytes_of]
        return torch.from_numpy(np.stack(maps).astype(np.int64))

    wanted = mean_count(one_by_one(Slic(number), images)[0]())
    as_many = min(
        range(number, 2 * number, 2), key=lambda n: abs(mean_count(scikit_image(n)) - wanted)
    )
    sides: dict[str, Side] = {
        "scikit-image": (scikit_image, images),
        "scikit-image, as many": (lambda: scikit_image(as_many), images),
    }
    if importlib.util.find_spec("fast_slic"):
        sides["fast-slic"] = (fast_slic, images)
        sides["FastSlic"] = one_by_one(FastSlic(number), images.cpu())
    return sides


def mean_count(labels: Tensor) -> float:
    return float(np.mean([len(of_image.unique()) for of_image in labels]))


def batched(images: Tensor, number: int) -> dict[str, Side]:
    """Slic, all images in one call."""
    return {f"Slic, B = {len(images)}": (lambda: Slic(number)(images).labels, images)}


def captured(images: Tensor, number: int) -> dict[str, Side]:
    """Slic as a CUDA graph, all images in one call."""
    found: list[Tensor] = []

    def segment() -> None:
        found[:] = [Slic(number)(images).labels]

    replay = graphed(segment, images.device, "Slic")

    def labels() -> Tensor:
        replay()
        return found[0]

    return {f"Slic, B = {len(images)}, captured": (labels, images)}


def compiled(images: Tensor, number: int) -> dict[str, Side]:
    """The same, compiled."""
    segmenter = torch.compile(Slic(number), dynamic=False)
    return {f"Slic, B = {len(images)}, compiled": (lambda: segmenter(images).labels, images)}


def pixels_last(images: Tensor) -> npt.NDArray[np.float32]:
    return images.permute(0, 2, 3, 1).cpu().contiguous().numpy()


def measures(labels: npt.NDArray[np.int64], image: npt.NDArray[Any]) -> dict[str, float]:
    """How good the segments [H,W] of an image [H,W,C] are."""
    return {
        "segments": len(np.unique(labels)),
        "explained_variation": explained_variation(labels, image),
        "compactness": compactness(labels),
        "disconnected": disconnected(labels),
    }


def explained_variation(labels: npt.NDArray[np.int64], image: npt.NDArray[Any]) -> float:
    """Σ |S| (mean of S − mean)² / Σ (pixel − mean)² (Moore et al. 2008)."""
    pixels = image.reshape(-1, image.shape[-1]).astype(float)
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(index.ravel(), channel) for channel in pixels.T], axis=1)
    mean = pixels.mean(0)
    between = (sizes[:, None] * (sums / sizes[:, None] - mean) ** 2).sum()
    return float(between / ((pixels - mean) ** 2).sum())


def compactness(labels: npt.NDArray[np.int64]) -> float:
    """Σ |S|/P · 4π|S| / perimeter² (Schick et al. 2012), perimeters in pixel edges."""
    _, dense = np.unique(labels, return_inverse=True)
    padded = np.pad(dense.reshape(labels.shape), 1, constant_values=-1)
    centre = padded[1:-1, 1:-1]
    edges = sum(
        (centre != np.roll(padded, by, axis)[1:-1, 1:-1]).astype(int)
        for by in (1, -1)
        for axis in (0, 1)
    )
    sizes = np.bincount(centre.ravel())
    perimeters = np.bincount(centre.ravel(), np.asarray(edges).ravel())
    return float((sizes * 4 * np.pi * sizes / perimeters**2).sum() / sizes.sum())


def disconnected(labels: npt.NDArray[np.int64]) -> int:
    """How many labels are not one 4-connected region."""
    from scipy import ndimage

    return sum(int(ndimage.label(labels == label)[1] != 1) for label in np.unique(labels))


def table(rows: list[Row]) -> str:
    head = ["", "asked for", "ms per image", "time / Slic's", "segments", "EV", "CO", "split"]
    return markdown(
        head,
        [
            [
                row["implementation"],
                row["num_segments"],
                milliseconds(row["seconds_per_image"]),
                f"{row['over_slic']['median']:.2f}",
                f"{row['segments']:.1f}",
                f"{row['explained_variation']:.3f}",
                f"{row['compactness']:.3f}",
                f"{row['disconnected']:.2f}",
            ]
            for row in rows
        ],
    )
