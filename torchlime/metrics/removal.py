"""Whether the evidence of hidden segments adds up to the effect of hiding them.

Convention:
    The drop of a set of segments is the score of the whole image minus the score of the image in
    which they are hidden. The evidence of a set is the sum of its coefficients. All segments of a
    set are hidden at once. Sets are drawn by the counter hash: they depend on (seed, sample,
    segment) alone, and all targets of an image share their forward passes. The results are NaN if
    an image's evidence is not finite, and if a correlation is not defined. This is so if the
    evidence or the score is the same for all sets, for example if the image has one segment.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchlime._checks import check_count, check_fraction, check_real, is_integer
from torchlime._hash import hash64, numbers, seeds_of, shift_right
from torchlime._inputs import Extra, Inputs, as_inputs
from torchlime._row_blocks import row_blocks
from torchlime.black_box import Model
from torchlime.lime import AnyFill
from torchlime.masks import present
from torchlime.metrics._correlation import pearson, spearman
from torchlime.metrics._scoring import scores_of_masks
from torchlime.metrics.evidence import PIXELS_ONE_BY_ONE, AnyEvidence, Evidence, evidence_of

Sizes = int | float | Sequence[int | float]


def infidelity(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    num_samples: int = 200,
    hidden: float = 0.5,
    scaled: bool = False,
    fill: AnyFill | None = None,
    seed: int | Tensor = 0,
    extra: Extra = None,
) -> Tensor:
    """Mean squared difference between the evidence and the drops of random sets: [B,T].

    E[(Iᵀφ − (f(x) − f(x − I)))²] of Yeh et al. 2019, "On the (In)fidelity and Sensitivity of
    Explanations". The perturbation I takes each segment away with probability ``hidden``. Lower is
    better; the smallest value is 0, and the unit is that of the squared score. Sets that are drawn
    in another way give other values.

    Convention:
        With ``scaled``, φ is first multiplied by the number β that minimises the result, as Yeh et
        al. do for methods whose evidence has its own scale: β = Σ Iᵀφ · drop / Σ (Iᵀφ)², and 0
        where the evidence is 0. Captum's ``normalize=True`` does the same. Quantus hides square
        patches one after another, and multiplies the evidence by the change of each pixel. Here I
        is 1 for a hidden segment, because a coefficient is the change of the score when its segment
        is hidden.

    Args:
        model, images, explanation, extra: as for :func:`torchlime.metrics.deletion`.
        num_samples: sets for each image; the model gets one more row.
        hidden: the probability that a segment is hidden, between 0 and 1.
        scaled: scale the evidence first, as is right for heatmaps such as Grad-CAM's.
        fill: what a hidden segment shows; None = the explanation's own fill.
        seed: an int, or an int64 tensor [B] that gives each image its own.

    Raises:
        TypeError, ValueError: an argument is out of range, or as :func:`torchlime.metrics.deletion`
            does.

    Example:
        >>> from torchlime import explain, fills, segments
        >>> image = torch.tensor([[[[3.0, 1.0]]]])
        >>> def model(x):
        ...     return x.sum((2, 3))
        >>> black = fills.Constant(0.0)
        >>> e = explain(model, image, segmenter=segments.Grid(1, 2), fill=black)
        >>> infidelity(model, image, e).item() < 0.02
        True
    """
    check_count(num_samples, "num_samples")
    check_fraction(hidden, "hidden")
    inputs = as_inputs(images, model)
    evidence = evidence_of(explanation, inputs, fill)
    least = int(hidden * 2**53)
    gone = _sets(seed, evidence, num_samples, lambda bits, _: shift_right(bits, 11) < least)
    sums, drops = _removed(model, inputs, evidence, gone, extra)
    if scaled:
        power = sums.square().sum(1, keepdim=True)
        fitted = (sums * drops).sum(1, keepdim=True) / torch.where(power > 0, power, 1.0)
        sums = fitted * sums
    return torch.where(evidence.sound, (sums - drops).square().mean(1), torch.nan)


def sensitivity_n(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    sizes: Sizes = (0.1, 0.2, 0.4, 0.8),
    num_samples: int = 100,
    fill: AnyFill | None = None,
    seed: int | Tensor = 0,
    extra: Extra = None,
) -> Tensor:
    """Correlation of evidence and drop over random sets of n segments, averaged over n: [B,T].

    This is sensitivity-n of Ancona et al. 2018, "Towards better understanding of gradient-based
    attribution methods": Pearson's correlation of Σ_{s∈S} φₛ and f(x) − f(x without S) over random
    sets S of one size n. The paper plots it against n; for this curve, call the function with one
    size at a time. It lies in [−1, 1]; higher is better.

    Convention:
        The sets are random, as in the paper. SensitivityN of Quantus hides the strongest features
        one after another and draws no sets, so its numbers differ.

    Args:
        model, images, explanation, extra, fill, seed: as for :func:`infidelity`.
        sizes: the sizes of the sets: an int is a number of segments; a float between 0 and 1 is a
            share of the image's own number, rounded, at least 1. The result is NaN for an image
            that does not have more segments than each size.
        num_samples: sets of each size for each image, at least 2.

    Raises:
        TypeError, ValueError: an argument is out of range, or as :func:`torchlime.metrics.deletion`
            does.

    Example:
        >>> from torchlime import explain, fills, segments
        >>> image = torch.rand(1, 3, 16, 16)
        >>> def model(x):
        ...     return x.mean((2, 3))
        >>> black = fills.Constant(0.0)
        >>> e = explain(model, image, segmenter=segments.Grid(4, 4), fill=black)
        >>> sensitivity_n(model, image, e, sizes=(2, 0.5)).item() > 0.99
        True
    """
    check_count(num_samples, "num_samples", 2)
    inputs = as_inputs(images, model)
    evidence = evidence_of(explanation, inputs, fill)
    each = [_number(size, evidence.count) for size in _listed(sizes)]
    size = torch.stack(each, dim=1).repeat_interleave(num_samples, dim=1)  # [B,N]
    gone = subsets(evidence, size, seed)
    sums, drops = _removed(model, inputs, evidence, gone, extra)
    shape = (len(each), num_samples)
    sums, drops = (side.mT.unflatten(2, shape) for side in (sums, drops))
    found = pearson(sums, drops)  # [B,T,sizes]
    inner = torch.stack(each, dim=1)[:, None] < evidence.count[:, None, None]
    return torch.where(evidence.sound, torch.where(inner, found, torch.nan).mean(2), torch.nan)


def faithfulness_correlation(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    size: int | float = 0.2,
    num_samples: int = 100,
    fill: AnyFill | None = None,
    seed: int | Tensor = 0,
    extra: Extra = None,
) -> Tensor:
    """Correlation of evidence and drop over random sets of one size: [B,T].

    This is the measure of Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model
    Explanations": sensitivity-n at one n. In the paper, hidden features show a baseline, which is
    ``fill`` here. It lies in [−1, 1]; higher is better.

    Args:
        model, images, explanation, extra, fill, seed: as for :func:`infidelity`.
        size: the size of the sets, as in :func:`sensitivity_n`.
        num_samples: sets for each image, at least 2.

    Raises:
        TypeError, ValueError: an argument is out of range, or as :func:`torchlime.metrics.deletion`
            does.

    Example:
        >>> from torchlime import fills
        >>> image = torch.rand(1, 1, 4, 4)
        >>> heatmap = image[:, 0] - image.mean()
        >>> def model(x):
        ...     return x.sum((2, 3))
        >>> round(faithfulness_correlation(model, image, heatmap, size=3).item(), 3)
        1.0
    """
    if not is_integer(size):
        check_real(size, "size")
    return sensitivity_n(
        model, images, explanation, sizes=(size,), num_samples=num_samples, fill=fill, seed=seed,
        extra=extra,
    )  # fmt: skip


def faithfulness_estimate(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    fill: AnyFill | None = None,
    extra: Extra = None,
) -> Tensor:
    """Correlation of each segment's evidence and its drop when only it is hidden: [B,T].

    This is Pearson's correlation, as Alvarez-Melis & Jaakkola 2018 measure it in "Towards Robust
    Interpretability with Self-Explaining Neural Networks". It lies in [−1, 1]; higher is better.
    The model gets S + 1 rows for an image.

    Args:
        model, images, explanation, fill, extra: as for :func:`infidelity`.

    Raises:
        TypeError, ValueError: as :func:`torchlime.metrics.deletion` does; or a heatmap has no
            segments and more than 4096 pixels.

    Example:
        >>> from torchlime import fills
        >>> image = torch.tensor([[[[3.0, 1.0, 2.0]]]])
        >>> def model(x):
        ...     return x.sum((2, 3))
        >>> black, heatmap = fills.Constant(0.0), 5 * image[:, 0]
        >>> round(faithfulness_estimate(model, image, heatmap, fill=black).item(), 6)
        1.0
    """
    evidence, sums, drops, exists = _alone(model, images, explanation, fill, extra)
    return torch.where(evidence.sound, pearson(sums, drops, exists), torch.nan)


def monotonicity(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    fill: AnyFill | None = None,
    extra: Extra = None,
) -> Tensor:
    """Rank correlation of |evidence| and |drop| of each segment when only it is hidden: [B,T].

    This is Spearman's correlation, as Nguyen & Martínez 2020 measure it in "On quantitative aspects
    of model interpretability". The paper averages the squared change over random fills; with one
    fill, its order is that of the absolute change. It lies in [−1, 1]; higher is better.

    Args:
        model, images, explanation, fill, extra: as for :func:`faithfulness_estimate`.

    Raises:
        TypeError, ValueError: as :func:`faithfulness_estimate` does.

    Example:
        >>> from torchlime import fills
        >>> image = torch.tensor([[[[3.0, 1.0, 2.0]]]])
        >>> def model(x):
        ...     return -x.sum((2, 3))
        >>> black, heatmap = fills.Constant(0.0), image[:, 0].square()
        >>> monotonicity(model, image, heatmap, fill=black).item()
        1.0
    """
    evidence, sums, drops, exists = _alone(model, images, explanation, fill, extra)
    return torch.where(evidence.sound, spearman(sums.abs(), drops.abs(), exists), torch.nan)


def subsets(evidence: Evidence, size: Tensor, seed: int | Tensor) -> Tensor:
    """Random sets [B,N,S] bool of ``size`` [B,N] features; none beyond the count."""
    exists = present(evidence.count, evidence.values.shape[2])
    last = torch.iinfo(torch.int64).max

    def first_ones(bits: Tensor, rows: slice) -> Tensor:
        order = bits.masked_fill(~exists, last).sort(dim=2, stable=True).indices
        return order.argsort(dim=2) < size[:, rows, None]

    return _sets(seed, evidence, size.shape[1], first_ones) & exists


def _sets(
    seed: int | Tensor, evidence: Evidence, samples: int, chosen: Callable[[Tensor, slice], Tensor]
) -> Tensor:
    """Sets [B,N,S] bool, by ``chosen(bits [B,n,S], rows)`` of 64 bits for each entry."""
    count, (batch, _, bound) = evidence.count, evidence.values.shape
    seeds = seeds_of(seed, count).expand(batch)[:, None, None]
    number, features = numbers(samples, count)[:, None], numbers(bound, count)
    sets = torch.empty(batch, samples, bound, dtype=torch.bool, device=count.device)
    for rows in row_blocks(samples, batch * bound, count.device):
        sets[:, rows] = chosen(hash64(seeds, number[rows], features), rows)
    return sets


def _removed(
    model: Model, inputs: Inputs, evidence: Evidence, gone: Tensor, extra: Extra
) -> tuple[Tensor, Tensor]:
    """The evidence and the drops [B,N,T] of the sets ``gone`` [B,N,S]."""
    exists = present(evidence.count, gone.shape[2])
    whole = torch.cat([torch.ones_like(gone[:, :1]), ~gone], dim=1) & exists
    scores = scores_of_masks(model, inputs, evidence, whole, extra)
    drops = scores[:, :1] - scores[:, 1:]
    sums, values = torch.empty_like(drops), evidence.values.mT.to(scores.dtype)
    for rows in row_blocks(drops.shape[1], gone[:, 0].numel(), gone.device):
        sums[:, rows] = (gone[:, rows] & exists).to(values.dtype) @ values
    return sums, drops


def _alone(
    model: Model, images: Inputs, explanation: AnyEvidence, fill: AnyFill | None, extra: Extra
) -> tuple[Evidence, Tensor, Tensor, Tensor]:
    """The evidence, and the evidence and drops [B,T,S] of each feature alone, and which exist."""
    inputs = as_inputs(images, model)
    evidence = evidence_of(explanation, inputs, fill)
    batch, _, bound = evidence.values.shape
    if evidence.by_pixel and bound > PIXELS_ONE_BY_ONE:
        raise ValueError(
            f"every feature is hidden alone, and a heatmap without segments has {bound}; pass "
            "Heatmap(values=…, segments=…), such as a label map of 50 segments"
        )
    one = torch.eye(bound, dtype=torch.bool, device=evidence.count.device).expand(batch, -1, -1)
    _, drops = _removed(model, inputs, evidence, one, extra)
    return evidence, evidence.values.to(drops.dtype), drops.mT, present(evidence.count, bound)


def _listed(sizes: Sizes) -> list[int | float]:
    listed = list(sizes) if isinstance(sizes, Sequence) else [sizes]
    if not listed:
        raise ValueError("sizes must hold at least one size, such as 0.2 of the segments")
    for size in listed:
        if is_integer(size):
            check_count(size, "a size")
        else:
            check_fraction(size, "a size that is no int")
    return listed


def _number(size: int | float, count: Tensor) -> Tensor:
    """How many features a size is, of each image: [B] int64."""
    if is_integer(size):
        return torch.full_like(count, int(size))
    return (count * float(size) + 0.5).floor().long().clamp(min=1)
