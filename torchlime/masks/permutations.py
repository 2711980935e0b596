"""Segments hidden and shown one after the other, in random orders."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_rows
from torchlime._hash import hashed, numbers, stems_of
from torchlime.masks._drawing import in_blocks, present


@dataclass(frozen=True)
class Permutations:
    """Walk from the whole input to nothing and back, one segment a row, in random orders.

    Row 0 keeps all. The next S rows hide one more segment each, in a random order; then S rows show
    one more each; and so on. So two successive rows differ in one segment, and the change of the
    score is its marginal contribution. The mean of its contributions estimates its Shapley value.

    Args:
        paired: show the segments in the order in which they were hidden, so that two walks are one
            order and its reverse. Then contributions of segments and of pairs are exact after two
            walks. Without it, each walk has an order of its own.

    Convention:
        If an input's count is below S, the last rows of each of its walks are equal.

    Source: Castro, Gómez & Tejada 2009 (random orders); Mitchell et al. 2022 (reversed pairs).

    Example:
        >>> import torch
        >>> Permutations()(torch.tensor([3]), 3, 7, seed=0).sum(2).tolist()
        [[3, 2, 1, 0, 1, 2, 3]]
    """

    paired: bool = True

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
        exists = present(count, bound)

        def draw(samples: Tensor) -> Tensor:
            walk, step = (samples - 1) // bound, (samples - 1) % bound
            order = walk // 2 if self.paired else walk
            rank = _ranks(stems, order, exists)
            shown = rank <= step[:, None]
            kept = ((walk % 2)[:, None] == 1) == shown  # else those are hidden
            return (kept | (samples == 0)[:, None]) & exists

        return in_blocks(draw, numbers(num_samples, count, first), exists.numel())

    def ranks(self, count: Tensor, bound: int, walks: int, *, seed: int | Tensor) -> Tensor:
        """The place [B,walks,S] of each segment in the order in which a walk shows it."""
        walk = numbers(walks, count)
        exists = present(count, bound)
        order = walk // 2 if self.paired else walk
        rank = _ranks(stems_of(seed, count), order, exists)
        hides = (walk % 2 == 0)[:, None]
        return torch.where(hides, count[:, None, None] - 1 - rank, rank)


def _ranks(stems: Tensor, order: Tensor, exists: Tensor) -> Tensor:
    """Places 0…S−1 in the orders of these numbers: [B,len(order),S]; padding is last."""
    bound = exists.shape[2]
    keys = hashed(stems, order[:, None], numbers(bound, order))
    keys = torch.where(exists, keys, torch.iinfo(torch.int64).max)
    return keys.argsort(dim=2, stable=True).argsort(dim=2)
