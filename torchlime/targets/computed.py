"""Computed: scores by any function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchlime.strategies import Reference
from torchlime.targets.outputs import matrix


@dataclass(frozen=True)
class Computed:
    """Scores by any function of outputs and rows: ``(outputs, rows) → [n,T]`` or [n].

    Its targets are numbered 0…T−1.

    Example:
        >>> own_class = torch.tensor([2, 0])  # of each of two inputs
        >>> scores = Computed(lambda outputs, rows: outputs.gather(1, own_class[rows, None]))
        >>> scores(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([0, 1]), {})
        tensor([[3.],
                [4.]])
    """

    function: Callable[[Any, Tensor], Tensor]

    def reference(self, outputs: Any, rows: Tensor) -> dict[str, Tensor]:
        """The numbers of the targets [n,T]."""
        scores = self(outputs, rows, {})
        return {"targets": torch.arange(scores.shape[1], device=rows.device).expand(len(rows), -1)}

    def __call__(self, outputs: Any, rows: Tensor, reference: Reference) -> Tensor:
        """What the function returns, [n,T]."""
        what = "the function of (outputs, rows) given as targets"
        return matrix(self.function(outputs, rows), rows, what)
