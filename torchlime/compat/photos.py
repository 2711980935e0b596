"""Images of any kind and their segments, as the arrays that lime works on."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchlime._labelmap import Segments
from torchlime.compat.arrays import Array, to_numpy
from torchlime.compat.label_maps import ids_and_columns
from torchlime.compat.scikit_image import SegmentationAlgorithm
from torchlime.models import reading
from torchlime.segments import FastSlic, Grid, Reduced, ScikitSlic, Slic

PLAUSIBLE_CHANNELS = 4
MOST_BANDS = 16  # a side with at most this many pixels may be the number of channels


def as_photos(image: Any) -> tuple[list[Array], bool]:
    """Images [H,W,C], and whether several were given.

    Raises:
        TypeError: a value is not an image.
        ValueError: an image's channels are on the wrong axis.
    """
    if isinstance(image, list | tuple):
        return [_as_photo(one) for one in image], True
    if getattr(image, "ndim", 0) == 4:
        return [_as_photo(one) for one in image], len(image) != 1
    return [_as_photo(image)], False


def _as_photo(image: Any) -> Array:
    if getattr(image, "ndim", 0) == 4 and len(image) == 1:
        image = image[0]
    if isinstance(image, Tensor):
        image = to_numpy(_channels_last(image) if image.ndim == 3 else image)
    elif hasattr(image, "getbands"):  # PIL
        if (pages := _pages(image)) > 1:
            raise ValueError(
                f"image has {pages} pages; pass one of them: image.seek(page), then image.copy()"
            )
        grey = len(image.getbands()) == 1 and image.mode not in ("1", "P")
        image = np.array(image if grey or image.mode == "RGB" else image.convert("RGB"))
    else:
        image = image if isinstance(image, np.ndarray) else np.asarray(image)
        if image.ndim == 3 and _looks_swapped(*image.shape):
            raise ValueError(
                f"image {list(image.shape)} looks channel-first: pass "
                "np.moveaxis(image, 0, -1), or a tensor [C,H,W]"
            )
    if image.ndim == 2:
        return np.stack([image] * 3, axis=-1)
    if image.ndim != 3 or image.dtype.kind not in "buif":
        raise TypeError(
            "image must be an array [H,W,C] or [H,W], a tensor [C,H,W], a PIL image or a list of "
            f"those, got {image.dtype} {list(image.shape)}"
        )
    return image


def _channels_last(image: Tensor) -> Tensor:
    """[C,H,W] → [H,W,C]."""
    if _looks_swapped(image.shape[2], image.shape[1], image.shape[0]):
        raise ValueError(
            f"the tensor {list(image.shape)} looks channel-last: pass image.movedim(-1, 0), "
            "or an array [H,W,C]"
        )
    return image.movedim(0, -1)


def _pages(image: Any) -> int:
    """How many pages a PIL image has, as ``models.read_photo`` counts them.

    Frames of an animation and previews do not count, since nobody has to choose one. The image
    stays at its current frame.
    """
    if getattr(image, "n_frames", 1) == 1 or image.format in reading._FIRST_IS_MEANT:
        return 1
    here = image.tell()
    try:
        return len(reading._pages(image, None))
    finally:
        image.seek(here)


def _looks_swapped(pixels: int, others: int, channels: int) -> bool:
    """Whether the number of pixels of a side and the number of channels look exchanged.

    An image may have many channels, or be a few pixels high. An image that is both is taken for a
    mistake; as a tensor instead of an array, or an array instead of a tensor, it is accepted.
    Patches of many bands, such as [11,11,200], are no mistake: they are a few pixels wide, too.

    Args:
        pixels, channels: the two numbers.
        others: the pixels of the other side.
    """
    if pixels in (1, 3, PLAUSIBLE_CHANNELS):
        return channels > PLAUSIBLE_CHANNELS
    large = others == channels or min(others, channels) >= 4 * pixels
    return pixels <= MOST_BANDS < channels and large


def segmenter_of(given: Any, random_seed: int | None) -> Callable[[Any], Any]:
    """The segmenter that ``segmentation_fn`` stands for; only this function knows "slic" and None.

    If a photo's longer side is above 1024 pixels, "slic" segments a reduced copy.

    Raises:
        ValueError: it is neither callable nor "slic" nor None.
    """
    if isinstance(given, str) and given == "slic":
        return Reduced(Slic())
    if callable(given):
        return given
    if given is not None:
        is_map = isinstance(given, np.ndarray | Tensor)
        got = "a label map; pass lambda image: labels" if is_map else repr(given)
        raise ValueError(f"segmentation_fn must be callable, 'slic' or None, got {got}")
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
    """The segmenter's own label map [H,W] of an image [H,W,C].

    Raises:
        IndexError: the map does not have the image's size.
        TypeError: it does not hold numbers.
        ValueError: it holds NaN.
    """
    if isinstance(segmenter, Slic | Grid | FastSlic | ScikitSlic | Reduced):
        is_torchs = image.dtype.kind == "f" or image.dtype == np.uint8
        pixels = upload([image if is_torchs else image.astype(np.float32)], device)
        pixels = pixels if pixels.is_floating_point() else pixels.float()
        return to_numpy(segmenter(pixels.permute(0, 3, 1, 2)).labels[0])
    if isinstance(segmenter, SegmentationAlgorithm):
        return _label_map(_by_scikit_image(segmenter, image), image)
    return _label_map(segmenter(image), image)


def _label_map(returned: Any, image: Array) -> Array:
    """The label map that a caller's own function returned, checked."""
    labels = returned.labels[0] if isinstance(returned, Segments) else returned
    labels = np.asarray(to_numpy(labels))
    if labels.shape != image.shape[:2]:
        raise IndexError(
            f"segmentation_fn must return labels {list(image.shape[:2])} for the image, "
            f"got {list(labels.shape)}"
        )
    if labels.dtype.kind not in "biuf":
        raise TypeError(f"segmentation_fn must return integers, got {labels.dtype}")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError("segmentation_fn returned NaN; give those pixels an id of their own")
    return labels


