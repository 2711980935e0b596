"""Estimating: the options that tables and texts share, their model, and its classes."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from torchlime._errors import nearest
from torchlime._estimator import Estimator
from torchlime.cli.meanings import UsageError, choice, count, device
from torchlime.cli.options import Option
from torchlime.folders import meant_by

MODEL_OPTIONS = {
    "model": Option(None, str,
        "a .skops file; a .joblib, .pkl or .pickle file (with --trust); or module:function of your "
        "own, which is the model, or is called without arguments and returns it"),
    "trust-type": Option([], str,
        "a type in a skops file that may be loaded; repeatable", many=True),
    "target": Option([], str,
        "explain this class, its name or its number from 0; repeatable", many=True),
    "top": Option(None, count(1), "explain the TOP best classes (default: the best)"),
    "seed": Option(0, count(-10**17), "the seed of the samples"),
    "device": Option("auto", device, "where a network runs: auto, cpu, cuda, cuda:1, …"),
}  # fmt: skip
STRONGEST = Option(5, count(1), "how many are listed and drawn")
KINDS = choice("quartiles", "deciles", "entropy", "none")
TRUST = (
    "load the model's file even if loading it can run code: a pickle can run any code of whoever "
    "wrote it"
)


def check(asked: argparse.Namespace) -> None:
    """Raise where options do not fit each other.

    Raises:
        UsageError: the sentence names them.
    """
    if asked.model is None:
        raise UsageError("--model: name a model")
    if asked.top is not None and asked.target:
        raise UsageError("--top and --target exclude each other")


def loaded(asked: argparse.Namespace, trust: bool) -> Any:
    """The model that was asked for."""
    from torchlime import models

    return models.load_estimator(
        asked.model, trust=trust, trusted=asked.trust_type, device=asked.device
    )


@contextlib.contextmanager
def not_ended() -> Iterator[None]:
    """Turn a model's attempt to end the program into an error.

    Raises:
        RuntimeError: it says so.
    """
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"the model ended the program when called ({error!r})") from error


def categories_of(model: Any) -> list[str]:
    """The names of a model's classes, none if it does not say them.

    Raises:
        TypeError: it is an estimator that predicts classes and no probabilities.
    """
    source = Estimator(model) if Estimator.is_one(model) else model
    return [str(name) for name in getattr(source, "categories", None) or ()]


def targets_of(asked: argparse.Namespace, categories: list[str]) -> list[int]:
    """The indices of the classes that were asked for, each once.

    Raises:
        UsageError: a class is not among those that the model has.
    """
    if asked.top is not None and categories and asked.top > len(categories):
        raise UsageError(f"--top: the model has only {len(categories)} classes, not {asked.top}")
    return list(dict.fromkeys(_index(word, categories) for word in asked.target))


def for_each(targets: list[int], inputs: int) -> list[list[int]] | None:
    """The same targets for each of the inputs; None, the best ones, where none were asked for."""
    return [targets] * inputs if targets else None


def _index(word: str, categories: list[str]) -> int:
    """A class by its name, else by its number: labels may be numbers that do not begin with 0."""
    found = [i for i, name in enumerate(categories) if name == word] or meant_by(word, categories)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{categories[i]!r} ({i})" for i in found[:8])
        raise UsageError(f"--target: {word!r} may be one of {listed}: give its number")
    if word.isascii() and word.isdecimal() and len(word) < 10:
        if categories and int(word) >= len(categories):
            raise UsageError(
                f"--target: there is no class {word} among {len(categories)}, which are numbered "
                f"from 0: {_some(categories)}"
            )
        return int(word)
    known = f"; the classes are {_some(categories)}" if categories else (
        ", since the model does not say what its classes are called: give a number from 0"
    )  # fmt: skip
    raise UsageError(f"--target: there is no class {word!r}{nearest(word, categories)}{known}")


def _some(categories: list[str]) -> str:
    return ", ".join(categories[:10]) + ", …" * (len(categories) > 10)
