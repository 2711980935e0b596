"""What the host may look at while the device works."""

import torch
from torch import Tensor


def is_at_hand(values: Tensor) -> bool:
    """Whether the host can read ``values`` without waiting, as on a CPU.

    It cannot where there are no values yet: under ``torch.compile``, and in fake tensors.

    >>> is_at_hand(torch.zeros(1)), is_at_hand(torch.zeros(1, device="meta"))
    (True, False)
    """
    there = not torch.compiler.is_compiling() and type(values) is Tensor
    return there and values.device.type == "cpu"
