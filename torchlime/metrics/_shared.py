"""What several metrics need from an explanation."""

import torch
from torch import Tensor

from torchlime._labelmap import Segments
from torchlime._problems import Problem
from torchlime.explanation import Explanation, label_map_of
from torchlime.lime import Lime


def unless_broken(values: Tensor, *explanations: Explanation) -> Tensor:
    """``values`` [B,T], NaN where coefficients are not finite or a target is out of range."""
    for e in explanations:
        in_range = (e.problems & Problem.TARGET_OUT_OF_RANGE) == 0
        sound = e.coefficients.isfinite().all(2) & in_range[:, None]
        values = torch.where(sound, values, torch.nan)
    return values


def segments_of(explanation: Explanation) -> Segments:
    labels, count = label_map_of(explanation), explanation.segment_count
    ok = torch.ones_like(count, dtype=torch.bool)
    return Segments(labels, count, ok, explanation.coefficients.shape[2])


def explainer_of(explanation: Explanation) -> Lime:
    """The explainer that made the explanation."""
    label_map_of(explanation)
    if not isinstance(explanation.explainer, Lime):
        raise ValueError(
            "the explanation has no explainer: it was loaded from a file, which holds no "
            "strategies, or was not made by torchlime.Lime; explain again"
        )
    return explanation.explainer
