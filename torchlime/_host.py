"""Values that the host can read without waiting, and tensors that a CPU makes only once."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOST = 256  # tensors that are kept; the next one drops them all

Make = Callable[[Any, torch.device], Tensor]

_kept: dict[tuple[Make, Any], Tensor] = {}


def is_at_hand(values: Tensor) -> bool:
    """Whether the host can read ``values`` without waiting, as on a CPU.

    There are no values to read under ``torch.compile``, and in fake tensors. If a mode watches the
    calls, as in a capture, the host should not read them either: a capture runs again with other
    values.

    >>> is_at_hand(torch.zeros(1)), is_at_hand(torch.zeros(1, device="meta"))
    (True, False)
    """
    if torch.compiler.is_compiling() or torch._C._is_torch_function_mode_enabled():
        return False
    return type(values) is Tensor and values.device.type == "cpu"


def kept(make: Make) -> Callable[[Any, Tensor], Tensor]:
    """Decorate a method that makes a tensor on a device. Nobody may write to that tensor.

    In place of the device, the decorated method takes any tensor on it. On a CPU, the tensor is
    made once for all equal objects.
    """

    @functools.wraps(make)
    def known(owner: Any, like: Tensor) -> Tensor:
        if not is_at_hand(like):
            return make(owner, like.device)
        found = _kept.get((make, owner))
        if found is None:
            with torch.inference_mode(False):
                found = make(owner, like.device)
            if len(_kept) >= MOST:
                _kept.clear()
            _kept[make, owner] = found
        return found

    return known
