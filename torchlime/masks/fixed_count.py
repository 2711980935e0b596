"""The same number of hidden segments in every row."""

from dataclasses import dataclass

from torch import Tensor

from torchlime._checks import check_fraction, check_rows
from torchlime._hash import hashed, numbers, stems_of
from torchlime._precision import solve_dtype
from torchlime.masks._drawing import beginning_whole, in_blocks, present, without_smallest


@dataclass(frozen=True)
class FixedCount:
    """Hide the same number of segments, a share ``remove`` of them, in every row but the first.

    The number hidden is clamp(floor(remove·count + 0.5), 1, count); the choice is uniform.

    Raises:
        ValueError: ``remove`` is not strictly between 0 and 1.

    Example:
        >>> import torch
        >>> masks = FixedCount(remove=0.2)(torch.tensor([10]), 10, 5, seed=0)
        >>> masks.sum(-1).tolist()
        [[10, 8, 8, 8, 8]]
    """

    remove: float = 0.2

    def __post_init__(self) -> None:
        check_fraction(self.remove, "remove")

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
        share = count.to(solve_dtype(count.device)) * self.remove
        hidden = (share + 0.5).floor().long().clamp(min=1).minimum(count)[:, None, None]

        def draw(samples: Tensor) -> Tensor:
            return without_smallest(hashed(stems, samples[:, None], columns), hidden, exists)

        masks = in_blocks(draw, numbers(num_samples, count, first), exists.numel())
        return beginning_whole(masks, first) & exists
