"""Images and their segments, of any kind, as the arrays that lime works on."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchlime._labelmap import Segments
from torchlime.compat.lime_base import Array, to_numpy
from torchlime.compat.scikit_image import SegmentationAlgorithm
from torchlime.segments import FastSlic, Grid, Reduced, Slic


def as_photos(image: Any) -> tuple[list[Array], bool]:
    """Images [H,W,C], and whether several were given."""
    if isinstance(image, list | tuple):
        return [_as_photo(one) for one in image], True
    if getattr(image, "ndim", 0) == 4:
        return [_as_photo(one) for one in image], len(image) != 1
    return [_as_photo(image)], False


def _as_photo(image: Any) -> Array:
    if getattr(image, "ndim", 0) == 4 and len(image) == 1:
        image = image[0]
    if isinstance(image, Tensor):
        image = to_numpy(image.movedim(0, -1) if image.ndim == 3 else image)
    elif hasattr(image, "getbands"):  # PIL
        grey = len(image.getbands()) == 1 and image.mode not in ("1", "P")
        image = np.array(image if grey or image.mode == "RGB" else image.convert("RGB"))
    elif not isinstance(image, np.ndarray):
        image = np.asarray(image)
    if image.ndim == 2:
        return np.stack([image] * 3, axis=-1)
    if image.ndim != 3 or image.dtype.kind not in "buif":
        raise TypeError(
            "image must be an array [H,W,C] or [H,W], a tensor [C,H,W], a PIL image or a list of "
            f"those, got {image.dtype} {list(image.shape)}"
        )
    return image


def segmenter_of(given: Any, random_seed: int | None) -> Callable[[Any], Any]:
    """What ``segmentation_fn`` stands for.

    "slic" segments a photo whose longer side is above 1024 pixels in a reduced copy.
    """
    if isinstance(given, str) and given == "slic":
        return Reduced(Slic())
    if callable(given):
        return given
    if given is not None:
        raise ValueError(f"segmentation_fn must be callable, 'slic' or None, got {given!r}")
    seed = {} if random_seed is None else {"random_seed": random_seed}
    try:
        return SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2, **seed)
    except ImportError:
        warnings.warn(
            "without scikit-image the default segmentation is torchlime's Slic, not lime's "
            "quickshift; pip install 'torchlime[lime]' for lime's numbers",
            stacklevel=3,
        )
        return Reduced(Slic())


def segmented(image: Array, segmenter: Callable[[Any], Any], device: torch.device) -> Array:
    """Labels [H,W] of an image [H,W,C]."""
    if isinstance(segmenter, Slic | Grid | FastSlic | Reduced):
        is_torchs = image.dtype.kind == "f" or image.dtype == np.uint8
        pixels = upload([image if is_torchs else image.astype(np.float32)], device)
        pixels = pixels if pixels.is_floating_point() else pixels.float()
        labels = segmenter(pixels.permute(0, 3, 1, 2))
    elif isinstance(segmenter, SegmentationAlgorithm):
        labels = segmenter(_three_channels(image))
    else:
        labels = segmenter(image)
    labels = to_numpy(labels.labels[0] if isinstance(labels, Segments) else labels)
    if labels.shape != image.shape[:2]:
        raise IndexError(
            f"segmentation_fn must return labels {list(image.shape[:2])} as the image, "
            f"got {list(labels.shape)}"
        )
    return labels


def _three_channels(image: Array) -> Array:
    """What scikit-image can take for a colour: the mean of 1 or 2 channels, the first 3 of more."""
    if image.shape[2] < 3:
        image = np.repeat(image.mean(axis=2, keepdims=True).astype(image.dtype), 3, axis=2)
    return image[..., :3] if image.shape[2] > 3 else image


def is_dense(ids: Array) -> bool:
    """Whether the sorted, distinct ``ids`` are 0…M−1."""
    return np.array_equal(ids, np.arange(len(ids)))


def ids_and_ranks(labels: Array) -> tuple[Array, Array]:
    """The distinct ``labels`` in ascending order [M], and the place of each pixel's among them.

    By a table where they are small enough, which takes a fraction of a sort's time and memory:
    of a photo of 12 megapixels 0.1 and not 2 s.
    """
    if (
        labels.size
        and labels.dtype.kind in "iu"
        and 0 <= labels.min() <= labels.max() < labels.size
    ):
        present = np.zeros(int(labels.max()) + 1, dtype=bool)
        present[labels] = True
        ids = np.flatnonzero(present)
        ranks = labels if is_dense(ids) else (np.cumsum(present) - 1)[labels]
        return ids.astype(labels.dtype), ranks
    ids, ranks = np.unique(labels, return_inverse=True)
    return ids, ranks.reshape(labels.shape)


def dense(segments: Array) -> Array:
    """Labels 0…M−1 in the same order; ``segments`` itself where they are."""
    ids, ranks = ids_and_ranks(segments)
    return segments if is_dense(ids) else ranks


def warn_of_renumbering(stacklevel: int) -> None:
    """Say that :func:`dense` changed a label map."""
    warnings.warn(
        "the segments' labels are not 0…M-1 and were renumbered; lime would explain them wrongly "
        "(literal_labels=True does as lime)",
        stacklevel=stacklevel,
    )


def hidden_pixels(image: Array, segments: Array, hide_color: Any) -> Array:
    """What hidden segments show [H,W,C], rounded to the image's dtype just as lime does.

    So a mean is NumPy's, over the pixels in raster order, and cut off in integer images.
    """
    fudged = image.copy()
    if hide_color is not None:
        fudged[:] = hide_color
        return fudged
    ids, ranks = ids_and_ranks(segments)
    # Of 16 bits, as most are, so that NumPy sorts in linear time.
    ranks = ranks.reshape(-1).astype(np.min_scalar_type(len(ids)))
    sizes = np.bincount(ranks)
    order, ends = np.argsort(ranks, kind="stable"), np.cumsum(sizes)[:-1]
    for channel in range(image.shape[2]):
        parts = np.split(image[..., channel].reshape(-1)[order], ends)
        means = np.empty(len(sizes), image.dtype)
        means[:] = [np.mean(part) for part in parts]
        fudged[..., channel] = means[ranks].reshape(segments.shape)
    return fudged


def upload(arrays: Iterable[Array], device: torch.device) -> Tensor:
    """Arrays of one shape, stacked, on ``device``."""
    return torch.from_numpy(np.stack(list(arrays))).to(device)
