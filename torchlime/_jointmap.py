"""Label maps of several inputs of a model, with ids that mean the same in all of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import check_same_device
from torchlime._inputs import as_label_map
from torchlime._labelmap import Segments, as_segments, check_segments, joint_segments, labels_of
from torchlime._several import beside, leaves_of, names_of
from torchlime._softmap import SoftSegments, is_soft


def segments_apart(inputs: Any, segmenter: Callable[[Tensor], Any]) -> list[Segments]:
    """The segmenter's Segments of each of several inputs; no two inputs share a segment.

    Raises:
        ValueError: an input has no axes to segment.
    """
    found = []
    for name, leaf in zip(names_of(inputs), leaves_of(inputs), strict=True):
        if leaf.dim() < 3 or not leaf.is_floating_point():
            raise ValueError(
                f"{name} is {leaf.dtype} {list(leaf.shape)}, which no segmenter takes; give every "
                "input its label map in segments=, or None where it is only passed on"
            )
        found.append(as_segments(segmenter(leaf), leaf))
    bound = sum(part.bound for part in found)
    parts, count = [], torch.zeros_like(found[0].count)
    for part in found:
        own = count.view(-1, *[1] * (part.labels.dim() - 1))
        shifted = torch.where(part.labels < 0, part.labels, part.labels + own)
        parts.append(shifted if part.background else part.labels + own)
        count = count + part.count
    ok = torch.stack([part.ok for part in found]).all(dim=0)
    background = any(part.background for part in found)
    return [Segments(labels, count, ok, bound, background) for labels in parts]


def segments_together(
    given: Any, inputs: Any, max_segments: int | None = None
) -> list[Segments | None]:
    """Segments of each of several inputs, from a caller's; one id in two inputs is one segment.

    Args:
        given: in the structure of the inputs, each a Segments, a label map as
            :func:`torchlime._labelmap.as_segments` takes it, or None for an input that is only
            passed on.
        inputs: a tuple or a mapping of tensors.
        max_segments: the static bound S. Without it the number is measured, which is a read-back
            on another device than a CPU, unless all are Segments.

    Raises:
        TypeError, ValueError: they do not fit the inputs, or nothing is to be explained.
    """
    names, leaves = names_of(inputs), leaves_of(inputs)
    own = beside(given, inputs, "segments", "a label map, or None where it is only passed on")
    if all(one is None for one in own):
        raise ValueError("segments has None for every input, so that nothing is to be explained")
    maps, ok = {}, []
    for place, (name, leaf, one) in enumerate(zip(names, leaves, own, strict=True)):
        if one is None:
            continue
        try:
            maps[place] = _ids(one, leaf)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        ok += [one.ok] if isinstance(one, Segments) else []
    bounds = [one.bound if isinstance(one, Segments) else None for one in own if one is not None]
    plain = all(isinstance(one, Segments) and one.ids is None for one in own if one is not None)
    if max_segments is None and plain:
        max_segments = max(bound for bound in bounds if bound is not None)
    dense, joint = joint_segments([*maps.values()], len(leaves[0]), max_segments)
    sound = torch.stack([joint.ok, *ok]).all(dim=0)
    found: list[Segments | None] = [None] * len(leaves)
    for place, labels in zip(maps, dense, strict=True):
        found[place] = joint._replace(labels=labels, ok=sound)
    return found


def _ids(given: Any, leaf: Tensor) -> Tensor:
    """The caller's ids of one input, as a label map."""
    if isinstance(given, Segments):
        check_segments(given, leaf)
        if given.ids is None:
            return given.labels
        ids = given.ids.gather(1, given.labels.flatten(1).clamp(min=0)).view_as(given.labels)
        return torch.where(given.labels < 0, given.labels, ids)
    labels = as_label_map(given, leaf.device)
    if is_soft(labels) or isinstance(labels, SoftSegments):
        raise TypeError(
            "segments must be integer label maps where inputs are several; soft masks go with one "
            "input, beside which others are passed on by extra="
        )
    if isinstance(labels, Tensor):
        check_same_device(labels, leaf, "segments")
    return labels_of(labels, leaf.shape)
