"""One input of a model or several: a tensor, or a tuple or mapping of tensors.

Convention:
    A tuple is several inputs, called model(a, b); a mapping is called model(**inputs). A list is a
    batch of one input.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor


def is_several(inputs: Any) -> bool:
    """Whether these are several inputs: a tuple (of no class of its own) or a mapping."""
    return type(inputs) is tuple or isinstance(inputs, Mapping)


def leaves_of(inputs: Any) -> list[Any]:
    """The inputs, one after another; a single one is one."""
    if not is_several(inputs):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)


def names_of(inputs: Any, noun: str = "images") -> list[str]:
    """What error messages call each input: "images[0]", "images['ids']"."""
    if not is_several(inputs):
        return [noun]
    keys = inputs.keys() if isinstance(inputs, Mapping) else range(len(inputs))
    return [f"{noun}[{key!r}]" for key in keys]


def like(inputs: Any, leaves: Sequence[Any]) -> Any:
    """``leaves`` in the structure of ``inputs``."""
    if isinstance(inputs, Mapping):
        return dict(zip(inputs, leaves, strict=True))
    return tuple(leaves) if is_several(inputs) else leaves[0]


def mapped(function: Callable[[Tensor], Any], inputs: Any) -> Any:
    """``function`` of every tensor; None stays."""
    return like(inputs, [None if leaf is None else function(leaf) for leaf in leaves_of(inputs)])


def beside(given: Any, inputs: Any, noun: str, what: str) -> list[Any]:
    """The leaves of ``given``, which must have the structure of ``inputs``.

    Args:
        given: a tuple for a tuple, a mapping with the same names for a mapping.
        inputs: the inputs.
        noun: what the error message calls ``given``.
        what: what may stand for an input, for the error message.

    Raises:
        ValueError: the structures differ.

    Example:
        >>> beside({"b": 2, "a": 1}, {"a": None, "b": None}, "fill", "a fill")
        [1, 2]
    """
    if isinstance(inputs, Mapping) and isinstance(given, Mapping) and given.keys() == inputs.keys():
        return [given[name] for name in inputs]
    if type(inputs) is type(given) is tuple and len(inputs) == len(given):
        return list(given)
    if isinstance(inputs, Mapping):
        wanted = f"a dict with the names {sorted(map(str, inputs))}"
    else:
        wanted = f"a tuple of {len(inputs)}"
    got = type(given).__name__
    if isinstance(given, Mapping):
        got = f"a dict with {sorted(map(str, given))}"
    elif is_several(given):
        got = f"a tuple of {len(given)}"
    raise ValueError(f"{noun} must be {wanted} as the inputs, each {what}, got {got}")
