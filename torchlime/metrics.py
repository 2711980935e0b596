"""Explanation → numbers: how faithful, how stable and how well placed the evidence is.

Functions, for a whole batch at once, on the explanation's device: nothing is read back. Forward
passes cost rows: B·T·(S+1) for :func:`deletion` and :func:`insertion`, B·N for :func:`fidelity`,
none for the others. They run as those of :meth:`torchlime.Lime.explain` do, with the chunk size and
autocast of the explanation's explainer.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchlime._checks import (
    check_count,
    check_images,
    check_object,
    check_same_device,
    is_integer,
)
from torchlime._labelmap import Segments, segment_sizes, segment_sums
from torchlime._problems import Problem
from torchlime.black_box import Forward, Model
from torchlime.explanation import Explanation, label_map_of
from torchlime.lime import Lime, score_masks
from torchlime.masks import present
from torchlime.strategies import Fill


def deletion(
    model: Model,
    images: Tensor,
    explanation: Explanation,
    *,
    fill: Fill | Tensor | None = None,
) -> Tensor:
    """Area under the score while whole segments are hidden, the strongest first: [B,T].

    With y₀ … y_K the target's score when the first 0 … K segments are hidden, the normalised
    trapezoid (Σ yₖ − (y₀ + y_K)/2) / K. Petsiuk et al. 2018 (RISE) hide pixels; an explanation by
    segments ties within one, so whole segments go. Lower is better: the evidence was found.

    Convention:
        Segments go by descending signed coefficient, ties to the lower id; K is the image's own
        count. Scores are the model's outputs as they are: wrap it for probabilities.

    Args:
        model: as for :meth:`torchlime.Lime.explain`.
        images: [B,C,H,W], the explained ones.
        explanation: of them.
        fill: what a hidden segment shows; None = the explanation's own fill.

    Raises:
        ValueError: the explanation comes from a file, which holds no strategies, and ``fill`` is
            not given; the images do not fit.

    Example:
        >>> from torchlime import explain, fills, segments
        >>> image = torch.tensor([[[[3.0, 1.0]]]])
        >>> def model(x):
        ...     return x.sum((2, 3))
        >>> black = fills.Constant(0.0)
        >>> explanation = explain(model, image, segmenter=segments.Grid(1, 2), fill=black)
        >>> deletion(model, image, explanation).tolist()  # scores 4, 1, 0
        [[1.5]]
    """
    return _area(model, images, explanation, fill, lambda ranks, step: ranks >= step)


def insertion(
    model: Model,
    images: Tensor,
    explanation: Explanation,
    *,
    fill: Fill | Tensor | None = None,
) -> Tensor:
    """Area under the score while whole segments are shown, the strongest first: [B,T].

    As :func:`deletion`, from the image with every segment hidden to the whole image. Higher is
    better. Petsiuk et al. 2018 start from a blurred image: ``fill=Blur(5.0)``.

    Example:
        >>> from torchlime import explain, fills, segments
        >>> image = torch.tensor([[[[3.0, 1.0]]]])
        >>> def model(x):
        ...     return x.sum((2, 3))
        >>> black = fills.Constant(0.0)
        >>> explanation = explain(model, image, segmenter=segments.Grid(1, 2), fill=black)
        >>> insertion(model, image, explanation).tolist()  # scores 0, 3, 4
        [[2.5]]
    """
    return _area(model, images, explanation, fill, lambda ranks, step: ranks < step)


def fidelity(
    model: Model,
    images: Tensor,
    explanation: Explanation,
    *,
    seed: int | Tensor,
    num_samples: int | None = None,
) -> Tensor:
    """Weighted R² of the surrogate on masks that it was not fitted to: [B,T].

    1 − Σ w (y − g(z))² / Σ w (y − ȳ)² over fresh samples of the explanation's own sampler, fill
    and kernel, without the whole image, with the surrogate g and the weighted mean ȳ.
    ``explanation.fidelity`` is the same on the samples of the fit, which flatters.

    Convention:
        At most 1; below 0 where a constant would do better; 0 where the scores do not vary. Of
        ``Exhaustive`` there are no fresh masks: its seeds all draw the same.

    Args:
        model, images, explanation: as for :func:`deletion`.
        seed: of the fresh masks; another than the explanation's (of tensors the caller's care).
        num_samples: how many, 3 at least; None = as many as the explanation had.

    Raises:
        ValueError: ``seed`` is the explanation's own, or the explanation comes from a file, which
            holds no strategies.
    """
    if not (is_integer(seed) or isinstance(seed, Tensor)):
        raise TypeError(f"seed must be an int or an int64 tensor [B], got {type(seed).__name__}")
    if num_samples is not None:
        check_count(num_samples, "num_samples", 3)
    if is_integer(seed) and seed == explanation.settings["seed"]:
        raise ValueError(f"seed={seed} drew the masks of the fit; fresh ones need another")

    explainer = _explainer(explanation)
    if num_samples is not None:
        explainer = dataclasses.replace(explainer, num_samples=num_samples)
    fresh = explainer.samples(
        model, images, explanation.targets, segments=_segments(explanation), seed=seed
    )
    # The first row, the whole image, was in the fit too.
    kept, scores = fresh.design[:, 1:].to(fresh.scores.dtype), fresh.scores[:, 1:]
    fitted = kept @ explanation.coefficients.mT + explanation.intercepts[:, None]
    r2 = _weighted_r2(scores, fitted, fresh.weights[:, 1:, None])
    return _unless_broken(r2, explanation)


def rank_correlation(explanations: Sequence[Explanation]) -> Tensor:
    """Spearman's ρ of the coefficients, averaged over all pairs of explanations: [B,T].

    The correlation of ranks over an image's segments; 1 where every seed orders them alike.

    Convention:
        Signed coefficients; ties share their mean rank; NaN where an image has a single segment or
        all its coefficients tie.

    Args:
        explanations: two or more of the same images, segments and targets, for example under
            different seeds.

    Raises:
        ValueError: fewer than two, or of different shapes, devices, segments or targets. Segments
            and targets on a GPU are not read back: where they differ, the result is NaN.

    Example:
        >>> from torchlime import explain, segments
        >>> image = torch.rand(1, 3, 16, 16)
        >>> def model(x):
        ...     return x.mean((2, 3))
        >>> runs = [explain(model, image, 0, segmenter=segments.Grid(2, 2), seed=s) for s in (0, 1)]
        >>> rank_correlation(runs).shape, overlap(runs, top=2).shape
        (torch.Size([1, 1]), torch.Size([1, 1]))
    """
    return _mean_over_pairs(explanations, _centred_ranks, _cosine)


def overlap(explanations: Sequence[Explanation], top: int = 5) -> Tensor:
    """Jaccard index of the ``top`` strongest segments, averaged over all pairs: [B,T].

    |A ∩ B| / |A ∪ B| of the sets of segments with the largest |coefficient|.

    Convention:
        As :meth:`Explanation.top`: ties to the lower id. A coefficient of 0 is no evidence and is
        in no set; 1 where both sets are empty.

    Args:
        explanations: as for :func:`rank_correlation`.
        top: the size of the sets, where an image has as many segments.

    Raises:
        ValueError: as :func:`rank_correlation`, or ``top`` below 1.
    """
    check_count(top, "top")
    return _mean_over_pairs(explanations, lambda e: _strongest(e, top), _jaccard)


def share_inside(explanation: Explanation, inside: Tensor) -> Tensor:
    """Share of the positive evidence that lies inside an object: [B,T], in [0,1].

    Σ max(cₛ, 0) · |s ∩ M| / |s| over Σ max(cₛ, 0): a coefficient belongs to its segment as a
    whole, so it is spread evenly over the segment's pixels. Relevance mass accuracy (Arras et al.
    2022) for explanations by segments.

    Convention:
        0 where an image has no positive evidence.

    Args:
        explanation: of B images.
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
    segments = _segments(explanation)
    shape = segments.labels.shape
    check_object(inside, shape, "inside")
    check_same_device(inside, segments.labels, "inside")
    pixels = inside.expand(shape)[:, None].to(explanation.coefficients.dtype)
    sizes = segment_sizes(segments)[:, None].clamp(min=1)
    evidence = explanation.coefficients.clamp(min=0)
    total = evidence.sum(2)
    hit = (evidence * (segment_sums(pixels, segments) / sizes)).sum(2)
    return _unless_broken(torch.where(total > 0, hit / total, 0.0), explanation)


