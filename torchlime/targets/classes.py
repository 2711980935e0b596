"""Classes: columns of a model's outputs."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from torchlime.strategies import Reference
from torchlime.targets.outputs import class_scores


@dataclass(frozen=True, eq=False)
class Classes:
    """Columns of the model's outputs [n,K]; outputs [n] are one column.

    Args:
        targets: None = the ``top`` best classes of each input; an int; an int tensor [B] or [B,T]
            on the device of the inputs; or "all", every class in its order.
        top: how many, where ``targets`` is None. Ties go to the lower class.

    Raises:
        IndexError: an int target is not a class of the model.
        TypeError, ValueError: the model's outputs are of another type or shape.

    Example:
        >>> outputs, rows = torch.tensor([[0.1, 0.7, 0.2], [0.3, 0.3, 0.4]]), torch.tensor([0, 0])
        >>> best = Classes(top=2)
        >>> found = best.reference(outputs, rows)["columns"][:1]  # of row 0
        >>> best(outputs, rows, {"columns": found.expand(2, -1)}).tolist()
        [[0.699..., 0.200...], [0.300..., 0.400...]]
    """

    targets: int | Tensor | Literal["all"] | None = None
    top: int = 1

    def reference(self, outputs: Any, rows: Tensor) -> dict[str, Tensor]:
        """The targets [n,T] of each row; of a tensor, whether all are classes: "in_range" [n]."""
        scores = class_scores(outputs, rows)
        targets = self._resolved(scores, rows)
        if not isinstance(self.targets, Tensor):  # they are classes
            return {"targets": targets, "columns": targets}
        columns = targets.clamp(0, scores.shape[1] - 1)
        in_range = (columns == targets).all(dim=1)
        return {"targets": targets, "columns": columns, "in_range": in_range}

    def __call__(self, outputs: Any, rows: Tensor, reference: Reference) -> Tensor:
        """The scores [n,T] of the targets; a target out of range gets the nearest class's score."""
        scores = class_scores(outputs, rows)
        if isinstance(self.targets, str):
            return scores
        return scores.gather(1, reference["columns"])

    def of_inputs(self, scores: Tensor, reference: Reference) -> Tensor:
        """The targets' scores [B,n,T] of rows that all inputs share, from every class's [1,n,K].

        ``reference`` is what the B inputs fixed.
        """
        columns = reference["columns"][:, None]
        every = scores.expand(len(columns), -1, -1)
        if isinstance(self.targets, str):
            return every
        return every.gather(2, columns.expand(-1, scores.shape[1], -1))

    def _resolved(self, scores: Tensor, rows: Tensor) -> Tensor:
        count, classes = scores.shape
        if self.targets is None:
            if self.top > classes:
                raise ValueError(f"top={self.top}, but the model has {classes} outputs")
            if self.top == 1:
                return scores.argmax(dim=1, keepdim=True)  # the first of the largest
            best = scores.detach().sort(dim=1, descending=True, stable=True)
            return best.indices[:, : self.top]
        if isinstance(self.targets, Tensor):
            return self.targets.reshape(len(self.targets), -1).long()[rows]
        if isinstance(self.targets, str):
            return torch.arange(classes, device=rows.device).expand(count, -1)
        if not 0 <= self.targets < classes:
            raise IndexError(f"targets={self.targets}, but the model has {classes} outputs")
        return torch.full((count, 1), int(self.targets), device=rows.device)
