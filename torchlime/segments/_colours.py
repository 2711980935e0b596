"""The colours that Slic compares: each image on the scale of Lab, in float64."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torchlime._precision import solve_dtype

_XYZ = (0.412453, 0.357580, 0.180423, 0.212671, 0.715160, 0.072169, 0.019334, 0.119193, 0.950227)
_WHITE = (0.95047, 1.0, 1.08883)


def colours_of(images: Tensor, blur: bool) -> Tensor:
    """Images [B,C,*axes] on the scale of Lab; three channels of two or three axes are sRGB."""
    dtype = solve_dtype(images.device)
    pixels = images.nan_to_num(0.0, 0.0, 0.0)
    if images.dtype == dtype:
        pixels.div_(2)  # so that no range overflows
    low, high = pixels.flatten(1).aminmax(dim=1, keepdim=True)
    low = low.view(-1, *[1] * (images.dim() - 1)).to(dtype)
    span = (high.view_as(low) - low).clamp_(min=torch.finfo(dtype).tiny)
    pixels = (pixels - low).div_(span)
    one = 1
    if blur:
        pixels, one = _binomial_sums(pixels), 4 ** (pixels.dim() - 2)
    return lab(pixels, one) if pixels.shape[1] == 3 and pixels.dim() > 3 else 100 / one * pixels


def _binomial_sums(pixels: Tensor) -> Tensor:
    """Sums of weights 1, 2, 1 along every axis; the border is repeated."""
    count = pixels.dim() - 2
    pixels = F.pad(pixels, (1, 1) * count, mode="replicate")
    for dim in range(count + 1, 1, -1):
        before, own, after = (pixels.narrow(dim, k, pixels.shape[dim] - 2) for k in range(3))
        pixels = (before + after).add_(own, alpha=2)
    return pixels


def lab(rgb: Tensor, one: int = 1) -> Tensor:
    """SRGB [B,3,*axes] in [0, one] to CIE Lab (D65, 2° observer), as kornia's ``rgb_to_lab``.

    ``one`` is a power of 2, so no rounding depends on it.

    kornia's functions copy a matrix from the host on every call, and are many more operations. The
    sums and products of the nine planes run together, in the order of kornia's.
    """
    rgb = rgb.transpose(0, 1)
    power = ((rgb + 0.055 * one) / (1.055 * one)).pow_(2.4)
    bright = (rgb > 0.04045 * one).expand(3, *rgb.shape)
    planes = rgb.new_empty(bright.shape)  # for each of XYZ the linear red, green and blue
    torch.where(bright, power, rgb / (12.92 * one), out=planes)
    torch._foreach_mul_([plane for row in planes for plane in row], _XYZ)
    red, green, blue = ([*channel.unbind()] for channel in planes.unbind(1))
    torch._foreach_add_(red, green)
    torch._foreach_add_(red, blue)
    torch._foreach_div_(red, _WHITE)
    xyz = planes[:, 0]
    f = torch.where(xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 4 / 29)
    scaled = torch._foreach_mul([f[1], *(f[:2] - f[1:]).unbind()], (116.0, 500.0, 200.0))
    scaled[0].sub_(16)
    return torch.stack(scaled, dim=1)
