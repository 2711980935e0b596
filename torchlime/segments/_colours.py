"""The colours that Slic compares: each image on the scale of Lab, in float64."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torchlime._precision import solve_dtype

_XYZ = (0.412453, 0.357580, 0.180423, 0.212671, 0.715160, 0.072169, 0.019334, 0.119193, 0.950227)
_WHITE = (0.95047, 1.0, 1.08883)
_GAMMA = 2.4
_SCALE = 1.055**_GAMMA
_TO_WHITE = tuple(value / (_SCALE * _WHITE[k // 3]) for k, value in enumerate(_XYZ))


def colours_of(images: Tensor, blur: bool) -> Tensor:
    """Images [B,C,*axes] on the scale of Lab; three channels of two or three axes are sRGB."""
    dtype = solve_dtype(images.device)
    pixels = images.to(dtype, copy=True).nan_to_num_(0.0, 0.0, 0.0)
    if images.dtype == dtype:
        pixels.div_(2)  # so that no range overflows
    every = tuple(range(1, images.dim()))
    low, high = pixels.amin(dim=every, keepdim=True), pixels.amax(dim=every, keepdim=True)
    pixels.sub_(low).div_((high - low).clamp_(min=torch.finfo(dtype).tiny))
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

    kornia's functions copy a matrix from the host on every call, and are many more operations. The
    sums and products of the nine planes run together, in the order of kornia's.
    """
    rgb = rgb.transpose(0, 1)
    bright = _power(torch.rsub(rgb, 0.055, alpha=-1 / one), _GAMMA)
    linear = _above(0.04045 * one, rgb, bright, rgb * (_SCALE / 12.92 / one))
    planes = torch._foreach_mul([*linear] * 3, _TO_WHITE)
    red, green, blue = planes[::3], planes[1::3], planes[2::3]
    torch._foreach_add_(red, green)
    torch._foreach_add_(red, blue)
    xyz = torch.stack(red)
    f = _above(0.008856, xyz, _power(xyz, 1 / 3), torch.rsub(xyz, 4 / 29, alpha=-7.787))
    axes = torch.empty_like(f)
    torch.sub(f[1], 16 / 116, out=axes[0])
    torch.sub(f[:2], f[1:], out=axes[1:])
    torch._foreach_mul_([*axes], (116.0, 500.0, 200.0))
    return axes.transpose(0, 1)


def _power(values: Tensor, exponent: float) -> Tensor:
    """``values`` of at least 0 to a power. On a CPU ``pow`` takes nearly twice as long."""
    return values.log2().mul_(exponent).exp2_()


def _above(threshold: float, values: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """``above`` where ``values`` are above the threshold, else ``below``.

    ``lerp`` returns one of its ends where the weight is 0 or 1. On a CPU ``where`` takes longer,
    because it reads bools.
    """
    weight = torch.gt(values, threshold, out=values.new_empty(values.shape))
    return torch.lerp(below, above, weight, out=weight)
