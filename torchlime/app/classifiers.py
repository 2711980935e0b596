"""Classifiers: which ones may be chosen, and what they see in a photo."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from torchlime import models
from torchlime.app.photos import Photo, Prepared, prepare
from torchlime.app.words import weights_in_words
from torchlime.cli.serving import LIMITS, named
from torchlime.models import Classifier, Limits
from torchlime.models.imagenet import with_synonyms
from torchlime.server import WORK

SECONDS_BETWEEN = 0.2  # between two calls of ``waiting``


class Models:
    """The classifiers that may be chosen: each is loaded once, and used by one thread at a time.

    Args:
        allowed: names, as :func:`torchlime.models.load` takes them, with their weights.
        device: where they go.
        limits: of decoding a photo for them.
    """

    def __init__(
        self, allowed: Mapping[str, str | None], device: str = "cpu", limits: Limits = LIMITS
    ) -> None:
        self.weights = dict(allowed)
        self.device = device
        self.limits = limits
        self._loaded: dict[str, Classifier] = {}
        self._loading = threading.Lock()  # loading may take a download; loaded models do not wait
        self._using = threading.Lock()  # one lock for all, since they share the processor

    @property
    def names(self) -> list[str]:
        """The names of the classifiers that may be chosen."""
        return list(self.weights)

    def loaded(self, name: str) -> Classifier:
        """A classifier, to read its properties and to cut photos for it.

        Raises:
            ValueError: it is not allowed, or its weights are not available; the sentence says what
                to do on the page. What ``models.load`` raises passes through, too.
        """
        if name not in self.weights:
            raise ValueError(f"{name!r} is none of {', '.join(self.names)}")
        if name not in self._loaded:
            with self._loading, WORK.one():
                if name not in self._loaded:
                    self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Classifier:
        weights = self.weights[name]
        theirs = ":" in name and not name.startswith(("timm:", "hf:"))  # a function of the user's
        try:
            return models.load(name, weights, self.device)
        except (OSError, ValueError) as error:
            if named(weights) and (theirs or not isinstance(error, OSError)):
                raise
            raise ValueError(weights_in_words(name, weights, error)) from error

    @contextmanager
    def use(self, name: str, waiting: Callable[[], object] | None = None) -> Iterator[Classifier]:
        """A classifier for this thread alone; raises what :meth:`loaded` raises.

        ``waiting`` is called again and again while another thread uses one; it may raise.
        """
        classifier = self.loaded(name)
        while not self._using.acquire(timeout=SECONDS_BETWEEN):
            if waiting is not None:
                waiting()
        try:
            with WORK.one():
                yield classifier
        finally:
            self._using.release()


def prepared(known: Models, model: str, photo: Photo) -> Prepared:
    """A photo for a model; raises what ``models.load`` and :func:`prepare` raise."""
    return prepare(known.loaded(model), photo, known.limits)


@dataclass(frozen=True)
class Answer:
    """A class that the model may see in a photo.

    Attributes:
        index, category: the number and the name of the class.
        score: in words.
        share: the score, in [0,1], if it is a probability.
    """

    index: int
    category: str
    score: str
    share: float | None


def answers(known: Models, model: str, photo: Prepared, count: int | None = None) -> list[Answer]:
    """The model's ``count`` best classes for a photo, or all, the best first."""
    with known.use(model) as classifier, torch.no_grad():
        scores = classifier(photo.pixels)[0]
        values, best = scores.sort(descending=True, stable=True)
        pairs = zip(best[:count].tolist(), values[:count].tolist(), strict=True)
        return [answer_of(classifier, *pair) for pair in pairs]


def answer_of(classifier: Classifier, index: int, score: float) -> Answer:
    """A class with its score, in the classifier's words."""
    share = min(max(score, 0.0), 1.0) if classifier.output in ("softmax", "sigmoid") else None
    return Answer(index, classifier.category(index), classifier.spell(score), share)


def target_of(known: Models, model: str, label: str) -> int | None:
    """The model's class with this name, as a job finds it; None if it has none, or several."""
    found = known.loaded(model).called(label)
    return found[0] if len(found) == 1 else None


def synonyms(known: Models, model: str) -> list[str]:
    """Other names of each class in ImageNet: " · tabby cat, n02123045"; "" if there is none."""
    names = known.loaded(model).categories or []
    return [_others(name, every) for name, every in zip(names, with_synonyms(names), strict=True)]


def _others(name: str, every: str) -> str:
    own = {one.strip() for one in name.split(",")}
    others = [one for one in dict.fromkeys(every.split(", ")) if one not in own]
    return f" · {', '.join(others)}" if others else ""
