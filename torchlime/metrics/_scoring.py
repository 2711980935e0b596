"""The scores of masked images and of images that a metric makes, with the unmasked images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._inputs import Extra
from torchlime._several import leaves_of
from torchlime._undisturbed import undisturbed
from torchlime.black_box import BlackBox, Model
from torchlime.features.given import features_of
from torchlime.features.pixels import default_chunk_size
from torchlime.metrics.evidence import Evidence
from torchlime.predictions import Predictions
from torchlime.strategies import Block, Rows
from torchlime.targets import scores_for

Maker = Callable[[slice, slice], Tensor]


def scores_of_masks(
    model: Model, inputs: Any, evidence: Evidence, masks: Tensor, extra: Extra = None
) -> Tensor:
    """The scores [B,N,T] of inputs under masks [B,N,S]; the first row must keep all.

    This row is the unmasked input, in which scores such as the best region are found. The result is
    NaN where a target is out of range.
    """
    with undisturbed(leaves_of(inputs)[0].device):
        features = features_of(
            inputs, evidence.segments, evidence.fill, evidence.max_segments, extra
        )
        masks = features.kind.check(masks, features.count, features.bound)
    box = BlackBox(
        model, features.count.device, evidence.forward, features.kind.these, features.call
    )
    rows = features.rows(masks, box, 0)
    return _scores(box, inputs, evidence, rows, masks.shape[1], features.chunk_size)


def scores_of_images(
    model: Model, images: Tensor, evidence: Evidence, make: Maker, number: int
) -> Tensor:
    """The scores [B,1+number,T] of the images, and of the images that ``make`` makes from them.

    Args:
        model: as for :meth:`torchlime.Lime.explain`.
        images: [B,C,*axes].
        evidence: what is scored, and how.
        make: numbers of images and of rows (0 … number − 1), as slices → [b,n,C,*axes].
        number: how many images are made from each image.
    """
    box = BlackBox(model, images.device, evidence.forward, "the images are")

    def rows(blocks: list[Block], size: int) -> Tensor:
        chunk = torch.cat([_made(images, make, *block) for block in blocks])
        padding = chunk[-1:].expand(size - len(chunk), *chunk.shape[1:])
        return torch.cat([chunk, padding]).to(box.dtype or images.dtype)

    pixels = images[0, 0].numel()
    chunk_size = default_chunk_size(images.device, pixels)
    return _scores(box, images, evidence, rows, number + 1, chunk_size)


def _made(images: Tensor, make: Maker, which: slice, samples: slice) -> Tensor:
    """The images [b·n,C,*axes] of a block; sample 0 is the image as it is."""
    parts = [images[which, None]] if samples.start == 0 else []
    made = slice(max(samples.start - 1, 0), samples.stop - 1)
    if made.stop > made.start:
        parts.append(make(which, made).to(images.dtype))
    return torch.cat(parts, dim=1).flatten(0, 1)


def _scores(
    box: BlackBox, inputs: Any, evidence: Evidence, rows: Rows, number: int, chunk_size: int
) -> Tensor:
    batch, targets = evidence.sound.shape
    scores = scores_for(inputs, evidence.targets, 1)
    with undisturbed(box.device):
        predict = Predictions(box, scores, batch, evidence.forward, chunk_size, batch * number)
        found = predict(rows, number)
    if found.shape[2] != targets:
        raise ValueError(
            f"the evidence is of {targets} targets, and {found.shape[2]} are scored; pass "
            "Heatmap(values=…, targets=…) with as many targets as heatmaps (a heatmap [B,C,H,W] of "
            "one target must be summed over its channels)"
        )
    in_range = predict.reference.get("in_range")
    if in_range is None:
        return found
    return torch.where(in_range[:, None, None], found, torch.nan)
