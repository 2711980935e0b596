"""lime's local linear model on torchlime's surrogates, in place of ``lime.lime_base``."""

import contextlib
import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchlime._extras import imported
from torchlime._precision import solve_dtype
from torchlime.compat.arrays import Array, to_numpy
from torchlime.compat.regressors import CyclicLasso, native_surrogate, unfitted
from torchlime.compat.selection import forward_steps
from torchlime.fit import NormalEquations
from torchlime.surrogates import Fit, LeastSquares, Ridge

METHODS = ("auto", "none", "highest_weights", "forward_selection", "lasso_path")


class SeededByNumpy:
    """Pickles numpy's global random state by name, so that seeding it still has an effect."""

    random_state: np.random.RandomState

    def __getstate__(self) -> dict[str, Any]:
        is_global = self.random_state is np.random.mtrand._rand
        return self.__dict__ | ({"random_state": None} if is_global else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, random_state=check_random_state(state["random_state"]))


class LimeBase(SeededByNumpy):
    """Fits a weighted linear model to the neighbourhood of a data point.

    Args:
        kernel_fn: a function from distances, float64 (n,), to weights (n,).
        verbose: print the intercept and both predictions of every fit.
        random_state: None (numpy's global one), an int or a ``RandomState``. It is kept, and
            nothing is drawn from it.

    Raises:
        ValueError: ``random_state`` is none of these.

    Example:
        >>> base = LimeBase(np.ones_like)
        >>> data, labels = np.array([[1, 1], [0, 1], [1, 0], [0, 0]]), np.array([[5.], [4], [1], [0]])
        >>> _, weights, _, _ = base.explain_instance_with_data(data, labels, np.zeros(4), 0, 2)
        >>> [(int(feature), round(float(weight), 6)) for feature, weight in weights]
        [(1, 2.0), (0, 0.5)]
    """  # noqa: E501

    def __init__(
        self,
        kernel_fn: Callable[[Array], Any],
        verbose: bool = False,
        random_state: Any = None,
    ) -> None:
        self.kernel_fn = kernel_fn
        self.verbose = verbose
        self.random_state = check_random_state(random_state)

    @staticmethod
    def generate_lars_path(weighted_data: Array, weighted_labels: Array) -> tuple[Array, Array]:
        """(alphas [a], coefficients [k,a]) of scikit-learn's Lasso path by LARS."""
        linear = imported("sklearn.linear_model", "feature_selection='lasso_path'", "lime")
        alphas, _, coefficients = linear.lars_path(weighted_data, weighted_labels, method="lasso")
        return alphas, coefficients

    def forward_selection(
        self, data: Array, labels: Array | Tensor, weights: Array, num_features: int
    ) -> Array:
        """Add features one by one, each time the one that raises the least-squares R² most.

        R² is weighted. Ties go to the lower feature. Each step updates the Gram matrix instead of
        fitting again.
        """
        count = min(num_features, data.shape[1])
        if len(data) < 2:  # lime compares R² = NaN, and takes the first feature every time
            return np.array([0] * count)
        samples = NormalEquations(*_tensors(data, labels, weights))
        gram, cross = (to_numpy(t[0]) for t in (samples.gram, samples.cross[..., 0]))
        return forward_steps(gram, cross, count)

    def feature_selection(
        self, data: Array, labels: Array | Tensor, weights: Array, num_features: int, method: str
    ) -> Array:
        """The columns of ``data`` [n,k] that the model may use; ``method`` has lime's name.

        Raises:
            ValueError: there is no such method.
        """
        if method == "auto":
            method = "forward_selection" if num_features <= 6 else "highest_weights"
        if method == "forward_selection":
            return self.forward_selection(data, labels, weights, num_features)
        if method == "none":
            return np.arange(data.shape[1])
        if method == "highest_weights":
            fit = Ridge(alpha=0.01)(*_tensors(data, labels, weights))
            strength = np.abs(to_numpy(fit.coefficients[0, 0]) * data[0])
            return np.argsort(-strength, kind="stable")[:num_features]
        if method == "lasso_path":
            return self._lasso_path(data, to_numpy(labels), weights, num_features)
        raise ValueError(f"feature_selection must be one of {', '.join(METHODS)}, got {method!r}")

    def _lasso_path(self, data: Array, labels: Array, weights: Array, num_features: int) -> Array:
        """The densest support of at most ``num_features`` features on the Lasso path."""
        root = np.sqrt(weights)
        x = (data - np.average(data, axis=0, weights=weights)) * root[:, None]
        y = (labels - np.average(labels, weights=weights)) * root
        _, path = self.generate_lars_path(x, y)
        support = np.arange(data.shape[1])  # for a path without a step
        for coefficients in path.T[:0:-1]:
            support = coefficients.nonzero()[0]
            if len(support) <= num_features:
                break
        return support

    def explain_instance_with_data(
        self,
        neighborhood_data: Array,
        neighborhood_labels: Array | Tensor,
        distances: Array,
        label: int,
        num_features: int,
        feature_selection: str = "auto",
        model_regressor: Any = None,
    ) -> tuple[Any, list[tuple[Any, Any]], Any, Array]:
        """Fit the model for one label.

        Args:
            neighborhood_data: [n,k]; its first row is the data point.
            neighborhood_labels: [n,classes], an array or a tensor; with a tensor, the fit runs
                on its device.
            distances: [n], to the data point.
            label: the column to explain.
            num_features: the largest number of features, chosen by ``feature_selection``.
            feature_selection: auto (forward_selection up to 6 features, else highest_weights), none,
                highest_weights, forward_selection or lasso_path.
            model_regressor: None (Ridge, alpha 1) or any scikit-learn regressor. torchlime solves
                Ridge, Lasso and LinearRegression itself; it clones and fits the others.

        Returns:
            intercept, [(feature, weight), …] by decreasing absolute weight, weighted R², and the
            model's prediction (1,) for the data point.

        Raises:
            TypeError: the data is sparse.
            ValueError: labels or weights are not finite, or the method is unknown.
        """  # noqa: E501
        if hasattr(neighborhood_data, "toarray"):
            raise TypeError("sparse data is not supported; pass neighborhood_data.toarray()")
        target = neighborhood_labels[:, label]
        weights = checked(self.kernel_fn(distances), "sample_weight")
        weights = np.broadcast_to(weights, (len(neighborhood_data),))
        target = target if isinstance(target, Tensor) else np.asarray(target)
        checked(target, "y")
        with one_thread():
            used = self.feature_selection(
                neighborhood_data, target, weights, num_features, feature_selection
            )
            data = neighborhood_data[:, used]
            intercept, coefficients, score, local_pred = _fit(
                model_regressor, data, target, weights
            )
        if self.verbose:
            print("Intercept", intercept)
            print("Prediction_local", local_pred)
            print("Right:", _number(neighborhood_labels[0, label]))
        ranked = sorted(
            zip(used, np.ravel(coefficients), strict=True),
            key=lambda pair: np.abs(pair[1]),
            reverse=True,
        )
        return intercept, ranked, score, local_pred


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Give torch one thread on the CPU, and afterwards as many as before.

    The work between two calls of a classifier is so small that waking other threads costs more
    than they save: a hundred times as much where cores are shared.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_random_state(seed: Any) -> np.random.RandomState:
    """None → numpy's global ``RandomState``, an int → a new one, a ``RandomState`` → itself.

    Raises:
        ValueError: ``seed`` is none of these.

    >>> check_random_state(7).randint(0, 1000)
    175
    """
    if seed is None or seed is np.random:
        return np.random.mtrand._rand
    if isinstance(seed, numbers.Integral):
        return np.random.RandomState(int(seed))
    if isinstance(seed, np.random.RandomState):
        return seed
    raise ValueError(f"{seed!r} cannot be used to seed a numpy.random.RandomState instance")


