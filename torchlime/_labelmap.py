"""Label maps: the :class:`Segments` of a batch of inputs, and sums over them.

This module is below the stages, because several stages need it: segmenters make a label map, and
fills and the pixel-space distance sum over one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torchlime._checks import check_count, check_same_device
from torchlime._inputs import Array, as_label_map
from torchlime._precision import solve_dtype
from torchlime._warn import warn

BACKGROUND = -1


class Segments(NamedTuple):
    """The segments of a batch of inputs [B,C,*axes], such as images [B,C,H,W].

    Convention:
        labels: [B,*axes] int64, ids 0…count−1, every id present (dense). Where channels have maps
            of their own, it is [B,C or 1,*axes]. An axis of 1 stands for all of its entries.
        count: [B] int64, how many segments an input has.
        ok: [B] bool, False where a budget ran out (a label may be split) or ``bound`` was exceeded.
        bound: the static S, a Python number; ``count <= bound`` for every input.
        background: whether labels may be −1: what has it is always shown, and is no segment.
        ids: [B,S] int64, the caller's id of each segment, −1 beyond the count; None: 0…count−1.
    """

    labels: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count
    ok: Tensor
    bound: int
    background: bool = False
    ids: Tensor | None = None


def check_segments(segments: Segments, inputs: Tensor) -> None:
    """Raise unless ``segments`` fits ``inputs`` [B,C,*axes].

    On a CPU it also checks that labels are below the counts, and counts within the bound.

    Raises:
        TypeError: the labels or counts are not int64, or ``ok`` is not bool.
        ValueError: a shape, a device or a number does not fit.
    """
    batch, _, *axes = inputs.shape
    check_count(segments.bound, "the bound of segments")
    for name, tensor, dtype, shape in (
        ("labels", segments.labels, torch.int64, (batch, *axes) if axes else inputs.shape),
        ("count", segments.count, torch.int64, (batch,)),
        ("ok", segments.ok, torch.bool, (batch,)),
    ):
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
            raise TypeError(f"the {name} of segments must be {dtype}, got {tensor!r}")
        narrow = name == "labels" and len(tensor) == batch and _is_map_of(tensor, inputs.shape)
        if tensor.shape != shape and not narrow:
            raise ValueError(
                f"the {name} of segments must have shape {list(shape)} as the images, "
                f"got {list(tensor.shape)}"
            )
        check_same_device(tensor, inputs, f"the {name} of segments")
    if inputs.device.type == "cpu":
        least = BACKGROUND if segments.background else 0
        # On a CPU alone: nothing waits there, and lists take fewer operators.
        lowest, highest = (one.tolist() for one in segments.labels.flatten(1).aminmax(dim=1))
        counts = segments.count.tolist()
        if min(lowest) < least or any(map(int.__ge__, highest, counts)):
            raise ValueError("the labels of segments must lie in 0…count-1")
        if max(counts) > segments.bound:
            raise ValueError("the count of segments must not exceed its bound")


def over_channels(labels: Tensor, rank: int) -> Tensor:
    """Labels [B,*axes] or [B,C or 1,*axes] of inputs of that rank, with an axis for channels."""
    return labels if labels.dim() == rank else labels[:, None]


def segment_sums(values: Tensor, segments: Segments) -> Tensor:
    """Sum ``values`` [B,C,*axes] over each segment: [B,C,S], 0 beyond the count.

    The sum is exactly associative: values are rounded to a fixed point and added as integers. The
    fixed point is relative to the largest value of the input and channel. It has 46 bits at
    224×224 pixels, in general 62 bits less log2 of the pixels. So the order of additions, the
    batch and the device cannot change a sum, and no float atomics are involved.
    """
    labels = over_channels(segments.labels, values.dim()).expand(values.shape)
    numbers, unit = _whole_numbers(values)
    return _counted(numbers.long(), _flat(labels), segments) * unit


def segment_means(values: Tensor, segments: Segments) -> Tensor:
    """Means of ``values`` [B,C,*axes] over each segment, in their dtype: [B,C,S].

    They are :func:`segment_sums` by :func:`channel_sizes`, in one pass; NaN or 0 beyond the count.
    """
    labels = over_channels(segments.labels, values.dim())
    labels = _flat(labels.expand(len(values), -1, *values.shape[2:]))
    numbers, unit = _whole_numbers(values)
    channels, maps = numbers.shape[1], labels.shape[1]
    added = labels.new_empty(len(labels), channels + maps, labels.shape[2])
    added[:, :channels].copy_(numbers)
    added[:, channels:].fill_(1)  # these count the entries
    every = labels.expand(-1, channels + 1, -1) if maps == 1 else torch.cat([labels, labels], dim=1)
    sums, sizes = _counted(added, every, segments).split((channels, maps), dim=1)
    sizes = sizes.clamp(min=1) if segments.background else sizes  # else every segment has entries
    return torch.div(sums * unit, sizes, out=values.new_empty(sums.shape))


def _whole_numbers(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [B,C,*axes] as whole numbers [B,C,P] of a unit [B,C,1], a power of 2."""
    dtype = solve_dtype(values.device)
    pixels = _flat(values)
    if pixels.device.type == "cpu":  # which divides numbers of two dtypes slowly
        pixels = pixels.to(dtype)
    bits = 62 - math.ceil(math.log2(pixels.shape[2] + 1))
    _, exponent = torch.frexp(_largest(pixels, dtype))
    power = torch.sub(exponent, bits, out=pixels.new_empty(exponent.shape, dtype=dtype))
    unit = power.exp2_()
    return (pixels / unit).round_(), unit


