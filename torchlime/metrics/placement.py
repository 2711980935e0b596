"""How well placed the evidence is: on an object, or beside it.

Convention:
    The evidence of a heatmap is that of its pixels. A coefficient belongs to its segment as a
    whole, so the pixels of a segment tie. Each metric says how it treats ties. No forward passes
    are needed, and inputs may have any axes after the channels, such as a series [B,C,L].
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from torchlime._checks import check_count, check_object, check_same_device
from torchlime._explained import label_maps_of, on_pixels
from torchlime._labelmap import segment_sizes, segment_sums
from torchlime._precision import solve_dtype
from torchlime._softmap import is_soft
from torchlime.explanation import Explanation, label_map_of
from torchlime.metrics._shared import segments_of, unless_broken
from torchlime.metrics.evidence import AnyEvidence, as_heatmap


def share_inside(explanation: AnyEvidence, inside: Tensor) -> Tensor:
    """Share of the positive evidence that lies inside an object: [B,T], in [0,1].

    The share is Σ max(cₛ, 0) · |s ∩ M| / |s| over Σ max(cₛ, 0). A coefficient belongs to its
    segment as a whole, so it is spread evenly over the segment's pixels. For heatmaps the share is
    the sum of the positive pixels inside, divided by the sum of all positive pixels. This is the
    relevance mass accuracy of Arras et al. 2022, "CLEVR-XAI". Higher is better.

    Convention:
        The share is 0 if an image has no positive evidence, or if the object is empty.

    Args:
        explanation: the explanation of B images, or a heatmap [B,H,W] or [B,T,H,W].
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
    if isinstance(explanation, Explanation) and not is_soft(label_maps_of(explanation)):
        segments = segments_of(explanation)
        pixels = _object(inside, segments.labels)[:, None].to(explanation.coefficients.dtype)
        sizes = segment_sizes(segments)[:, None].clamp(min=1)
        evidence = explanation.coefficients.clamp(min=0)
        total = evidence.sum(2)
        hit = (evidence * (segment_sums(pixels, segments) / sizes)).sum(2)
        return unless_broken(torch.where(total > 0, hit / total, 0.0), explanation)
    values = pixels_of(explanation)
    within = _object(inside, values[:, 0]).flatten(1)[:, None]
    evidence = values.flatten(2).clamp(min=0)
    total = evidence.sum(2)
    share = torch.where(total > 0, torch.where(within, evidence, 0.0).sum(2) / total, 0.0)
    return _unless_broken(share, explanation, values)


def rank_inside(explanation: AnyEvidence, inside: Tensor) -> Tensor:
    """Share of the strongest |M| pixels that lie inside an object M: [B,T], in [0,1].

    This is the relevance rank accuracy of Arras et al. 2022, "CLEVR-XAI". Higher is better.

    Convention:
        Evidence is signed. If more pixels tie than there are places left, such as the pixels of a
        segment, the result is the mean over all orders of the tied pixels. It is NaN if the object
        is empty. A pixel of the background has evidence 0.

    Args:
        explanation, inside: as for :func:`share_inside`.

    Raises:
        TypeError, ValueError: as :func:`share_inside` does.

    Example:
        >>> heatmap = torch.tensor([[[3.0, 1.0, 2.0]]])
        >>> rank_inside(heatmap, torch.tensor([[True, True, False]])).item()
        0.5
    """
    maps = pixels_of(explanation)
    values = maps.flatten(2)
    within = _object(inside, maps[:, 0]).flatten(1)[:, None]
    places = within.sum(2)  # [B,1]
    ordered = values.sort(dim=2, descending=True).values
    last = (places - 1).clamp(min=0)[:, :, None].expand(-1, values.shape[1], 1)
    threshold = ordered.gather(2, last)
    above, equal = values > threshold, values == threshold
    left = (places - above.sum(2)).to(values.dtype)
    share = left / equal.sum(2).clamp(min=1)
    hits = (above & within).sum(2) + share * (equal & within).sum(2)
    found = torch.where(places > 0, hits / places.clamp(min=1), torch.nan)
    return _unless_broken(found, explanation, maps)


def pointing_game(explanation: AnyEvidence, inside: Tensor, *, tolerance: int = 15) -> Tensor:
    """Whether the strongest pixel lies on an object: [B,T], 1 = hit, 0 = miss.

    This is the pointing game of Zhang et al. 2018, "Top-down Neural Attention by Excitation
    Backprop". Higher is better; the paper reports the mean over images and classes.

    Convention:
        A point hits if the object has a pixel within ``tolerance`` pixels of it (Euclidean). If
        several pixels are the strongest, such as the pixels of a segment, the result is the share
        of them that hit. It is NaN if the object is empty.

    Args:
        explanation: the explanation of B images, or a heatmap [B,H,W] or [B,T,H,W].
        inside: the object's pixels, [B,H,W] or [H,W] bool, on the explanation's device.
        tolerance: in pixels, 0 or more. Zhang et al. take 15.

    Raises:
        TypeError, ValueError: as :func:`share_inside` does; or ``tolerance`` is not an int of at
            least 0, or is above 0 for inputs other than images [B,C,H,W].

    Example:
        >>> heatmap = torch.tensor([[[0.0, 3.0, 2.0]]])
        >>> right = torch.tensor([[False, False, True]])
        >>> pointing_game(heatmap, right, tolerance=0).item(), pointing_game(heatmap, right).item()
        (0.0, 1.0)
    """
    check_count(tolerance, "tolerance", 0)
    maps = pixels_of(explanation)
    found = _object(inside, maps[:, 0])
    if found.dim() != 3 and tolerance:
        raise ValueError("a tolerance needs images [B,C,H,W]; pass tolerance=0")
    near = grown(found, int(tolerance)).flatten(1)[:, None]
    values = maps.flatten(2)
    strongest = values == values.amax(2, keepdim=True)
    share = (strongest & near).sum(2) / strongest.sum(2).clamp(min=1)
    some = found.flatten(1).any(1)[:, None]
    share = torch.where(some, share.to(values.dtype), torch.nan)
    return _unless_broken(share, explanation, maps)


def grown(pixels: Tensor, radius: int) -> Tensor:
    """Objects [B,H,W] bool with all pixels within ``radius`` (Euclidean) of them.

    >>> grown(torch.tensor([[[True, False, False]]]), 1).tolist()
    [[[True, True, False]]]
    """
    radius = min(radius, sum(pixels.shape[1:]))
    if radius == 0:
        return pixels
    values, height = pixels[:, None].float(), pixels.shape[1]
    found = values
    for down in range(min(radius, height - 1) + 1):
        across = math.isqrt(radius**2 - down**2)
        wide = max_pool2d(values, (1, 2 * across + 1), stride=1, padding=(0, across))
        above, below = pad(wide, (0, 0, down, 0)), pad(wide, (0, 0, 0, down))
        found = found.maximum(above[:, :, :height]).maximum(below[:, :, down:])
    return found[:, 0] > 0


def pixels_of(explanation: AnyEvidence) -> Tensor:
    """The evidence of each pixel: [B,T,*axes] in the solve's dtype.

    Raises:
        TypeError, ValueError: it is no evidence of pixels.
    """
    if isinstance(explanation, Explanation):
        labels = label_maps_of(explanation)
        if not is_soft(labels):
            labels = label_map_of(explanation)
        return on_pixels(explanation.coefficients, labels)
    heatmap = as_heatmap(explanation)
    values = heatmap.values
    if not isinstance(values, Tensor):
        import numpy as np

        values = torch.from_numpy(np.array(values))
    if values.dim() not in (3, 4) or 0 in values.shape:
        raise ValueError(
            f"a heatmap must be [B,H,W] or [B,T,H,W], got {list(values.shape)}; coefficients of "
            "segments belong in an Explanation"
        )
    values = values.detach().to(solve_dtype(values.device))
    return values if values.dim() == 4 else values[:, None]


def _object(inside: Any, like: Tensor) -> Tensor:
    """``inside`` as [B,*axes] bool, checked against a map of one value for each pixel."""
    shape = tuple(like.shape)
    check_object(inside, shape, "inside")
    check_same_device(inside, like, "inside")
    return inside.expand(shape)


def _unless_broken(found: Tensor, explanation: AnyEvidence, values: Tensor) -> Tensor:
    """NaN where the evidence is not finite, or the target is out of range."""
    if isinstance(explanation, Explanation):
        return unless_broken(found, explanation)
    return torch.where(values.flatten(2).isfinite().all(2), found, torch.nan)
