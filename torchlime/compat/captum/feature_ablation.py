"""Captum's FeatureAblation: what the outputs lose when a feature is replaced."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchlime.compat.captum.arguments import as_inputs
from torchlime.compat.captum.attribution import (
    Attribution,
    check_one_mask,
    check_perturbations,
    features_of,
    of_no_example,
    on_entries,
    scores_of_samples,
)
from torchlime.compat.captum.batch_scoring import outputs_of
from torchlime.compat.captum.calling import Calls
from torchlime.compat.captum.captums import FeatureAblationParent, wrapped
from torchlime.masks import LeaveOneOut


class FeatureAblation(Attribution, FeatureAblationParent):  # type: ignore[misc]
    """The output for the inputs minus the output without a feature, for each feature.

    The design is :class:`torchlime.masks.LeaveOneOut`. Results are Captum's numbers.

    Args:
        forward_func: the model, or any function of the inputs; it keeps its mode (call ``eval()``).

    Example:
        >>> import torch
        >>> ablation = FeatureAblation(lambda x: x @ torch.tensor([1.0, -2.0, 0.0]))
        >>> ablation.attribute(torch.ones(1, 3)).tolist()
        [[1.0, -2.0, 0.0]]
    """

    def __init__(self, forward_func: Callable[..., Any]):
        self.forward_func = forward_func

    @wrapped
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Any:
        """What each output loses without each feature, on the entries of the inputs.

        Args:
            inputs: a tensor [B,…] or a tuple of them, of any dtype.
            baselines: what replaces a feature, see
                :func:`torchlime.compat.captum.arguments.as_inputs`.
            target: which output is explained, see :class:`torchlime.compat.captum.targets.Targets`.
            additional_forward_args: further arguments of the forward function: one, or a tuple.
            feature_mask: numbers that broadcast to its input, for each input; equal ones are one
                feature, also across inputs. None: each scalar is a feature.
            perturbations_per_eval: k, the fewest rows of a forward pass.
            show_progress: show a bar on stderr.
            kwargs: ignored, as in Captum.

        Returns:
            Tensors like the inputs, in the dtype of the outputs. For outputs [B,T], the first axis
            is B·T. For outputs of the whole batch, it is the number of these outputs. Without
            examples, the tensors are [0,*axes], as in Captum.

        Raises:
            AssertionError, TypeError, ValueError: an argument, or what the forward function
                returns, does not fit; the sentence says which.
        """
        check_perturbations(perturbations_per_eval)
        read = as_inputs(inputs, baselines, cuts=False)
        calls = Calls(self.forward_func, read, target, additional_forward_args)
        if read.batch == 0:
            return of_no_example(calls)
        columns = features_of(feature_mask, read).columns
        whole = outputs_of(calls.whole(), read.batch, read.device)
        check_one_mask(columns, whole, read.batch)

        def masks(sample: Tensor) -> Tensor:
            return LeaveOneOut().rows(sample, columns.number)

        scores = scores_of_samples(
            self, calls, columns, whole, masks, columns.number, perturbations_per_eval,
            show_progress,
        )  # fmt: skip
        lost = (whole.scores[:, None] - scores).transpose(1, 2)
        return on_entries(lost, columns, read, (whole.scores.numel(),), whole.dtype)