def _area(
    model: Model,
    images: Tensor,
    explanation: Explanation,
    fill: Fill | Tensor | None,
    shown: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Normalised trapezoid [B,T] of the scores of masks ``shown(ranks, step)``, step = 0 … K."""
    segments = _segments(explanation)
    check_images(images)
    check_same_device(segments.labels, images, "the explanation")
    explainer, forward = explanation.explainer, Forward()
    if isinstance(explainer, Lime):
        forward = Forward(chunk_size=explainer.chunk_size, autocast=explainer.autocast)
    fill = _explainer(explanation).fill if fill is None else fill
    exists = present(explanation.segment_count, segments.bound)
    targets = explanation.targets.shape[1]
    strength = explanation.coefficients.masked_fill(~exists, -torch.inf)
    order = strength.sort(dim=2, descending=True, stable=True).indices
    ranks = order.argsort(dim=2)[:, :, None]  # [B,T,1,S]
    step = torch.arange(segments.bound + 1, device=images.device)[:, None]
    masks = shown(ranks, step) & exists[:, None]  # [B,T,S+1,S]
    scores = score_masks(
        model, images, segments, fill, masks.flatten(1, 2), explanation.targets, forward=forward
    )
    own = scores.unflatten(1, (targets, segments.bound + 1)).diagonal(dim1=1, dim2=3)  # [B,S+1,T]
    count = explanation.segment_count[:, None, None]
    weights = (step <= count).to(own.dtype) - ((step == 0) | (step == count)).to(own.dtype) / 2
    return _unless_broken(
        torch.where(step <= count, weights * own, 0.0).sum(1) / count[:, 0], explanation
    )


def _unless_broken(values: Tensor, *explanations: Explanation) -> Tensor:
    """``values`` [B,T], NaN where an explanation says nothing."""
    for e in explanations:
        in_range = (e.problems & Problem.TARGET_OUT_OF_RANGE) == 0
        sound = e.coefficients.isfinite().all(2) & in_range[:, None]
        values = torch.where(sound, values, torch.nan)
    return values


def _weighted_r2(scores: Tensor, fitted: Tensor, weights: Tensor) -> Tensor:
    """1 − Σ w (y − g)² / Σ w (y − ȳ)² over the samples: [B,T]; 0 where the scores do not vary."""
    mean = (weights * scores).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    unexplained = (weights * (scores - fitted).square()).sum(1)
    variation = (weights * (scores - mean).square()).sum(1)
    constant = (scores == scores[:, :1]).all(1) | (variation == 0)
    return torch.where(constant, 0.0, 1 - unexplained / variation)


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
            "two or more explanations of the same images, segments and targets are compared, got "
            f"{len(explanations)} with coefficients, segments and device {sorted(kinds)}"
        )
    alike = _alike(explanations)
    described = [describe(e) for e in explanations]
    pairs = [compare(a, b) for a, b in itertools.combinations(described, 2)]
    return _unless_broken(torch.where(alike, torch.stack(pairs).mean(0), torch.nan), *explanations)


def _shape(explanation: Explanation) -> tuple[int, ...]:
    return () if explanation.segments is None else tuple(explanation.segments.shape)


def _alike(explanations: Sequence[Explanation]) -> Tensor:
    """Where all explain the same segments and targets: [B,T] bool. On a CPU that is everywhere."""
    first, *others = explanations
    alike = torch.ones_like(first.targets, dtype=torch.bool)
    for e in others:
        alike &= (e.segment_count == first.segment_count)[:, None]
        if e.segments is not None and first.segments is not None:
            alike &= (e.segments == first.segments).flatten(1).all(1)[:, None]
        alike &= e.targets == first.targets
    if alike.device.type == "cpu" and not alike.all():
        images = (~alike).any(1).nonzero().flatten().tolist()  # of a CPU's tensor, for the error
        raise ValueError(f"the explanations of images {images} differ in their segments or targets")
    return alike


def _centred_ranks(explanation: Explanation) -> Tensor:
    """Mean ranks less their mean: [B,T,S], 0 beyond the count."""
    exists = present(explanation.segment_count, explanation.coefficients.shape[2])
    values = explanation.coefficients
    others = exists[..., None, :]
    below = (values[..., None] > values[..., None, :]) & others
    equal = (values[..., None] == values[..., None, :]) & others
    ranks = (2 * below.sum(-1) + equal.sum(-1)).to(values.dtype) / 2  # from ½: the mean is count/2
    return (ranks - explanation.segment_count[:, None, None] / 2).masked_fill(~exists, 0.0)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(2) / (a.square().sum(2) * b.square().sum(2)).sqrt()


def _strongest(explanation: Explanation, top: int) -> Tensor:
    """Whether a segment is among the ``top``: [B,T,S] bool."""
    ids, values = explanation.top(top)
    chosen = torch.zeros_like(explanation.coefficients, dtype=torch.int64)
    found = (values != 0).long()
    return chosen.scatter_add(2, ids.clamp(min=0), found).bool()


def _jaccard(a: Tensor, b: Tensor) -> Tensor:
    union = (a | b).sum(2)
    return torch.where(union > 0, (a & b).sum(2) / union.clamp(min=1), 1.0)


def _segments(explanation: Explanation) -> Segments:
    labels, count = label_map_of(explanation), explanation.segment_count
    ok = torch.ones_like(count, dtype=torch.bool)
    return Segments(labels, count, ok, explanation.coefficients.shape[2])


def _explainer(explanation: Explanation) -> Lime:
    """The explainer that made it."""
    label_map_of(explanation)
    if not isinstance(explanation.explainer, Lime):
        raise ValueError(
            "the explanation has no explainer: it was loaded from a file, which holds no "
            "strategies, or was not made by torchlime.Lime; explain again"
        )
    return explanation.explainer
