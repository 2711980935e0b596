"""Captum's LimeBase: a surrogate whose samples the caller's own functions make."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchlime.compat.captum.attribution import Attribution
from torchlime.compat.captum.captums import LimeBaseParent, wrapped
from torchlime.compat.captum.linear_models import as_model
from torchlime.compat.captum.protocol import fit_by_protocol
from torchlime.compat.captum.scoring import progress


class LimeBase(Attribution, LimeBaseParent):  # type: ignore[misc]
    """Fits an interpretable model to samples that the caller's functions make.

    The functions are called sample by sample, as in Captum. The forward function gets many samples
    in one call where it can take them.

    Args:
        forward_func: the model, or any function of the inputs.
        interpretable_model: has ``fit(DataLoader)`` and ``representation()``, which run under
            ``torch.no_grad()`` as in Captum; or one of torchlime's surrogates.
        similarity_func: original input, perturbed input, interpretable sample, **kwargs → weight.
        perturb_func: original input, **kwargs → a sample; or a generator function.
        perturb_interpretable_space: samples are interpretable ones [1,F], not inputs.
        from_interp_rep_transform: sample [1,F], original input, **kwargs → perturbed input.
        to_interp_rep_transform: perturbed input, original input, **kwargs → sample [1,F].

    Raises:
        AssertionError: the transform that the samples need is missing.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        interpretable_model: Any,
        similarity_func: Callable[..., Any],
        perturb_func: Callable[..., Any],
        perturb_interpretable_space: bool,
        from_interp_rep_transform: Callable[..., Any] | None,
        to_interp_rep_transform: Callable[..., Any] | None,
    ):
        self.forward_func = forward_func
        self.interpretable_model = as_model(interpretable_model)
        self.similarity_func = similarity_func
        self.perturb_func = perturb_func
        self.perturb_interpretable_space = perturb_interpretable_space
        self.from_interp_rep_transform = from_interp_rep_transform
        self.to_interp_rep_transform = to_interp_rep_transform
        needed = "from" if perturb_interpretable_space else "to"
        if getattr(self, f"{needed}_interp_rep_transform") is None:
            raise AssertionError(
                f"perturb_interpretable_space={perturb_interpretable_space} needs "
                f"{needed}_interp_rep_transform, got None"
            )

    @wrapped
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        n_samples: int = 50,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """The representation of the model that is fitted to ``n_samples`` samples.

        Args:
            inputs: a tensor or a tuple of tensors. Several examples are one sample, for a forward
                function that gives one score for all of them.
            target: which output is explained, see :class:`torchlime.compat.captum.targets.Targets`.
            additional_forward_args: further arguments of the forward function: one, or a tuple.
            n_samples: N.
            perturbations_per_eval: k, the fewest samples of a call.
            show_progress: show a bar on stderr.
            kwargs: passed on to the functions.

        Raises:
            AssertionError: the forward function does not give one score for each sample.
            TypeError: ``n_samples`` or ``perturbations_per_eval`` is no number.
            ValueError: one of them is below 1, or there is no sample.
        """
        check_counts(n_samples, perturbations_per_eval)
        steps = math.ceil(n_samples / perturbations_per_eval)
        with progress(show_progress, self.get_name(), steps, n_samples) as advance:
            return fit_by_protocol(
                self, inputs, target, additional_forward_args, n_samples, perturbations_per_eval,
                kwargs, advance,
            )  # fmt: skip

    @property
    def multiplies_by_inputs(self) -> bool:
        """False: attributions are coefficients."""
        return False


def check_counts(n_samples: int, perturbations_per_eval: int) -> None:
    """Raise unless both are numbers of at least 1.

    Raises:
        TypeError, ValueError: one is not.
    """
    for name, value in (
        ("n_samples", n_samples),
        ("perturbations_per_eval", perturbations_per_eval),
    ):
        if not isinstance(value, int | float):
            raise TypeError(f"{name} must be an int, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
