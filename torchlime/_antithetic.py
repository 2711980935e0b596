"""Pairs in designs: rows that follow each other and are opposite.

Noise has pairs z, −z, and a last row without a partner is 0. Masks have pairs of complements, and a
last row without a partner is any.
"""

from functools import reduce

import torch
from torch import Tensor

from torchlime._row_blocks import row_blocks, rows_of


def by_pairs(rows: Tensor) -> Tensor:
    """A view [B,n/2,2,…] of rows [B,n,…], without the last row of an odd number."""
    batch, samples, *others = rows.shape
    even = rows[:, :-1] if samples % 2 else rows
    return even.view(batch, samples // 2, 2, *others)


def in_pairs(noise: Tensor) -> Tensor:
    """Whether the rows of noise [B,N,F] come in antithetic pairs: [B] bool, on its device."""
    batch, samples, width = noise.shape
    if noise.stride(0) == 0 and batch > 1:  # one draw for all
        return in_pairs(noise[:1]).expand(batch)
    paired = [(noise[:, -1] == 0).all(dim=1)] if samples % 2 else []
    pairs = by_pairs(noise)
    for rows in row_blocks(samples // 2, 2 * batch * width, noise.device):
        first, second = rows_of(pairs, rows).unbind(2)
        paired.append((first == -second).flatten(1).all(dim=1))
    return reduce(torch.bitwise_and, paired)


def unpaired(masks: Tensor, absent: Tensor) -> Tensor:
    """Whether the rows of masks [B,N,S] are no pairs of complements: [B,1,1] bool, on its device.

    ``absent`` [B,1,S] are the columns that stand for no feature, False in every mask.
    """
    first, second = by_pairs(masks).unbind(2)
    return ((first ^ second) == absent).any(dim=(1, 2), keepdim=True)


def partners(values: Tensor) -> Tensor:
    """Each row's partner [B,N,T]; the last row of an odd number is its own partner."""
    swapped = by_pairs(values).flip(2).flatten(1, 2)
    return torch.cat([swapped, values[:, -1:]], dim=1) if values.shape[1] % 2 else swapped
