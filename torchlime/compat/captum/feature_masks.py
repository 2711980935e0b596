"""Feature masks: which feature each entry of the inputs belongs to, over all tensors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchlime._warn import warn
from torchlime.compat.captum.arguments import Inputs, as_inputs, over_examples

MANY = 10_000


class Columns(NamedTuple):
    """The column of the design that each entry belongs to.

    Attributes:
        ids: for each input [1 or B,…] int64, with all axes of the input; an axis of 1 stands for
            all of its entries. An id that is in several tensors is one feature.
        number: F, one more than the highest id; ids may have gaps.
        given: the masks as the caller gave them, with ids from 0: for the caller's own functions.
        least: the caller's lowest id, which is column 0.
    """

    ids: tuple[Tensor, ...]
    number: int
    given: tuple[Tensor, ...]
    least: int = 0

    def example(self, number: int) -> "Columns":
        """The columns of one example."""
        mine = slice(number, number + 1)
        ids, given = (
            tuple(i[mine] if i.dim() and len(i) > 1 and len(o) > 1 else i
                  for i, o in zip(masks, self.ids, strict=True))
            for masks in (self.ids, self.given)
        )  # fmt: skip
        return Columns(ids, self.number, given, self.least)

    def shaped(self, values: Tensor, inputs: Inputs) -> tuple[Tensor, ...]:
        """Values [B,F] (or [B,T,F]) of features on the entries of each input: float32 [B,…].

        It takes one gather for each tensor.
        """
        return tuple(
            spread(values.float().to(tensor.device), ids, tensor.shape[1:])
            for ids, tensor in zip(self.ids, inputs.tensors, strict=True)
        )


def spread(values: Tensor, ids: Tensor, shape: Sequence[int]) -> Tensor:
    """Values [b,…,F] of features on entries whose features are ``ids`` [1 or b,…]: [b,…,*shape]."""
    ahead = values.shape[:-1]
    index = ids.reshape(len(ids), -1)
    index = index[(slice(None), *(None,) * (len(ahead) - 1))].expand(*ahead, -1)
    found = values.gather(-1, index).view(*ahead, *ids.shape[1:])
    return found.expand(*ahead, *shape).contiguous()


def as_columns(feature_mask: Any, inputs: Inputs, *, from_zero: bool = True) -> Columns:
    """The columns of a caller's feature mask; without one, each scalar is a feature.

    The highest id is read back once for all tensors.

    Args:
        feature_mask: None; or a tensor of integers that broadcasts to its input, for each input.
        inputs: the inputs.
        from_zero: shift the ids, with Captum's warning, so that the lowest is 0.

    Raises:
        AssertionError: the mask is no tensor.
        IndexError: its dtype holds no integers.
        ValueError: a shape does not fit, or all masks are empty.

    Example:
        >>> from torchlime.compat.captum.arguments import as_inputs
        >>> as_columns(None, as_inputs(torch.ones(2, 3))).number
        3
    """
    if feature_mask is None:
        return _each_scalar(inputs)
    masks = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,)
    check_masks(masks, inputs)
    for mask in masks:
        if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool:
            raise IndexError(
                f"feature_mask must hold integers, got {mask.dtype}; pass feature_mask.long()"
            )
    ids = tuple(
        over_examples(mask, tensor, _name(feature_mask, place)).to(tensor.device).long()
        for place, (mask, tensor) in enumerate(zip(masks, inputs.tensors, strict=True))
    )
    filled = [mask for mask in ids if mask.numel()]
    if not filled:
        raise ValueError("feature_mask is empty in all tensors, so there is no feature to explain")
    ends = torch.stack([torch.stack(mask.aminmax()).to(filled[0].device) for mask in filled])
    pairs = ends.tolist()  # the one read-back: F is a shape
    least, most = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    if not from_zero or least == 0:
        return Columns(ids, int(most) + 1, masks)
    warn("Minimum element in feature mask is not 0, shifting indices to start at 0.")
    ids, given = (tuple(mask - least for mask in those) for those in (ids, masks))
    return Columns(ids, int(most - least) + 1, given, int(least))


def _each_scalar(inputs: Inputs) -> Columns:
    ids, number = [], 0
    for tensor in inputs.tensors:
        own = tensor[:1].numel()
        index = torch.arange(number, number + own, device=tensor.device)
        ids.append(index.view(1, *tensor.shape[1:]))
        number += own
    return Columns(tuple(ids), number, tuple(ids))


def construct_feature_mask(
    feature_mask: Any, formatted_inputs: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], int]:
    """Captum's helper: the masks of a tuple of inputs with ids from 0, and F.

    Example:
        >>> construct_feature_mask(None, (torch.ones(2, 3),))
        ((tensor([[0, 1, 2]]),), 3)
    """
    columns = as_columns(feature_mask, as_inputs(formatted_inputs))
    return columns.given, columns.number


def warn_of_many(columns: Columns) -> None:
    """Captum's warning of more than 10 000 features."""
    if columns.number > MANY:
        warn(
            "Attempting to construct interpretable model with > 10000 features."
            "This can be very slow or lead to OOM issues. Please provide a feature"
            "mask which groups input features to reduce the number of interpretable"
            "features. "
        )


def check_masks(masks: tuple[Any, ...], inputs: Inputs) -> None:
    """Raise unless there is one mask for each input.

    Raises:
        AssertionError: there are more or fewer, or one is no tensor.
    """
    if len(masks) != len(inputs.tensors):
        raise AssertionError(
            f"feature_mask must be a tuple of {len(inputs.tensors)} tensors, one for each input, "
            f"got {len(masks)}"
        )
    for place, mask in enumerate(masks):
        if not isinstance(mask, Tensor):
            raise AssertionError(
                f"feature_mask must be a torch.Tensor or a tuple of them, got "
                f"{type(mask).__name__} at place {place}"
            )


def _name(feature_mask: Any, place: int) -> str:
    return f"feature_mask[{place}]" if isinstance(feature_mask, tuple) else "feature_mask"