def _largest(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """The largest size of the values [B,C,P]: [B,C,1] in that dtype."""
    if pixels.device.type == "cpu":  # the norm takes several times as long there
        return pixels.abs().amax(dim=2, keepdim=True).to(dtype)
    return torch.linalg.vector_norm(pixels, torch.inf, dim=2, keepdim=True, dtype=dtype)


def segment_sizes(segments: Segments) -> Tensor:
    """Entries of each segment in its map: [B,S] int64, 0 beyond the count."""
    labels = segments.labels.flatten(1)[:, None]
    return _counted(torch.ones_like(labels), labels, segments)[:, 0]


def channel_sizes(segments: Segments, shape: Sequence[int]) -> Tensor:
    """Entries of each segment in each channel of inputs of ``shape`` [B,C,*axes]: [B,C or 1,S]."""
    labels = over_channels(segments.labels, len(shape))
    labels = _flat(labels.expand(-1, -1, *shape[2:]))
    return _counted(torch.ones_like(labels), labels, segments)


def _counted(numbers: Tensor, labels: Tensor, segments: Segments) -> Tensor:
    """Sums of numbers [B,C,P] int64 over each of the labels [B,C,P]: [B,C,S]."""
    columns = segments.bound + segments.background
    if segments.background:  # it has a column of its own, which is dropped
        labels = torch.where(labels == BACKGROUND, segments.bound, labels)
    sums = numbers.new_zeros(*numbers.shape[:2], columns).scatter_add_(2, labels, numbers)
    return sums[..., : segments.bound] if segments.background else sums


def _flat(values: Tensor) -> Tensor:
    """[B,C,*axes] → [B,C,P]."""
    return values.flatten(2) if values.dim() > 2 else values[..., None]


def dense_labels(ids: Tensor, background: int | None = None) -> tuple[Tensor, Tensor]:
    """Renumber ``ids`` [B,P] of any integers to 0…count−1 in ascending order: (labels, count).

    The id ``background`` becomes −1 and is not counted. It uses a sort and a cumulative sum, so no
    shape depends on the data.
    """
    ordered, order = ids.long().sort(dim=1)
    first = torch.ones_like(ordered)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    if background is not None:
        first.masked_fill_(ordered == background, 0)
    ranks = first.cumsum(dim=1)
    count = ranks[:, -1].clone()
    ranks -= 1
    if background is not None:
        ranks.masked_fill_(ordered == background, BACKGROUND)
    return torch.empty_like(ranks).scatter_(1, order, ranks), count


def segments_from_labels(
    labels: Tensor, batch: int, size: Sequence[int], max_segments: int | None = None
) -> Segments:
    """A caller's own label map as :class:`Segments`.

    Args:
        labels: [*size] (one map for all inputs) or [B,*size], any integer dtype, any ids; the id −1
            is the background, which is always shown.
        batch: B, the number of inputs.
        size: the axes behind the channels, (H, W) for images.
        max_segments: as for :func:`as_segments`.

    Raises:
        TypeError, ValueError: as for :func:`as_segments`.
    """
    return _from_labels(labels, (batch, 1, *size), max_segments)


def as_segments(
    segments: Segments | Tensor | Array, inputs: Tensor, max_segments: int | None = None
) -> Segments:
    """Segments of inputs [B,C,*axes], from Segments or a label map, checked.

    Args:
        segments: a Segments; or a label map of any integers. Its rank says what it is, for inputs
            of rank r: r − 2, one map for all inputs, such as [H,W]; r − 1, one for each; r, one for
            each or all, where channels have maps of their own: [B or 1,C or 1,*axes]. For inputs
            [B,F] it is [F] or [B or 1,F]. An axis of 1 stands for all of its entries. The id −1 is
            the background: it is always shown, and is no segment.
        inputs: [B,C,*axes] or [B,F].
        max_segments: the static bound S for a label map. Without it the largest count is measured.
            This is free on a CPU; on another device it is the one documented read-back.

    Raises:
        TypeError: it is not an integer tensor.
        ValueError: it does not fit the inputs; or, on a CPU, there are more than ``max_segments``
            segments, or none. On another device ``ok`` is then False.
    """
    if isinstance(segments, Segments):
        if max_segments is not None:
            raise ValueError("max_segments goes with a label map; a Segments has its own bound")
        check_segments(segments, inputs)
        return segments
    labels = as_label_map(segments, inputs.device)
    if isinstance(labels, Tensor):
        check_same_device(labels, inputs, "segments")
    return _from_labels(labels, inputs.shape, max_segments)


def _from_labels(labels: Tensor, shape: Sequence[int], max_segments: int | None) -> Segments:
    labels = labels_of(labels, shape)
    dense, segments = joint_segments([labels], shape[0], max_segments)
    return segments._replace(labels=dense[0])


def labels_of(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """A caller's label map for inputs of ``shape``, with an axis [B or 1] in front.

    Raises:
        TypeError, ValueError: it is no label map, or does not fit the inputs.
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"segments must be a Segments or an integer label map, got {got}")
    batch, _, *axes = shape
    shared = labels.dim() == (len(axes) or 1)
    found = labels[None] if shared else labels
    if found.dim() == len(shape) - 1 and found.shape[0] not in (1, batch):
        raise ValueError(f"segments has {found.shape[0]} label maps for {batch} inputs")
    if not _is_map_of(found, shape):
        raise ValueError(
            f"segments must be {_allowed(shape)} for inputs {list(shape)}, got "
            f"{list(labels.shape)}; an axis of 1 stands for all of its entries"
        )
    return found


def joint_segments(
    maps: Sequence[Tensor], batch: int, max_segments: int | None
) -> tuple[list[Tensor], Segments]:
    """Label maps [B or 1,…] of one or several inputs, with ids that mean the same in all of them.

    Returns:
        The dense labels of each [B,…], and Segments with the labels of all of them, [B,P].

    Raises:
        ValueError: on a CPU, there are more than ``max_segments`` segments, or none.
    """
    if max_segments is not None:
        check_count(max_segments, "max_segments")
    rows = max(len(labels) for labels in maps)
    flat = [labels.flatten(1).long().expand(rows, -1) for labels in maps]
    ids = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
    dense, count = dense_labels(ids, BACKGROUND)
    on_host = ids.device.type == "cpu"
    if on_host and bool((count == 0).any()):
        raise ValueError("segments has an input whose ids are all -1, so that none is a segment")
    if max_segments is None or on_host:
        largest = int(count.max())  # the documented read-back
        if max_segments is not None and largest > max_segments:
            raise ValueError(
                f"segments has {largest} segments, more than max_segments={max_segments}"
            )
        max_segments = max_segments or max(largest, 1)
    joint = Segments(
        dense.clamp(max=max_segments - 1).expand(batch, -1),
        count.clamp(1, max_segments).expand(batch),
        ((count <= max_segments) & (count > 0)).expand(batch),
        max_segments,
        _may_have_background(maps, ids),
        _ids_of_columns(ids, dense, max_segments).expand(batch, -1),
    )
    parts = joint.labels.split([labels[0].numel() for labels in maps], dim=1)
    shapes = [labels.shape[1:] for labels in maps]
    return [part.unflatten(1, own) for part, own in zip(parts, shapes, strict=True)], joint


def _may_have_background(maps: Sequence[Tensor], ids: Tensor) -> bool:
    if ids.device.type == "cpu":  # it is free there
        return bool((ids == BACKGROUND).any())
    return any(labels.dtype not in (torch.bool, torch.uint8) for labels in maps)


def _ids_of_columns(ids: Tensor, labels: Tensor, bound: int) -> Tensor:
    """The id that each column stands for: [b,S], −1 where it stands for none."""
    columns = torch.where((labels < 0) | (labels >= bound), bound, labels)
    return ids.new_full((len(ids), bound + 1), BACKGROUND).scatter_(1, columns, ids)[:, :bound]


def _is_map_of(labels: Tensor, shape: Sequence[int]) -> bool:
    """Whether labels [b,…] broadcast to inputs of ``shape``; b may be 1."""
    wanted = [*shape] if labels.dim() == len(shape) else [shape[0], *shape[2:]]
    return labels.dim() == len(wanted) > 1 and all(
        own in (1, size) for own, size in zip(labels.shape, wanted, strict=True)
    )


def _allowed(shape: Sequence[int]) -> str:
    """The shapes of label maps for inputs of ``shape``, in words."""
    batch, channels, *axes = (str(size) for size in shape)
    each = ", ".join([f"{batch} or 1", f"{channels} or 1", *axes])
    if not axes:
        return f"[{channels}] or [{batch} or 1, {channels}]"
    size = ", ".join(axes)
    return f"[{size}], [{batch} or 1, {size}] or [{each}]"


def warn_of_one_segment(count: Tensor, bound: int) -> None:
    """Say that an image has nothing to tell apart, where the host knows it."""
    on_host = count.device.type == "cpu"
    if bound == 1 or (on_host and 1 in count.tolist()):  # free on a CPU
        warn(
            "an image is one segment as a whole, so that there is nothing to tell apart; ask for "
            "more segments: Slic(num_segments=50), or a label map of your own"
        )
