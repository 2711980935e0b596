"""A random number of hidden segments in every row."""

from dataclasses import dataclass

from torch import Tensor

from torchlime._checks import check_rows
from torchlime._hash import hashed, numbers, shift_right, stems_of
from torchlime._precision import solve_dtype
from torchlime.masks._drawing import beginning_whole, in_blocks, present, without_smallest


@dataclass(frozen=True)
class RandomSize:
    """Hide a random number of segments, from 1 to all; the first row hides none.

    This is the design of Ribeiro et al. 2016 for texts. All numbers are equally likely, and so are
    all segments.

    Example:
        >>> import torch
        >>> masks = RandomSize()(torch.tensor([3]), 3, 3001, seed=0)
        >>> [round((masks.sum(-1) == kept).float().mean().item(), 1) for kept in range(4)]
        [0.3, 0.3, 0.3, 0.0]
    """

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
        columns, exists = numbers(bound, count), present(count, bound)

        def draw(samples: Tensor) -> Tensor:
            # The number has a counter of its own, which no column has.
            bits = shift_right(hashed(stems, samples[:, None], numbers(1, count, bound)), 11)
            share = bits.to(solve_dtype(count.device)) / 2**53
            hidden = (share * count[:, None, None]).long().minimum(count[:, None, None] - 1) + 1
            drawn = hashed(stems, samples[:, None], columns).expand(len(count), -1, -1)
            return without_smallest(drawn, hidden, exists)

        masks = in_blocks(draw, numbers(num_samples, count, first), exists.numel())
        return beginning_whole(masks, first) & exists
