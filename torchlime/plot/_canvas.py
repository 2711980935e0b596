"""Canvases: float32 [3,H,W] in [0,1] on the CPU, drawn on in place; photos become canvases."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    PhotoLike = Tensor | np.ndarray[Any, Any] | Image.Image

Color = tuple[int, int, int]

FOR: Color = (0, 114, 178)
AGAINST: Color = (213, 94, 0)
WHITE: Color = (255, 255, 255)
DARK: Color = (25, 25, 25)


def canvas_of(image: "PhotoLike") -> Tensor:
    """``image`` as a new canvas; the package's docstring says how.

    Raises:
        TypeError, ValueError: it is no photo; the message says what to do.
    """
    pixels = _tensor_of(image)
    if pixels.dim() == 4 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.dim() != 3 or pixels.shape[0] not in (1, 3, 4) or 0 in pixels.shape:
        last = pixels.dim() == 3 and pixels.shape[2] in (1, 3, 4)
        raise ValueError(
            "a tensor as image must be [C,H,W] or [1,C,H,W] with 1, 3 or 4 channels and at least "
            f"one pixel, got {list(pixels.shape)}"
            + "; if its channels come last, pass image.permute(2, 0, 1)"
            * last
        )
    if pixels.dtype == torch.uint8:
        return _rgb_of(pixels.float() / 255)
    if not pixels.is_floating_point():
        raise TypeError(f"image must be uint8 or floating point, got {pixels.dtype}")
    if _in_unit_range(pixels):
        return _rgb_of(pixels.to(torch.float32, copy=True))
    broken = ~pixels.isfinite().all(dim=0)
    return _rgb_of(_stretched(pixels)).masked_fill(broken, 0.5)


def picture_of(canvas: Tensor) -> Tensor:
    """A canvas as a picture: uint8 [3,H,W]."""
    return canvas.mul(255).round_().to(torch.uint8)


def check_picture(picture: Tensor) -> None:
    """Raise unless it is a uint8 tensor [3,H,W]."""
    if not isinstance(picture, Tensor):
        raise TypeError(f"a picture is a uint8 tensor [3,H,W], got {type(picture).__name__}")
    if picture.dtype != torch.uint8 or picture.dim() != 3 or picture.shape[0] != 3:
        raise TypeError(
            f"a picture is a uint8 tensor [3,H,W], got {picture.dtype} {list(picture.shape)}"
        )


def check_size(canvas: Tensor, labels: Tensor) -> None:
    """Raise unless a label map [H,W] has the canvas's size."""
    if canvas.shape[1:] != labels.shape:
        (h, w), (rows, columns) = canvas.shape[1:], labels.shape
        raise ValueError(f"image is {h}×{w} pixels, but its segments are {rows}×{columns}")


def rgb(color: Iterable[float]) -> Tensor:
    """A colour [3] on a canvas's scale."""
    return torch.tensor([c / 255 for c in color], dtype=torch.float32, device="cpu")


def grey(canvas: Tensor) -> Tensor:
    """Luma of the canvas (ITU-R BT.601) in all three channels."""
    luma = 0.299 * canvas[0] + 0.587 * canvas[1] + 0.114 * canvas[2]
    return luma.expand_as(canvas)


def _tensor_of(image: "PhotoLike") -> Tensor:
    """Channels first, on the CPU; numbers as they are, except that 16 bits are scaled to [0,1]."""
    import numpy as np
    from PIL import Image

    if isinstance(image, Tensor):
        return image.detach().cpu()
    if isinstance(image, Image.Image):
        return _of_array(_of_pil(image))
    if isinstance(image, np.ndarray):
        return _of_array(image)
    raise TypeError(
        "image must be a tensor [C,H,W], an array [H,W,C] or a PIL image, "
        f"got {type(image).__name__}"
    )


def _of_pil(image: "Image.Image") -> "np.ndarray[Any, Any]":
    """The upright picture as an array; Pillow's own conversion would clip wide greys."""
    import numpy as np
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        pixels = np.array(image)
        return pixels if image.mode.startswith("I;16") else pixels.astype(np.float64)
    if image.has_transparency_data:
        return np.array(image.convert("RGBA"))
    return np.array(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _of_array(pixels: "np.ndarray[Any, Any]") -> Tensor:
    import numpy as np

    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        first = pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4)
        raise ValueError(
            "an array as image must be [H,W] or [H,W,C] with 1, 3 or 4 channels and at least one "
            f"pixel, got {list(pixels.shape)}"
            + "; if its channels come first, pass torch.from_numpy(image)"
            * first
        )
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        pixels = pixels / 65535
    own = np.array(pixels, dtype=pixels.dtype.newbyteorder("="))  # any strides and byte order
    if own.dtype != np.uint8 and own.dtype.kind != "f":
        raise TypeError(f"image must be uint8 or floating point, got {own.dtype}")
    if own.dtype.itemsize > 8:  # wider than a tensor's
        own = own.astype(np.float64)
    return torch.from_numpy(own).permute(2, 0, 1)


def _rgb_of(pixels: Tensor) -> Tensor:
    """[3,H,W] of grey, RGB or RGBA pixels in [0,1]; transparency is laid on white."""
    if len(pixels) == 4:
        pixels = pixels[3:] * pixels[:3] + (1 - pixels[3:])
    return pixels.expand(3, -1, -1).contiguous()


def _in_unit_range(pixels: Tensor) -> bool:
    low, high = pixels.aminmax()  # both are NaN where any pixel is
    return bool((low >= 0) & (high <= 1))


def _stretched(pixels: Tensor) -> Tensor:
    """Pixels as float32 in [0,1]; stretched by their finite extremes if those lie outside."""
    finite = pixels[pixels.isfinite()]
    if not len(finite) or _in_unit_range(finite):
        return pixels.float()
    low, high = (extreme.double() for extreme in finite.aminmax())
    return ((pixels.double() - low) / (high - low)).nan_to_num(0.5).float()
