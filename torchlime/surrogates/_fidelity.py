"""The fidelity of a linear surrogate that is not a least squares fit."""

import torch
from torch import Tensor

from torchlime._row_blocks import row_blocks


def fidelity_of(
    masks: Tensor, scores: Tensor, weights: Tensor, slopes: Tensor, intercepts: Tensor
) -> Tensor:
    """The weighted R² [B,T] of intercepts [B,T] and slopes [B,T,S]; 0 where scores do not vary.

    Args:
        masks: [B,N,S] bool.
        scores: [B,N,T]. Scores and weights have the dtype of the slopes.
        weights: [B,N].
        slopes: [B,T,S].
        intercepts: [B,T].
    """
    batch, samples, width = masks.shape
    total = weights.sum(dim=1)[:, None]
    mean = (weights[:, None] @ scores)[:, 0] / total
    unexplained = variation = torch.zeros_like(mean)
    for rows in row_blocks(samples, batch * width, masks.device):
        w, y = weights[:, rows, None], scores[:, rows]
        expected = intercepts[:, None] + masks[:, rows].to(scores.dtype) @ slopes.mT
        unexplained = unexplained + (w * (y - expected).square()).sum(dim=1)
        variation = variation + (w * (y - mean[:, None]).square()).sum(dim=1)
    rounding = (8 * torch.finfo(scores.dtype).eps) ** 2
    constant = variation <= rounding * total * mean.square()
    found = 1 - unexplained / torch.where(constant, 1.0, variation)
    return torch.where(constant, 0.0, found)
