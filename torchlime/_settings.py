"""Checks of keywords: the error for an unknown keyword names the nearest known one."""

import difflib
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor

from torchlime._several import is_several, leaves_of, names_of


def check_keywords(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise unless every keyword is known.

    Raises:
        TypeError: a keyword is unknown; the message names it and the nearest known one.

    Example:
        >>> check_keywords(["num_sample"], ["num_samples", "seed"], "explain()")
        Traceback (most recent call last):
        TypeError: explain() has no keyword 'num_sample'; did you mean 'num_samples'?
    """
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(sorted(known))}"
            raise TypeError(f"{where} has no keyword {name!r}; {hint}")


class Settings:
    """What settings dataclasses share; their own ``eq`` is off.

    An unknown keyword is answered with the nearest field. Settings are equal where their fields
    are; tensors among them where their values are.
    """

    def __new__(cls, *_: object, **settings: object) -> Self:
        """Check the keywords before the dataclass takes them."""
        maker = next(kind for kind in cls.__mro__ if "__init__" in vars(kind))
        if "__dataclass_fields__" in vars(maker):  # a subclass may take others
            check_keywords(settings, maker.__dataclass_fields__, f"{cls.__name__}()")  # type: ignore[attr-defined]
        return super().__new__(cls)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_equal(value, vars(other)[name]) for name, value in vars(self).items())

    def __hash__(self) -> int:
        return hash((type(self), *(_hashable(value) for value in vars(self).values())))


def _equal(mine: object, theirs: object) -> bool:
    if is_several(mine) and is_several(theirs):
        if names_of(mine) != names_of(theirs) or type(mine) is not type(theirs):
            return False
        return all(map(_equal, leaves_of(mine), leaves_of(theirs)))
    if not (isinstance(mine, Tensor) and isinstance(theirs, Tensor)):
        return not isinstance(mine, Tensor) and not isinstance(theirs, Tensor) and mine == theirs
    if (mine.shape, mine.dtype, mine.device) != (theirs.shape, theirs.dtype, theirs.device):
        return False
    return torch.equal(mine, theirs)  # read back: the caller compares


def _hashable(value: object) -> object:
    if is_several(value):
        return (*names_of(value), *map(_hashable, leaves_of(value)))
    return (value.shape, value.dtype) if isinstance(value, Tensor) else value
