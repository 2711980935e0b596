"""What several metrics need from an explanation."""

from typing import Any

import torch
from torch import Tensor

from torchlime._explained import label_map_of, label_maps_of
from torchlime._labelmap import Segments
from torchlime._problems import Problem
from torchlime._several import is_several
from torchlime._softmap import is_soft
from torchlime.explanation import Explanation
from torchlime.lime import Lime
from torchlime.rise import Rise


def unless_broken(values: Tensor, *explanations: Explanation) -> Tensor:
    """``values`` [B,T], NaN where coefficients are not finite or a target is out of range."""
    for e in explanations:
        in_range = (e.problems & Problem.TARGET_OUT_OF_RANGE) == 0
        sound = e.coefficients.isfinite().all(2) & in_range[:, None]
        values = torch.where(sound, values, torch.nan)
    return values


def given_segments(explanation: Explanation) -> dict[str, Any]:
    """The segments, as keywords of :func:`torchlime._given_masks.score_masks`."""
    if is_soft(label_maps_of(explanation)):
        return {"segments": explanation.segments}
    if not is_several(explanation.segments):
        return {"segments": segments_of(explanation)}
    bound = explanation.coefficients.shape[2]
    return {"segments": explanation.segments, "max_segments": bound}


def segments_of(explanation: Explanation) -> Segments:
    labels, count = label_map_of(explanation), explanation.segment_count
    ok = torch.ones_like(count, dtype=torch.bool)
    own_map = explanation.ids is not None  # only a caller's map may have a background
    return Segments(labels, count, ok, explanation.coefficients.shape[2], own_map)


def explainer_of(explanation: Explanation) -> Lime | Rise:
    """The explainer that made the explanation.

    Raises:
        ValueError: it has none, or is of vectors.
    """
    label_maps_of(explanation)
    if not isinstance(explanation.explainer, Lime | Rise):
        raise ValueError(
            "the explanation has no explainer: it was loaded from a file, which holds no "
            "strategies, or it was not made by torchlime.Lime or Rise; explain again, or pass "
            "fill= to a metric that takes it"
        )
    return explanation.explainer


def targets_of(explanation: Explanation) -> Any:
    """What metrics score: the explained classes, or the function or Scores that were explained.

    Raises:
        ValueError: it was loaded from a file, and the explained scores are not classes.
    """
    explained = explanation.explained
    if explained is None and "scores" in explanation.settings:
        scores = explanation.settings["scores"]
        raise ValueError(
            f"the explanation was loaded from a file, and explains {scores}, not classes: "
            "explain again"
        )
    return explanation.targets if explained is None else explained
