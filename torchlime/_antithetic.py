"""Pairs in designs: rows that follow each other and are opposite.

Noise has pairs z, −z, and a last row without a partner is 0. Masks have pairs of complements, and a
last row without a partner is any.
"""

from functools import reduce

import torch
from torch import Tensor

from torchlime._row_blocks import row_blocks


def in_pairs(noise: Tensor) -> Tensor:
    """Whether the rows of noise [B,N,F] come in antithetic pairs: [B] bool, on its device."""
    batch, samples, width = noise.shape
    if noise.stride(0) == 0 and batch > 1:  # one draw for all
        return in_pairs(noise[:1]).expand(batch)
    paired = [(noise[:, -1] == 0).all(dim=1)] if samples % 2 else []
    for rows in row_blocks(samples // 2, 2 * batch * width, noise.device):
        halves = noise[:, 2 * rows.start : 2 * rows.stop].unflatten(1, (-1, 2))
        first, second = halves.unbind(2)
        paired.append((first == -second).flatten(1).all(dim=1))
    return reduce(torch.bitwise_and, paired)


def unpaired(masks: Tensor, absent: Tensor) -> Tensor:
    """Whether the rows of masks [B,N,S] are no pairs of complements: [B,1,1] bool, on its device.

    ``absent`` [B,1,S] are the columns that stand for no feature, False in every mask.
    """
    pairs = masks.shape[1] // 2
    first, second = masks[:, : 2 * pairs].unflatten(1, (pairs, 2)).unbind(2)
    return ((first ^ second) == absent).any(dim=(1, 2), keepdim=True)


def partners(values: Tensor) -> Tensor:
    """Each row's partner [B,N,T]; the last row of an odd number is its own partner."""
    pairs = values.shape[1] // 2
    swapped = values[:, : 2 * pairs].unflatten(1, (pairs, 2)).flip(2).flatten(1, 2)
    alone = values[:, 2 * pairs :]
    return torch.cat([swapped, alone], dim=1) if alone.shape[1] else swapped
