"""What is read off an explanation: its strongest columns, a target's row, its label maps."""

from typing import Any

import torch
from torch import Tensor

from torchlime._checks import check_count, check_positive
from torchlime._returns import stopping_factor
from torchlime._several import is_several, names_of
from torchlime._softmap import blended, is_soft
from torchlime.masks import present
from torchlime.rounds import least_rows, widening

FORECAST_STEPS = 20  # to where the rows and their own widening agree
MOST_ROWS = 2**31


def strongest_columns(explanation: Any, k: int) -> tuple[Tensor, Tensor]:
    """As ``Explanation.top``, with the columns of the coefficients in place of ids."""
    check_count(k, "k")
    coefficients = explanation.coefficients
    exists = present(explanation.segment_count, coefficients.shape[2])
    strength = torch.where(exists, coefficients.abs(), -1.0)
    order = strength.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    found = exists.expand_as(strength).gather(-1, order)
    values = torch.where(found, coefficients.gather(-1, order), 0.0)
    padding = (0, k - order.shape[-1])
    return (
        torch.nn.functional.pad(torch.where(found, order, -1), padding, value=-1),
        torch.nn.functional.pad(values, padding),
    )


def forecast_of(explanation: Any, error: float) -> Tensor:
    """As ``Explanation.forecast``."""
    check_positive(error, "error")
    if explanation.samples_used is None:
        raise ValueError("a forecast needs samples_used, which this explanation does not have")
    scale = 1.0 if explanation.scale is None else explanation.scale[:, None]
    errors, values = _errors_of_the_rule(explanation) * scale, explanation.coefficients * scale
    noise, signal = errors.square().sum(dim=2), values.square().sum(dim=2)
    signal = signal - noise
    known = torch.where(signal > 0, noise / signal, torch.nan) * explanation.samples_used[:, None]
    least = least_rows(values.shape[2])
    rows = least + torch.zeros_like(known)
    for _ in range(FORECAST_STEPS):
        rows = (known * (widening(errors, rows) / error).square()).clamp(min=least)
    rows = torch.where(noise + signal == 0, least, rows).amax(dim=1)  # NaN stays
    return torch.where(rows < MOST_ROWS, rows.ceil(), -1).long()


def _errors_of_the_rule(explanation: Any) -> Tensor:
    """The standard errors [B,T,S] with the factor that ``Until`` takes, if the sampler is known."""
    errors, sampler = explanation.standard_errors, getattr(explanation.explainer, "sampler", None)
    if sampler is None:
        return errors
    used, known = explanation.samples_used, explanation.variance_factor
    factor = torch.empty_like(used, dtype=errors.dtype)
    for rows in used.unique().tolist():  # read back: factors are numbers on the host
        factor[used == rows] = stopping_factor(sampler, errors.shape[2], rows)
    return errors * (factor / known).sqrt()[:, None, None]


def row_of(explanation: Any, target: int | None) -> int:
    """The place of ``target`` among the targets of one input, read on the host; None is the first.

    Raises:
        ValueError: there are several inputs, or the target was not explained.
    """
    inputs = len(explanation.coefficients)
    if inputs != 1:
        raise ValueError(
            f"the explanation holds {inputs} {explanation.kind.input}s; index one first: "
            "explanation[i]"
        )
    explained = explanation.targets[0].tolist()  # read back: for a list or a picture
    if target is None:
        return 0
    if target not in explained:
        raise ValueError(f"target {target!r} was not explained; the explained ones are {explained}")
    return explained.index(target)


def label_maps_of(explanation: Any) -> Any:
    """The label map of an explanation; a tuple or dict of them for several inputs.

    Raises:
        ValueError: the explanation is of vectors.
    """
    if explanation.segments is None:
        raise ValueError(
            f"an explanation of {explanation.kind.input}s has no pixels and no segments; "
            "top(), as_list() and plot.bars() show it"
        )
    return explanation.segments


def label_map_of(explanation: Any) -> Tensor:
    """The label map [B,*axes] of an explanation of one input.

    Raises:
        ValueError: the explanation is of vectors, of several inputs, or of soft segments.
    """
    maps = label_maps_of(explanation)
    if is_soft(maps):
        raise ValueError(
            "an explanation of soft segments has shares and no label map; heatmap(), top(), "
            "as_list() and plot.bars() show it"
        )
    if is_several(maps):
        raise ValueError(
            "an explanation of several inputs has a label map for each, and here one is needed; "
            f"{names_of(maps, 'explanation.segments')[0]} is the first; plot.bars() shows them"
        )
    return maps


def on_pixels(values: Tensor, segments: Tensor) -> Tensor:
    """Values [B,T,S] on the pixels of a label map [B,*axes] or of shares [B,S,*axes]: [B,T,*axes].

    A bool value is True where segments that are True share a half or more.
    """
    if is_soft(segments):
        found = blended(values, segments)
        return found.to(values.dtype) if values.is_floating_point() else found >= 0.5
    index = segments.flatten(1)[:, None].expand(-1, values.shape[1], -1)
    found = values.gather(2, index.clamp(min=0))
    return found.masked_fill(index < 0, 0).unflatten(2, segments.shape[1:])
