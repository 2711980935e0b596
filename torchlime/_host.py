"""What the host knows at once, so that it does not wait for a device, and no CPU works twice."""

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

    It cannot where there are no values yet: under ``torch.compile``, and in fake tensors. It should
    not where a mode watches the calls, as in a capture, which holds for other values too.

    >>> is_at_hand(torch.zeros(1)), is_at_hand(torch.zeros(1, device="meta"))
    (True, False)
    """
    if torch.compiler.is_compiling() or torch._C._is_torch_function_mode_enabled():
        return False
    return type(values) is Tensor and values.device.type == "cpu"


def kept(make: Make) -> Callable[[Any, Tensor], Tensor]:
    """Decorates a method that makes a tensor on a device, which nobody writes to.

    It then takes a tensor on that device. A CPU makes the tensors of equal objects once.
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
