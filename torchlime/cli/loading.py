"""Loading: the classifier that was asked for, and its classes."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torchlime.cli.meanings import UsageError

if TYPE_CHECKING:
    from torchlime.models import Classifier

PREFIXES = ("timm:", "hf:", "torchvision:")


@contextlib.contextmanager
def loaded(asked: argparse.Namespace) -> "Iterator[Classifier]":
    """The classifier; inside, the modules of the caller's own one can be imported."""
    from torchlime import models

    with importable_here(asked.model):
        classifier = models.load(
            asked.model, asked.weights, asked.device, output=asked.output or "softmax"
        )
        if asked.output not in (None, classifier.output):
            raise UsageError(
                f"--output: {asked.model} is a Classifier whose own output is "
                f"{classifier.output}, not {asked.output}"
            )
        yield classifier


@contextlib.contextmanager
def importable_here(*names: str) -> Iterator[None]:
    """Put the current folder at the end of the import path, if a model is a module:function."""
    here = os.getcwd()
    own = any(":" in name and not name.startswith(PREFIXES) for name in names)
    if not own or here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def targets_of(asked: argparse.Namespace, classifier: "Classifier") -> list[int]:
    """The indices of the classes that were asked for, each once."""
    try:
        targets = [classifier.find_category(word) for word in asked.target]
    except ValueError as error:
        raise UsageError(f"--target: {error}") from error
    classes = classifier.categories
    if asked.top is not None and classes is not None and asked.top > len(classes):
        raise UsageError(f"--top: the model has only {len(classes)} classes, not {asked.top}")
    return list(dict.fromkeys(targets))
