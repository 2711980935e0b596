"""Feature masks that are made on the device: superpixels of images."""

from typing import Any

from torch import Tensor

from torchlime._labelmap import Segments, as_segments
from torchlime.compat.captum.arguments import Inputs
from torchlime.compat.captum.feature_masks import Columns, as_columns
from torchlime.segments import Slic


def columns_of(feature_mask: Any, inputs: Inputs) -> tuple[Columns, Tensor | None]:
    """The columns of a feature mask, and how many each example has [B]; None = all of them.

    Args:
        feature_mask: as for :func:`as_columns`; or "slic", or a segmenter, which makes a label map
            [B,H,W] of images [B,C,H,W]. Then F is the segmenter's bound, and nothing is read back.
        inputs: the inputs.

    Raises:
        ValueError: the inputs are no images, or the name is unknown.
    """
    if feature_mask is None or isinstance(feature_mask, Tensor | tuple):
        return as_columns(feature_mask, inputs), None
    if isinstance(feature_mask, str):
        if feature_mask != "slic":
            raise ValueError(
                f'feature_mask must be a tensor, a tuple or "slic", got {feature_mask!r}'
            )
        feature_mask = Slic()
    if not callable(feature_mask):
        return as_columns(feature_mask, inputs), None  # which says what is wrong
    if len(inputs.tensors) != 1 or inputs.tensors[0].dim() != 4:
        shapes = [list(tensor.shape) for tensor in inputs.tensors]
        raise ValueError(f"superpixels need one input, images [B,C,H,W], got {shapes}")
    images = inputs.tensors[0]
    found = feature_mask(images)
    segments: Segments = as_segments(found, images)
    ids = segments.labels if segments.labels.dim() == 4 else segments.labels[:, None]
    return Columns((ids,), segments.bound, (ids,)), segments.count
