"""Values of any kind as NumPy arrays."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


def to_numpy(values: Any) -> Any:
    """A tensor of any device, gradient and precision as an array; other values as they are."""
    if not isinstance(values, Tensor):
        return values
    values = values.detach()
    return (values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy()
