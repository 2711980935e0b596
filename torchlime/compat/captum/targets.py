"""Captum's targets: which of a model's outputs is explained, for each row of a chunk."""

from typing import Any

import torch
from torch import Tensor

from torchlime._precision import solve_dtype


class Targets:
    """Which entry of the outputs of each example is explained.

    Args:
        given: None, the whole output; an int or a tuple, an index behind the first axis; a list or
            tensor of ints, or a list of tuples, one for each example; or a tensor of one int for
            all. A tensor [B,T] of ints names several for each example, which Captum does not take.
            An entry that the outputs lack is an error. But if a tensor is not on the CPU, its
            numbers are not read back, and one that is out of range gives NaN.
        device: the device of the outputs.
        batch: B.

    Attributes:
        several: T, where ``given`` is [B,T]; else None.

    Raises:
        AssertionError: it is none of these.

    Example:
        >>> outputs, rows = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([0, 1])
        >>> Targets([2, 0], outputs.device, 2)(outputs, rows).tolist()
        [3, 4]
    """

    def __init__(self, given: Any, device: torch.device, batch: int):
        _check(given)
        self.given = given
        self.device = device
        self.batch = batch
        self.several: int | None = None
        self._columns: Tensor | None = None  # [examples], [examples,D] of tuples, or [B,T]
        if isinstance(given, Tensor):
            self._columns = given.to(device).long()
            if given.dim() == 2 and len(given) == batch and given.shape[1] > 1:
                self.several = given.shape[1]
        elif isinstance(given, list) and _are_indices(given):
            self._columns = torch.tensor(given, device=device)  # uploaded once a call

    def __call__(self, outputs: Any, rows: Tensor | None) -> Any:
        """The explained entries of outputs [n,…]; ``rows`` [n] says whose they are.

        None: the outputs are those of all examples, in their order.

        Raises:
            AssertionError, IndexError, RuntimeError: the target is no entry of the outputs.
        """
        given = self.given
        if given is None:
            return outputs
        if isinstance(given, int | tuple):
            return _column(outputs, given)
        if isinstance(given, Tensor) and given.numel() == 1:
            assert self._columns is not None
            return _one_for_all(outputs, self._columns)
        examples = len(outputs) if rows is None else self.batch
        if len(given) != examples:
            raise AssertionError(
                f"target must name one entry for each example, and there are {len(given)} for "
                f"{examples} rows of outputs"
            )
        if isinstance(given, Tensor) or isinstance(given[0], int):
            _check_matrix(outputs)
            if isinstance(given, list):
                _check_range(given, outputs)
            columns = self._of(rows)
            if self.several is not None:
                return _gathered(outputs, columns)
            return _gathered(outputs, columns.reshape(-1, 1))[:, 0]
        return self._by_tuples(outputs, rows)

    def of_example(self, example: int) -> Any:
        """What the caller would give for one example."""
        given = self.given
        if isinstance(given, list) or (isinstance(given, Tensor) and given.numel() > 1):
            return given[example : example + 1]
        return given

    def numbers(self, batch: int, width: int) -> Tensor:
        """The classes [B,T] int64; 0…T−1 where a target is not a single class."""
        columns = self._columns
        if columns is not None and columns.numel() == batch * width:
            return columns.reshape(batch, width)
        if columns is not None and columns.numel() == 1:
            return columns.reshape(1, 1).expand(batch, width)
        if isinstance(self.given, int):
            return torch.full((batch, width), self.given, device=self.device)
        return torch.arange(width, device=self.device).expand(batch, -1)

    def _of(self, rows: Tensor | None) -> Tensor:
        """The columns of rows; of all examples, in their order, if None."""
        assert self._columns is not None
        return self._columns if rows is None else self._columns.index_select(0, rows)

    def _by_tuples(self, outputs: Tensor, rows: Tensor | None) -> Tensor:
        if self._columns is None:  # tuples with slices, or of several lengths
            numbers = range(len(outputs)) if rows is None else rows.tolist()
            return torch.stack([outputs[(i, *self.given[b])] for i, b in enumerate(numbers)])
        _check_tuples(self.given, outputs)
        columns = self._of(rows)
        first = torch.arange(len(outputs), device=outputs.device)
        return outputs[(first, *columns.unbind(1))]


