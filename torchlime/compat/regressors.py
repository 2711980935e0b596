"""scikit-learn's regressors as torchlime's surrogates."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchlime._extras import imported
from torchlime.compat.arrays import Array, to_numpy
from torchlime.fit import NormalEquations
from torchlime.surrogates import Fit, LeastSquares, Ridge


@dataclass(frozen=True)
class CyclicLasso:
    """scikit-learn's Lasso: not the optimum, but the point where cyclic descent stops.

    The objective is that of :class:`torchlime.surrogates.Lasso`. Coordinates are minimised in turn
    until none moves by more than ``tol`` of the largest and the duality gap is at most ``tol`` Σwy²
    (Friedman, Hastie & Tibshirani 2010; Fercoq, Gramfort & Salmon 2015). With the usual 1e-4, the
    result may be 1e-5 from the optimum. It runs on the host; ``ok`` is False after ``max_iter``
    rounds.
    """

    alpha: float
    tol: float = 1e-4
    max_iter: int = 1000

    def __call__(
        self, masks: Tensor, scores: Tensor, weights: Tensor, segment_count: Tensor
    ) -> Fit:
        """Fit masks [B,N,S], scores [B,N,T], weights [B,N]."""
        samples = NormalEquations(masks, scores, weights, segment_count)
        share = (samples.weights / samples.total[:, None])[..., None]
        centred = samples.scores - samples.origin - samples.score_mean
        energy = to_numpy((share * centred.square()).sum(dim=1))
        gram, cross = (
            to_numpy(t / samples.total[:, None, None]) for t in (samples.gram, samples.cross)
        )
        found = np.zeros_like(cross)
        converged = np.zeros(energy.shape, dtype=bool)
        for b, t in np.ndindex(energy.shape):
            found[b, :, t], converged[b, t] = self._descend(
                gram[b], cross[b, :, t], float(energy[b, t])
            )
        device = masks.device
        ok = torch.from_numpy(converged).to(device)
        return samples.fit(torch.from_numpy(found).to(device), ok, None)

    def _descend(self, gram: Array, cross: Array, energy: float) -> tuple[Array, bool]:
        x, gradient, alpha = np.zeros_like(cross), cross.copy(), self.alpha
        diagonal = gram.diagonal()
        if self._gap(x, gradient, cross, energy) <= self.tol * energy:
            return x, True  # as scikit-learn 1.9, before the first round
        for _ in range(self.max_iter):
            moved = 0.0
            for j in np.flatnonzero(diagonal):
                pull = gradient[j] + diagonal[j] * x[j]
                new = math.copysign(max(abs(pull) - alpha, 0.0), pull) / diagonal[j]
                if new != x[j]:
                    moved = max(moved, abs(new - x[j]))
                    gradient -= (new - x[j]) * gram[j]
                    x[j] = new
            settled = moved <= self.tol * np.abs(x).max(initial=0.0)
            if settled and self._gap(x, gradient, cross, energy) <= self.tol * energy:
                return x, True
        return x, False

    def _gap(self, x: Array, gradient: Array, cross: Array, energy: float) -> float:
        """The duality gap at ``x``."""
        residual = energy - x @ (cross + gradient)
        steepest = np.abs(gradient).max(initial=0.0)
        scale = min(1.0, self.alpha / steepest) if steepest else 1.0
        primal = residual / 2 + self.alpha * np.abs(x).sum()
        dual = scale * (energy - x @ cross) - scale**2 * residual / 2
        return float(primal - dual)


def native_surrogate(regressor: Any) -> Callable[..., Fit] | None:
    """The torchlime surrogate that solves the same problem as ``regressor``, if there is one.

    >>> native_surrogate(None)
    Ridge(alpha=1.0)
    """
    if regressor is None:
        return Ridge(alpha=1.0)
    kind = type(regressor)
    if not kind.__module__.startswith("sklearn.linear_model."):
        return None
    settings = regressor.get_params()
    if not settings.get("fit_intercept") or settings.get("positive"):
        return None
    if kind.__name__ == "LinearRegression":
        return LeastSquares()
    alpha = settings.get("alpha")
    if not isinstance(alpha, float | int | np.number):
        return None
    alpha = float(alpha)
    if not 0 <= alpha < math.inf:
        return None  # scikit-learn says what is wrong with it
    if kind.__name__ == "Ridge" and settings["solver"] in ("auto", "svd", "cholesky"):
        return Ridge(alpha) if alpha > 0 else LeastSquares()
    plain = {"precompute": False, "warm_start": False, "selection": "cyclic"}
    if kind.__name__ == "Lasso" and alpha > 0 and plain.items() <= settings.items():
        return CyclicLasso(alpha, settings["tol"], settings["max_iter"])
    return None


def unfitted(regressor: Any) -> Any:
    """An unfitted copy, so that the caller's own regressor stays as it is."""
    if not hasattr(regressor, "get_params"):
        return copy.deepcopy(regressor)
    base = imported("sklearn.base", f"model_regressor={type(regressor).__name__}", "lime")
    return base.clone(regressor)
