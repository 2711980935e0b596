"""Variances of coefficients, from the residuals of a fit: sums over blocks of rows.

Convention:
    A fit has the weights w, centred rows z, M = (ZᵀWZ + penalty)⁻¹ and residuals e. Row i pulls the
    coefficients by p s, where s = M z and p = w e / (1 − h), as if it had not been fitted itself
    (HC3, MacKinnon & White 1985); h = w / Σw + w zᵀMz is its leverage.

    The rows of a pair do not err independently, so their pulls are summed before they are squared.
    For complements, which have the same z but for the sign, the residuals' even part cancels in the
    sum. With H = Σ w zᵀMz over the pair, p is (1 − H/2)/√(1 − H) of the above, which makes up for
    the freedom that the odd part of the residuals lost (Bell & McCaffrey 2002). It is 4 at most:
    complements of unlike weights have an even part too, so H may be above 1.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import threshold

from torchlime._antithetic import by_pairs, partners

ALONE = 1e-8  # with less room, a row decides a coefficient alone
LEAST = (4 - math.sqrt(15)) ** 2  # with this 1 − H, a pair's factor is 4


def variance_of_masks(
    residuals: Tensor, rows: Tensor, share: Tensor, inverse: Tensor, alone: Tensor
) -> Tensor:
    """The variances [B,T,S] that a block of masks adds. It begins with the first of a pair.

    Rows without room add nothing.

    Args:
        residuals: √w e, [B,n,T].
        rows: √w z, [B,n,S].
        share: w / Σw, [B,n,1].
        inverse: M, [B,S,S].
        alone: [B,1,1] bool, where the masks are no pairs of complements.
    """
    solved = torch.bmm(rows, inverse)
    leverage = (solved * rows).sum(dim=2, keepdim=True)
    pull = residuals / threshold(1 - share - leverage, ALONE, math.inf)
    if residuals.shape[1] == 1:
        return torch.bmm(pull.square().mT, solved.square())
    of_pairs = by_pairs(leverage).sum(dim=2).masked_fill_(alone, 0)  # H
    room = torch.rsub(of_pairs, 4, alpha=4).clamp_(min=4 * LEAST)  # 4 (1 − H)
    half = room.rsqrt()
    lost = torch.addcmul(half, room, half, value=0.25)  # (1 − H/2)/√(1 − H)
    (first, second), both = by_pairs(pull).mul_(lost[:, :, None]).unbind(2), by_pairs(solved)
    across = (first * second).masked_fill_(alone, 0)
    by_row = torch.bmm(pull.square().mT, solved.square())
    return torch.baddbmm(by_row, across.mT, both[:, :, 0] * both[:, :, 1], alpha=2)


def variance_of_noise(
    weights: Tensor,
    residuals: Tensor,
    rows: Tensor,
    share: Tensor,
    inverse: Tensor,
    alone: Tensor,
) -> Tensor:
    """The variances [B,T,F] that a block of noise adds.

    Its rows are z, −z, and a pair is left out as one: the odd part (e₊ − e₋)/2 takes the place of
    e, and 1 − H that of 1 − h.

    Args:
        weights: w, [B,n,1].
        residuals: e, [B,n,T].
        rows: z, [B,n,F].
        share: w / Σw, [B,n,1].
        inverse: M, [B,F,F].
        alone: [B,1,1] bool, where the noise comes in no antithetic pairs.
    """
    solved = torch.bmm(rows, inverse)
    leverage = weights * (solved * rows).sum(dim=2, keepdim=True)
    force = weights * residuals
    pull = force / threshold(1 - share - leverage, ALONE, math.inf)
    odd = (force - partners(force)) / math.sqrt(2)  # its square is half of the pair's
    odd = odd / threshold(1 - leverage - partners(leverage), ALONE, math.nan)
    return torch.bmm(torch.where(alone, pull, odd).square().mT, solved.square())
