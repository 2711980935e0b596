"""The caller's inputs → tensors, once, before anything else uses them."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from torchlime._checks import check_inputs, check_vectors, device_of
from torchlime._networks import networks_of
from torchlime._warn import warn

CHANNELS = (1, 3, 4)
_MODES = ("L", "RGB")


class Array(Protocol):
    """A numpy array, or what becomes one."""

    def __array__(self) -> Any:
        """The array."""
        ...


class Picture(Protocol):
    """A PIL image."""

    def getbands(self) -> tuple[str, ...]:
        """The names of its channels."""
        ...


Images = Tensor | Array | Picture | Sequence[Tensor | Array | Picture]


def as_images(images: Any, model: Any) -> Tensor:
    """Images [B,C,H,W] float, from tensors, numpy arrays, PIL images or lists of these.

    Convention:
        A tensor is taken as it is; it may be of any rank: vectors [B,F], series [B,C,L], volumes
        [B,C,D,H,W], or integer ids [B,L]. An array is [H,W,C] or [B,H,W,C], with C of 1, 3 or 4, or
        [B,C,H,W], or [H,W]; a PIL image is grey, RGB, or laid on white. Bytes become floats in
        [0,1]; floats stay as they are. What is no tensor goes to the device of the model.

    Raises:
        TypeError, ValueError: the input cannot be read as images; the message says what to pass.
    """
    if not isinstance(images, Tensor):
        images = _stacked(images).to(_device(model))
    check_inputs(images)
    _warn_of_the_look(list(images.shape))
    return images.detach()


def _warn_of_the_look(shape: list[int]) -> None:
    """Say where a shape is probably meant in another way than it is taken."""
    if len(shape) == 4 and shape[3] in (3, 4) and min(shape[1:3]) >= 16:
        warn(
            f"images {shape} look channels-last, but are taken as [B,C,H,W]; "
            "pass images.movedim(-1, 1)"
        )
    if len(shape) == 3 and shape[0] in (3, 4) and min(shape[1:]) >= 16:
        warn(
            f"images {shape} look like one photo, but are taken as {shape[0]} series [B,C,L]; "
            "add the batch axis: images[None]"
        )


def as_vectors(x: Any, model: Any) -> Tensor:
    """Vectors [B,F] or [B,…] float, from a tensor, an array or rows of numbers."""
    if not isinstance(x, Tensor):
        x = _tensor(x, "x").to(_device(model))
    check_vectors(x)
    return x.detach()


def as_targets(targets: Any, device: torch.device) -> Any:
    """Lists and arrays of classes become a tensor; other targets stay as they are."""
    listed = isinstance(targets, list | tuple) or getattr(targets, "ndim", 0) > 0
    if listed and not isinstance(targets, Tensor) and _array(targets, "targets").dtype.kind in "iu":
        return _tensor(targets, "targets").to(device)
    return targets


def as_label_map(segments: Any, device: torch.device) -> Any:
    """An array of labels becomes a tensor; anything else stays as it is."""
    if hasattr(segments, "__array__") and not isinstance(segments, Tensor):
        labels = _array(segments, "segments")
        if labels.dtype.kind == "u":  # torch has few operators of unsigned ones
            labels = labels.astype("int64")
        return _tensor(labels, "segments").to(device)
    return segments


def _device(model: Any) -> torch.device:
    """Where the networks behind a model are."""
    found = (device_of(network) for network in networks_of(model))
    return next((device for device in found if device is not None), torch.device("cpu"))


def _stacked(images: Any) -> Tensor:
    if not isinstance(images, list | tuple):
        return _one(images)
    if not images:
        raise ValueError("images must hold at least one image, got an empty list")
    parts = [_one(image) for image in images]
    for what, kinds in (
        ("channels", {part.shape[1] for part in parts}),
        ("size", {tuple(part.shape[2:]) for part in parts}),
        ("dtype", {part.dtype for part in parts}),
    ):
        if len(kinds) > 1:
            raise ValueError(
                f"images of one call must have one {what}, got {sorted(map(str, kinds))}; "
                "convert them, or explain them one by one"
            )
    return torch.cat(parts)


def _one(image: Any) -> Tensor:
    """Images [b,C,H,W] of one entry of a list."""
    if isinstance(image, Tensor):
        return image[None] if image.dim() == 3 else image
    if hasattr(image, "getbands"):
        image = _plain_picture(image)
    elif not hasattr(image, "__array__"):
        raise TypeError(
            "images must be a float tensor [B,C,H,W], arrays or PIL images, got "
            f"{type(image).__name__}; torchvision.transforms.functional.to_tensor(photo)[None] "
            "makes a tensor"
        )
    return _from_array(_array(image, "images"))


def _plain_picture(image: Any) -> Any:
    """A PIL image in a mode of :data:`_MODES`."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise ValueError(f"the PIL image has {pages} pages: image.seek(page), then image.copy()")
    if image.mode[0] in "IF":  # 16 or 32 bits, which Pillow's own conversion would clip
        raise ValueError(
            f"a PIL image of mode {image.mode!r} has no range that is known; pass a float tensor"
        )
    if image.mode in _MODES:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    from PIL import Image

    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _from_array(pixels: Any) -> Tensor:
    shape = list(pixels.shape)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim == 3:
        if pixels.shape[-1] not in CHANNELS:
            raise ValueError(
                f"an array {shape} is no image [H,W,C] with C of 1, 3 or 4; pass "
                "np.moveaxis(image, 0, -1), or a tensor [B,C,H,W] of any number of channels"
            )
        pixels = pixels[None]
    if pixels.ndim == 4 and pixels.shape[-1] in CHANNELS:
        pixels = pixels.transpose(0, 3, 1, 2)
    elif pixels.ndim != 4 or pixels.shape[1] not in CHANNELS:
        raise ValueError(
            "an array of images must be [B,H,W,C] or [H,W,C] with C of 1, 3 or 4, or [B,C,H,W], "
            f"got {shape}; pass other numbers of channels as a tensor [B,C,H,W]"
        )
    tensor = _tensor(pixels, "images")
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


def _tensor(values: Any, name: str) -> Tensor:
    array = _array(values, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got an array of {array.dtype}")
    # A copy in the machine's byte order, which torch takes from nobody else.
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))


def _array(values: Any, name: str) -> Any:
    import numpy as np

    try:
        return np.asarray(values)
    except ValueError as error:  # of rows of several lengths
        raise ValueError(f"{name} must be rows of one length: {error}") from error
