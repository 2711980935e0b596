"""All masks."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchlime._hash import numbers
from torchlime.masks._drawing import present, refuse_further_rows


@dataclass(frozen=True)
class Exhaustive:
    """All 2^S masks, each once, so the surrogate is exact and not an estimate.

    Row i hides the segments whose bits are set in i. ``num_samples`` is an upper limit; N is 2^S.

    Convention:
        S must be the exact count. On a CPU a smaller count raises. On another device reading the
        count would cause a wait, so each mask of that image comes 2^(S−count) times instead.

    Raises:
        ValueError: 2^S exceeds ``num_samples``, or S is only a bound of the count.

    Example:
        >>> Exhaustive()(torch.tensor([2]), 2, 4, seed=0).tolist()
        [[[True, True], [False, True], [True, False], [False, False]]]
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
        """Enumerate masks [B,2^S,S] bool; ``seed`` has no effect."""
        refuse_further_rows(self, first)
        advice = "pass segments= with few segments, or use Grid(rows, cols) as the segmenter"
        if bound >= num_samples.bit_length():
            raise ValueError(
                f"Exhaustive over {bound} segments needs num_samples >= 2**{bound}, "
                f"got {num_samples}; {advice}"
            )
        if count.device.type == "cpu" and not torch.compiler.is_compiling():
            fewest = int(count.min())
            if fewest < bound:
                raise ValueError(
                    f"Exhaustive needs every image to have exactly {bound} segments, "
                    f"got one with {fewest}; {advice}"
                )
        rows = numbers(1 << bound, count)[:, None]
        masks = ((rows >> numbers(bound, count)) & 1) == 0
        return masks & present(count, bound)
