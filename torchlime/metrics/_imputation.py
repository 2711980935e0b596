"""hidden pixels → estimates from their neighbours: the linear part of noisy linear imputation."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from torchlime._precision import solve_dtype


def imputed(images: Tensor, hidden: Tensor, iterations: int) -> Tensor:
    """Images [n,C,H,W] whose hidden pixels are the weighted means of their neighbours.

    The weights are 1/6 for the four neighbours that share an edge and 1/12 for the four that share
    a corner (Rong et al. 2022, ROAD). At the border, the weights of the existing neighbours are
    scaled to a sum of 1. Hidden neighbours are unknowns, so this is a linear system. It is
    symmetric and positive definite. A fixed number of steps of conjugate gradients solves it, so
    nothing is read back. They begin with a pyramid of local means.

    Args:
        images: [n,C,H,W].
        hidden: [n,H,W] bool; at least one pixel of each image is not hidden.
        iterations: steps of conjugate gradients.

    Returns:
        [n,C,H,W] in the solve's dtype; known pixels are as they were.

    Example:
        >>> row = torch.tensor([[[[0.0, 9.0, 9.0, 3.0]]]])
        >>> hidden = torch.tensor([[[False, True, True, False]]])
        >>> imputed(row, hidden, 4).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    values = images.to(solve_dtype(images.device))
    known = (~hidden[:, None]).to(values.dtype)
    unknown = 1 - known
    values = torch.where(hidden[:, None], 0.0, values)
    degree = _neighbours(torch.ones_like(known))

    def system(x: Tensor) -> Tensor:
        return unknown * (degree * x - _neighbours(x))

    x = unknown * _local_means(values, known)
    residual = unknown * _neighbours(values) - system(x)
    scaled = residual / degree.clamp(min=1e-12)
    direction, power = scaled, _dot(residual, scaled)
    for _ in range(iterations):
        moved = system(direction)
        step = _ratio(power, _dot(direction, moved))
        x = x + step * direction
        residual = residual - step * moved
        scaled = residual / degree.clamp(min=1e-12)
        before, power = power, _dot(residual, scaled)
        direction = scaled + _ratio(power, before) * direction
    return values + unknown * x


def _neighbours(x: Tensor) -> Tensor:
    """Σ over the eight neighbours, weight · value; the border has fewer."""
    rows = pad(x, (1, 1, 0, 0))
    rows = rows[..., :-2] + 2 * x + rows[..., 2:]
    both = pad(rows, (0, 0, 1, 1))
    return (both[..., :-2, :] + 2 * rows + both[..., 2:, :] - 4 * x) / 12


def _local_means(values: Tensor, known: Tensor) -> Tensor:
    """Known values; elsewhere the mean of the known ones in the smallest square that has any.

    The squares are those of a pyramid.
    """
    means = values / torch.where(known > 0, known, 1.0)
    if max(values.shape[2:]) == 1:
        return means
    coarse = _local_means(
        *(avg_pool2d(side, 2, ceil_mode=True, count_include_pad=False) for side in (values, known))
    )
    size = [2 * side for side in coarse.shape[2:]]
    coarse = interpolate(coarse, size=size, mode="nearest")
    return torch.where(known > 0, means, coarse[..., : values.shape[2], : values.shape[3]])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where the system is solved."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)
