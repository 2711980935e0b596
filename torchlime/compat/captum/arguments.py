"""Captum's arguments: inputs, baselines and further arguments, checked and brought to one form."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Baseline = Tensor | int | float


@dataclass(frozen=True)
class Inputs:
    """The inputs of a call, and what hidden features show.

    Attributes:
        tensors: each [B,…], of any dtype; those of one example are expanded to B.
        given: what the caller gave, for calls on the whole batch.
        baselines: one for each tensor: a number, or a tensor [1 or B,…] that broadcasts to it.
        single: the caller gave one tensor, not a tuple.
    """

    tensors: tuple[Tensor, ...]
    given: tuple[Tensor, ...]
    baselines: tuple[Baseline, ...]
    single: bool

    @property
    def batch(self) -> int:
        """B, the number of examples."""
        return len(self.tensors[0])

    @property
    def device(self) -> torch.device:
        """The device of the first tensor."""
        return self.tensors[0].device

    def example(self, number: int) -> "Inputs":
        """The inputs [1,…] and baselines of one example."""
        mine = slice(number, number + 1)
        tensors = tuple(tensor[mine] for tensor in self.tensors)
        baselines = tuple(
            base[mine] if isinstance(base, Tensor) and base.dim() and len(base) > 1 else base
            for base in self.baselines
        )
        return Inputs(tensors, tensors, baselines, self.single)

    def like(self, values: tuple[Any, ...]) -> Any:
        """Values of each tensor as the caller gave the inputs: one value, or a tuple."""
        return values[0] if self.single else values


def as_inputs(inputs: Any, baselines: Any = None, *, cuts: bool = True) -> Inputs:
    """The inputs of a call.

    Args:
        inputs: a tensor [B,…], or a tuple of tensors with one B.
        baselines: None = 0; a number or a tensor; or a tuple of these, one for each input. A tensor
            has the shape of its input, or broadcasts to it.
        cuts: as for :func:`over_examples`; without it there may be no example (B = 0).

    Raises:
        AssertionError: the inputs are no tensors, or a baseline is of another type.
        IndexError: there are fewer baselines than inputs.
        ValueError: shapes do not fit.

    Example:
        >>> as_inputs(torch.ones(2, 3), 0.5).baselines
        (0.5,)
    """
    single = not isinstance(inputs, tuple)
    given = (inputs,) if single else inputs
    for place, tensor in enumerate(given):
        if not isinstance(tensor, Tensor):
            name = "inputs" if single else f"inputs[{place}]"
            raise AssertionError(
                f"inputs must be a torch.Tensor or a tuple of them, but {name} is of type "
                f"{type(tensor).__name__}; a list of examples is torch.stack(inputs)"
            )
    _check_batches(given, none=not cuts)
    batch = len(given[0])
    tensors = tuple(t if len(t) == batch else t.expand(batch, *t.shape[1:]) for t in given)
    return Inputs(tensors, given, _baselines(baselines, tensors, cuts), single)


def _check_batches(tensors: tuple[Tensor, ...], none: bool) -> None:
    if not tensors:
        raise AssertionError("inputs is an empty tuple; it must hold at least one tensor")
    for place, tensor in enumerate(tensors):
        if tensor.dim() == 0:
            raise ValueError(f"inputs[{place}] is a number without an axis of examples; add [None]")
    batch = len(tensors[0])
    if batch == 0 and not none:
        raise AssertionError(
            f"inputs must hold at least one example, got the shape {list(tensors[0].shape)}"
        )
    sizes = [len(tensor) for tensor in tensors]
    if any(size not in (1, batch) for size in sizes):
        raise ValueError(
            f"all inputs must have the same number of examples on axis 0, or one for all, got "
            f"{sizes}"
        )


def _baselines(given: Any, tensors: tuple[Tensor, ...], cuts: bool) -> tuple[Baseline, ...]:
    if given is None:
        return tuple(False if tensor.dtype == torch.bool else 0 for tensor in tensors)
    baselines = given if isinstance(given, tuple) else (given,)
    for place, base in enumerate(baselines):
        if not isinstance(base, Tensor | int | float):
            raise AssertionError(
                f"baselines[{place}] must be a torch.Tensor or a number, got {type(base).__name__}"
            )
    if len(baselines) != len(tensors):
        kind = IndexError if len(baselines) < len(tensors) else AssertionError
        raise kind(
            f"baselines must be a tuple of {len(tensors)}, one for each input, got {len(baselines)}"
        )
    return tuple(
        _fitting(base, tensor, f"baselines[{place}]", cuts) if isinstance(base, Tensor) else base
        for place, (base, tensor) in enumerate(zip(baselines, tensors, strict=True))
    )


def _fitting(base: Tensor, tensor: Tensor, name: str, cuts: bool) -> Tensor:
    """A baseline with the rank of its input, or of rank 0."""
    return base if base.dim() == 0 else over_examples(base, tensor, name, cuts=cuts)


def over_examples(values: Tensor, tensor: Tensor, name: str, *, cuts: bool = True) -> Tensor:
    """Values that broadcast to an input [B,…], with all its axes: [1 or B,…].

    Args:
        values: of any rank up to that of the input.
        tensor: the input.
        name: what they are called.
        cuts: whether Captum's method cuts the batch into examples. Then it cuts values by their
            first axis if that has B entries, whatever the axis stands for.

    Raises:
        ValueError: they do not fit; or Captum may cut them by an axis that is not the examples'.
    """
    batch, rank = len(tensor), tensor.dim()
    if cuts and 0 < values.dim() < rank and len(values) == batch > 1:
        raise ValueError(
            f"{name} of shape {list(values.shape)} is ambiguous, because its first axis is as long "
            f"as the batch of {batch} examples; add the axis of examples: {name}[None]"
        )
    full = values[(None,) * (rank - values.dim())] if values.dim() < rank else values
    fits = full.dim() == rank and all(
        own in (1, other) for own, other in zip(full.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name} must broadcast to its input {list(tensor.shape)}, got {list(values.shape)}"
        )
    return full


class Further:
    """The further arguments of the forward function.

    Args:
        given: None, one argument, or a tuple of them.
        batch: B.

    Attributes:
        values: the arguments, as a tuple.
        by_row: whether chunks may hold rows of several examples, in any number. It is False where a
            tensor or a list may have another meaning than one entry for each example.
    """

    def __init__(self, given: Any, batch: int):
        self.values = given if isinstance(given, tuple) else () if given is None else (given,)
        self.batch = batch
        self.by_row = not any(
            len(value) != batch
            if isinstance(value, Tensor) and value.dim()
            else isinstance(value, list) and len(value) == batch > 1
            for value in self.values
        )

    def of_rows(self, rows: Tensor) -> tuple[Any, ...]:
        """The arguments of rows that belong to the examples ``rows`` [n]."""
        return tuple(
            value.index_select(0, rows.to(value.device))
            if isinstance(value, Tensor) and value.dim()
            else value
            for value in self.values
        )

    def of_example(self, example: int, times: int) -> tuple[Any, ...]:
        """The arguments of ``times`` rows of one example, as Captum repeats them."""
        return tuple(repeated(self._own(value, example), times) for value in self.values)

    def _own(self, value: Any, example: int) -> Any:
        sequence = isinstance(value, list) or (isinstance(value, Tensor) and value.dim() > 0)
        if sequence and len(value) == self.batch > 1:
            return value[example : example + 1]
        return value


def repeated(value: Any, times: int) -> Any:
    """A further argument of ``times`` samples: tensors are repeated on axis 0, others stay."""
    if isinstance(value, Tensor) and value.dim():
        return torch.cat([value] * times) if times > 1 else value
    return value
