"""Placing: what scores were given by a caller → tensors where the inputs are, checked."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from torchlime._checks import is_integer
from torchlime._inputs import Array

Numbers = Tensor | Array | Sequence[Any]
_SHOWN = 32  # numbers of a tensor that are told, if the host has them


class Place(NamedTuple):
    """The inputs that scores belong to.

    Args:
        batch: B.
        device: of the inputs.
        size: of their spatial axes, such as (H, W); None if they have none, or it is not known.
        these: subject and verb of a sentence about the inputs.
    """

    batch: int
    device: torch.device
    size: tuple[int, ...] | None = None
    these: str = "the images are"


class Placeable(Protocol):
    """Scores that hold something of each input, which must be checked and moved there."""

    def placed(self, place: Place, /) -> Self:
        """The same scores with tensors on the device of the inputs.

        Raises:
            TypeError, ValueError: what they hold does not fit the inputs.
        """
        ...


class Described:
    """A repr for provenance: tensors by their shape, or by their numbers if these are few."""

    def __repr__(self) -> str:
        named = ((f.name, getattr(self, f.name)) for f in fields(self) if f.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{n}={_word(value)}' for n, value in named)})"


def _word(value: Any) -> str:
    if isinstance(value, Tensor):
        few = value.device.type == "cpu" and value.numel() <= _SHOWN
        return str(value.tolist()) if few else f"a tensor {list(value.shape)}"
    return f"an array {list(value.shape)}" if hasattr(value, "shape") else repr(value)


def on_device(values: Any, name: str, place: Place) -> Tensor:
    """Arrays and lists as a tensor on the device of the inputs; a tensor must lie there.

    Raises:
        TypeError, ValueError: they are no numbers, or a tensor of another device.
    """
    if isinstance(values, Tensor):
        if values.device != place.device:
            raise ValueError(
                f"{name} is on {values.device}, {place.these} on {place.device}; "
                "move one of them with .to(device)"
            )
        return values.detach()
    if isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
        return on_device(_stacked(values, name), name, place)
    import numpy as np

    try:
        array = np.asarray(values)
    except ValueError as error:  # of rows of several lengths
        raise ValueError(f"{name} must be rows of one length: {error}") from error
    if array.dtype.kind not in "biuf":
        got = type(values).__name__
        raise TypeError(f"{name} must be a tensor, an array or a list of numbers, got {got}")
    if array.dtype.kind == "u":  # torch has few operators of unsigned ones
        array = array.astype("int64")
    # A copy in the machine's byte order, which torch takes from nobody else.
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).to(place.device)


def _stacked(values: Sequence[Tensor], name: str) -> Tensor:
    try:
        return torch.stack(list(values))
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{name} given as a list must be tensors of one shape: {error}") from error


def check_batch(values: Tensor, name: str, place: Place) -> None:
    """Raise unless the first axis runs over the inputs, or is 1 for all of them."""
    if values.shape[0] not in (1, place.batch):
        raise ValueError(
            f"{name} must have one entry for each of the {place.batch} inputs, or one for all, got "
            f"{list(values.shape)}"
        )


def of_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Values [B,…] or [1,…] for rows [n] of these inputs: [n,…]."""
    if len(values) == 1:
        return values.expand(len(rows), *values.shape[1:])
    return values[rows]


Given = int | Numbers | None


def placed_classes(classes: Given, place: Place) -> int | Tensor | None:
    """Classes as None, an int of 0 or above, or an int64 tensor [B,T] or [1,T].

    Raises:
        TypeError, ValueError: they are none of these.
    """
    if classes is None:
        return None
    expected = "classes must be None, an int of 0 or above, or ints [B] or [B,T]"
    if is_integer(classes):
        if int(classes) < 0:  # type: ignore[arg-type]
            raise ValueError(f"{expected}, got {classes}")
        return int(classes)  # type: ignore[arg-type]
    values = on_device(classes, "classes", place)
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"{expected}, got {values.dtype}")
    if values.dim() not in (1, 2) or 0 in values.shape:
        raise ValueError(f"{expected} with B = {place.batch}, got {list(values.shape)}")
    check_batch(values, "classes", place)
    if values.device.type == "cpu" and int(values.min()) < 0:
        raise ValueError(f"{expected}, got {int(values.min())} among them")
    return values.reshape(len(values), -1).long()


def classes_of(classes: Given, rows: Tensor) -> Tensor | None:
    """The classes [n,T] of rows [n]; None if the outputs decide."""
    if classes is None:
        return None
    if isinstance(classes, Tensor):
        return of_rows(classes.reshape(len(classes), -1).long(), rows)
    if is_integer(classes):
        return torch.full((len(rows), 1), int(classes), device=rows.device)  # type: ignore[arg-type]
    return classes_of(torch.as_tensor(classes, device=rows.device), rows)
