"""Systems of equations by Cholesky's factorisation, without waiting for the device."""

import torch
from torch import Tensor


def identity_like(gram: Tensor) -> Tensor:
    """The identity [S,S] in the dtype and on the device of ``gram``."""
    return torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def with_diagonal(gram: Tensor, diagonal: Tensor) -> Tensor:
    """``gram`` […,S,S] plus diag(``diagonal`` […,S])."""
    return torch.addcmul(gram, identity_like(gram), diagonal[..., None])


def factorise(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor, NaN where it fails, and a success flag […] that stays on the device.

    It also fails where rounding alone can have made a pivot positive.
    """
    factor, info = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal(dim1=-2, dim2=-1)
    rounding = 4 * gram.shape[-1] * torch.finfo(gram.dtype).eps  # of the sums in ``gram``, too
    size = gram.diagonal(dim1=-2, dim2=-1).masked_fill(info[..., None] != 0, torch.nan)
    ok = (torch.addcmul(size, pivots, pivots, value=-1 / rounding) < 0).all(dim=-1)  # NaN: False
    return factor.masked_fill(~ok[..., None, None], torch.nan), ok


def solve(factor: Tensor, right: Tensor) -> Tensor:
    """Solve L Lᵀ x = right for x, given the Cholesky factor L."""
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)
