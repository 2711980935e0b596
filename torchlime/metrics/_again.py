"""Explaining again, of other images or with another model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import is_integer
from torchlime._inputs import Extra
from torchlime._precision import solve_dtype
from torchlime.black_box import Model
from torchlime.explanation import Explanation
from torchlime.metrics._shared import explainer_of, given_segments, targets_of
from torchlime.metrics.evidence import AnyEvidence, as_heatmap

Explain = Callable[[Any], AnyEvidence]


def explain_again(model: Model, explanation: AnyEvidence, extra: Extra = None) -> Explain:
    """A function of images that explains them as the explanation was made, with its segments.

    The masks and the targets are also those of the explanation, so a difference is due to the
    images and the model alone. With ``rounds=Until(…)``, the images and the model also decide how
    many masks are used.

    Raises:
        ValueError: it is not known how the explanation was made.
    """
    if not isinstance(explanation, Explanation):
        raise ValueError(
            "how a heatmap was made is not known; pass explain=, a function of the images that "
            "returns their heatmap"
        )
    explainer, seed = explainer_of(explanation), explanation.settings["seed"]
    if not (isinstance(seed, int) and is_integer(seed)):
        raise ValueError(
            "the explanation was drawn by a seed for each image, which is not kept; pass explain=, "
            "a function of the images that returns their explanation"
        )
    targets, given = targets_of(explanation), given_segments(explanation)
    if extra is not None:
        given["extra"] = extra

    def explain(images: Any) -> Explanation:
        return explainer.explain(model, images, targets, **given, seed=seed)

    return explain


def maps_of(explanation: AnyEvidence) -> Tensor:
    """The evidence, a row for each target: coefficients [B,T,S], or pixels [B,T,*axes].

    Raises:
        TypeError, ValueError: it is no evidence, or has another shape.
    """
    if isinstance(explanation, Explanation):
        return explanation.coefficients
    values = as_heatmap(explanation).values
    if not isinstance(values, Tensor):
        import numpy as np

        values = torch.from_numpy(np.array(values))
    if values.dim() < 2 or 0 in values.shape:
        raise ValueError(f"a heatmap must be [B,H,W] or [B,T,H,W], got {list(values.shape)}")
    values = values.detach().to(solve_dtype(values.device))
    return values if values.dim() > 3 else values[:, None]
