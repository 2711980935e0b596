"""ROAD: scores while pixels are replaced by estimates from their neighbours."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from torchlime._checks import check_count, check_images, check_real
from torchlime._explained import on_pixels
from torchlime._hash import numbers
from torchlime._inputs import Inputs, as_inputs
from torchlime._labelmap import Segments
from torchlime._row_blocks import row_blocks
from torchlime._several import is_several
from torchlime._softmap import is_soft
from torchlime.black_box import Model
from torchlime.fills import ImageMean
from torchlime.metrics._imputation import imputed
from torchlime.metrics._scoring import scores_of_images
from torchlime.metrics.evidence import AnyEvidence, Evidence, evidence_of, ranks_of
from torchlime.noise import Gaussian

Order = Literal["morf", "lerf"]


def road(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    percentages: Sequence[int] = (10, 20, 30, 40, 50, 60, 70, 80, 90),
    order: Order = "morf",
    noise: float = 0.01,
    iterations: int = 200,
    seed: int | Tensor = 0,
) -> Tensor:
    """Mean score while shares of the image are imputed from the other pixels: [B,T].

    This is ROAD (Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution
    Methods"). Hidden pixels become weighted means of their neighbours: 1/6 for one at an edge, and
    1/12 for one at a corner. Some noise is added, so that the shape of the hidden area tells the
    model little. With "morf", the strongest evidence is hidden first, and lower is better. With
    "lerf", the weakest evidence is hidden first, and higher is better.

    Convention:
        p % of an image's features are hidden, rounded down. At least one feature is hidden, and at
        least one is shown. Features are whole segments, or pixels if a heatmap has no segments. The
        result is NaN for an image with one segment. Rong et al. average the accuracy of the model.
        Here the mean is that of the explained score; to get the accuracy, explain a function of the
        outputs: ``lambda outputs, rows: (outputs.argmax(1) == label[rows]).float()``.

    Args:
        model, images, explanation: as for :func:`torchlime.metrics.deletion`, images [B,C,H,W].
        percentages: ints between 1 and 99.
        order: "morf" or "lerf".
        noise: standard deviation of the noise in hidden pixels, in units of the images.
        iterations: steps of conjugate gradients for the linear system. On images of 224×224 pixels
            in [0,1], 200 were measured to leave an error below 0.002, and 400 one below 10⁻⁵.
        seed: the seed of the noise; an int, or an int64 tensor [B].

    Raises:
        TypeError, ValueError: an argument is out of range, or the inputs are not images [B,C,H,W].

    Example:
        >>> from torchlime import explain, segments
        >>> image = torch.zeros(1, 1, 8, 8)
        >>> image[..., :2, :2] = 1.0
        >>> def model(x):
        ...     return x.sum((2, 3))
        >>> e = explain(model, image, segmenter=segments.Grid(4, 4))
        >>> road(model, image, e).item() < road(model, image, e, order="lerf").item()
        True
    """
    if isinstance(percentages, str) or not isinstance(percentages, Sequence) or not percentages:
        raise TypeError(f"percentages must be a list of ints such as (10, 50), got {percentages!r}")
    for percentage in percentages:
        check_count(percentage, "a percentage")
        if percentage > 99:
            raise ValueError(f"a percentage must be below 100, got {percentage}")
    if order not in get_args(Order):
        raise ValueError(f"order must be one of {get_args(Order)}, got {order!r}")
    check_real(noise, "noise")
    check_count(iterations, "iterations")
    inputs = as_inputs(images, model)
    if is_several(inputs):
        raise ValueError("road imputes the pixels of one input; the model has several")
    check_images(inputs)
    # Pixels are imputed, so the fill is not used; an explanation from a file has none.
    evidence = evidence_of(explanation, inputs, ImageMean())
    targets, number = evidence.values.shape[1], len(percentages)
    features = _hidden(evidence, [int(p) for p in percentages], order)
    labels = _labels(evidence)
    shape = inputs.shape[1:]
    drawn = Gaussian(antithetic=False)(evidence.count, shape.numel(), max(number, 2), seed=seed)

    def make(which: slice, samples: slice) -> Tensor:
        at = numbers(samples.stop - samples.start, evidence.count, samples.start)
        pixels = on_pixels(features[which, samples], labels[which])  # [b,n,H,W]
        shown = inputs[which, None].expand(-1, len(at), -1, -1, -1)
        made = _imputed(
            shown.flatten(0, 1), pixels.flatten(0, 1), drawn[which][:, at % number].flatten(0, 1),
            noise, iterations,
        )  # fmt: skip
        return made.view(shown.shape)

    scores = scores_of_images(model, inputs, evidence, make, targets * number)[:, 1:]
    own = scores.unflatten(1, (targets, number)).diagonal(dim1=1, dim2=3)  # [B,number,T]
    defined = evidence.sound & (evidence.count > 1)[:, None]
    return torch.where(defined, own.mean(1), torch.nan)


def _hidden(evidence: Evidence, percentages: list[int], order: Order) -> Tensor:
    """Which features are hidden: [B,T·number,S] bool."""
    ranks, count = ranks_of(evidence)[:, :, None], evidence.count
    if order == "lerf":
        ranks = count[:, None, None, None] - 1 - ranks  # below 0 beyond the count
    each = [torch.minimum((count * p // 100).clamp(min=1), count - 1) for p in percentages]
    hidden = (ranks < torch.stack(each, dim=1)[:, None, :, None]) & (ranks >= 0)
    return hidden.flatten(1, 2)


def _labels(evidence: Evidence) -> Tensor:
    segments = evidence.segments
    labels = segments.labels if isinstance(segments, Segments) else segments
    if is_soft(labels) or labels.dim() != 3:
        raise ValueError("road needs one label map [B,H,W] for all channels, and no soft segments")
    return labels


def _imputed(
    images: Tensor, hidden: Tensor, drawn: Tensor, noise: float, iterations: int
) -> Tensor:
    """Images [n,C,H,W] whose pixels hidden [n,H,W] are imputed; drawn [n,C·H·W] is their noise."""
    made = torch.empty_like(images, memory_format=torch.contiguous_format)
    for rows in row_blocks(len(images), images[0].numel(), images.device):
        pixels, gone = imputed(images[rows], hidden[rows], iterations), hidden[rows, None]
        made[rows] = torch.where(gone, pixels + noise * drawn[rows].view(pixels.shape), pixels)
    return made
