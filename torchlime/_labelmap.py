"""Label maps: the :class:`Segments` of a batch of images, and sums over them.

This module is below the stages, because several stages need it: segmenters make a label map, and
fills and the pixel-space distance sum over one.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torchlime._checks import check_count, check_same_device
from torchlime._inputs import Array, as_label_map
from torchlime._precision import solve_dtype
from torchlime._warn import warn


class Segments(NamedTuple):
    """The segments of a batch of images.

    Convention:
        labels: [B,H,W] int64, ids 0…count−1, every id present (dense).
        count: [B] int64, how many segments an image has.
        ok: [B] bool, False where a budget ran out (a label may be split) or ``bound`` was exceeded.
        bound: the static S, a Python number; ``count <= bound`` for every image.
    """

    labels: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count
    ok: Tensor
    bound: int


def check_segments(segments: Segments, images: Tensor) -> None:
    """Raise unless ``segments`` fits ``images`` [B,C,H,W].

    On a CPU it also checks that labels are below the counts, and counts within the bound.

    Raises:
        TypeError: the labels or counts are not int64, or ``ok`` is not bool.
        ValueError: a shape, a device or a number does not fit.
    """
    batch, _, height, width = images.shape
    check_count(segments.bound, "the bound of segments")
    for name, tensor, dtype, shape in (
        ("labels", segments.labels, torch.int64, (batch, height, width)),
        ("count", segments.count, torch.int64, (batch,)),
        ("ok", segments.ok, torch.bool, (batch,)),
    ):
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
            raise TypeError(f"the {name} of segments must be {dtype}, got {tensor!r}")
        if tensor.shape != shape:
            raise ValueError(
                f"the {name} of segments must have shape {list(shape)} as the images, "
                f"got {list(tensor.shape)}"
            )
        check_same_device(tensor, images, f"the {name} of segments")
    if images.device.type == "cpu":
        lowest, highest = segments.labels.flatten(1).aminmax(dim=1)
        if bool((lowest < 0).any() | (highest >= segments.count).any()):
            raise ValueError("the labels of segments must lie in 0…count-1")
        if bool((segments.count > segments.bound).any()):
            raise ValueError("the count of segments must not exceed its bound")


def segment_sums(values: Tensor, segments: Segments) -> Tensor:
    """Sum ``values`` [B,C,H,W] over each segment: [B,C,S], 0 beyond the count.

    The sum is exactly associative: values are rounded to a fixed point and added as integers. The
    fixed point is relative to the largest value of the image and channel. It has 46 bits at
    224×224 pixels, in general 62 bits less log2 of the pixels. So the order of additions, the
    batch and the device cannot change a sum, and no float atomics are involved.
    """
    pixels = values.flatten(2).to(solve_dtype(values.device))
    bits = 62 - math.ceil(math.log2(pixels.shape[2] + 1))
    _, exponent = torch.frexp(pixels.abs().amax(dim=2, keepdim=True))
    scale = torch.exp2((bits - exponent).to(pixels.dtype))
    fixed = (pixels * scale).round().long()
    index = segments.labels.flatten(1)[:, None].expand_as(fixed)
    sums = fixed.new_zeros(*fixed.shape[:2], segments.bound).scatter_add_(2, index, fixed)
    return sums / scale


def segment_sizes(segments: Segments) -> Tensor:
    """Pixels of each segment: [B,S] int64, 0 beyond the count."""
    labels = segments.labels.flatten(1)
    sizes = labels.new_zeros(labels.shape[0], segments.bound)
    return sizes.scatter_add_(1, labels, torch.ones_like(labels))


def dense_labels(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Renumber ``ids`` [B,P] of any integers to 0…count−1 in ascending order: (labels, count).

    It uses a sort and a cumulative sum, so no shape depends on the data.
    """
    ordered, order = ids.long().sort(dim=1)
    steps = torch.zeros_like(ordered)
    steps[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ranks = steps.cumsum(dim=1)
    return torch.empty_like(ranks).scatter_(1, order, ranks), ranks[:, -1] + 1


def segments_from_labels(
    labels: Tensor, batch: int, size: tuple[int, int], max_segments: int | None = None
) -> Segments:
    """A caller's own label map as :class:`Segments`.

    Args:
        labels: [H,W] (one map for all images) or [B,H,W], any integer dtype, any ids.
        batch: B, the number of images.
        size: (H, W) of the images.
        max_segments: the static bound S. Without it the largest count is measured. This is free
            on a CPU; on another device it is the one documented read-back.

    Raises:
        TypeError: ``labels`` is not an integer tensor.
        ValueError: the shape does not fit the images, or, on a CPU, there are more than
            ``max_segments`` segments. On another device ``ok`` is then False.
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"segments must be a Segments or an integer label map, got {got}")
    height, width = size
    if labels.dim() not in (2, 3) or tuple(labels.shape[-2:]) != (height, width):
        raise ValueError(
            f"segments must be [H,W] or [B,H,W] with H, W = {height}, {width} as the images, "
            f"got {list(labels.shape)}"
        )
    if labels.dim() == 3 and labels.shape[0] not in (1, batch):
        raise ValueError(f"segments has {labels.shape[0]} label maps for {batch} images")
    if max_segments is not None:
        check_count(max_segments, "max_segments")
    dense, count = dense_labels(labels.reshape(-1, height * width))
    on_host = labels.device.type == "cpu"
    if max_segments is None or on_host:
        largest = int(count.max())  # the documented read-back
        if max_segments is not None and largest > max_segments:
            raise ValueError(
                f"segments has {largest} segments, more than max_segments={max_segments}"
            )
        max_segments = max_segments or largest
    return Segments(
        dense.clamp(max=max_segments - 1).reshape(-1, height, width).expand(batch, -1, -1),
        count.clamp(max=max_segments).expand(batch),
        (count <= max_segments).expand(batch),
        max_segments,
    )


def as_segments(
    segments: Segments | Tensor | Array, images: Tensor, max_segments: int | None = None
) -> Segments:
    """Segments of images [B,C,H,W], from Segments or a label map, checked.

    Raises:
        TypeError, ValueError: they do not fit the images.
    """
    if isinstance(segments, Segments):
        if max_segments is not None:
            raise ValueError("max_segments goes with a label map; a Segments has its own bound")
        check_segments(segments, images)
        return segments
    labels = as_label_map(segments, images.device)
    if isinstance(labels, Tensor):
        check_same_device(labels, images, "segments")
    height, width = images.shape[2:]
    return segments_from_labels(labels, len(images), (height, width), max_segments)


def warn_of_one_segment(segments: Segments) -> None:
    """Say that an image has nothing to tell apart, where the host knows it."""
    on_host = segments.count.device.type == "cpu"
    if segments.bound == 1 or (on_host and bool((segments.count == 1).any())):  # free on a CPU
        warn(
            "an image is one segment as a whole, so that there is nothing to tell apart; ask for "
            "more segments: Slic(num_segments=50), or a label map of your own"
        )
