"""How many rows a call of the forward function takes: the rules for all methods."""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from torchlime.black_box import is_out_of_memory
from torchlime.features.pixels import default_chunk_size
from torchlime.features.vectors import CHUNK_ENTRIES


class Room:
    """The rows of a call, where Captum's calls have ``least``.

    A call takes more, as many as suit the device. Where the function cannot take them (it raises,
    or gives another number of scores than rows), Captum's own calls are made. With ``least`` = 1
    nobody has said that the function takes several rows. Then three of them also run alone, and one
    flag is read back: whether they have the scores that they have among others.

    Args:
        least: the caller's ``perturbations_per_eval``.
        tensors: inputs [n,…], which say how large a row is.
        device: on which the function runs.

    Attributes:
        size: the rows of a call now.
    """

    def __init__(self, least: int, tensors: tuple[Tensor, ...], device: torch.device):
        self.least = least
        self.size = max(least, suitable_rows(tensors, device))

    def holds_more(self, rows: int) -> bool:
        """Whether calls for ``rows`` rows in all have more rows than Captum's calls."""
        return min(self.size, rows) > self.least

    @property
    def is_unproven(self) -> bool:
        """Whether nobody has said that the function takes several rows."""
        return self.least == 1

    def shrink(self, error: Exception, tried: int) -> None:
        """Make the calls smaller, because one of ``tried`` rows failed; or raise its error."""
        if tried > self.least:
            self.fall_back()
        elif is_out_of_memory(error) and tried > 1:
            self.size = self.least = tried // 2
        else:
            raise error

    def fall_back(self) -> None:
        """From now on, make Captum's calls."""
        self.size = self.least


def same_alone(
    alone: Callable[[int], Tensor], scores: Tensor, autocast: torch.dtype | None = None
) -> bool:
    """Whether the first, a middle and the last row have the same scores alone; read back.

    Args:
        alone: the number of a row → its scores [1,…], by a call of its own.
        scores: [n,…], of the rows together.
        autocast: in which the function ran.
    """
    number = len(scores)
    same = [
        _agree(alone(row), scores[row : row + 1], scores, autocast)
        for row in sorted({0, number // 2, number - 1})
    ]
    return bool(torch.stack(same).all())  # which calls are made depends on it


def _agree(alone: Tensor, among: Tensor, scores: Tensor, autocast: torch.dtype | None) -> Tensor:
    """Whether the scores of a row differ by rounding only: a bool that stays on the device.

    Batches of other sizes round differently. A function that is not meant for several rows differs
    by more than half of the digits.
    """
    eps = torch.finfo(alone.dtype).eps
    if autocast is not None:
        eps = max(eps, torch.finfo(autocast).eps)
    apart = (alone.to(scores.dtype) - among).abs()
    return (apart <= 4 * math.sqrt(eps) * scores.abs().amax()).all()


def suitable_rows(given: tuple[Tensor, ...], device: torch.device) -> int:
    """How many rows of a forward pass suit the device, for inputs [B,…]."""
    tensors = [tensor for tensor in given if tensor.numel() and tensor.dim()]
    if all(tensor.dim() < 3 for tensor in tensors):
        entries = sum(tensor[0].numel() for tensor in tensors)
        return min(max(CHUNK_ENTRIES // max(entries, 1), 64), 4096)
    places = sum(t[0, 0].numel() if t.dim() > 2 else 1 for t in tensors)
    return default_chunk_size(device, places)


class Refused(Exception):
    """The function failed on rows that Captum would not give it together."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Raise :class:`Refused` for any error of the function inside, except a lack of memory."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise Refused from error
