"""Checks at the boundary: on what the host knows, in sentences that say what to do."""

import torch
from torch import Tensor


def check_images(images: Tensor, name: str = "images") -> None:
    """Raise unless ``images`` is a non-empty float tensor [B,C,H,W]."""
    if not isinstance(images, Tensor):
        raise TypeError(
            f"{name} must be a float tensor [B,C,H,W], got {type(images).__name__}; "
            "torchvision.transforms.functional.to_tensor(photo)[None] makes one"
        )
    if images.dim() != 4:
        hint = f"; add the batch axis: {name}[None]" if images.dim() == 3 else ""
        raise ValueError(f"{name} must have shape [B,C,H,W], got {list(images.shape)}{hint}")
    if not images.is_floating_point():
        raise TypeError(
            f"{name} must be floating point, got {images.dtype}; "
            f"for 8-bit pixels pass {name}.float() / 255"
        )
    if 0 in images.shape:
        raise ValueError(
            f"{name} must hold at least one image, channel and pixel, got {list(images.shape)}"
        )


def check_positive(value: float, name: str) -> None:
    """Raise unless ``value`` is a finite number above 0."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_fraction(value: float, name: str) -> None:
    """Raise unless ``value`` lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")


def check_count(value: int, name: str, least: int = 1) -> None:
    """Raise unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def device_of(module: object) -> torch.device | None:
    """Device of a module's first parameter or buffer; None for a plain callable."""
    if not isinstance(module, torch.nn.Module):
        return None
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return None
