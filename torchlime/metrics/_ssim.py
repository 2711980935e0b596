"""SSIM of maps."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d


def ssim(a: Tensor, b: Tensor, span: float = 2.0) -> Tensor:
    """Structural similarity of maps [B,T,H,W], averaged over their pixels: [B,T], in [−1, 1].

    Wang et al. 2004: a Gaussian window of 11×11 pixels with σ = 1.5, K₁ = 0.01, K₂ = 0.03, over the
    places where the window lies within the map. For a smaller map the window is smaller.

    Args:
        a, b: the maps.
        span: the largest minus the smallest value that a map may have.

    Example:
        >>> one = torch.rand(1, 1, 16, 16)
        >>> round(ssim(one, one).item(), 6)
        1.0
    """
    width = min(11, *((side - 1) // 2 * 2 + 1 for side in a.shape[2:]))
    at = torch.arange(width, device=a.device, dtype=a.dtype) - width // 2
    window = (-(at**2) / (2 * 1.5**2)).exp()
    window = window / window.sum()

    def mean(x: Tensor) -> Tensor:
        rows = conv2d(x.flatten(0, 1)[:, None], window.view(1, 1, -1, 1))
        return conv2d(rows, window.view(1, 1, 1, -1))[:, 0].unflatten(0, x.shape[:2])

    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return (top / bottom).flatten(2).mean(2)
