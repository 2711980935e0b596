"""The colours that Slic compares: each image on the scale of Lab, in float64."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torchlime._precision import solve_dtype


def colours_of(images: Tensor, blur: bool) -> Tensor:
    """Images [B,C,*axes] on the scale of Lab; three channels of two or three axes are sRGB."""
    pixels = images.to(solve_dtype(images.device)).nan_to_num(0.0, 0.0, 0.0)
    # Values are halved, so that no range overflows.
    within = tuple(range(1, images.dim()))
    low = pixels.amin(dim=within, keepdim=True) / 2
    span = pixels.amax(dim=within, keepdim=True) / 2 - low
    pixels = (pixels / 2 - low) / torch.where(span > 0, span, 1)
    if blur:
        pixels = _binomial_blur(pixels)
    return lab(pixels) if pixels.shape[1] == 3 and pixels.dim() > 3 else 100 * pixels


def _binomial_blur(pixels: Tensor) -> Tensor:
    """Weights 1/4, 1/2, 1/4 along every axis; the border is repeated."""
    count = pixels.dim() - 2
    pixels = F.pad(pixels, (1, 1) * count, mode="replicate")
    for dim in range(count + 1, 1, -1):
        before, own, after = (pixels.narrow(dim, k, pixels.shape[dim] - 2) for k in range(3))
        pixels = (before + after).add_(own, alpha=2)
    return pixels / 4**count


def lab(rgb: Tensor) -> Tensor:
    """SRGB [B,3,*axes] in [0,1] to CIE Lab (D65, 2° observer), as kornia's ``rgb_to_lab``.

    kornia's function copies a matrix from the host on every call.
    """
    from kornia.color import rgb_to_linear_rgb

    red, green, blue = rgb_to_linear_rgb(rgb.flatten(3)).view_as(rgb).unbind(1)
    x = (0.412453 * red + 0.357580 * green + 0.180423 * blue) / 0.95047
    y = 0.212671 * red + 0.715160 * green + 0.072169 * blue
    z = (0.019334 * red + 0.119193 * green + 0.950227 * blue) / 1.08883
    xyz = torch.stack((x, y, z), dim=1)
    root = xyz.clamp(min=0.008856) ** (1 / 3)
    fx, fy, fz = torch.where(xyz > 0.008856, root, 7.787 * xyz + 4 / 29).unbind(1)
    return torch.stack((116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)), dim=1)
