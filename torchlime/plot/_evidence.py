"""The parts of an explanation that are drawn, on the host; only this module reads them."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torchlime._checks import check_count
from torchlime._kinds import Noise
from torchlime._labelmap import Segments as Segments
from torchlime._reading import first_name
from torchlime._softmap import is_soft
from torchlime.explanation import Sign as Sign
from torchlime.explanation import label_map_of, row_of

if TYPE_CHECKING:
    from torchlime.explanation import Explanation


class Evidence(NamedTuple):
    """One input and one target, on the CPU.

    Convention:
        target: the class.
        name: what to call it.
        unit: what its scores are: "probability", "logit" or "score".
        noun: what a feature is called.
        segments: [H,W] int64, −1 for the background; [0,0] where there are no pixels.
        coefficients: [count] float64, 0 where the explanation's is not finite.
        errors: [count] float64, standard errors, NaN where not finite.
        slopes: coefficients are per unit of a feature.
    """

    target: int
    name: str
    unit: str
    noun: str
    segments: Tensor
    coefficients: Tensor
    errors: Tensor
    slopes: bool = False


def evidence_of(
    explanation: "Explanation",
    target: int | None,
    *,
    pixels: bool = True,
    name: str | None = None,
    unit: str | None = None,
) -> Evidence:
    """Read an explanation back; ``pixels`` refuses an explanation of vectors.

    ``name`` and ``unit`` are the caller's words; None = what the explanation knows.

    Raises:
        ValueError: several inputs, an unknown target, or no pixels where they are needed.
    """
    segments = None
    if pixels:
        segments = label_map_of(explanation)[0].cpu()
        if segments.dim() != 2:
            raise ValueError(
                f"a picture needs a label map [H,W], and the explanation's is "
                f"{list(segments.shape)}; heatmap() has all of it, and plot.bars() shows it"
            )
    row, count = row_of(explanation, target), int(explanation.segment_count[0])
    coefficients, errors = (
        values[0, row, :count].detach().cpu().double()
        for values in (explanation.coefficients, explanation.standard_errors)
    )
    index = int(explanation.targets[0, row])
    return Evidence(
        index,
        first_name(explanation.category(index)) if name is None else name,
        explanation.unit if unit is None else unit,
        explanation.kind.part,
        torch.empty(0, 0, dtype=torch.int64) if segments is None else segments,
        coefficients.nan_to_num(0, 0, 0),
        errors.where(errors.isfinite(), math.nan),
        isinstance(explanation.kind, Noise),
    )


def is_pictured(explanation: "Explanation") -> bool:
    """Whether there is a label map [H,W] of each input, so that :func:`overlay` can draw it."""
    segments = explanation.segments
    return isinstance(segments, Tensor) and segments.dim() == 3 and not is_soft(segments)


def strongest(evidence: Evidence, top: int, sign: Sign = "both") -> list[int]:
    """Ids of the segments to show, strongest first."""
    check_count(top, "top")
    if sign not in ("positive", "negative", "both"):
        raise ValueError(f'sign must be "positive", "negative" or "both", got {sign!r}')
    c = evidence.coefficients
    wanted = {"positive": c > 0, "negative": c < 0, "both": c != 0}[sign]
    order = c.abs().argsort(descending=True, stable=True)
    return order[wanted[order]][:top].tolist()


def ranks_of(evidence: Evidence, shown: list[int]) -> Tensor:
    """Rank of each pixel's segment [H,W]: 1…k, and 0 where it is not shown.

    The background, −1, takes the last entry.
    """
    ranks = torch.zeros(len(evidence.coefficients) + 1, dtype=torch.int64, device="cpu")
    ranks[shown] = torch.arange(1, len(shown) + 1, device="cpu")
    return ranks[evidence.segments]


def label_map(segments: Any) -> Tensor:
    """One label map [H,W] on the CPU, from any type.

    Raises:
        ValueError: label maps of several images.
    """
    labels = segments.labels if isinstance(segments, Segments) else segments
    labels = torch.as_tensor(labels).cpu()
    if labels.dim() == 3 and len(labels) == 1:
        labels = labels[0]
    if labels.dim() != 2:
        raise ValueError(f"segments must be one label map [H,W], got {list(labels.shape)}")
    return labels
