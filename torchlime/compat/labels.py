"""The labels to explain: which are asked for, and whether the classifier has them."""

import operator
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from torchlime.compat.arrays import to_numpy


def asked_for(labels: Iterable[Any], top_labels: Any, stacklevel: int) -> list[Any] | None:
    """The labels that the caller names; None where the most probable ones are explained instead.

    Raises:
        IndexError: a label is not an integer.
        TypeError: ``labels`` is not iterable.
    """
    if not top_labels:
        return [_label(label) for label in labels]
    if not (isinstance(labels, tuple) and labels == (1,)):
        warnings.warn(
            f"labels has no effect beside top_labels={top_labels}{_advice(labels)}",
            stacklevel=stacklevel + 1,
        )
    return None


def most_probable(scores: Any, count: Any) -> list[Any]:
    """The ``count`` labels of the highest ``scores`` [classes], the best one last, as in lime.

    >>> [int(label) for label in most_probable(np.array([0.2, 0.7, 0.1]), 2)]
    [0, 1]
    """
    return list(np.argsort(to_numpy(scores))[-count:])


def check_labels(labels: list[Any], columns: int) -> None:
    """Raise where ``classifier_fn`` has no output for a label.

    Raises:
        IndexError: there is no such label. Unlike lime's, the message says which labels there are.
    """
    missing = [label for label in labels if not -columns <= label < columns]
    if not missing:
        return
    if columns == 1:
        known = "one output, label 0; pass labels=(0,)"
    else:
        known = f"{columns} outputs, labels 0…{columns - 1} (−1 is the last)"
    raise IndexError(f"there is no label {missing[0]}: classifier_fn has {known}")


def _label(label: Any) -> Any:
    if isinstance(label, Tensor):
        label = label.item()  # a tensor as a key would never be found again
    try:
        operator.index(label)
    except TypeError:
        got = repr(str(label) if isinstance(label, str) else label)
        raise IndexError(
            f"labels must be integers, the columns of classifier_fn's output, got {got}; "
            f"for a name from a list, pass names.index({got})"
        ) from None
    return label


def _advice(labels: Any) -> str:
    """What to do. It offers no ``top_labels=None`` where the labels could not be explained."""
    if not hasattr(labels, "__len__"):
        return ""
    try:
        for label in labels:
            _label(label)
    except IndexError:
        return (
            ", and a label is a number: explanation.top_labels are those explained, "
            "and names[explanation.top_labels[0]] is the name of the best"
        )
    return "; pass top_labels=None to explain them"
