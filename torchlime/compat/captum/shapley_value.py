"""Captum's ShapleyValueSampling: mean contributions of features in random orders."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._undisturbed import undisturbed
from torchlime._warn import warn
from torchlime.compat.captum.arguments import Inputs, as_inputs
from torchlime.compat.captum.attribution import (
    Attribution,
    Features,
    check_one_mask,
    check_perturbations,
    features_of,
    of_no_example,
    on_entries,
    scores_of_samples,
)
from torchlime.compat.captum.batch_scoring import Drawn, Outputs, outputs_of
from torchlime.compat.captum.calling import Calls
from torchlime.compat.captum.captums import ShapleyValueSamplingParent, wrapped
from torchlime.compat.captum.drawing import check_random, example_seeds
from torchlime.compat.captum.perturbed import Perturbed
from torchlime.masks import Permutations


class ShapleyValueSampling(Attribution, ShapleyValueSamplingParent):  # type: ignore[misc]
    """Shapley values against fixed baselines, by random orders of the features.

    In each order the features are shown one after the other. A feature's value is the mean of what
    the output gains when it is shown. All examples share the orders, as in Captum.

    Args:
        forward_func: the model, or any function of the inputs; it keeps its mode (call ``eval()``).
        rng: "captum" draws Captum's own orders: with the same ``torch.manual_seed``, both give the
            same result. None = :class:`torchlime.masks.Permutations`, in which every second order
            is the reverse of the one before it. Then the values of functions in which no three
            features interact are exact for any even number of orders.
        seed: for ``rng=None``. None = drawn from torch's global generator for each call; or an int.

    Raises:
        ValueError: ``rng`` is unknown, or a seed is given with it.

    Example:
        >>> shapley = ShapleyValueSampling(lambda x: x[:, 0] * x[:, 1] + x[:, 2], seed=0)
        >>> shapley.attribute(torch.tensor([[2.0, 3.0, 1.0]]), n_samples=2).tolist()
        [[3.0, 3.0, 1.0]]
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        *,
        rng: str | None = None,
        seed: int | None = None,
    ):
        check_random(rng, seed)
        self.forward_func = forward_func
        self.rng = rng
        self.seed = seed

    @wrapped
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: int = 25,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """The Shapley value of each feature, on the entries of the inputs.

        Args:
            inputs, target, additional_forward_args, feature_mask, perturbations_per_eval,
            show_progress: as for :meth:`torchlime.compat.captum.FeatureAblation.attribute`.
            baselines: as there; a number takes the dtype of its input.
            n_samples: how many orders.

        Returns:
            float32 tensors [*outputs,*axes]: the shape of the outputs, which is [B] with a target,
            and the axes of the input behind its first.

        Raises:
            AssertionError, TypeError, ValueError: an argument, the seed, or what the forward
                function returns does not fit; the sentence says which.
        """
        check_perturbations(perturbations_per_eval)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        read = _with_tensors(as_inputs(inputs, baselines, cuts=False))
        calls = Calls(self.forward_func, read, target, additional_forward_args)
        if read.batch == 0:
            return of_no_example(calls, torch.float32)
        features = features_of(feature_mask, read)
        columns, number = features.columns, features.columns.number
        nothing = self._nothing(calls, features)
        _check_scalar(nothing, read.batch, perturbations_per_eval)
        check_one_mask(columns, nothing, read.batch)
        ranks = self.ranks(features, n_samples, read.device)
        between = max(number - 1, 0)

        def masks(sample: Tensor) -> Tensor:
            """Sample 0 shows nothing, sample 1 all; then come the rest of the orders."""
            order = (sample - 2).clamp(min=0)
            place = order % max(between, 1)
            shown = ranks[order // max(between, 1)] <= place[:, None]
            return (shown | (sample == 1)[:, None]) & (sample > 0)[:, None]

        scores = scores_of_samples(
            self, calls, columns, nothing, masks, bool(number) + n_samples * between,
            perturbations_per_eval, show_progress,
        )  # fmt: skip
        with undisturbed(read.device):
            values = contributions(nothing.scores, scores, ranks)
        return on_entries(values, columns, read, nothing.shape or (1,), torch.float32)

    def ranks(self, features: Features, orders: int, device: torch.device) -> Tensor:
        """The place [orders,F] of each feature in each order."""
        number = features.columns.number
        if self.rng == "captum":
            total = captums_number(features.ids)
            drawn = torch.stack([torch.randperm(total) for _ in range(orders)]).to(device)
            place = drawn.argsort(dim=1)[:, features.ids.long()]
            return place.argsort(dim=1).argsort(dim=1)  # without the ids that do not occur
        count = torch.full((1,), number, device=device)
        seeds = example_seeds(self.seed, 1, device)
        return Permutations().ranks(count, number, orders, seed=seeds)[0]

    def _nothing(self, calls: Calls, features: Features) -> Outputs:
        """The outputs of the baselines."""
        inputs, number = calls.inputs, features.columns.number
        hidden = Drawn(lambda s: s.new_zeros(len(s), number, dtype=torch.bool), inputs.device)
        rows = Perturbed(inputs, features.columns, hidden, None, whole=True)
        baselines = rows([(slice(0, 1), slice(0, 1))], inputs.batch)
        return outputs_of(calls.whole(baselines), inputs.batch, inputs.device)


def contributions(nothing: Tensor, scores: Tensor, ranks: Tensor) -> Tensor:
    """The mean gain [R,T,F] of each feature over orders.

    Args:
        nothing: [R,T], the scores where no feature is shown.
        scores: [R,1 + orders·(F−1),T], those where all are shown, and then those of each order
            where the first 1…F−1 are.
        ranks: [orders,F], the place of each feature in each order.
    """
    (rows, targets), (orders, number) = nothing.shape, ranks.shape
    if number == 0:
        return nothing[..., None][..., :0]
    ends = nothing[:, None, None], scores[:, None, :1]
    first, last = (end.expand(rows, orders, 1, targets) for end in ends)
    between = scores[:, 1:].unflatten(1, (orders, number - 1)) if number > 1 else first[:, :, :0]
    gains = torch.cat([first, between, last], dim=2).diff(dim=2)
    place = ranks[None, :, :, None].expand(rows, -1, -1, targets)
    return gains.gather(2, place).mean(dim=1).transpose(1, 2)


def captums_number(ids: Tensor) -> int:
    """How many features Captum permutes: one more than the highest id, which is read back.

    Raises:
        ValueError: an id is negative, or no integer.
    """
    if len(ids) == 0:
        return 0
    least, most = (float(end) for end in torch.stack([ids[0], ids[-1]]).tolist())
    if least < 0:
        raise ValueError(
            f"feature_mask holds {least:g}; Captum never shows features with negative numbers, so "
            "their values would be wrong. Number them from 0"
        )
    if most + 1 != len(ids):
        warn(
            "Feature mask is missing some integers between 0 and num_features, for optimal "
            "performance, make sure each consecutive integer corresponds to a feature."
        )
    return int(most) + 1


def _with_tensors(inputs: Inputs) -> Inputs:
    """Inputs whose baselines are tensors of the inputs' dtypes where they were numbers."""
    baselines = tuple(
        base
        if isinstance(base, Tensor)
        else torch.full((1,) * tensor.dim(), base, device=tensor.device).to(tensor.dtype)
        for base, tensor in zip(inputs.baselines, inputs.tensors, strict=True)
    )
    return dataclasses.replace(inputs, baselines=baselines)


def _check_scalar(outputs: Outputs, batch: int, perturbations_per_eval: int) -> None:
    scalar = not outputs.shape or (batch > 1 and outputs.scores.numel() == 1)
    if scalar and perturbations_per_eval > 1:
        raise AssertionError(
            "Cannot have perturbations_per_eval > 1 when function returns scalar, got "
            f"perturbations_per_eval={perturbations_per_eval}"
        )
