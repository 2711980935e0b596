"""How an explanation was made, in words: text and numbers that any file can hold."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import is_integer
from torchlime._several import is_several, leaves_of
from torchlime.version import __version__

Word = str | int | float | None
Words = Mapping[str, Word]
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def in_words(**settings: Any) -> dict[str, Word]:
    """Settings as text and numbers, functions by their names, and the versions that ran.

    Beside ``rounds``, ``num_samples`` is the most that these take.

    >>> in_words(seed=3, fill=torch.zeros(3, 1, 1))["fill"]
    'a tensor [3, 1, 1]'
    """
    if {"num_samples", "rounds"} <= settings.keys():
        settings["num_samples"] = most_samples(settings["num_samples"], settings["rounds"])
    words = {name: _word(value) for name, value in settings.items()}
    return words | {"torchlime": __version__, "torch": str(torch.__version__)}


def most_samples(num_samples: int, rounds: Any) -> int:
    """The most samples that ``rounds`` take; a rule may have its own number.

    >>> from torchlime.rounds import Once, Until
    >>> most_samples(512, Once()), most_samples(512, Until(error=0.25, most=2048))
    (512, 2048)
    """
    return sum(rounds.sizes(num_samples))


def _word(value: Any) -> Word:
    if isinstance(value, Word):
        return value
    if is_several(value):
        return ", ".join(map(str, map(_word, leaves_of(value))))
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    return int(value) if is_integer(value) else named(value, _word)  # JSON takes no numpy ints


def named(value: Any, word: Callable[[Any], object]) -> str:
    """A strategy in words that are the same in every process: a function by its name, else repr.

    ``word`` tells what is within a ``functools.partial``.

    >>> named(in_words, str), named(object(), str)
    ('torchlime._provenance.in_words', '<object object>')
    """
    if hasattr(value, "__qualname__"):  # a function's repr holds its memory address
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, partial):
        keywords = {name: word(given) for name, given in sorted(value.keywords.items())}
        return f"partial of {word(value.func)} with {[*map(word, value.args)]}, {keywords}"
    return _ADDRESS.sub("", repr(value))


def said_by(model: Any) -> dict[str, Any]:
    """What a model says of its scores: their ``unit``, and the ``categories`` of its classes.

    >>> said_by(print)
    {}
    """
    unit, names = getattr(model, "unit", None), getattr(model, "categories", None)
    said: dict[str, Any] = {"unit": unit} if isinstance(unit, str) else {}
    if isinstance(names, list | tuple) and names and isinstance(names[0], str):
        said["categories"] = names
    return said