def _fit(
    regressor: Any, data: Array, labels: Array | Tensor, weights: Array
) -> tuple[Any, Array, Any, Array]:
    """Intercept, coefficients [k], weighted R² and prediction (1,) of the first row."""
    surrogate = native_surrogate(regressor)
    tensors = _tensors(data, labels, weights)
    if surrogate is not None and not (surrogate == LeastSquares() and _is_delicate(*tensors)):
        fit = surrogate(*tensors)
        if isinstance(surrogate, CyclicLasso) and bool(fit.ok):
            # scikit-learn's Lasso draws a number from its random state and does not use it. If
            # that state is the global one, lime's next masks depend on it.
            check_random_state(regressor.random_state).randint(0, 2**31 - 1)
        if bool(fit.ok):
            coefficients = to_numpy(fit.coefficients[0, 0])
            intercept = to_numpy(fit.intercepts)[0, 0]
            local_pred = np.array([intercept + data[0] @ coefficients])
            return intercept, coefficients, _score(fit, labels, weights), local_pred
        if regressor is None:
            raise ValueError("the linear model could not be solved; are all weights zero?")
    model, target = unfitted(regressor), to_numpy(labels)
    model.fit(data, target, sample_weight=weights)
    score = model.score(data, target, sample_weight=weights)
    return model.intercept_, model.coef_, score, model.predict(data[:1])


def _is_delicate(masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> bool:
    """Whether the solution depends on which singular values least squares takes as zero.

    Weights may span hundreds of orders of magnitude. The normal equations keep half of the digits
    that scikit-learn's factorisation of the data keeps.
    """
    eigenvalues = np.linalg.eigvalsh(
        to_numpy(NormalEquations(masks, scores, weights, count).gram[0])
    )
    share = eigenvalues / max(eigenvalues[-1], np.finfo(float).tiny)
    return bool(((share > 1e-14) & (share < 1e-7)).any())


def _score(fit: Fit, labels: Array | Tensor, weights: Array) -> float:
    """Scikit-learn's R²; 1 if the labels of weight above 0 are constant, NaN for one label."""
    if len(labels) < 2:
        return math.nan
    labels = labels[np.flatnonzero(weights)]
    if bool((labels == labels[0]).all()):
        return 1.0
    return float(fit.fidelity)


def _tensors(
    data: Array, labels: Array | Tensor, weights: Array
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The arguments of a surrogate, [1,n,k], [1,n,1], [1,n] and [1], on the labels' device."""
    device = labels.device if isinstance(labels, Tensor) else torch.device("cpu")
    dtype = solve_dtype(device)
    if not isinstance(labels, Tensor):
        labels = torch.from_numpy(labels.astype(np.float64))
    z, w = (torch.from_numpy(a.astype(np.float64)).to(device, dtype) for a in (data, weights))
    count = torch.full((1,), data.shape[1], device=device)
    return z[None], labels.to(dtype)[None, :, None], w[None], count


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def checked(values: Any, name: str) -> Any:
    """``values``, if all are finite; the errors are scikit-learn's."""
    array = torch if isinstance(values, Tensor) else np
    if array.isfinite(values).all():
        return values
    if array.isnan(values).any():
        raise ValueError(f"Input {name} contains NaN.")
    raise ValueError(f"Input {name} contains infinity or a value too large for dtype('float64').")
