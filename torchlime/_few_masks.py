"""Inputs with so few features that their rows repeat a few masks.

More rows of such an input tell nothing new, if the model gives equal inputs equal scores. If every
mask came equally often, as in a block of :class:`torchlime.masks.Orthogonal`, the coefficients have
no sampling error, whatever the residuals say. Where the scores of equal masks differ a little, the
error is at most about twice that. And if the errors do not fall any more, they are no
sampling errors: a penalty leaves them where a single row decides, as the whole text does among the
rows of a text of one word.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from torchlime._by_need import picked
from torchlime._hash import numbers
from torchlime._precision import solve_dtype
from torchlime.fit import Fit

FEW = 6  # features, of 64 masks
REPEATS = 32  # rows for each mask, after which variances fall as 1/N
STUCK = 1.6  # N·variance has grown so much since: it does not fall as 1/N
NEAR = 1e-2  # of the spread of the scores: what another chunk or a narrow dtype change
ROUNDED = 1e-6  # of the scores: what float32 rounds, where they do not vary otherwise


class FewMasks:
    """Looks at the rows of inputs that are not sure.

    Attributes:
        given_up: [B] bool, the inputs that more rows will not make sure.
    """

    def __init__(self, count: Tensor):
        self.given_up = torch.zeros_like(count, dtype=torch.bool)
        self._first = torch.full_like(count, torch.nan, dtype=solve_dtype(count.device))
        # On a CPU alone: nothing waits there.
        self._none = count.device.type == "cpu" and int(count.min()) > FEW

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
            fit: to these rows, with standard errors [k,T,S].
            sure: the rule, which gets a fit and returns [k] bool.
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
        stuck = often & ~(spread < STUCK * first) & ~found  # NaN stays NaN
        self._first = _put(self._first, index, first)
        self.given_up = _put(self.given_up, index, stuck)
        return found | stuck


def _seen(masks: Tensor, scores: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """How many masks the rows of an input hold, [k], and how large its errors can be, [k,T].

    Where there are more than :data:`FEW` features, or scores depend on more than the mask, every
    row counts as a mask of its own. There is no limit of the errors then, nor where masks came more
    or less often, or only once, so that nobody knows what else the scores depend on.
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
