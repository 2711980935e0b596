"""The caller's autocast, gradients and inference mode must not reach the arithmetic."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast, and normal tensors even in the caller's ``inference_mode``."""
    with torch.inference_mode(False), torch.no_grad(), without_autocast(device):
        yield


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """No autocast inside. If there is none outside either, this costs almost nothing."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()
