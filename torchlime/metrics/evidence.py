"""The evidence that metrics measure: explanations, heatmaps, and coefficients of segments."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from torchlime._checks import check_same_device
from torchlime._inputs import as_label_map
from torchlime._labelmap import Segments, as_segments, segment_sizes, segment_sums
from torchlime._precision import solve_dtype
from torchlime._several import is_several, leaves_of
from torchlime._softmap import is_soft
from torchlime.black_box import Forward
from torchlime.explanation import Explanation
from torchlime.fills import ImageMean, SegmentMean
from torchlime.lime import AnyFill, AnyMap, Lime
from torchlime.masks import present
from torchlime.metrics._shared import explainer_of, given_segments, targets_of, unless_broken
from torchlime.rise import Rise
from torchlime.targets import Targets

PIXELS_ONE_BY_ONE = 4096  # more rows than this are a mistake: the segments were forgotten
Pooled = Literal["mean", "sum"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Heatmap:
    """The evidence that any method found, such as Grad-CAM or integrated gradients.

    Metrics take it instead of an :class:`torchlime.Explanation`. A plain tensor stands for
    ``Heatmap(values=tensor)``.

    Convention:
        Positive values are evidence for the target. Without ``segments`` every pixel is a feature.
        With segments, whole segments are hidden, and the evidence of a segment is the mean (or the
        sum) of its pixels. From the heatmap of an explanation, the mean recovers the coefficients.
        The sum is right for methods whose pixels add up to the score, such as integrated gradients.

    Args:
        values: [B,H,W] for one target, or [B,T,H,W] for several, with the image axes of the images;
            or, with ``segments``, coefficients [B,S] of one target.
        targets: the explained targets, as for :meth:`torchlime.Lime.explain`; None = the best
            class.
        segments: a label map or Segments, as for :meth:`torchlime.Lime.explain`.
        pooled: "mean" or "sum".
        forward: how rows pass through the model.

    Raises:
        ValueError: ``pooled`` is neither. A metric raises the other errors, when it is called.

    Example:
        >>> heatmap = Heatmap(values=torch.tensor([[[2.0, 0.0]]]), targets=0)
        >>> from torchlime import fills, metrics
        >>> image, black = torch.tensor([[[[3.0, 1.0]]]]), fills.Constant(0.0)
        >>> metrics.deletion(lambda x: x.sum((2, 3)), image, heatmap, fill=black).tolist()
        [[1.5]]
    """

    values: Any
    targets: Targets = None
    segments: AnyMap | None = None
    pooled: Pooled = "mean"
    forward: Forward = field(default=Forward(), repr=False)

    def __post_init__(self) -> None:
        if self.pooled not in get_args(Pooled):
            raise ValueError(f"pooled must be one of {get_args(Pooled)}, got {self.pooled!r}")


AnyEvidence = Explanation | Heatmap | Tensor


class Evidence(NamedTuple):
    """Evidence of features that can be hidden, in the form that the metrics use.

    Attributes:
        values: [B,T,S] in the solve's dtype, 0 beyond the count.
        count: [B] int64; the bound is S.
        sound: [B,T] bool: the evidence is finite and its target exists.
        segments: segments as :func:`torchlime.features.given.features_of` takes them.
        max_segments: their bound, if they are label maps.
        targets: what is scored.
        fill: what a hidden feature shows.
        forward: how rows pass through the model.
        by_pixel: whether every pixel is a feature.
    """

    values: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count
    sound: Tensor
    segments: Any
    max_segments: int | None
    targets: Any
    fill: Any
    forward: Forward
    by_pixel: bool


def evidence_of(explanation: AnyEvidence, inputs: Any, fill: AnyFill | None = None) -> Evidence:
    """The evidence of inputs, as :func:`torchlime._inputs.as_inputs` returns them.

    Args:
        explanation: the explanation or heatmap.
        inputs: the explained inputs.
        fill: None = the explanation's own; for a heatmap the mean colour of the image.

    Raises:
        TypeError, ValueError: it does not fit the inputs, or the fill is not known.
    """
    first = leaves_of(inputs)[0]
    if isinstance(explanation, Explanation):
        check_same_device(explanation.targets, first, "the explanation")
        given, explainer = given_segments(explanation), explanation.explainer
        if len(explanation) != len(first):
            raise ValueError(
                f"the explanation is of {len(explanation)} inputs, but there are {len(first)} "
                "images; pass the images that were explained, or index the explanation"
            )
        ones = torch.ones_like(explanation.scores)
        return Evidence(
            explanation.coefficients, explanation.segment_count,
            unless_broken(ones, explanation).isfinite(), given["segments"],
            given.get("max_segments"), targets_of(explanation),
            explainer_of(explanation).fill if fill is None else fill,
            Forward.of(explainer) if isinstance(explainer, Lime | Rise) else Forward(), False,
        )  # fmt: skip
    heatmap = as_heatmap(explanation)
    values = values_of(heatmap, inputs)
    by_pixel = heatmap.segments is None
    if by_pixel and isinstance(fill, SegmentMean):
        raise ValueError(
            "fill=SegmentMean() hides nothing where every pixel is a segment; pass "
            "Heatmap(values=…, segments=…), or another fill, such as ImageMean()"
        )
    segments = _pixels(inputs) if by_pixel else _segments(heatmap.segments, inputs)
    if values.dim() == 2:  # coefficients
        if values.shape[1] != segments.bound:
            raise ValueError(
                f"values are {values.shape[1]} coefficients of an image, but segments has "
                f"{segments.bound} segments"
            )
        values = values[:, None]
        sound = values.isfinite().all(2)
    else:
        sound = values.flatten(2).isfinite().all(2)
        values = values.nan_to_num(0.0, 0.0, 0.0)
        if by_pixel:
            values = values.flatten(2)
        else:
            sums = segment_sums(values, segments)
            sizes = segment_sizes(segments)[:, None].clamp(min=1)
            values = sums if heatmap.pooled == "sum" else sums / sizes
    used = ImageMean() if fill is None else fill
    return Evidence(
        values, segments.count, sound, segments, None, heatmap.targets, used, heatmap.forward,
        by_pixel,
    )  # fmt: skip


def as_heatmap(values: Any) -> Heatmap:
    """A Heatmap as it is; tensors and arrays become one.

    Raises:
        TypeError: ``values`` are none of these.
    """
    if isinstance(values, Heatmap):
        return values
    if isinstance(values, Tensor) or hasattr(values, "__array__"):
        return Heatmap(values=values)
    raise TypeError(
        "the explanation must be an Explanation, a Heatmap, or a tensor [B,H,W] or [B,T,H,W], got "
        f"{type(values).__name__}"
    )


def values_of(heatmap: Heatmap, inputs: Any) -> Tensor:
    """The values [B,T,*axes], or coefficients [B,S], in the solve's dtype.

    Raises:
        TypeError, ValueError: they do not fit the inputs, or are not real.
    """
    if is_several(inputs) or inputs.dim() < 3:
        raise ValueError(
            "a heatmap belongs to one input with pixels [B,C,*axes]; for vectors and for several "
            "inputs pass an Explanation"
        )
    values = heatmap.values
    if not isinstance(values, Tensor):
        import numpy as np

        values = torch.from_numpy(np.array(values)).to(inputs.device)
    batch, _, *axes = inputs.shape
    one, several = [batch, *axes], [batch, values.shape[1] if values.dim() > 1 else 0, *axes]
    given = list(values.shape)
    coefficients = heatmap.segments is not None and values.dim() == 2 and len(values) == batch
    if not (given in (one, several) or coefficients):
        raise ValueError(
            f"a heatmap of images {list(inputs.shape)} must be {one}, or with T targets "
            f"{[batch, 'T', *axes]}, got {given}; sum a heatmap over its channels, and enlarge a "
            "small one with torch.nn.functional.interpolate"
        )
    if values.is_complex():
        raise TypeError(f"a heatmap must be real, got {values.dtype}")
    check_same_device(values, inputs, "the heatmap")
    values = values.detach().to(solve_dtype(values.device))
    return values[:, None] if given == one else values


def _segments(given: Any, inputs: Tensor) -> Segments:
    labels = given if isinstance(given, Segments) else as_label_map(given, inputs.device)
    if not isinstance(labels, Segments):
        if isinstance(labels, Tensor) and is_soft(labels):
            raise ValueError("soft segments of a heatmap are not supported; pass a label map")
        labels = as_segments(labels, inputs)
    if labels.labels.shape[1:] != inputs.shape[2:]:
        raise ValueError(
            f"segments of a heatmap must be one map of {list(inputs.shape[2:])} for all channels, "
            f"got {list(labels.labels.shape)}"
        )
    return labels


def _pixels(inputs: Tensor) -> Segments:
    """Every pixel is a segment."""
    batch, _, *axes = inputs.shape
    bound = math.prod(axes)
    labels = torch.arange(bound, device=inputs.device).view(1, *axes).expand(batch, *axes)
    count = torch.full((batch,), bound, device=inputs.device)
    return Segments(labels, count, count > 0, bound)


def ranks_of(evidence: Evidence) -> Tensor:
    """The place of each feature by descending evidence, ties by lower id: [B,T,S] int64."""
    values = evidence.values
    strength = values.masked_fill(~present(evidence.count, values.shape[2]), -torch.inf)
    return strength.sort(dim=2, descending=True, stable=True).indices.argsort(dim=2)
