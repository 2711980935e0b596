"""What a caller's function returned for the rows of a table or for texts, checked as lime does."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from torchlime._checks import device_of
from torchlime._warn import warn
from torchlime.black_box import BlackBox, Forward
from torchlime.compat.arrays import Array, to_numpy

LIME_NEEDS_SCORES = (
    "LIME does not currently support classifier models without probability scores. If this "
    "conflicts with your use case, please let us know: "
    "https://github.com/datascienceinc/lime/issues/16; "
)


def outputs_of(function: Any, rows: Any, name: str) -> Array:
    """The function's outputs as an array: one for each of ``rows`` (array, csr, frame or list).

    A module gets the rows as a tensor on its device and in its dtype, in eval mode.

    Raises:
        TypeError: it is no function.
        ValueError: it returned another number of outputs.
    """
    if not callable(function):
        known = next((m for m in ("predict_proba", "predict") if hasattr(function, m)), None)
        advice = f"pass its {known}" if known else f"pass the function, not {name}(rows)"
        raise TypeError(f"{name} must be a function, got {type(function).__name__}; {advice}")
    found = _of_module(function, rows) if isinstance(function, nn.Module) else function(rows)
    if isinstance(found, np.ndarray):
        outputs = found
    else:
        found = [to_numpy(one) for one in found] if isinstance(found, list) else to_numpy(found)
        outputs = np.asarray(found)
    expected = rows.shape[0] if hasattr(rows, "shape") else len(rows)
    if not outputs.ndim or len(outputs) != expected:
        raise ValueError(
            f"{name} must return one output for each of the {expected} rows, "
            f"got {list(outputs.shape)}"
        )
    return outputs


def _of_module(module: nn.Module, rows: Any) -> Any:
    if isinstance(rows, list):
        raise TypeError("a module takes no texts; pass a function that tokenizes them and calls it")
    dense = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
    device = device_of(module) or torch.device("cpu")
    box = BlackBox(module, device, Forward())
    with torch.no_grad(), box.prepared():
        outputs = box(torch.from_numpy(np.ascontiguousarray(dense)).to(device, box.dtype))
    return getattr(outputs, "logits", outputs)


def outputs_of_parts(function: Any, parts: Iterable[Any], name: str) -> Array:
    """The function's outputs for the rows of several calls, one call after the other."""
    outputs = [outputs_of(function, part, name) for part in parts]
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


def check_batch_size(batch_size: Any) -> None:
    """Raise unless it is None or a whole number of at least 1."""
    if batch_size is not None and not (isinstance(batch_size, int) and batch_size >= 1):
        raise ValueError(
            f"batch_size must be None or a whole number of 1 or more, got {batch_size}"
        )


def class_scores(outputs: Array, name: str, sums: bool = True) -> Array:
    """Scores [n,classes] of a classifier.

    Raises:
        NotImplementedError: the outputs have one axis, so they are classes, not probabilities.
        ValueError: they have three or more axes.
    """
    if outputs.ndim == 1:
        raise NotImplementedError(
            f"{LIME_NEEDS_SCORES}{name} must return [rows,classes], got {list(outputs.shape)}: "
            "pass predict_proba, or mode='regression' to explain the number itself"
        )
    if outputs.ndim != 2:
        raise ValueError(
            f"Your model outputs arrays with {outputs.ndim} dimensions; {name} must return "
            "[rows,classes]"
        )
    if sums and not (np.abs(outputs.sum(axis=1) - 1) <= 1.001e-5).all():  # as np.allclose
        warn(
            "Prediction probabilities do not sum to 1: check that the classifier returns "
            "probabilities, not their logarithms or classes. They are explained as they are."
        )
    return outputs


def regression_scores(outputs: Array) -> Array:
    """A regressor's outputs [n]; the first output where a row has several, as in lime.

    Raises:
        ValueError: the outputs have three or more axes.
    """
    if outputs.ndim == 2 and outputs.shape[1]:
        if outputs.shape[1] > 1:
            warn(
                f"the model returns {outputs.shape[1]} outputs for a row, and only the first is "
                "explained; pass lambda rows: model(rows)[:, i] for another"
            )
        outputs = outputs[:, 0]
    if outputs.ndim != 1:
        raise ValueError(
            "Your model needs to output single-dimensional numpyarrays, not arrays of "
            f"{outputs.ndim} dimensions"
        )
    return outputs
