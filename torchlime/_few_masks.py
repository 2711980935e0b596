"""Inputs with so few features that their rows repeat a few masks.

If the model gives equal inputs equal scores, more rows of such an input tell nothing new. If every
mask came equally often, as in a block of :class:`torchlime.masks.Orthogonal`, the coefficients have
no sampling error, however large the residuals are. If the standard errors do not fall any more,
they are not sampling errors, but come from a penalty. An example is a text of one word: a single
row keeps the word, so the penalty shrinks its coefficient, however many other rows there are.
"""

import torch
from torch import Tensor

from torchlime._by_need import picked
from torchlime._hash import numbers

FEW = 6  # features, which have 64 masks
REPEATS = 32  # rows for each mask, after which variances fall as 1/N
STUCK = 1.6  # if N·variance has grown by this factor since, the variance does not fall as 1/N
NEAR = 1e-2  # of the spread of the scores: another chunk or a narrow dtype changes them by less


class FewMasks:
    """Finds the inputs for which more rows are of no use.

    Attributes:
        given_up: [B] bool, the inputs that stay unsure, since more rows would not help.
    """

    def __init__(self, count: Tensor):
        self.given_up = torch.zeros_like(count, dtype=torch.bool)
        self._first = torch.full_like(count, torch.nan, dtype=torch.float32)
        # Only on a CPU, where the host does not wait for the number.
        self._none = count.device.type == "cpu" and int(count.min()) > FEW

    def settled(
        self,
        index: Tensor | None,
        masks: Tensor,
        scores: Tensor,
        count: Tensor,
        errors: Tensor,
        sure: Tensor,
    ) -> Tensor:
        """Which of the inputs ``index`` [k] take no more rows: [k] bool.

        Args:
            index: None stands for all inputs.
            masks: their rows [k,N,S]. scores: [k,N,T]. count: [k].
            errors: the standard errors [k,T,S] of the fit to these rows.
            sure: [k] bool, the inputs that the stop rule has settled.
        """
        if self._none:
            return sure
        rows = masks.shape[1]
        seen, exact = _seen(masks, scores, count)
        spread = rows * errors.square().flatten(1).sum(dim=1).to(self._first.dtype)
        often = rows >= REPEATS * seen
        first = picked(self._first, index)
        first = torch.where(often & first.isnan(), spread, first)
        sure = sure | exact
        stuck = often & ~(spread < STUCK * first) & ~sure  # errors that are NaN stay NaN
        self._first = _put(self._first, index, first)
        self.given_up = _put(self.given_up, index, stuck)
        return sure | stuck


def _seen(masks: Tensor, scores: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """How many masks an input's rows hold, [k], and whether all come equally often, [k] bool.

    If an input has more than :data:`FEW` features, or its scores depend on more than the mask,
    every row counts as a different mask.
    """
    batch, rows, targets = scores.shape
    columns = masks[..., :FEW]
    code = (columns.long() << numbers(columns.shape[2], count)).sum(dim=2)
    times = code.new_zeros(batch, 1 << FEW).scatter_add_(1, code, torch.ones_like(code))
    exists = numbers(1 << FEW, count) < (1 << count.clamp(max=FEW))[:, None]
    least, most = torch.where(exists, times, rows).amin(dim=1), times.amax(dim=1)
    place = code[..., None].expand(-1, -1, targets)
    one = scores.new_zeros(batch, 1 << FEW, targets).scatter(1, place, scores)
    off = (scores - one.gather(1, place)).abs().flatten(1).amax(dim=1)
    spread = (scores - scores[:, :1]).abs().flatten(1).amax(dim=1)
    known = (count <= FEW) & (off <= NEAR * spread)
    return torch.where(known, (times > 0).sum(dim=1), rows), known & (least == most)


def _put(values: Tensor, index: Tensor | None, some: Tensor) -> Tensor:
    return some if index is None else values.scatter(0, index, some)
