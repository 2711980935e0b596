"""LIME of vectors: rows of a table, embeddings, or any numbers [B,…]."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from torchlime._checks import check_callables, check_count, check_positive, is_integer
from torchlime._estimator import Estimator
from torchlime._inputs import Array, as_vectors
from torchlime._resuming import check_settings, made_by
from torchlime._settings import Settings, check_keywords
from torchlime._taking import check_rounds_setting
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model, Progress
from torchlime.explanation import Explanation
from torchlime.features import Vectors
from torchlime.local import Samples, local_fit, local_samples
from torchlime.noise import Gaussian
from torchlime.rounds import Once
from torchlime.strategies import Kernel, Rounds, Sampler, Surrogate
from torchlime.surrogates import Ridge
from torchlime.targets import Targets, scores_of, words_of_scores
from torchlime.weights import Exponential


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorLime(Settings):
    """The settings of an explanation of vectors; :meth:`explain` runs it.

    The model scores z = x + scale · ε, and a weighted linear surrogate g(z) = b + β·z is fitted to
    its scores. The fit and its penalty use ε, the features standardised by the scale; β and b are
    returned in units of x. For smooth models and small scales β is the gradient. With normal noise
    and uniform weights it estimates E[∇f(z)] (Stein 1981).

    Convention:
        A feature is an entry of a vector of any shape, in the order of ``x[b].flatten()``; there
        are F features. ``coefficients[b, t, i]`` is the change of the score per unit of feature i;
        ``intercepts`` is b, the value of g where every feature is 0; ``local_predictions`` is g(x).
        All N samples are in the fit. x is scored beside them, so the model gets B·(N + 1) rows.

        Antithetic pairs keep even parts of the model, such as curvature at x, out of the
        coefficients. Only rounding errors remain: a few machine epsilons of the dtype (1e-16 in
        float64) times the spread of the scores divided by the scale. For odd nonlinearities, N
        samples in pairs count as N/2 independent samples, so the variance is twice that of
        ``antithetic=False``.

    Args:
        scale: σ, the standard deviation of the noise: a number, or a float tensor that broadcasts
            to ``x``, for example one number for each feature.
        num_samples: N, perturbed vectors for each vector.
        sampler: count → noise.
        kernel: noise → proximity weights; None = ``Exponential(0.75·√F, "euclidean")`` of the
            standardised distance ‖ε‖, which is lime's rule for tables.
        surrogate: noise, scores, weights → Fit. ``Lasso`` has no dual form, so F should be at most
            about 2000.
        rounds: ``Once()``, or ``Until(error=0.25)``: see :mod:`torchlime.rounds`.
        chunk_size: the largest number of rows of a forward pass; None = as many as hold a million
            entries, within 64 to 4096.
        exact_chunks: give every forward pass exactly ``chunk_size`` rows, as for
            :class:`torchlime.Lime`.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None keeps the caller's
            setting.
        seed: the seed of the noise; an int.

    Memory:
        The noise takes 4·N·F bytes and the solve about 64·F² bytes (for least squares and ridge
        64·N² if N ≤ F). Both are multiplied by B if each vector has its own noise: if ``seed`` is a
        tensor, or if the sampler's noise is not an expanded view. Chunks and sums over blocks need
        memory in addition.

    Raises:
        TypeError, ValueError: a setting is unknown, of the wrong type or out of range.

    Example:
        >>> from torchlime.surrogates import LeastSquares
        >>> x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
        >>> explainer = VectorLime(num_samples=20, surrogate=LeastSquares())
        >>> e = explainer.explain(lambda z: z @ z.new_tensor([3.0, 0.0, -2.0]) + 1, x).check()
        >>> e.coefficients.round(decimals=9).tolist(), round(e.intercepts.item(), 9)
        ([[[3.0, 0.0, -2.0]]], 1.0)
        >>> [name for name, _ in e.as_list(["age", "height", "weight"])]
        ['age', 'weight', 'height']
    """

    scale: float | Tensor | Array = 0.1
    num_samples: int = 1000
    sampler: Sampler = Gaussian(antithetic=True)
    kernel: Kernel | None = None
    surrogate: Surrogate = Ridge(alpha=1.0)
    rounds: Rounds = Once()
    chunk_size: int | None = None
    exact_chunks: bool = False
    autocast: torch.dtype | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self.num_samples, "num_samples", 2)
        if not (isinstance(self.scale, Tensor) or hasattr(self.scale, "__array__")):
            check_positive(self.scale, "scale")
        if not is_integer(self.seed):
            raise TypeError(
                f"seed must be an int, got {type(self.seed).__name__}; "
                "seeds for each vector go to explain(seed=)"
            )
        Forward.of(self)
        kernel = self.kernel or Exponential()
        check_rounds_setting(self.rounds, self.surrogate, self.sampler)
        check_callables(sampler=self.sampler, kernel=kernel, surrogate=self.surrogate)

    def explain(
        self,
        model: Any,
        x: Tensor | Array,
        targets: Targets = None,
        *,
        top: int = 1,
        seed: int | Tensor | None = None,
        differentiable: bool = False,
        keep_samples: bool = False,
        resume: Explanation | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        """Explain what ``model`` makes of each of the vectors ``x``.

        Args:
            model: any callable [n,…] → [n,classes], or [n] (one target), or an object with such
                ``.logits``; or an estimator of scikit-learn. Its ``predict_proba``, or without that
                its ``predict``, gets arrays [n,F] on the CPU, so every chunk on another device
                waits.
            x: [B,F] or [B,…] float.
            targets, top, differentiable, keep_samples, resume, progress: as for
                :meth:`torchlime.Lime.explain`.
            seed: used instead of the explainer's seed; an int64 tensor [B] gives each vector its
                own seed.

        Returns:
            Explanation: without segments; on the device of ``x``.

        Raises:
            TypeError, ValueError, IndexError: an argument, or the model's output, is of the wrong
                type, shape, device or range. Problems that only the device knows are in
                ``problems``, and ``explanation.check()`` raises them: NaN in ``x``, a scale of 0 in
                a tensor, or a scale below 4 roundings of its feature in the dtype that the model
                takes.
            torch.OutOfMemoryError: not even a single vector fits into a forward pass.
        """
        check_settings(resume, self)
        forward = Forward.of(self, differentiable=differentiable, progress=progress)
        x = as_vectors(x, model)
        scores = scores_of(targets, top, len(x), x.device, "x is")
        if differentiable and Estimator.is_one(model):
            raise ValueError("differentiable=True needs a model of torch, not an estimator")
        model, features = self._model_and_features(model, x)
        kernel = self._kernel(features)
        seed = self.seed if seed is None else seed
        explanation = local_fit(
            model, features, scores, sampler=self.sampler, num_samples=int(self.num_samples),
            kernel=kernel, surrogate=self.surrogate, forward=forward, seed=seed,
            keep_samples=keep_samples, rounds=self.rounds,
            resume=resume,
        )  # fmt: skip
        used = dataclasses.replace(self, kernel=kernel)
        return made_by(explanation, used, seed, resume, **words_of_scores(scores))

    def samples(
        self,
        model: Any,
        x: Tensor | Array,
        targets: Targets = None,
        *,
        top: int = 1,
        seed: int | Tensor | None = None,
        progress: Progress | None = None,
    ) -> Samples:
        """The samples that :meth:`explain` would fit: noise, scores and weights.

        Arguments, guarantees and errors are those of :meth:`explain`.
        """
        forward = Forward.of(self, progress=progress)
        x = as_vectors(x, model)
        scores = scores_of(targets, top, len(x), x.device, "x is")
        model, features = self._model_and_features(model, x)
        return local_samples(
            model, features, scores, sampler=self.sampler, num_samples=int(self.num_samples),
            kernel=self._kernel(features), forward=forward,
            seed=self.seed if seed is None else seed,
        )  # fmt: skip

    def _model_and_features(self, model: Any, x: Tensor) -> tuple[Model, Vectors]:
        if Estimator.is_one(model):
            model = Estimator(model)
            x = x.to(torch.promote_types(x.dtype, torch.float32))  # no array is bfloat16
        with undisturbed(x.device):
            return model, Vectors(x, self.scale)

    def _kernel(self, features: Vectors) -> Kernel:
        return self.kernel or Exponential(0.75 * math.sqrt(features.bound), "euclidean")


class VectorSettings(TypedDict, total=False):
    """The fields of :class:`VectorLime`."""

    scale: float | Tensor | Array
    num_samples: int
    sampler: Sampler
    kernel: Kernel | None
    surrogate: Surrogate
    rounds: Rounds
    chunk_size: int | None
    exact_chunks: bool
    autocast: torch.dtype | None


class ExplainVectorSettings(VectorSettings, total=False):
    """The keywords of :func:`explain_vector`."""

    top: int
    seed: int | Tensor | None
    differentiable: bool
    keep_samples: bool
    resume: Explanation | None
    progress: Progress | None


def explain_vector(
    model: Any,
    x: Tensor | Array,
    targets: Targets = None,
    **settings: Unpack[ExplainVectorSettings],
) -> Explanation:
    """``VectorLime(**fields).explain(model, x, targets, …)`` in one call.

    The keywords are the fields of :class:`VectorLime` and the arguments of
    :meth:`VectorLime.explain`. This is least squares without weights on 100 samples with σ = 0.1 ::

        explain_vector(model, x, scale=0.1, num_samples=100, kernel=Uniform(),
                       sampler=Gaussian(antithetic=False), surrogate=LeastSquares())

    Example:
        >>> x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
        >>> e = explain_vector(lambda z: z @ z.new_tensor([3.0, -2.0]), x, num_samples=20)
        >>> e.coefficients.sign().tolist()
        [[[1.0, -1.0]]]
    """
    check_keywords(settings, ExplainVectorSettings.__annotations__, "explain_vector()")
    fields = VectorSettings.__annotations__
    own = {name: value for name, value in settings.items() if name in fields}
    call = {name: value for name, value in settings.items() if name not in own}
    return VectorLime(**own).explain(model, x, targets, **call)  # type: ignore[arg-type]
