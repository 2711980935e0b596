"""The caller's autocast, gradients and inference mode must not reach the arithmetic."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast, and normal tensors even in the caller's ``inference_mode``."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield
