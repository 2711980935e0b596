"""The one place that decides in which floating type sums and solves run."""

import torch


def solve_dtype(device: torch.device) -> torch.dtype:
    """Float64 where the device has it, float32 where it does not (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64
