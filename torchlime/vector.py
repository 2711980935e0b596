"""LIME of any vector: x → noise → perturbed vectors → explanation.

What follows from the perturbed vectors on is :mod:`torchlime.pipeline`'s, as for images. Nothing in
it reads a tensor back to the host, a scikit-learn estimator aside.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import (
    check_count,
    check_positive,
    check_same_device,
    check_targets,
    check_vectors,
)
from torchlime._precision import solve_dtype
from torchlime._undisturbed import undisturbed
from torchlime.explanation import Explanation, Problem, flag
from torchlime.noise import Gaussian, Noisy
from torchlime.pipeline import (
    Progress,
    autocast_dtype,
    check_call,
    check_forward_settings,
    check_strategies,
    explained,
    input_dtype,
    predicted,
    recorded,
    unwrapped,
)
from torchlime.surrogates import Fit, Ridge
from torchlime.weights import Exponential

CHUNK_ENTRIES = 1 << 20


def explain_vector(
    model: Any,
    x: Tensor,
    targets: int | Tensor | None = None,
    *,
    scale: float | Tensor = 0.1,
    num_samples: int = 1000,
    sampler: Callable[..., Tensor] = Gaussian(antithetic=True),
    kernel: Callable[..., Tensor] | None = None,
    surrogate: Callable[..., Fit] = Ridge(alpha=1.0),
    seed: int | Tensor = 0,
    top: int = 1,
    chunk_size: int | None = None,
    autocast: torch.dtype | None = None,
    differentiable: bool = False,
    keep_samples: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """Explain what ``model`` makes of each of the vectors ``x``: rows of a table, embeddings, …

    The model scores z = x + scale · ε, and a weighted linear surrogate g(z) = b + β·z is fitted to
    its scores. The fit is to ε, the features standardised by the scale (a penalty, too, is on
    those); β and b are given back in units of x. For smooth models and small scales β is the
    gradient; of normal noise and uniform weights it estimates E[∇f(z)] (Stein 1981).

    Convention:
        A feature is an entry of a vector of any shape, counted as ``x[b].flatten()`` does; F of
        them. ``coefficients[b, t, i]`` is the change of the score per unit of feature i;
        ``intercepts`` is b, g where every feature is 0; ``local_predictions`` is g(x).
        All N samples are in the fit; x is scored beside them, B·(N + 1) rows in all. So the plain
        recipe, least squares without weights on 100 samples of σ = 0.1, is ::

            explain_vector(model, x, scale=0.1, num_samples=100, kernel=Uniform(),
                           sampler=Gaussian(antithetic=False), surrogate=LeastSquares())

        Antithetic pairs keep even parts of the model, such as curvature at x, out of the
        coefficients: to rounding, some ε of the scores' spread over the scale, 1e-16 of float64
        and that of the dtype otherwise. Of odd nonlinearities they hold half as many independent
        draws: twice the variance of ``antithetic=False`` at the same N.

    Args:
        model: any callable [n,…] → [n,classes], or [n] (one target), or an object with such
            ``.logits``; or an estimator of scikit-learn, by its ``predict_proba``, else
            ``predict``, on arrays [n,F] on the CPU: elsewhere every chunk waits for the device.
        x: [B,F] or [B,…] float.
        targets: None = the ``top`` best classes of each vector, an int for all, or an int64 tensor
            [B] or [B,T] on their device.
        scale: σ, the standard deviation of the noise: a number, or a float tensor that broadcasts
            to ``x``, one for each feature for example.
        num_samples: N, perturbed vectors of each.
        sampler: feature_count → noise.
        kernel: noise → proximity weights; None = ``Exponential(0.75·√F, "euclidean")``, lime's rule
            for tables, of the standardised distance ‖ε‖.
        surrogate: noise, scores, weights → Fit. ``Lasso`` has no dual form: F up to some 2000.
        seed: of the noise: an int for one draw that all vectors share, or an int64 tensor [B].
        top: how many classes where ``targets`` is None.
        chunk_size: rows of a forward pass at most; None = a million entries, 64 to 4096 rows.
        autocast, differentiable, keep_samples, progress: as for :meth:`torchlime.Lime.explain`.

    Returns:
        Explanation: without segments; on the device of ``x``.

    Memory:
        The noise takes 4·N·F bytes, the solve some 64·F² (for least squares and ridge 64·N² where
        N ≤ F); both times B where vectors have their own noise: where ``seed`` is a tensor, or a
        sampler's noise is no expanded view. Chunks and sums over blocks are beside that.

    Raises:
        TypeError, ValueError, IndexError: an argument, or the model's output, is of the wrong
            type, shape, device or range. What only the device knows is in ``problems``, which
            ``explanation.check()`` raises: NaN in ``x``, a scale of 0 in a tensor, or one below 4
            roundings of the feature in the dtype that the model takes, which would swallow it.
        torch.OutOfMemoryError: not even a single vector fits into a forward pass.

    Example:
        >>> from torchlime.surrogates import LeastSquares
        >>> x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
        >>> e = explain_vector(lambda z: z @ z.new_tensor([3.0, 0.0, -2.0]) + 1, x,
        ...                    num_samples=20, surrogate=LeastSquares()).check()
        >>> e.coefficients.round(decimals=9).tolist(), round(e.intercepts.item(), 9)
        ([[[3.0, 0.0, -2.0]]], 1.0)
        >>> [name for name, _ in e.as_list(["age", "height", "weight"])]
        ['age', 'weight', 'height']
    """
    check_vectors(x)
    check_targets(targets, x, "x is")
    check_count(num_samples, "num_samples", 2)
    check_forward_settings(chunk_size, autocast)
    if kernel is None:
        kernel = Exponential(0.75 * math.sqrt(x[0].numel()), "euclidean")
    check_strategies(sampler=sampler, kernel=kernel, surrogate=surrogate)
    if not callable(model):
        if differentiable:
            raise ValueError("differentiable=True needs a model of torch, not an estimator")
        model = _Estimator(model)
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # no array is bfloat16
    check_call(model, top=top, progress=progress, differentiable=differentiable)
    settings = recorded(
        {"sampler": sampler, "num_samples": num_samples, "kernel": kernel, "surrogate": surrogate},
        scale=scale, seed=seed, chunk_size=chunk_size, autocast=autocast,
    )  # fmt: skip
    autocast = autocast_dtype(x.device, autocast)
    with undisturbed(x.device):
        x = x.detach()
        batch, width = x.flatten(1).shape
        vectors = x.flatten(1).to(solve_dtype(x.device))
        scales = _scales(scale, x, vectors)
        count = torch.full((1,), width, device=x.device).expand(batch)
        noise = _check_noise(sampler(count, width, int(num_samples), seed=seed), vectors)
        model = unwrapped(model)
        dtype = input_dtype(model, x, "x is")
        predictions = predicted(
            model, Noisy(x, scales, noise, dtype),
            (batch, noise.shape[1] + 1), x.device, targets, top=top, autocast=autocast,
            chunk_size=chunk_size or min(max(CHUNK_ENTRIES // width, 64), 4096),
            differentiable=differentiable, progress=progress,
        )  # fmt: skip
        swallowed = (scales < 4 * torch.finfo(dtype).eps * vectors.abs()) & vectors.isfinite()
        good_scale = ((scales > 0) & scales.isfinite() & ~swallowed).all(dim=1)
        return explained(
            predictions, noise, count, fitted_rows=slice(1, None),
            kernel=kernel, surrogate=surrogate,
            differentiable=differentiable, keep_samples=keep_samples,
            problems=flag(~vectors.isfinite().all(dim=1), Problem.NON_FINITE_IMAGE)
            | flag(~good_scale, Problem.BAD_SCALE),
            settings=settings, segments=count.new_empty(batch, 0, 0),
            vectors=vectors, scale=scales,
        )  # fmt: skip


def _scales(scale: float | Tensor, x: Tensor, vectors: Tensor) -> Tensor:
    """The scale of every feature: [B,F], like ``vectors``."""
    if not isinstance(scale, Tensor):
        check_positive(scale, "scale")
        return torch.full_like(vectors, float(scale))
    check_same_device(scale, x, "scale", "x is")
    if not scale.is_floating_point():
        raise TypeError(f"scale must be a number or a float tensor, got {scale.dtype}")
    try:
        return scale.detach().to(vectors.dtype).expand_as(x).flatten(1)
    except RuntimeError:
        raise ValueError(
            f"scale must broadcast to x's {list(x.shape)}, got {list(scale.shape)}"
        ) from None


def _check_noise(noise: Tensor, vectors: Tensor) -> Tensor:
    expected = f"a float tensor [B,N,F] with B, F = {list(vectors.shape)} and N > 0"
    if not isinstance(noise, Tensor):
        raise TypeError(f"the sampler must return {expected}, got {type(noise).__name__}")
    if (
        not noise.is_floating_point()
        or noise.dim() != 3
        or noise.shape[::2] != vectors.shape
        or 0 in noise.shape
    ):
        raise ValueError(
            f"the sampler must return {expected}, got {noise.dtype} {list(noise.shape)}; "
            "Gaussian() does, the samplers of masks do not"
        )
    check_same_device(noise, vectors, "noise", "x is")
    return noise


class _Estimator:
    """An estimator of scikit-learn as a model: tensors [n,…] → scores [n,classes] or [n]."""

    def __init__(self, estimator: Any):
        if not hasattr(estimator, "predict"):
            raise TypeError(
                f"model must be callable, or an estimator with predict, got {estimator!r}"
            )
        if hasattr(estimator, "classes_") and not hasattr(estimator, "predict_proba"):
            raise TypeError(
                f"{type(estimator).__name__} predicts classes and has no predict_proba: wrap it in "
                "a function of its decision_function"
            )
        self.name = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
        self.estimator = estimator

    def __call__(self, x: Tensor) -> Tensor:
        import numpy as np

        rows = x.flatten(1).cpu().numpy()  # an estimator is on the host
        scores = np.asarray(getattr(self.estimator, self.name)(rows))
        if scores.dtype.kind not in "fiu":
            raise TypeError(
                f"{self.name} of {type(self.estimator).__name__} must return numbers, got "
                f"{scores.dtype}"
            )
        found = torch.from_numpy(scores).to(x.device)
        return found if found.is_floating_point() else found.to(solve_dtype(x.device))
