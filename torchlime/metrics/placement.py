"""How well placed the evidence is: on an object, or beside it."""

import torch
from torch import Tensor

from torchlime._checks import (
    check_object,
    check_same_device,
)
from torchlime._labelmap import segment_sizes, segment_sums
from torchlime.explanation import Explanation
from torchlime.metrics._shared import segments_of, unless_broken


def share_inside(explanation: Explanation, inside: Tensor) -> Tensor:
    """Share of the positive evidence that lies inside an object: [B,T], in [0,1].

    The share is Σ max(cₛ, 0) · |s ∩ M| / |s| over Σ max(cₛ, 0). A coefficient belongs to its
    segment as a whole, so it is spread evenly over the segment's pixels. This is the relevance mass
    accuracy of Arras et al. 2022, for explanations by segments.

    Convention:
        The share is 0 where an image has no positive evidence.

    Args:
        explanation: the explanation of B images.
        inside: the object's pixels M, [B,H,W] or [H,W] bool, on the explanation's device.

    Raises:
        TypeError, ValueError: ``inside`` is not bool, does not fit the segments, or lies on another
            device.

    Example:
        >>> from torchlime import explain, fills, segments
        >>> image = torch.tensor([[[[3.0, 1.0]]]])
        >>> black = fills.Constant(0.0)
        >>> explanation = explain(
        ...     lambda x: x.sum((2, 3)), image, segmenter=segments.Grid(1, 2), fill=black)
        >>> round(share_inside(explanation, torch.tensor([[True, False]])).item(), 2)
        0.75
    """
    segments = segments_of(explanation)
    shape = segments.labels.shape
    check_object(inside, shape, "inside")
    check_same_device(inside, segments.labels, "inside")
    pixels = inside.expand(shape)[:, None].to(explanation.coefficients.dtype)
    sizes = segment_sizes(segments)[:, None].clamp(min=1)
    evidence = explanation.coefficients.clamp(min=0)
    total = evidence.sum(2)
    hit = (evidence * (segment_sums(pixels, segments) / sizes)).sum(2)
    return unless_broken(torch.where(total > 0, hit / total, 0.0), explanation)
