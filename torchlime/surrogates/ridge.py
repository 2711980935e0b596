"""Weighted ridge regression, lime's surrogate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_real
from torchlime.surrogates.fit import (
    Fit,
    Samples,
    factorise,
    has_fewer_rows,
    identity_like,
    solve,
    with_diagonal,
)


@dataclass(frozen=True)
class Ridge:
    """Minimise Σ w (y − b₀ − z·β)² + α‖β‖², by one Cholesky factorisation for all targets.

    lime's objective: the intercept is not penalised and the weights are not normalised, so scaling
    all weights changes the fit. ``alpha`` = 0 is least squares of full rank.

    Raises:
        ValueError: ``alpha`` is negative or not finite.

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 1], [1, 0], [0, 0]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[6.0], [5.0], [2.0], [1.0]]])  # 1 + z0 + 4·z1
        >>> fit = Ridge(alpha=0.0)(masks, scores, torch.ones(1, 4), torch.tensor([2]))
        >>> fit.coefficients.tolist(), fit.intercepts.tolist()
        ([[[1.0, 4.0]]], [[1.0]])
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_real(self.alpha, "alpha")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be a finite number of at least 0, got {self.alpha!r}")

    def __call__(
        self, masks: Tensor, scores: Tensor, weights: Tensor, segment_count: Tensor
    ) -> Fit:
        """Fit masks [B,N,S], scores [B,N,T], weights [B,N]."""
        samples = Samples(masks, scores, weights, segment_count, dual=has_fewer_rows(masks))
        penalty = samples.total.new_full(samples.padding.shape, self.alpha)
        diagonal = penalty.masked_fill(samples.padding, 1.0)
        factor, ok = factorise(with_diagonal(samples.gram, diagonal))
        identity = identity_like(samples.gram).expand_as(samples.gram)
        solution = solve(factor, torch.cat([samples.cross, identity], dim=2))
        targets = samples.cross.shape[2]
        return samples.fit(solution[:, :, :targets], ok[:, None], solution[:, :, targets:])
