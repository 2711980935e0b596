"""What a model returned → the tensor that scores are taken from, or a sentence that says how."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import FLOATS

EMBEDDINGS = ("image_embeds", "pooler_output")
_TELLS = "of torchlime.targets"


def class_scores(outputs: Any, rows: Tensor) -> Tensor:
    """A model's outputs as [n,K], from [n,K], [n], or an object or mapping with such "logits".

    Raises:
        TypeError, ValueError: the outputs are none of these; the message says what explains them.
    """
    return matrix(of_name(outputs, "logits"), rows, "the model")


def of_name(outputs: Any, *names: str) -> Any:
    """The first of the entries or attributes of these names; the outputs where there is none."""
    for name in names:
        if isinstance(outputs, Mapping) and name in outputs:
            return outputs[name]
        found = getattr(outputs, name, None)
        if isinstance(found, Tensor):
            return found
    return outputs


def matrix(values: Any, rows: Tensor, source: str) -> Tensor:
    """Values as [n,K] float, from [n,K] or [n], of the device of ``rows`` [n].

    Raises:
        TypeError, ValueError: they are none of these.
    """
    count = len(rows)
    expected = f"{source} must return a float tensor [{count},classes] or [{count}]"
    if not isinstance(values, Tensor):
        raise TypeError(f"{expected}, got {named(values)}; {_remedy(values)}")
    check_floats(values, rows, expected)
    if values.dim() not in (1, 2) or values.shape[0] != count or 0 in values.shape:
        is_map = values.dim() > 3 and values.shape[0] == count
        remedy = "; for scores at every pixel, pass targets=Region(masks, classes) " + _TELLS
        raise ValueError(f"{expected}, got {list(values.shape)}{remedy * is_map}")
    return values[:, None] if values.dim() == 1 else values


def check_floats(values: Tensor, rows: Tensor, expected: str) -> None:
    """Raise unless ``values`` are dense floats on the device of ``rows``."""
    if values.layout != torch.strided:
        raise TypeError(f"{expected}, got a sparse one ({values.layout}); return .to_dense()")
    if values.dtype not in FLOATS:
        remedy = "; return .float()" if values.is_floating_point() else ""
        raise TypeError(f"{expected}, got {values.dtype}{remedy}")
    if values.device != rows.device:
        raise ValueError(f"{expected} on {rows.device}, where the inputs are, got {values.device}")


def named(outputs: Any) -> str:
    """What the outputs are, in words: their type, and the names of a mapping's entries."""
    kind = type(outputs).__name__
    if isinstance(outputs, Mapping):
        return f"{kind} with {', '.join(map(repr, outputs)) or 'no entries'}"
    if isinstance(outputs, list | tuple) and outputs and isinstance(outputs[0], Mapping):
        return f"{kind} of {named(outputs[0])}"
    return kind


def _remedy(outputs: Any) -> str:
    """What explains such outputs."""
    first = outputs[0] if isinstance(outputs, list | tuple) and outputs else None
    if isinstance(first, Mapping) and "boxes" in first:
        return f"for a detector, pass targets=Box(boxes, classes) {_TELLS}"
    maps = of_name(outputs, "out") if isinstance(outputs, Mapping) else first
    if isinstance(maps, Tensor) and maps.dim() > 3:
        return f"for scores at every pixel, pass targets=Region(masks, classes) {_TELLS}"
    if of_name(outputs, *EMBEDDINGS) is not outputs:
        return f"for embeddings, pass targets=Similarity(embedding) {_TELLS}"
    return (
        "wrap it in a function that picks the scores, or pass targets=a function (outputs, rows) → "
        f"[n,T], or Region, Box or Similarity {_TELLS}"
    )
