"""How faithful an explanation is to the model: the effect of hiding and showing its evidence."""

import dataclasses

import torch
from torch import Tensor

from torchlime._checks import check_count, is_integer
from torchlime._hash import numbers
from torchlime._inputs import Extra, Inputs, as_inputs, as_vectors
from torchlime.black_box import Model
from torchlime.explanation import Explanation
from torchlime.lime import AnyFill
from torchlime.local import Samples
from torchlime.masks import present
from torchlime.metrics._scoring import scores_of_masks
from torchlime.metrics._shared import explainer_of, given_segments, targets_of, unless_broken
from torchlime.metrics.evidence import AnyEvidence, evidence_of, ranks_of
from torchlime.rise import Rise
from torchlime.rounds import Until
from torchlime.vectors import VectorLime

STEPS_OF_PIXELS = 28


def deletion(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    fill: AnyFill | None = None,
    extra: Extra = None,
    steps: int | None = None,
) -> Tensor:
    """Area under the score while whole segments are hidden, the strongest first: [B,T].

    The target's score is yₖ when the first k of K segments are hidden. The area is the normalised
    trapezoid (Σ yₖ − (y₀ + y_K)/2) / K. Petsiuk et al. 2018 (RISE) hide pixels. Here all pixels of
    a segment have the same evidence, so whole segments are hidden. Lower is better: then the
    strongest segments matter most to the model.

    Convention:
        Segments are hidden in the order of descending signed coefficient; among ties, the lower id
        comes first. K is the image's own count. Scores are the model's outputs as they are; to get
        probabilities, wrap the model.

    Args:
        model: as for :meth:`torchlime.Lime.explain`.
        images: [B,C,H,W], the explained ones.
        explanation: the explanation of these images; or a :class:`Heatmap` or tensor [B,H,W].
        fill: what a hidden segment shows; None = the explanation's own fill, and for heatmaps the
            mean colour of the image.
        extra: inputs that are only passed on, as for the explanation.
        steps: the number of equal steps in which the segments are hidden. None = one segment after
            another, or 28 steps if every pixel is a segment, as in RISE's own evaluation.

    Raises:
        TypeError: the explanation, the images or ``steps`` have another type.
        ValueError: the explanation comes from a file, which holds no strategies, and ``fill`` is
            not given; the images do not fit; or ``steps`` is below 1.

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
    return _area(model, images, explanation, fill, extra, steps, False)


def insertion(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    fill: AnyFill | None = None,
    extra: Extra = None,
    steps: int | None = None,
) -> Tensor:
    """Area under the score while whole segments are shown, the strongest first: [B,T].

    It is like :func:`deletion`, but goes from the image with every segment hidden to the whole
    image. Higher is better. Petsiuk et al. 2018 begin with a blurred image: ``fill=Blur(5.0)``.
    Arguments and errors are those of :func:`deletion`.

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
    return _area(model, images, explanation, fill, extra, steps, True)


