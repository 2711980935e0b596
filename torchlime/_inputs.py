"""The caller's inputs → tensors, once, before anything else uses them."""

from typing import Any

import torch
from torch import Tensor

from torchlime._checks import check_images, check_vectors, device_of
from torchlime._warn import warn

PLAUSIBLE_CHANNELS = (1, 3, 4)


def as_images(images: Any, model: Any) -> Tensor:
    """Images [B,C,H,W] float, from tensors, numpy arrays, PIL images or lists of these.

    Convention:
        A tensor is taken as it is. An array is [B,H,W,C] or [H,W,C], with C of 1, 3 or 4, or
        [B,C,H,W]; a PIL image is RGB or grey. Bytes become floats in [0,1]; floats stay as they
        are. Inputs that are not tensors go to the device of the model.

    Raises:
        TypeError, ValueError: the input cannot be read as images; the message says what to pass.
    """
    if not isinstance(images, Tensor):
        images = _stacked(images).to(device_of(model) or torch.device("cpu"))
    check_images(images)
    _, channels, height, width = images.shape
    if width in (3, 4) and min(channels, height) >= 16:
        warn(
            f"images {list(images.shape)} look channels-last, but are taken as [B,C,H,W]; "
            "pass images.movedim(-1, 1)",
        )
    return images.detach()


def as_vectors(x: Any, model: Any) -> Tensor:
    """Vectors [B,F] or [B,…] float, from a tensor, an array or rows of numbers."""
    if not isinstance(x, Tensor):
        x = torch.as_tensor(_array(x)).to(device_of(model) or torch.device("cpu"))
    check_vectors(x)
    return x.detach()


def as_targets(targets: Any, device: torch.device) -> Any:
    """Lists and arrays of classes become a tensor; other targets stay as they are."""
    listed = isinstance(targets, list | tuple) or getattr(targets, "ndim", 0) > 0
    if listed and not isinstance(targets, Tensor) and _array(targets).dtype.kind in "iu":
        return torch.as_tensor(_array(targets)).to(device)
    return targets


def as_label_map(segments: Any, device: torch.device) -> Any:
    """An array of labels becomes a tensor; anything else stays as it is."""
    if hasattr(segments, "__array__") and not isinstance(segments, Tensor):
        labels = _array(segments)
        if labels.dtype.kind == "u" and labels.dtype.itemsize > 1:  # torch has few operators
            labels = labels.astype("int64")
        return torch.as_tensor(labels).to(device)
    return segments


def _stacked(images: Any) -> Tensor:
    if isinstance(images, list | tuple):
        parts = [_stacked(image) for image in images]
        sizes = {tuple(part.shape[1:]) for part in parts}
        if len(sizes) > 1:
            raise ValueError(
                f"images of one call must have one size, got {sorted(map(list, sizes))}; "
                "resize them, or explain them one by one"
            )
        return torch.cat(parts)
    if isinstance(images, Tensor):
        return images[None] if images.dim() == 3 else images
    if hasattr(images, "getbands"):  # a PIL image
        images = images if images.mode in ("L", "RGB") else images.convert("RGB")
    elif not hasattr(images, "__array__"):
        raise TypeError(
            "images must be a float tensor [B,C,H,W], arrays or PIL images, got "
            f"{type(images).__name__}; torchvision.transforms.functional.to_tensor(photo)[None] "
            "makes a tensor"
        )
    return _from_array(_array(images))


def _from_array(pixels: Any) -> Tensor:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim == 3:
        pixels = pixels[None]
    if pixels.ndim == 4 and pixels.shape[-1] in PLAUSIBLE_CHANNELS:
        pixels = pixels.transpose(0, 3, 1, 2)
    elif pixels.ndim != 4 or pixels.shape[1] not in PLAUSIBLE_CHANNELS:
        raise ValueError(
            "an array of images must be [B,H,W,C] or [H,W,C] with C of 1, 3 or 4, or [B,C,H,W], "
            f"got {list(pixels.shape)}; pass other numbers of channels as a tensor [B,C,H,W]"
        )
    tensor = torch.from_numpy(pixels.copy())
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


def _array(values: Any) -> Any:
    import numpy as np

    return np.asarray(values)
