"""outputs → scores [n,T]: which scores of a model's outputs are explained.

Convention:
    Scores are two pure functions. ``reference(outputs, rows)`` finds what the unmasked rows fix,
    such as the best classes: a mapping of tensors whose first axis runs over the rows, "targets"
    [n,T] int64 among them; where a target may be out of range, "in_range" [n] bool says so. It is
    called with chunks that begin with unmasked rows, and only what it says of these is kept.

    ``(outputs, rows, reference)`` gives the scores [n,T] of a chunk; there ``reference`` holds, for
    every row, what was found for the input that the row belongs to. ``rows`` [n] int64 is the
    number of that input, on the device of the inputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from torchlime._checks import FLOATS, check_count, check_targets
from torchlime._inputs import Array, as_targets
from torchlime.strategies import Reference

# Anything that scores_of() takes; Scores objects are callable too.
Listed = Sequence[int] | Sequence[Sequence[int]]
Targets = int | Tensor | Array | Listed | Callable[..., Tensor] | Literal["all"] | None


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
        """The targets [n,T] of each row, and whether all of them are classes: "in_range" [n]."""
        scores = class_scores(outputs, rows)
        targets = self._resolved(scores, rows)
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
            best = scores.detach().sort(dim=1, descending=True, stable=True)
            return best.indices[:, : self.top]
        if isinstance(self.targets, Tensor):
            return self.targets.reshape(len(self.targets), -1).long()[rows]
        if isinstance(self.targets, str):
            return torch.arange(classes, device=rows.device).expand(count, -1)
        if not 0 <= self.targets < classes:
            raise IndexError(f"targets={self.targets}, but the model has {classes} outputs")
        return torch.full((count, 1), int(self.targets), device=rows.device)


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
        return _matrix(self.function(outputs, rows), rows, what)


def words_of_scores(scores: Any) -> dict[str, str]:
    """Scores that are no classes, for the settings of an explanation."""
    return {} if isinstance(scores, Classes) else {"scores": repr(scores)}


def class_scores(outputs: Any, rows: Tensor) -> Tensor:
    """A model's outputs as [n,K], from [n,K], [n], or an object with such ``.logits``.

    Raises:
        TypeError, ValueError: the outputs are none of these.
    """
    return _matrix(getattr(outputs, "logits", outputs), rows, "the model")


def _matrix(values: Any, rows: Tensor, source: str) -> Tensor:
    count = len(rows)
    expected = f"{source} must return a float tensor [{count},classes] or [{count}]"
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{expected}, got {type(values).__name__}; wrap it in a function that picks the scores"
        )
    if values.layout != torch.strided:
        raise TypeError(f"{expected}, got a sparse one ({values.layout}); return .to_dense()")
    if values.dtype not in FLOATS:
        remedy = "; return .float()" if values.is_floating_point() else ""
        raise TypeError(f"{expected}, got {values.dtype}{remedy}")
    if values.dim() not in (1, 2) or values.shape[0] != count or 0 in values.shape:
        raise ValueError(f"{expected}, got {list(values.shape)}")
    if values.device != rows.device:
        raise ValueError(f"{expected} on {rows.device}, where the inputs are, got {values.device}")
    return values[:, None] if values.dim() == 1 else values


def scores_of(
    targets: Any, top: int, batch: int, device: torch.device, these: str = "the images are"
) -> Any:
    """A caller's ``targets`` as Scores.

    Args:
        targets: None, "all", an int, a tensor or a list of ints [B] or [B,T], a function
            ``(outputs, rows) → [n,T]``, or an object with ``reference``.
        top: how many of the best classes where ``targets`` is None.
        batch: B.
        device: of the inputs.
        these: subject and verb of a sentence about the inputs.

    Raises:
        TypeError, ValueError: ``targets`` is none of these.
    """
    check_count(top, "top")
    if hasattr(targets, "reference"):
        return targets
    if callable(targets):
        return Computed(targets)
    if isinstance(targets, str) and targets == "all":
        return Classes("all")
    targets = as_targets(targets, device)
    check_targets(targets, batch, device, these)
    return Classes(targets, top)
