"""Features from what a caller gives: label maps, soft masks, or a segmenter."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchlime._inputs import Array, Extra, as_extra, as_label_map
from torchlime._jointmap import segments_apart, segments_together
from torchlime._labelmap import Segments, as_segments
from torchlime._several import is_several
from torchlime._softmap import SoftSegments, as_soft_segments, is_soft
from torchlime.features.entries import Entries
from torchlime.features.pixels import Pixels


def features_of(
    inputs: Any, given: Any, fill: Any, max_segments: int | None = None, extra: Extra = None
) -> Pixels | Entries:
    """The features of one input or several, by the caller's segments.

    The arguments, and the errors, are those of :meth:`torchlime.Lime.explain`.
    """
    passed_on = as_extra(extra, inputs)
    if is_several(inputs):
        together = segments_together(given, inputs, max_segments)
        return Entries(inputs, together, fill, passed_on)
    segments = as_any_segments(given, inputs, max_segments)
    if passed_on:
        return Entries(inputs, [segments], fill, passed_on)
    return Pixels(inputs, segments, fill)


def segmented_features(
    inputs: Any, segmenter: Callable[..., Any], fill: Any, extra: Extra = None
) -> Pixels | Entries:
    """The features of one input or several, by a segmenter; several inputs share no segment."""
    if not is_several(inputs):
        return features_of(inputs, segmenter(inputs), fill, None, extra)
    return Entries(inputs, segments_apart(inputs, segmenter), fill, as_extra(extra, inputs))


def as_any_segments(
    given: Segments | SoftSegments | Tensor | Array, inputs: Tensor, max_segments: int | None = None
) -> Segments | SoftSegments:
    """As :func:`torchlime._labelmap.as_segments`; floats are soft masks."""
    if isinstance(given, Segments):
        return as_segments(given, inputs, max_segments)
    found = as_label_map(given.shares if isinstance(given, SoftSegments) else given, inputs.device)
    if not is_soft(found):
        return as_segments(found, inputs, max_segments)
    if max_segments is not None:
        raise ValueError("max_segments goes with a label map; soft masks have their own number")
    return as_soft_segments(found, inputs)
