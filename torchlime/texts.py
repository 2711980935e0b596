"""LIME of texts: functions of strings."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from torchlime._checks import check_callables, check_count, is_integer
from torchlime._estimator import Estimator, as_scores
from torchlime._provenance import said_by
from torchlime._resuming import check_settings, made_by
from torchlime._settings import Settings, check_keywords
from torchlime._taking import check_rounds_setting
from torchlime._words import Split
from torchlime._words import by_tokenizer as by_tokenizer
from torchlime._words import characters as characters
from torchlime._words import words as words
from torchlime.black_box import Forward, Model, Progress
from torchlime.explanation import Explanation
from torchlime.features import Words
from torchlime.local import Samples, local_fit, local_samples
from torchlime.masks import RandomSize
from torchlime.rounds import Once
from torchlime.strategies import Kernel, Rounds, Sampler, Surrogate
from torchlime.surrogates import Ridge
from torchlime.targets import Targets, scores_of, words_of_scores
from torchlime.weights import Exponential

CHUNK = 256  # strings a call


@dataclass(frozen=True, kw_only=True, eq=False)
class TextLime(Settings):
    """The settings of an explanation of texts; :meth:`explain` runs it.

    The strings are made on the host, one chunk at a time, just before they are scored.

    Args:
        split: text → its words, or (begin, end) of each: :func:`words`, :func:`characters`,
            ``by_tokenizer(tokenizer)``, or any function.
        hide: what stands in the place of a hidden word; "" leaves it out.
        together: all occurrences of a word are one feature; False = each occurrence is a feature.
        num_samples: N, strings for each text (the text itself included).
        sampler: count → masks.
        kernel: masks → proximity weights.
        surrogate: masks, scores, weights → Fit.
        rounds: ``Once()``, or ``Until(error=0.25)``: see :mod:`torchlime.rounds`.
        chunk_size: the largest number of strings of one call of the model; None = 256.
        exact_chunks: give every forward pass exactly ``chunk_size`` rows, for engines of a fixed
            batch.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None keeps the caller's
            setting.
        seed: the seed of the masks; an int.

    Raises:
        TypeError, ValueError: a setting is unknown, of the wrong type or out of range.

    Source: Ribeiro et al. 2016, ``lime.lime_text``. lime splits a text at everything except
    letters, digits and underscores, so "don't" becomes two words.

    Example:
        >>> model = lambda texts: torch.tensor([float("good" in text) for text in texts])
        >>> explanation = TextLime(num_samples=100).explain(model, ["a good day", "a bad day"])
        >>> explanation[0].as_list()[0][0], explanation.names()
        ('good', [['a', 'good', 'day'], ['a', 'bad', 'day']])
    """

    split: Split = words
    hide: str = ""
    together: bool = True
    num_samples: int = 1000
    sampler: Sampler = RandomSize()
    kernel: Kernel = Exponential(0.25, "cosine")
    surrogate: Surrogate = Ridge(alpha=1.0)
    rounds: Rounds = Once()
    chunk_size: int | None = None
    exact_chunks: bool = False
    autocast: torch.dtype | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self.num_samples, "num_samples", 2)
        if not isinstance(self.hide, str):
            raise TypeError(f"hide must be a str, got {type(self.hide).__name__}")
        if not is_integer(self.seed):
            raise TypeError(f"seed must be an int, got {type(self.seed).__name__}")
        Forward.of(self)
        check_rounds_setting(self.rounds, self.surrogate, self.sampler)
        check_callables(
            split=self.split, sampler=self.sampler, kernel=self.kernel, surrogate=self.surrogate
        )

    def explain(
        self,
        model: Any,
        texts: str | Sequence[str],
        targets: Targets = None,
        *,
        top: int = 1,
        seed: int | Tensor | None = None,
        keep_samples: bool = False,
        resume: Explanation | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        """Explain what ``model`` makes of each of the texts.

        Args:
            model: a list of n strings → [n,classes] or [n]: a function that returns a tensor or an
                array; an estimator or pipeline of scikit-learn; or a text-classification pipeline
                of Hugging Face. Its network may lie on any device; the fit is on the CPU.
            texts: one string, or B of them.
            targets, top, keep_samples, resume, progress: as for :meth:`torchlime.Lime.explain`.
            seed: used instead of the explainer's seed; an int64 tensor [B] gives each text its own
                seed.

        Returns:
            Explanation: its ``names()`` are the words; :func:`torchlime.plot.highlighted` shows
            them in the text.

        Raises:
            TypeError, ValueError, IndexError: an argument, or the model's output, is of the wrong
                type, shape or range; a text has no words.
        """
        check_settings(resume, self)
        forward = self._forward(progress)
        seed = self.seed if seed is None else seed
        features = self._features(texts)
        scores = scores_of(targets, top, len(features.count), features.count.device, "texts are")
        explanation = local_fit(
            model_of_texts(model), features, scores, sampler=self.sampler,
            num_samples=int(self.num_samples), kernel=self.kernel, surrogate=self.surrogate,
            forward=forward, seed=seed, keep_samples=keep_samples, rounds=self.rounds,
            resume=resume,
        )  # fmt: skip
        explanation = dataclasses.replace(explanation, named=features.names)
        return made_by(explanation, self, seed, resume, **words_of_scores(scores))

    def samples(
        self,
        model: Any,
        texts: str | Sequence[str],
        targets: Targets = None,
        *,
        top: int = 1,
        seed: int | Tensor | None = None,
        progress: Progress | None = None,
    ) -> Samples:
        """The samples that :meth:`explain` would fit: masks, scores and weights.

        Arguments, guarantees and errors are those of :meth:`explain`.
        """
        features = self._features(texts)
        scores = scores_of(targets, top, len(features.count), features.count.device, "texts are")
        return local_samples(
            model_of_texts(model), features, scores, sampler=self.sampler,
            num_samples=int(self.num_samples), kernel=self.kernel,
            forward=self._forward(progress), seed=self.seed if seed is None else seed,
        )  # fmt: skip

    def _forward(self, progress: Progress | None) -> Forward:
        made = Forward.of(self, progress=progress)
        return dataclasses.replace(made, chunk_size=made.chunk_size or CHUNK, pad=False)

    def _features(self, texts: str | Sequence[str]) -> Words:
        listed = [texts] if isinstance(texts, str) else list(_several(texts))
        if not listed or not all(isinstance(text, str) for text in listed):
            wrong = next((type(t).__name__ for t in listed if not isinstance(t, str)), "none")
            raise TypeError(f"{_EXPECTED}, got {wrong}")
        return Words(listed, self.split, self.hide, self.together)


_EXPECTED = "texts must be a string or a list of strings"


def _several(texts: Any) -> Iterable[Any]:
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise TypeError(f"{_EXPECTED}, got {type(texts).__name__}")
    return texts


def model_of_texts(model: Any) -> Model:
    """A model of strings, wrapped so that it returns tensors on the CPU.

    Raises:
        TypeError: the model cannot be called and is not an estimator.
    """
    if Estimator.is_one(model):
        estimator = Estimator(model)
        return _OnTheHost(estimator.function, estimator)
    if hasattr(model, "tokenizer") and hasattr(model, "task"):
        pipeline = _Pipeline(model)
        return _OnTheHost(pipeline, pipeline)
    return _OnTheHost(model, model)


class _OnTheHost:
    """A function of strings whose scores become a tensor on the CPU, where the fit is.

    Args:
        function: a list of n strings → scores.
        source: the object that may say the unit of the scores and the names of the classes.
    """

    def __init__(self, function: Callable[[list[str]], Any], source: Any):
        self.function = function
        vars(self).update(said_by(source))

    def __call__(self, texts: list[str]) -> Tensor:
        found = self.function(texts)
        if isinstance(found, Tensor):
            return found.cpu()  # strings are made on the host, and the fit is where they are
        found = getattr(found, "logits", found)
        if isinstance(found, Tensor):
            return found.cpu()
        return as_scores(found, "the model", torch.empty(0, device="cpu"))


class _Pipeline:
    """The probabilities of the classes, from a text-classification pipeline of Hugging Face."""

    def __init__(self, pipeline: Any):
        self.pipeline = pipeline
        self.numbers = pipeline.model.config.label2id
        self.unit = "probability"
        labels = pipeline.model.config.id2label
        self.categories = [labels[number] for number in range(len(labels))]

    def __call__(self, texts: list[str]) -> list[list[float]]:
        found = self.pipeline(texts, top_k=None, truncation=True)
        rows = []
        for labels in found:
            row = [0.0] * len(self.numbers)
            for label in labels:
                row[self.numbers[label["label"]]] = label["score"]
            rows.append(row)
        return rows


class TextSettings(TypedDict, total=False):
    """The fields of :class:`TextLime`."""

    split: Split
    hide: str
    together: bool
    num_samples: int
    sampler: Sampler
    kernel: Kernel
    surrogate: Surrogate
    rounds: Rounds
    chunk_size: int | None
    exact_chunks: bool
    autocast: torch.dtype | None


class ExplainTextSettings(TextSettings, total=False):
    """The keywords of :func:`explain_text`."""

    top: int
    seed: int | Tensor | None
    keep_samples: bool
    resume: Explanation | None
    progress: Progress | None


def explain_text(
    model: Any,
    texts: str | Sequence[str],
    targets: Targets = None,
    **settings: Unpack[ExplainTextSettings],
) -> Explanation:
    """``TextLime(**fields).explain(model, texts, targets, …)`` in one call.

    The keywords are the fields of :class:`TextLime` and the arguments of :meth:`TextLime.explain`.

    Example:
        >>> model = lambda texts: torch.tensor([float("good" in text) for text in texts])
        >>> explain_text(model, "a good day", num_samples=100).as_list()[0][0]
        'good'
    """
    check_keywords(settings, ExplainTextSettings.__annotations__, "explain_text()")
    fields = TextSettings.__annotations__
    own = {name: value for name, value in settings.items() if name in fields}
    call = {name: value for name, value in settings.items() if name not in own}
    return TextLime(**own).explain(model, texts, targets, **call)  # type: ignore[arg-type]
