"""How similar explanations of the same inputs are under different seeds or settings."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchlime._checks import (
    check_count,
)
from torchlime._explained import strongest_columns
from torchlime._several import leaves_of
from torchlime.explanation import Explanation
from torchlime.masks import present
from torchlime.metrics._correlation import mean_ranks, spearman
from torchlime.metrics._shared import unless_broken
from torchlime.metrics.evidence import AnyEvidence
from torchlime.metrics.placement import pixels_of


def rank_correlation(explanations: Sequence[AnyEvidence]) -> Tensor:
    """Spearman's ρ of the coefficients, averaged over all pairs of explanations: [B,T].

    This is the correlation of ranks over an image's segments. It is 1 if all explanations give the
    same order. If one of them is a heatmap, the correlation is over the pixels of all heatmaps.

    Convention:
        Coefficients are signed, and ties share their mean rank. The result is NaN where an image
        has a single segment or all its coefficients tie.

    Args:
        explanations: two or more explanations of the same images, segments and targets, for example
            under different seeds. Heatmaps [B,H,W] or [B,T,H,W] of any method may be among them.

    Raises:
        ValueError: there are fewer than two, or their shapes, devices, segments or targets differ.
            Segments and targets on a GPU are not read back; if they differ, the result is NaN.

    Example:
        >>> from torchlime import explain, segments
        >>> image = torch.rand(1, 3, 16, 16)
        >>> def model(x):
        ...     return x.mean((2, 3))
        >>> runs = [explain(model, image, 0, segmenter=segments.Grid(2, 2), seed=s) for s in (0, 1)]
        >>> rank_correlation(runs).shape, overlap(runs, top=2).shape
        (torch.Size([1, 1]), torch.Size([1, 1]))
    """
    alone = [e for e in explanations if isinstance(e, Explanation)]
    if len(alone) < len(explanations):
        return _over_pixels(explanations)
    return _mean_over_pairs(alone, _centred_ranks, _cosine)


def overlap(explanations: Sequence[Explanation], top: int = 5) -> Tensor:
    """Jaccard index of the ``top`` strongest segments, averaged over all pairs: [B,T].

    |A ∩ B| / |A ∪ B| of the sets of segments with the largest |coefficient|.

    Convention:
        Ties go to the lower id, as in :meth:`Explanation.top`. A coefficient of 0 is no evidence
        and is in no set. The index is 1 where both sets are empty.

    Args:
        explanations: as for :func:`rank_correlation`.
        top: the size of the sets, if an image has that many segments.

    Raises:
        TypeError: ``top`` is not an int.
        ValueError: as for :func:`rank_correlation`, or ``top`` is below 1.
    """
    check_count(top, "top")
    return _mean_over_pairs(explanations, lambda e: _strongest(e, top), _jaccard)


def _over_pixels(explanations: Sequence[AnyEvidence]) -> Tensor:
    """Spearman's ρ over pixels, averaged over all pairs: [B,T]."""
    maps = [pixels_of(e) for e in explanations]
    kinds = {f"{list(one.shape)} {one.device}" for one in maps}
    if len(maps) < 2 or len(kinds) != 1:
        raise ValueError(
            "explanations must be two or more of the same images and targets, got "
            f"{len(maps)} with heatmaps and device {sorted(kinds)}"
        )
    flat = [one.flatten(2) for one in maps]
    found = torch.stack([spearman(a, b) for a, b in itertools.combinations(flat, 2)]).mean(0)
    sound = torch.stack([one.isfinite().all(2) for one in flat]).all(0)
    alone = [e for e in explanations if isinstance(e, Explanation)]
    return unless_broken(torch.where(sound, found, torch.nan), *alone)


def _mean_over_pairs(
    explanations: Sequence[Explanation],
    describe: Callable[[Explanation], Tensor],
    compare: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    kinds = {
        f"{list(e.coefficients.shape)} {list(_shape(e))} {e.coefficients.device}"
        for e in explanations
    }
    if len(explanations) < 2 or len(kinds) != 1:
        raise ValueError(
            "explanations must be two or more of the same images, segments and targets, got "
            f"{len(explanations)} with coefficients, segments and device {sorted(kinds)}"
        )
    alike = _alike(explanations)
    described = [describe(e) for e in explanations]
    pairs = [compare(a, b) for a, b in itertools.combinations(described, 2)]
    return unless_broken(torch.where(alike, torch.stack(pairs).mean(0), torch.nan), *explanations)


def _shape(explanation: Explanation) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(labels.shape) for labels in _maps(explanation))


def _maps(explanation: Explanation) -> list[Tensor]:
    return [labels for labels in leaves_of(explanation.segments) if labels is not None]


def _alike(explanations: Sequence[Explanation]) -> Tensor:
    """Where all explain the same segments and targets: [B,T] bool.

    On a CPU a difference is an error.
    """
    first, *others = explanations
    alike = torch.ones_like(first.targets, dtype=torch.bool)
    for e in others:
        alike &= (e.segment_count == first.segment_count)[:, None]
        for mine, theirs in zip(_maps(e), _maps(first), strict=True):
            alike &= (mine == theirs).flatten(1).all(1)[:, None]
        alike &= e.targets == first.targets
    if alike.device.type == "cpu" and not alike.all():
        images = (~alike).any(1).nonzero().flatten().tolist()  # of a CPU's tensor, for the error
        raise ValueError(f"the explanations of images {images} differ in their segments or targets")
    return alike


def _centred_ranks(explanation: Explanation) -> Tensor:
    """Mean ranks minus their mean: [B,T,S], 0 beyond the count."""
    exists = present(explanation.segment_count, explanation.coefficients.shape[2])
    values = explanation.coefficients
    ranks = mean_ranks(values, exists.expand_as(values))  # from ½: the mean is count/2
    return (ranks - explanation.segment_count[:, None, None] / 2).masked_fill(~exists, 0.0)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(2) / (a.square().sum(2) * b.square().sum(2)).sqrt()


def _strongest(explanation: Explanation, top: int) -> Tensor:
    """Whether a segment is among the ``top``: [B,T,S] bool."""
    columns, values = strongest_columns(explanation, top)
    chosen = torch.zeros_like(explanation.coefficients, dtype=torch.int64)
    found = (values != 0).long()
    return chosen.scatter_add(2, columns.clamp(min=0), found).bool()


def _jaccard(a: Tensor, b: Tensor) -> Tensor:
    union = (a | b).sum(2)
    return torch.where(union > 0, (a & b).sum(2) / union.clamp(min=1), 1.0)
