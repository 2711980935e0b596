"""lime's explanation as a :class:`torchlime.Explanation`: only this module makes one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchlime._kinds import IMAGES
from torchlime._provenance import in_words
from torchlime.compat.arrays import Array
from torchlime.explanation import Explanation
from torchlime.surrogates import Fit


@dataclass(frozen=True)
class Regressor:
    """Replaces the explainer for :meth:`torchlime.Explanation.refit`."""

    surrogate: Callable[..., Fit]
    kernel: Callable[..., Tensor] | None = None


class Samples(NamedTuple):
    """What an explanation was fitted to."""

    ids: Array  # [M], the id that each mask column stands for
    masks: Array  # [n,M] bool
    scores: Array  # [n,T], a column for each explained label
    weights: Array  # [n]
    targets: list[int]
    surrogate: Callable[..., Fit] | None  # None: the regressor is not torchlime's
    settings: dict[str, Any]


def native_explanation(
    samples: Samples,
    columns: Array,
    weights: Array,
    *,
    intercepts: list[Any],
    fidelity: list[float],
    whole: bool,
) -> Explanation:
    """The :class:`torchlime.Explanation` of one image, on the CPU.

    Args:
        samples: what the explanation was fitted to.
        columns: [H,W], the mask column of every pixel, 0…M−1.
        weights: [T,M], those of the linear model.
        intercepts: [T].
        fidelity: [T], weighted R².
        whole: whether no features were selected; only then standard errors have a meaning.
    """
    masks, scores, proximity = (
        torch.from_numpy(np.array(values))[None]
        for values in (samples.masks, samples.scores, samples.weights)
    )
    coefficients = torch.from_numpy(weights)[None]
    count = torch.tensor([weights.shape[1]])
    errors = torch.full_like(coefficients, torch.nan)
    if samples.surrogate is not None and whole:
        errors = samples.surrogate(masks, scores, proximity, count).standard_errors
    fit = Fit(coefficients, _row(intercepts), _row(fidelity), errors, torch.tensor([True]))
    return Explanation(
        targets=torch.tensor([samples.targets]),
        scores=scores[:, 0],
        segments=torch.from_numpy(columns.astype(np.int64))[None],
        segment_count=count,
        settings=in_words(**samples.settings),
        masks=masks,
        sample_scores=scores,
        weights=proximity,
        explainer=None if samples.surrogate is None else Regressor(samples.surrogate),
        **IMAGES.fields(fit, masks, proximity, count),
    )


def _row(values: Iterable[Any]) -> Tensor:
    return torch.tensor([[float(value) for value in values]], dtype=torch.float64)