def warn_of_one_segment(segments: Array, stacklevel: int) -> None:
    """Warn where a label map has a single segment."""
    if segments.size and segments.min() == segments.max():
        warnings.warn(
            "the segmentation made one segment of the whole image, so there is nothing to "
            "compare; ask for more: SegmentationAlgorithm('slic', n_segments=50), or a smaller "
            "kernel_size and max_dist of quickshift",
            stacklevel=stacklevel + 1,
        )


def _by_scikit_image(segmenter: SegmentationAlgorithm, image: Array) -> Any:
    """Call it as lime does, but show all bands to quickshift, for which lime takes three channels.

    One channel is taken as grey. With 2, 4 or more bands, each band is scaled by its own minimum
    and maximum. The pixel with the lowest value in all bands is then at a distance of 100 from the
    one with the highest, as black is from white in Lab.
    """
    channels = image.shape[2]
    if segmenter.algo_type != "quickshift" or channels == 3:
        return segmenter(image)
    if channels == 1:
        return segmenter(np.repeat(image, 3, axis=2))
    settings = segmenter.target_params | {"convert2lab": False}
    bands = image.astype(np.float64)
    bands -= bands.min(axis=(0, 1))
    highest = bands.max(axis=(0, 1))
    bands *= 100 / np.sqrt(channels) / np.where(highest > 0, highest, 1)
    return SegmentationAlgorithm("quickshift", **settings)(bands)


def hidden_pixels(image: Array, segments: Array, hide_color: Any) -> Array:
    """What hidden segments show [H,W,C], rounded to the image's dtype just as lime does.

    A mean is therefore NumPy's, over the pixels in raster order, and truncated in integer images.
    """
    fudged = image.copy()
    if hide_color is not None:
        fudged[:] = hide_color
        return fudged
    ids, columns = ids_and_columns(segments)
    # NumPy sorts ids of 16 bits, which most images need, in linear time.
    ranks = columns.reshape(-1).astype(np.min_scalar_type(len(ids)))
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
