"""What all methods that ablate features share: their names, their masks, and their calls."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchlime._undisturbed import undisturbed
from torchlime.compat.captum.arguments import Inputs, over_examples
from torchlime.compat.captum.batch_scoring import BatchScoring, Drawn, Outputs
from torchlime.compat.captum.calling import Calls, as_scores
from torchlime.compat.captum.feature_masks import Columns, as_columns, check_masks, spread
from torchlime.compat.captum.perturbed import Perturbed
from torchlime.compat.captum.scoring import progress


class Attribution:
    """The attributes that code expects of all of Captum's explainers that perturb inputs."""

    def attribute_future(self, *_: Any, **__: Any) -> None:
        """Not implemented: chunks of several examples do not wait for futures.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"attribute_future is not implemented for {type(self).__name__}; call attribute()"
        )

    def has_convergence_delta(self) -> bool:
        """False: there is none."""
        return False

    @property
    def multiplies_by_inputs(self) -> bool:
        """True, as Captum says: attributions are differences of outputs."""
        return True

    @classmethod
    def get_name(cls) -> str:
        """The class's name in words."""
        name = cls.__name__
        return name[:1] + "".join(c if c.islower() else f" {c}" for c in name[1:])


class Features(NamedTuple):
    """The features of the inputs.

    Attributes:
        columns: with ids 0…F−1, all of which occur.
        ids: [F], the caller's numbers, ascending; on the device.
    """

    columns: Columns
    ids: Tensor


def features_of(feature_mask: Any, inputs: Inputs) -> Features:
    """The features of a mask of any numbers, which may have gaps; their number is read back.

    Raises:
        AssertionError: it is not one tensor for each input.
        ValueError: a shape does not fit.
    """
    if feature_mask is None:
        columns = as_columns(None, inputs)
        return Features(columns, torch.arange(columns.number, device=inputs.device))
    masks = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,)
    check_masks(masks, inputs)
    full = [
        over_examples(mask, tensor, f"feature_mask[{place}]", cuts=False).to(inputs.device)
        for place, (mask, tensor) in enumerate(zip(masks, inputs.tensors, strict=True))
    ]
    dtype = torch.float64 if any(m.is_floating_point() for m in full) else torch.int64
    flat = torch.cat([mask.flatten().to(dtype) for mask in full])
    found, dense = flat.unique(return_inverse=True)
    parts = dense.split([mask.numel() for mask in full])
    ids = tuple(
        part.view(mask.shape).to(tensor.device)
        for part, mask, tensor in zip(parts, full, inputs.tensors, strict=True)
    )
    return Features(Columns(ids, len(found), masks), found)


def of_no_example(calls: Calls, dtype: torch.dtype | None = None) -> Any:
    """What Captum gives where B is 0: zeros, as many as the outputs of the call on no example.

    Their dtype is that of the outputs if ``dtype`` is None.
    """
    inputs, explained = calls.inputs, calls.whole()
    if not isinstance(explained, Tensor):
        explained = as_scores(explained, 1, inputs.device)
    shape = (explained.numel(),)
    if explained.dtype == torch.bool:  # differences have signs
        explained = explained.long()
    return inputs.like(
        tuple(
            torch.zeros((*shape, *t.shape[1:]), dtype=dtype or explained.dtype, device=t.device)
            for t in inputs.tensors
        )
    )


def check_perturbations(number: Any) -> None:
    """Raise Captum's error unless ``perturbations_per_eval`` is an int of at least 1."""
    if not isinstance(number, int) or number < 1:
        raise AssertionError(
            f"perturbations_per_eval must be an integer and at least 1, got {number!r}"
        )


def check_one_mask(columns: Columns, outputs: Outputs, batch: int) -> None:
    """Raise if examples have masks of their own, but the function has one output for all.

    Raises:
        AssertionError: this is the case.
    """
    if len(outputs.scores) != batch and any(len(ids) > 1 for ids in columns.ids):
        raise AssertionError(
            "Cannot provide different masks for each example when function returns a scalar, or "
            f"as here an output {list(outputs.shape)} whose first axis is not the {batch} "
            "examples; pass a feature_mask with a first axis of 1"
        )


def scores_of_samples(
    method: Attribution,
    calls: Calls,
    columns: Columns,
    unchanged: Outputs,
    masks: Callable[[Tensor], Tensor],
    samples: int,
    perturbations_per_eval: int,
    show_progress: bool,
) -> Tensor:
    """The scores [R,N,T] of the samples 1…N, in the solve's dtype.

    Args:
        method: for the name in the progress bar.
        calls: the forward function and its inputs.
        columns: what a column of the masks stands for.
        unchanged: the outputs of sample 0.
        masks: numbers of samples [n] → masks [n,F] bool, True = the input is shown.
        samples: N.
        perturbations_per_eval, show_progress: as the caller gave them.
    """
    if samples == 0:
        return unchanged.scores[:, None][:, :0]
    design = Drawn(masks, calls.inputs.device)

    def rows(box: Any, whole: bool) -> Perturbed:
        return Perturbed(calls.inputs, columns, design, box, whole)

    steps = math.ceil(samples / perturbations_per_eval) + 1
    with progress(show_progress, method.get_name(), steps, samples) as advance:
        scoring = BatchScoring(calls, perturbations_per_eval, unchanged, advance)
        return scoring.of_samples(rows, samples)


def on_entries(
    values: Tensor, columns: Columns, inputs: Inputs, shape: tuple[int, ...], dtype: torch.dtype
) -> Any:
    """Values [R,T,F] of the features as the caller gave the inputs: each [*shape,*axes]."""
    with undisturbed(inputs.device):
        found = tuple(
            spread(values.to(tensor.device, dtype), ids, tensor.shape[1:]).reshape(
                *shape, *tensor.shape[1:]
            )
            for ids, tensor in zip(columns.ids, inputs.tensors, strict=True)
        )
    return inputs.like(found)
