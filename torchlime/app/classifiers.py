"""Classifiers: those that may be chosen, and what they see in a photo."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from torchlime import models
from torchlime.app.photos import Photo, Prepared, prepare
from torchlime.models import Classifier
from torchlime.server import WORK


class Models:
    """The classifiers that may be chosen: each is loaded once, and used by one thread at a time.

    Args:
        allowed: names, as :func:`torchlime.models.load` takes them, with their weights.
        device: where they go.
    """

    def __init__(self, allowed: Mapping[str, str | None], device: str = "cpu") -> None:
        self.weights = dict(allowed)
        self.device = device
        self._loaded: dict[str, Classifier] = {}
        self._loading = threading.Lock()  # may take a download: those loaded do not wait for it
        self._using = threading.Lock()  # one for all: they share the processor and its memory

    @property
    def names(self) -> list[str]:
        """What may be chosen."""
        return list(self.weights)

    def loaded(self, name: str) -> Classifier:
        """One of them, to read its properties and to cut photos for it.

        Raises:
            ValueError: it is none of the allowed ones; and what ``models.load`` raises.
        """
        if name not in self.weights:
            raise ValueError(f"{name!r} is none of {', '.join(self.names)}")
        if name not in self._loaded:
            with self._loading, WORK.one():
                if name not in self._loaded:
                    self._loaded[name] = models.load(name, self.weights[name], self.device)
        return self._loaded[name]

    @contextmanager
    def use(self, name: str) -> Iterator[Classifier]:
        """One of them, for this thread alone; raises what :meth:`loaded` raises."""
        classifier = self.loaded(name)
        with self._using, WORK.one():
            yield classifier


def prepared(known: Models, model: str, photo: Photo) -> Prepared:
    """A photo for a model; raises what ``models.load`` and :func:`prepare` raise."""
    return prepare(known.loaded(model), photo)


@dataclass(frozen=True)
class Answer:
    """A class that the model may see in a photo."""

    index: int
    category: str
    score: str


def answers(known: Models, model: str, photo: Prepared, count: int | None = None) -> list[Answer]:
    """The model's ``count`` best classes for a photo, or all, the best first."""
    with known.use(model) as classifier, torch.no_grad():
        scores = classifier(photo.pixels)[0]
        values, best = scores.sort(descending=True, stable=True)
        pairs = zip(best[:count].tolist(), values[:count].tolist(), strict=True)
        return [answer_of(classifier, *pair) for pair in pairs]


def answer_of(classifier: Classifier, index: int, score: float) -> Answer:
    """A class with its score, in the classifier's words."""
    return Answer(index, classifier.category(index), classifier.spell(score))


def target_of(known: Models, model: str, label: str) -> int | None:
    """The model's class with this name; None if it has none, or several."""
    with known.use(model) as classifier:
        try:
            return classifier.find_category(label)
        except ValueError:
            return None
