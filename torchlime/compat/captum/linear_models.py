"""Interpretable models: Captum's linear ones as tensors, and torchlime's in Captum's form."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._extras import imported
from torchlime._precision import solve_dtype
from torchlime.compat.captum.active_set import ExactLasso
from torchlime.compat.captum.captums import ModelParent
from torchlime.fit import Fit
from torchlime.surrogates import Lasso, LeastSquares, Ridge

Solve = Callable[[Tensor, Tensor, Tensor, Tensor], Fit]
_STOPS = {"tol", "max_iter"}  # the tensor solvers are exact


class LinearModel(ModelParent):  # type: ignore[misc]
    """A linear model with Captum's interface; the last fit stays on its device until asked for."""

    def __init__(self) -> None:
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    def fit(self, train_data: Any, **kwargs: Any) -> dict[str, Any]:
        """Fit batches (Z [n,F], y [n], weights [n]) of a DataLoader; the weights may be missing."""
        parts = [batch if len(batch) == 3 else (*batch, None) for batch in train_data]
        z, y = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        weights = [p[2] if p[2] is not None else torch.ones_like(p[1]) for p in parts]
        self._fit(z, y, torch.cat(weights), **kwargs)
        return {}

    def _fit(self, z: Tensor, y: Tensor, weights: Tensor, **kwargs: Any) -> None:
        solve = self.solve
        if solve is None:
            raise NotImplementedError(f"{type(self).__name__} must define fit()")
        count = torch.tensor([z.shape[1]], device=z.device)
        fit = solved(solve, z[None], y.reshape(1, -1, 1), weights[None], count)
        self.keep(fit.coefficients[0], fit.intercepts[0])

    @property
    def solve(self) -> Solve | None:
        """The surrogate that solves it, or None."""
        return None

    def keep(self, weight: Tensor, bias: Tensor) -> None:
        """Hold coefficients [1,F] and intercept [1]."""
        self._weight, self._bias = weight.detach().float(), bias.detach().float()

    def representation(self) -> Tensor:
        """The coefficients [1,F] float32 of the last fit, on the CPU as Captum has them.

        Raises:
            RuntimeError: nothing was fitted yet.
        """
        return self._fitted(self._weight)

    def bias(self) -> Tensor:
        """The intercept [1] of the last fit, on the CPU."""
        return self._fitted(self._bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Predictions [n,1] of the last fit."""
        return x @ self.representation().to(x).mT + self.bias().to(x)

    def _fitted(self, value: Tensor | None) -> Tensor:
        if value is None:
            raise RuntimeError(f"{type(self).__name__} has not been fitted yet")
        return value.cpu()


class SurrogateModel(LinearModel):
    """One of torchlime's surrogates as an interpretable model, also for Captum's own classes.

    Example:
        >>> model = SurrogateModel(LeastSquares())
        >>> z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> _ = model.fit([(z, torch.tensor([1.0, 3.0, 0.0]), torch.ones(3))])
        >>> model.representation().round(decimals=5).tolist()
        [[2.0, -1.0]]
    """

    def __init__(self, surrogate: Solve):
        super().__init__()
        self.surrogate = surrogate

    @property
    def solve(self) -> Solve:
        """The surrogate."""
        return self.surrogate


class SkLearnLinearModel(LinearModel):
    """Captum's wrapper of a scikit-learn estimator; see there for its arguments."""

    def __init__(self, sklearn_module: str, **kwargs: Any):
        super().__init__()
        self.sklearn_module = sklearn_module
        self.construct_kwargs = kwargs

    @property
    def solve(self) -> Solve | None:
        """The tensor solver of the same problem, or None."""
        return _solver(self.sklearn_module, self.construct_kwargs)

    def _fit(self, z: Tensor, y: Tensor, weights: Tensor, **kwargs: Any) -> None:
        if self.solve is not None and not kwargs:
            super()._fit(z, y, weights)
            return
        module, _, name = f"sklearn.{self.sklearn_module}".rpartition(".")
        wanted_by = f"{self.sklearn_module} with {sorted(self.construct_kwargs)}"
        part = imported(module, wanted_by, "lime")
        estimator = getattr(part, name)(**self.construct_kwargs)
        arrays = [values.cpu().numpy() for values in (z, y, weights)]
        estimator.fit(arrays[0], arrays[1], sample_weight=arrays[2], **kwargs)
        intercept = torch.as_tensor([estimator.intercept_]).reshape(-1)
        self.keep(torch.as_tensor(estimator.coef_).reshape(-1, z.shape[1]), intercept)


class SkLearnLasso(SkLearnLinearModel):
    """Captum's Lasso; the default of Lime has ``alpha=0.01``."""

    def __init__(self, **kwargs: Any):
        super().__init__("linear_model.Lasso", **kwargs)


class SkLearnRidge(SkLearnLinearModel):
    """Captum's ridge regression."""

    def __init__(self, **kwargs: Any):
        super().__init__("linear_model.Ridge", **kwargs)


class SkLearnLinearRegression(SkLearnLinearModel):
    """Captum's linear regression."""

    def __init__(self, **kwargs: Any):
        super().__init__("linear_model.LinearRegression", **kwargs)


def _solver(name: str, kwargs: dict[str, Any]) -> Solve | None:
    """The tensor solver of a scikit-learn estimator with these arguments, or None."""
    given = {key: value for key, value in kwargs.items() if key not in _STOPS}
    if given.pop("fit_intercept", True) is not True:
        return None
    alpha = given.pop("alpha", 1.0)
    if given or not isinstance(alpha, int | float) or not 0 <= alpha < float("inf"):
        return None
    if name == "linear_model.LinearRegression" and "alpha" not in kwargs:
        return LeastSquares()
    if name == "linear_model.Ridge":
        return Ridge(alpha=float(alpha))
    if name == "linear_model.Lasso" and alpha > 0:
        return ExactLasso(alpha=float(alpha))
    return None


def solver_of(model: Any) -> Solve | None:
    """The tensor solver of an interpretable model; None for one that fits itself."""
    if isinstance(model, LinearModel):
        return model.solve if type(model).fit is LinearModel.fit else None
    kind = type(model)
    known = ("SkLearnLinearModel", "SkLearnLasso", "SkLearnRidge", "SkLearnLinearRegression")
    if kind.__module__ != "captum._utils.models.linear_model.model" or kind.__name__ not in known:
        return None
    if getattr(model.train_fn, "__name__", "") != "sklearn_train_linear_model":
        return None
    return _solver(model.sklearn_module, model.construct_kwargs)


def as_model(model: Any) -> Any:
    """An interpretable model; torchlime's surrogates are put into Captum's form."""
    return SurrogateModel(model) if isinstance(model, Lasso | LeastSquares | Ridge) else model


def keep_last(model: Any, weight: Tensor, bias: Tensor) -> None:
    """Let ``model.representation()`` hold coefficients [1,F] and intercept [1], as in Captum."""
    if isinstance(model, LinearModel):
        model.keep(weight, bias)
        return
    weight, bias = weight.detach().float().cpu(), bias.detach().float().cpu()
    with torch.random.fork_rng(devices=[]):  # a new layer draws its first weights
        model._construct_model_params(norm_type=None, weight_values=weight, bias_value=bias)


def solved(solve: Solve, design: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
    """The fit of designs [B,N,F]; a group of examples at a time, so that memory is bounded.

    With fewer samples than features, ridge regression and least squares have one unknown for each
    sample.
    """
    batch, samples, width = design.shape
    wide = samples < width
    method = getattr(solve, "of_noise", None) if wide or design.is_floating_point() else None
    unknowns = min(samples, width) if method or isinstance(solve, ExactLasso) else width
    each = max(unknowns**2, samples * width)
    step = max(1, (1 << 24) // each)
    fits = []
    for start in range(0, batch, step):
        rows = slice(start, start + step)
        own = design[rows]
        if method is not None:
            own = own.to(solve_dtype(design.device))
        fits.append((method or solve)(own, scores[rows], weights[rows], count[rows]))
    return fits[0] if len(fits) == 1 else Fit(*map(torch.cat, zip(*fits, strict=True)))