def _check(given: Any) -> None:
    what = f"target must be None, an int, a tuple, a list or a tensor, got {type(given).__name__}"
    if given is None or isinstance(given, int | tuple):
        return
    if isinstance(given, Tensor):
        if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
            raise AssertionError(f"target must be a tensor of integers, got {given.dtype}")
        if given.dim() > 2 or given.numel() == 0:
            raise AssertionError(
                f"target must be a tensor of one int, or [B] or [B,T], got {list(given.shape)}"
            )
    elif not isinstance(given, list):
        raise AssertionError(what)
    elif not given or not isinstance(given[0], int | tuple):
        held = type(given[0]).__name__ if given else "nothing"
        raise AssertionError(f"a list as target must hold ints or tuples, got {held}")


def _are_indices(given: list[Any]) -> bool:
    """Whether a tensor can hold them: ints, or tuples of as many ints each."""
    if isinstance(given[0], int):
        return True
    return len({len(one) for one in given}) == 1 and all(
        isinstance(i, int) for one in given for i in one
    )


def _column(outputs: Any, index: int | tuple[Any, ...]) -> Tensor:
    behind = (index,) if isinstance(index, int) else index
    if len(behind) > outputs.dim() - 1:
        raise AssertionError(
            f"target={index!r} has {len(behind)} indices behind the axis of examples, but the "
            f"outputs are {list(outputs.shape)}"
        )
    return outputs[(slice(None), *behind)]


def _one_for_all(outputs: Tensor, index: Tensor) -> Tensor:
    """Column ``index`` of outputs; from a device nothing is read back."""
    if index.device.type == "cpu":
        return _column(outputs, int(index))
    if outputs.dim() < 2:
        raise AssertionError(
            f"target is one index behind the axis of examples, but the outputs are "
            f"{list(outputs.shape)}"
        )
    index = index.reshape(1).to(outputs.device)
    index = torch.where(index < 0, index + outputs.shape[1], index)
    place = index.clamp(0, outputs.shape[1] - 1)
    return _where_inside(place == index, outputs.index_select(1, place).squeeze(1))


def _gathered(outputs: Tensor, columns: Tensor) -> Tensor:
    """Columns [n,T] of outputs [n,classes], each row its own."""
    if columns.device.type == "cpu":
        return outputs.gather(1, columns)
    place = columns.clamp(0, outputs.shape[1] - 1)
    return _where_inside(place == columns, outputs.gather(1, place))


def _where_inside(inside: Tensor, found: Tensor) -> Tensor:
    """What was found, and NaN for an index out of range, which would end a process on a GPU."""
    if not found.is_floating_point():
        found = found.to(solve_dtype(found.device))
    return torch.where(inside, found, torch.nan)


def _check_range(given: list[int], outputs: Tensor) -> None:
    """On a GPU an index out of range would end the process."""
    wrong = [index for index in given if not 0 <= index < outputs.shape[1]]
    if wrong:
        raise RuntimeError(
            f"target holds {wrong[0]}, which is no column of the outputs {list(outputs.shape)}"
        )


def _check_tuples(given: list[tuple[int, ...]], outputs: Tensor) -> None:
    """The same for tuples; indices from the end are negative."""
    sizes = outputs.shape[1:]
    for one in given:
        if len(one) > len(sizes) or any(
            not -size <= i < size for i, size in zip(one, sizes, strict=False)
        ):
            raise IndexError(
                f"target holds {one}, which is no entry of outputs {list(outputs.shape)}"
            )


def _check_matrix(outputs: Tensor) -> None:
    if outputs.dim() != 2:
        raise AssertionError(
            f"target holds one int for each example, which needs outputs [n,classes], got "
            f"{list(outputs.shape)}; pass a list of tuples"
        )
