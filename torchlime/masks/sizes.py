"""Rows with a few numbers of hidden segments, which are known before anything is drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_count, check_fraction, check_rows
from torchlime._hash import hashed, numbers, stems_of
from torchlime.masks._drawing import beginning_whole, in_blocks, present, without_smallest

_ONE = 1 << 32  # shares are whole numbers of this, so that host and device round alike


@dataclass(frozen=True)
class Sizes:
    """Hide a share of the segments; the rows take the ``shares`` in turn. The choice is uniform.

    The number hidden is clamp(round(share·count), 1, count − 1), so no row hides all. With
    ``paired``, two rows form a pair: the second keeps what the first hides. If hidden parts are
    left out (:mod:`torchlime.patches`), the cost of a row depends on how many segments it keeps;
    :meth:`kept` tells the host that number. Use several shares: if all rows hide the same number,
    only the whole image shows the effect that all segments have in common.

    Convention:
        Row 0 keeps all. After it, row (or pair) p = 0, 1, … has the share number p modulo the
        number of shares. Halves are rounded up. If an image has one segment, all rows keep it.

    Source: the pairs are the paired sampling of Covert & Lee 2021.

    Raises:
        TypeError, ValueError: ``shares`` is not a tuple of numbers strictly between 0 and 1.

    Example:
        >>> Sizes((1 / 3, 1 / 2))(torch.tensor([12]), 12, 7, seed=0).sum(2).tolist()
        [[12, 8, 4, 6, 6, 8, 4]]
        >>> Sizes((1 / 3, 1 / 2)).kept(12, 7)
        (12, 8, 4, 6, 6, 8, 4)
    """

    shares: tuple[float, ...] = (1 / 3, 1 / 2)
    paired: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.shares, tuple) or not self.shares:
            raise TypeError(f"shares must be a tuple of numbers, such as (0.5,), got {self.shares}")
        for share in self.shares:
            check_fraction(share, "each of shares")

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Draw masks [B,N,S] bool; see the module's convention."""
        check_rows(num_samples, first)
        stems = stems_of(seed, count)
        columns = numbers(bound, count)
        exists = present(count, bound)
        several = count[:, None, None] > 1

        def draw(samples: Tensor) -> Tensor:
            turn, second = self._turns(samples[:, None])
            bits = hashed(stems, turn, columns)
            kept = without_smallest(bits, self._hidden(count[:, None, None], turn), exists)
            return ((kept ^ second) | ~several) & exists

        masks = in_blocks(draw, numbers(num_samples, count, first), exists.numel())
        return beginning_whole(masks, first) & exists

    def kept(self, count: int, num_samples: int, first: int = 0) -> tuple[int, ...]:
        """How many of ``count`` segments the rows ``first`` … first + N − 1 keep."""
        check_count(count, "count")
        check_rows(num_samples, first)
        return tuple(self._kept(count, sample) for sample in range(first, first + num_samples))

    def _kept(self, count: int, sample: int) -> int:
        if sample == 0 or count == 1:
            return count
        turn, second = divmod(sample - 1, 2) if self.paired else (sample - 1, 0)
        number = round(self.shares[turn % len(self.shares)] * _ONE)
        hidden = max(min((count * number + _ONE // 2) >> 32, count - 1), 1)
        return hidden if second else count - hidden

    def _turns(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The row or pair that samples belong to, −1 for sample 0, and if they are its second."""
        turn = samples - 1
        if not self.paired:
            return turn, torch.zeros_like(turn, dtype=torch.bool)
        return turn.div(2, rounding_mode="floor"), turn % 2 == 1

    def _hidden(self, count: Tensor, turn: Tensor) -> Tensor:
        """How many of ``count`` are hidden by turn; at least 1."""
        number = torch.zeros_like(turn)
        for place, share in enumerate(self.shares):
            number = torch.where(turn % len(self.shares) == place, round(share * _ONE), number)
        hidden = (count * number + _ONE // 2) >> 32
        return hidden.minimum(count - 1).clamp(min=1)
