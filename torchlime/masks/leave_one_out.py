"""One hidden segment in every row."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from torchlime._checks import check_rows
from torchlime._hash import numbers
from torchlime.masks._drawing import finite_rows, in_blocks, present


@dataclass(frozen=True)
class LeaveOneOut:
    """Hide each segment alone, once: the design of feature ablation.

    Row 0 keeps all, and row i hides segment i − 1. With equal weights and
    :class:`torchlime.surrogates.LeastSquares`, a coefficient is the score of the input minus the
    score without the segment, exactly. ``num_samples`` is an upper limit; N is S + 1.

    Convention:
        A row for a segment beyond an input's count keeps all segments.

    Raises:
        ValueError: ``num_samples`` is below S + 1.

    Example:
        >>> import torch
        >>> LeaveOneOut()(torch.tensor([2]), 2, 100, seed=0).tolist()
        [[[True, True], [False, True], [True, False]]]
    """

    endless: ClassVar[bool] = False  # there are no rows beyond

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Enumerate masks [B,N,S] bool; ``seed`` has no effect."""
        check_rows(num_samples, first)
        rows = finite_rows(self, bound + 1, num_samples, first)
        masks = in_blocks(lambda r: self.rows(r, bound)[None], numbers(rows, count, first), bound)
        return masks & present(count, bound)

    def rows(self, number: Tensor, bound: int) -> Tensor:
        """The masks [n,S] of the rows ``number`` [n], for a count of S."""
        return numbers(bound, number) != number[:, None] - 1