def fidelity(
    model: Model,
    images: Inputs,
    explanation: Explanation,
    *,
    seed: int | Tensor,
    num_samples: int | None = None,
    extra: Extra = None,
) -> Tensor:
    """Weighted R² of the surrogate on masks that it was not fitted to: [B,T].

    The value is 1 − Σ w (y − g(z))² / Σ w (y − ȳ)², where g is the surrogate and ȳ the weighted
    mean. The sums are over fresh samples of the explanation's own sampler, fill and kernel, without
    the whole image. ``explanation.fidelity`` is the same quantity on the samples of the fit, so it
    is usually higher. For vectors, the sums are over all samples of fresh noise.

    Convention:
        The value is at most 1. It is below 0 if a constant would predict better, and 0 if the
        scores do not vary. It is NaN where ``explanation.fidelity`` is NaN, as for occlusion.
        ``Exhaustive`` has no fresh masks, because all seeds give the same masks.

    Args:
        model, images, explanation: as for :func:`deletion`.
        seed: the seed of the fresh masks. It must not be the explanation's own seed; a tensor is
            not checked for this.
        num_samples: the number of samples, at least 3; None = the number of the explanation, or the
            largest number that one of its images took.
        extra: as for :func:`deletion`.

    Raises:
        TypeError: ``seed`` is neither an int nor a tensor, or ``num_samples`` is not an int.
        ValueError: ``seed`` is the explanation's own; ``num_samples`` is below 3; the explanation
            comes from a file, which holds no strategies; or Rise made it.
    """
    if not (is_integer(seed) or isinstance(seed, Tensor)):
        raise TypeError(f"seed must be an int or an int64 tensor [B], got {type(seed).__name__}")
    if num_samples is not None:
        check_count(num_samples, "num_samples", 3)
    if is_integer(seed) and seed == explanation.settings["seed"]:
        raise ValueError(f"seed={seed} drew the masks of the fit; fresh masks need another")

    explainer = explanation.explainer
    if not isinstance(explainer, VectorLime):
        explainer = explainer_of(explanation)
    if isinstance(explainer, Rise):
        raise ValueError(
            "fidelity measures a surrogate, and the saliency of Rise predicts no score; use "
            "deletion and insertion"
        )
    used = explanation.samples_used
    if num_samples is None and isinstance(explainer.rounds, Until) and used is not None:
        num_samples = max(int(used.max()), 3)  # read back
    if num_samples is not None:
        explainer = dataclasses.replace(explainer, num_samples=num_samples)
    targets = targets_of(explanation)
    if isinstance(explainer, VectorLime):
        samples = explainer.samples(model, as_vectors(images, model), targets, seed=seed)
    else:
        given = given_segments(explanation)
        samples = explainer.samples(model, images, targets, **given, extra=extra, seed=seed)
    found = torch.where(explanation.fidelity.isnan(), torch.nan, _weighted_r2(samples, explanation))
    return unless_broken(found, explanation)


def _area(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    fill: AnyFill | None,
    extra: Extra,
    steps: int | None,
    inserted: bool,
) -> Tensor:
    """Normalised trapezoid [B,T] of the scores while features are hidden or shown in steps."""
    if steps is not None:
        check_count(steps, "steps")
    inputs = as_inputs(images, model)
    evidence = evidence_of(explanation, inputs, fill)
    (batch, targets, bound), count = evidence.values.shape, evidence.count
    if steps is None and evidence.by_pixel:
        steps = min(STEPS_OF_PIXELS, bound)
    rows = (bound if steps is None else steps) + 1
    step = numbers(rows, count)
    if steps is None:
        last, changed = count, step.expand(batch, -1)
    else:
        last = torch.full_like(count, steps)
        changed = (2 * step * count[:, None] + steps) // (2 * steps)  # the nearest whole number
    exists = present(count, bound)[:, None]
    ranks = ranks_of(evidence)[:, :, None]  # [B,T,1,S]
    # The first row must show all: an insertion runs backwards.
    changed = (changed.flip(1) if inserted else changed)[:, None, :, None]
    masks = (ranks < changed if inserted else ranks >= changed) & exists
    scores = scores_of_masks(model, inputs, evidence, masks.flatten(1, 2), extra)
    own = scores.unflatten(1, (targets, rows)).diagonal(dim1=1, dim2=3)  # [B,rows,T]
    step, last = (step.flip(0) if inserted else step)[:, None], last[:, None, None]
    weights = (step <= last).to(own.dtype) - ((step == 0) | (step == last)).to(own.dtype) / 2
    area = torch.where(step <= last, weights * own, 0.0).sum(1) / last[:, 0]
    return torch.where(evidence.sound, area, torch.nan)


def _weighted_r2(samples: Samples, explanation: Explanation) -> Tensor:
    """1 − Σ w (y − g)² / Σ w (y − ȳ)² over the samples: [B,T]; 0 where the scores do not vary."""
    scores, weights = samples.scores, samples.weights[..., None]
    design = samples.design.to(scores.dtype)
    if not samples.beside:  # the first row, the whole image, was in the fit too
        design, scores, weights = design[:, 1:], scores[:, 1:], weights[:, 1:]
    origin = explanation.intercepts
    if explanation.scale is not None:
        design, origin = design * explanation.scale[:, None], explanation.local_predictions
    fitted = design @ explanation.coefficients.mT + origin[:, None]
    mean = (weights * scores).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    unexplained = (weights * (scores - fitted).square()).sum(1)
    variation = (weights * (scores - mean).square()).sum(1)
    constant = (scores == scores[:, :1]).all(1) | (variation == 0)
    return torch.where(constant, 0.0, 1 - unexplained / variation)
