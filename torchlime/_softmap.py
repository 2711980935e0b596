"""Soft masks: features that overlap, and that fade in and out."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchlime._checks import check_same_device


class SoftSegments(NamedTuple):
    """Soft segments of a batch of inputs [B,C,*axes]: how much of each entry is whose.

    Where masks overlap, they share: the share of mask s is mask_s / max(Σ masks, 1). A row of the
    design shows input · m + fill · (1 − m), where 1 − m is the sum of the hidden shares. So the
    whole input is shown where all are kept; what no mask covers is always kept; disjoint masks of
    0 and 1 do what a label map does; and m is linear in the design, so that a model linear in its
    input gives its coefficients back, however masks overlap.

    Convention:
        shares: [B,S,*axes] float in [0,1], of sum 1 at most over S; or [B,S,C or 1,*axes] where
            channels have masks of their own. An axis of 1 stands for all of its entries.
        count: [B] int64, S for each.
        ok: [B] bool, False where a mask is not in [0,1].
        bound: S, a Python number.
    """

    shares: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count
    ok: Tensor
    bound: int

    ids: None = None  # of segments: 0…S−1


def as_soft_segments(masks: Tensor, inputs: Tensor) -> SoftSegments:
    """Soft segments of a caller's masks.

    Args:
        masks: floats in [0,1]. For inputs of rank r: [S,*axes], of rank r − 1, for all; [B or 1,S,
            *axes]; or [B or 1,S,C or 1,*axes], where channels have masks of their own. For inputs
            [B,F]: [S,F] or [B or 1,S,F].
        inputs: [B,C,*axes] or [B,F] float.

    Raises:
        TypeError: the masks have another rank, or the inputs are no floats.
        ValueError: they do not broadcast to the inputs; or, on a CPU, they are not in [0,1].
    """
    batch, channels, *axes = inputs.shape
    rank = inputs.dim() if axes else 3
    shared = masks.dim() == rank - 1
    if masks.dim() not in ((rank - 1, rank, rank + 1) if axes else (2, 3)) or not masks.numel():
        raise TypeError(
            "segments must be a Segments, an integer label map, or soft masks "
            f"[S, {', '.join(map(str, axes or [channels]))}] in [0,1], got {masks.dtype} "
            f"{list(masks.shape)}; pass segments.long() if these are labels"
        )
    if not inputs.is_floating_point():
        raise TypeError(f"soft masks blend an input with its fill, so floats, got {inputs.dtype}")
    check_same_device(masks, inputs, "segments")
    found = masks[None] if shared else masks
    wanted = axes or [channels]
    wanted = [channels, *wanted] if found.dim() == rank + 1 else wanted
    sizes = zip(found.shape[2:], wanted, strict=True)
    if found.shape[0] not in (1, batch) or any(own not in (1, size) for own, size in sizes):
        raise ValueError(
            f"soft masks must broadcast to inputs {list(inputs.shape)} behind their axis S, got "
            f"{list(masks.shape)}"
        )
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    inside = ((found >= 0) & (found <= 1)).flatten(1).all(dim=1)
    if found.device.type == "cpu" and not bool(inside.all()):
        raise ValueError("soft masks must lie in [0,1]; pass segments.long() if these are labels")
    shares = found.detach().to(dtype)
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1)
    number = shares.shape[1]
    count = torch.full((1,), number, device=inputs.device).expand(batch)
    return SoftSegments(
        shares.expand(batch, *shares.shape[1:]), count, inside.expand(batch), number
    )


def blended(values: Tensor, shares: Tensor) -> Tensor:
    """Σ over S of values [B,n,S] · shares [B,S,…]: [B,n,…]."""
    return torch.bmm(values.to(shares.dtype), shares.flatten(2)).unflatten(2, shares.shape[2:])


def by_channel(shares: Tensor, rank: int) -> Tensor:
    """Shares of inputs of that rank, with an axis for channels: [B,S,C or 1,*axes]."""
    return shares if shares.dim() == rank + 1 else shares[:, :, None]


def soft_means(values: Tensor, soft: SoftSegments) -> Tensor:
    """Values [B,C,*axes], each as the mean of the segments that share it, weighted by their shares.

    What belongs to no segment keeps its value.
    """
    shares = by_channel(soft.shares, values.dim())
    shape = (len(values), soft.bound, shares.shape[2], math.prod(values.shape[2:]))
    shares = shares.expand(-1, -1, -1, *values.shape[2:]).reshape(shape)
    pixels = values.flatten(2).to(shares.dtype)
    if shares.shape[2] == 1:  # all channels have the same
        shares = shares[:, :, 0]
        sums, sizes = torch.bmm(pixels, shares.mT), shares.sum(dim=2)[:, None]
        shown, total = torch.bmm(sums / sizes.clamp(min=1e-30), shares), shares.sum(1)[:, None]
    else:
        own = shares.transpose(1, 2)  # [B,C,S,P]
        means = (own @ pixels[..., None])[..., 0] / own.sum(dim=3).clamp(min=1e-30)
        shown, total = (means[:, :, None] @ own)[:, :, 0], own.sum(dim=2)
    found = torch.where(total > 0, shown / total.clamp(min=1e-30), pixels)
    return found.view(values.shape)


def is_soft(segments: Any) -> bool:
    """Whether a label map, or what stands for one, is of soft masks."""
    return isinstance(segments, Tensor) and segments.is_floating_point()
