"""Inputs with so few features that their rows repeat a few masks.

If the model gives equal inputs equal scores, more rows of such an input tell nothing new. If every
mask came equally often, as in a block of :class:`torchlime.masks.Orthogonal`, the coefficients have
no sampling error, however large the residuals are. If the scores of equal masks differ a little,
the error is at most about twice that difference. If the standard errors do not fall any more, they
are not sampling errors, but come from a penalty. An example is a text of one word: a single row
keeps the word, so the penalty shrinks its coefficient, however many other rows there are.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from torchlime._by_need import picked
from torchlime._hash import numbers
from torchlime._host import is_at_hand
from torchlime._precision import solve_dtype
from torchlime.fit import Fit

FEW = 6  # features, which have 64 masks
REPEATS = 32  # rows for each mask, after which variances fall as 1/N
STUCK = 1.6  # if N·variance has grown by this factor since, the variance does not fall as 1/N
NEAR = 1e-2  # of the spread of the scores: another chunk or a narrow dtype changes them by less
ROUNDED = 1e-6  # of the scores: float32 rounds by less, where scores do not vary otherwise


class FewMasks:
    """Finds the inputs for which more rows are of no use.

    Attributes:
        given_up: [B] bool, the inputs that stay unsure, since more rows would not help.
    """

    def __init__(self, count: Tensor):
        self.given_up = torch.zeros_like(count, dtype=torch.bool)
        self._first = torch.full_like(count, torch.nan, dtype=solve_dtype(count.device))
        self._none = is_at_hand(count) and int(count.min()) > FEW

    def settled(
        self,
        index: Tensor | None,
        masks: Tensor,
        scores: Tensor,
        count: Tensor,
        fit: Fit,
        sure: Callable[[Fit], Tensor],
    ) -> Tensor:
        """Which of the inputs ``index`` [k] take no more rows: [k] bool.

        Args:
            index: None stands for all inputs.
            masks: their rows [k,N,S]. scores: [k,N,T]. count: [k].
            fit: the fit to these rows, with standard errors [k,T,S].
            sure: the stop rule: it takes a fit, and returns [k] bool.
        """
        if self._none:
            return sure(fit)
        rows, errors = masks.shape[1], fit.standard_errors
        seen, most = _seen(masks, scores, count)
        found = sure(fit._replace(standard_errors=errors.fmin(most[..., None])))
        spread = rows * errors.to(self._first.dtype).square().flatten(1).sum(dim=1)
        often = rows >= REPEATS * seen
        first = picked(self._first, index)
        first = torch.where(often & first.isnan(), spread, first)
        stuck = often & ~(spread < STUCK * first) & ~found  # errors that are NaN stay NaN
        self._first = _put(self._first, index, first)
        self.given_up = _put(self.given_up, index, stuck)
        return found | stuck


def _seen(masks: Tensor, scores: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """How many masks the rows of an input hold, [k], and how large its errors can be, [k,T].

    If an input has more than :data:`FEW` features, or its scores depend on more than the mask,
    every row counts as a different mask, and errors have no limit. They have none either if masks
    came more or less often, or only once: then nobody knows what else the scores depend on.
    """
    batch, rows, targets = scores.shape
    columns = masks[..., :FEW]
    code = (columns.long() << numbers(columns.shape[2], count)).sum(dim=2)
    times = code.new_zeros(batch, 1 << FEW).scatter_add_(1, code, torch.ones_like(code))
    exists = numbers(1 << FEW, count) < (1 << count.clamp(max=FEW))[:, None]
    least, most = torch.where(exists, times, rows).amin(dim=1), times.amax(dim=1)
    place = code[..., None].expand(-1, -1, targets)
    one = scores.new_zeros(batch, 1 << FEW, targets).scatter(1, place, scores)
    off = (scores - one.gather(1, place)).abs().amax(dim=1)
    spread, level = (scores - scores[:, :1]).abs().amax(dim=1), scores.abs().amax(dim=1)
    known = (count <= FEW)[:, None] & (off <= torch.maximum(NEAR * spread, ROUNDED * level))
    equally = known & ((least == most) & (most > 1))[:, None]
    seen = torch.where(known.all(dim=1), (times > 0).sum(dim=1), rows)
    return seen, (2 * off).masked_fill(~equally, torch.inf)


def _put(values: Tensor, index: Tensor | None, some: Tensor) -> Tensor:
    return some if index is None else values.scatter(0, index, some)
