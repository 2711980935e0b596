"""Captum's Lime: superpixels or features of the inputs, hidden at random."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime.compat.captum.arguments import Inputs, as_inputs
from torchlime.compat.captum.calling import Calls
from torchlime.compat.captum.captums import LimeParent, is_captums, wrapped
from torchlime.compat.captum.drawing import (
    captums_halves,
    check_random,
    each_half,
    example_seeds,
    in_captums_stream,
)
from torchlime.compat.captum.explaining import Asked, explained
from torchlime.compat.captum.feature_masks import Columns, warn_of_many
from torchlime.compat.captum.lime_base import LimeBase, check_counts
from torchlime.compat.captum.linear_models import SkLearnLasso, solver_of
from torchlime.compat.captum.similarity import (
    get_exp_kernel_similarity_function,
    known_similarity,
)
from torchlime.compat.captum.superpixels import columns_of

_MODULE = "captum.attr._core.lime"


def default_perturb_func(original_inp: Any, **kwargs: Any) -> Tensor:
    """A sample [1,F] int64 that keeps each feature with probability 1/2.

    Raises:
        AssertionError: ``num_interp_features`` is missing.
    """
    if "num_interp_features" not in kwargs:
        raise AssertionError("default_perturb_func needs num_interp_features=")
    first = original_inp if isinstance(original_inp, Tensor) else original_inp[0]
    return captums_halves(1, kwargs["num_interp_features"]).long().to(first.device)


def default_from_interp_rep_transform(
    curr_sample: Tensor, original_inputs: Any, **kwargs: Any
) -> Any:
    """The inputs of a sample [1,F]: hidden features show ``baselines``, by ``feature_mask``.

    Raises:
        AssertionError: one of them is missing.
    """
    for name in ("feature_mask", "baselines"):
        if name not in kwargs:
            raise AssertionError(f"default_from_interp_rep_transform needs {name}=")
    feature_mask, baselines = kwargs["feature_mask"], kwargs["baselines"]
    if isinstance(feature_mask, Tensor):
        return _shown(curr_sample, original_inputs, feature_mask, baselines)
    return tuple(
        _shown(curr_sample, *one)
        for one in zip(original_inputs, feature_mask, baselines, strict=True)
    )


def _shown(sample: Tensor, tensor: Tensor, ids: Tensor, base: Any) -> Tensor:
    kept = sample[0][ids.long()].bool()
    dtype = torch.result_type(tensor, base)
    if not isinstance(base, Tensor):
        base = torch.full((), base, dtype=dtype, device=tensor.device)
    return torch.where(kept, tensor.to(dtype), base.to(dtype))


class Lime(LimeBase, LimeParent):  # type: ignore[misc]
    """Explains each example by a linear model. Its inputs say which features are shown.

    Captum's defaults, its similarity functions and its scikit-learn models run as tensors, for all
    examples at once. Other functions run by Captum's protocol, sample by sample.

    Args:
        forward_func: the model, or any function of the inputs; it keeps its mode (call ``eval()``).
        interpretable_model: None = Captum's default, Lasso with alpha 0.01. It may be one of
            torchlime's surrogates. A model that fits itself runs under ``torch.no_grad()``, as in
            Captum.
        similarity_func: None = exp(−d²/2) of the cosine distance between inputs.
        perturb_func: None = each feature is kept with probability 1/2.
        rng: "captum" draws Captum's own random stream on the CPU: with the same
            ``torch.manual_seed``, both give the same result. None = torchlime's own numbers.
        seed: for ``rng=None``. None = drawn from torch's global generator for each call; an int, to
            which example b adds b; or an int64 tensor [B].

    Raises:
        ValueError: ``rng`` is unknown, or a seed is given with it.

    Example:
        >>> lime = Lime(lambda x: x @ torch.tensor([1.0, -2.0, 0.0]), seed=0)
        >>> lime.attribute(torch.ones(1, 3), n_samples=100).round(decimals=1).tolist()
        [[1.0, -2.0, 0.0]]
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        interpretable_model: Any = None,
        similarity_func: Callable[..., Any] | None = None,
        perturb_func: Callable[..., Any] | None = None,
        *,
        rng: str | None = None,
        seed: int | Tensor | None = None,
    ):
        LimeBase.__init__(
            self,
            forward_func,
            SkLearnLasso(alpha=0.01) if interpretable_model is None else interpretable_model,
            get_exp_kernel_similarity_function() if similarity_func is None else similarity_func,
            default_perturb_func if perturb_func is None else perturb_func,
            True,
            default_from_interp_rep_transform,
            None,
        )
        self._set_random(rng, seed)

    def _set_random(self, rng: str | None, seed: int | Tensor | None) -> None:
        check_random(rng, seed)
        self.rng = rng
        self.seed = seed

    @wrapped
    def attribute(  # type: ignore[override]
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: int = 25,
        perturbations_per_eval: int = 1,
        return_input_shape: bool = True,
        show_progress: bool = False,
        *,
        return_explanation: bool = False,
    ) -> Any:
        """The coefficients of each feature, on the entries of the inputs.

        Args:
            inputs: a tensor [B,…] or a tuple of them, of any dtype.
            baselines: what hidden features show, see
                :func:`torchlime.compat.captum.arguments.as_inputs`.
            target: which output is explained, see :class:`torchlime.compat.captum.targets.Targets`.
                A tensor [B,T] explains T outputs by the same samples; results are then [B,T,…].
            additional_forward_args: further arguments of the forward function: one, or a tuple.
            feature_mask: see :func:`torchlime.compat.captum.feature_masks.as_columns`; or "slic" or
                a segmenter of torchlime, for superpixels of images [B,C,H,W].
            n_samples: N.
            perturbations_per_eval: k, the fewest rows of a forward pass.
            return_input_shape: the result has the shape of the inputs; else it is [B,F], on the CPU
                as in Captum.
            show_progress: show a bar on stderr.
            return_explanation: return the :class:`torchlime.Explanation`, with intercepts,
                fidelity and errors.

        Returns:
            float32 tensors like the inputs, or as the last three arguments say. A function that
            gives one score for the whole batch gets one explanation, with a first axis of 1.

        Raises:
            AssertionError, IndexError, TypeError, ValueError: an argument, or what the forward
                function returns, does not fit; the sentence says which.
        """
        # A subclass may have a method of this name with Captum's arguments only.
        more = {"return_explanation": True} if return_explanation else {}
        return self._attribute_kwargs(
            inputs=inputs,
            baselines=baselines,
            target=target,
            additional_forward_args=additional_forward_args,
            feature_mask=feature_mask,
            n_samples=n_samples,
            perturbations_per_eval=perturbations_per_eval,
            return_input_shape=return_input_shape,
            show_progress=show_progress,
            **more,
        )

    def _attribute_kwargs(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: int = 25,
        perturbations_per_eval: int = 1,
        return_input_shape: bool = True,
        show_progress: bool = False,
        *,
        return_explanation: bool = False,
        **kwargs: Any,
    ) -> Any:
        """What ``attribute`` does, under the name by which subclasses of Captum's Lime call it.

        The caller's own functions also get ``kwargs``.
        """
        check_counts(n_samples, perturbations_per_eval)
        asked = Asked(
            n_samples, perturbations_per_eval, return_input_shape, show_progress,
            return_explanation, kwargs,
        )  # fmt: skip
        read = as_inputs(inputs, baselines)
        columns, count = columns_of(feature_mask, read)
        if columns.number == 0:
            raise ValueError("inputs have no entries, so there is no feature to explain")
        warn_of_many(columns)
        calls = Calls(self.forward_func, read, target, additional_forward_args)
        return explained(self, calls, columns, count, asked)

    def masks(self, columns: Columns, samples: int, batch: int, device: torch.device) -> Tensor:
        """The design [B,N,F] bool."""
        if self.rng == "captum":
            fits = solver_of(self.interpretable_model) is not None  # else they draw themselves
            return in_captums_stream(captums_halves, batch, samples, columns.number, device, fits)
        count = torch.full((batch,), columns.number, device=device)
        seeds = example_seeds(self.seed, batch, device)
        return each_half(count, columns.number, samples, seed=seeds)

    def weights(
        self, inputs: Inputs, columns: Columns, design: Tensor, whole: bool = False
    ) -> Tensor:
        """The weights [B,N] of a design."""
        similarity = known_similarity(self.similarity_func)
        assert similarity is not None  # by is_known()
        return similarity.of_design(inputs, columns, design, whole)

    def is_known(self) -> bool:
        """Whether design and weights are Captum's, so that they run as tensors."""
        return (
            self._transform_is_known()
            and known_similarity(self.similarity_func) is not None
            and (
                self.perturb_func is default_perturb_func
                or is_captums(self.perturb_func, _MODULE, "default_perturb_func")
            )
        )

    def _transform_is_known(self) -> bool:
        transform = self.from_interp_rep_transform
        known = transform is default_from_interp_rep_transform or is_captums(
            transform, _MODULE, "default_from_interp_rep_transform"
        )
        return bool(self.perturb_interpretable_space and known)

    def kwargs_of(self, inputs: Inputs, columns: Columns) -> dict[str, Any]:
        """What the caller's own functions get beside a sample."""
        return {
            "baselines": inputs.like(inputs.baselines),
            "feature_mask": inputs.like(columns.given),
            "num_interp_features": columns.number,
        }
