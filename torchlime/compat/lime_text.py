"""lime's explainer of texts, in place of ``lime.lime_text``."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from torchlime.compat.arrays import Array
from torchlime.compat.distances import distances_of, exponential_kernel
from torchlime.compat.explanation import DomainMapper, Explanation, Ranked
from torchlime.compat.indexed_strings import IndexedCharacters as IndexedCharacters
from torchlime.compat.indexed_strings import IndexedString as IndexedString
from torchlime.compat.indexed_strings import Splitter
from torchlime.compat.label_fits import fit_labels
from torchlime.compat.labels import asked_for, most_probable
from torchlime.compat.lime_base import LimeBase, SeededByNumpy, check_random_state
from torchlime.compat.neighbourhoods import check_num_samples
from torchlime.compat.outputs import check_batch_size, class_scores, outputs_of_parts
from torchlime.compat.static_page import marked_text


class TextDomainMapper(DomainMapper):
    """Names the words of a text, and shows them in it.

    Args:
        indexed_string: an IndexedString or IndexedCharacters.
    """

    def __init__(self, indexed_string: Any) -> None:
        self.indexed_string = indexed_string

    def map_exp_ids(self, exp: Ranked, positions: bool = False, **kwargs: Any) -> Ranked:
        """[(id, weight), …] → [(word, weight), …], or 'word_0-15' with where it starts."""
        return [(self._name(id_, positions), weight) for id_, weight in exp]

    def _name(self, id_: int, positions: bool) -> str:
        word = self.indexed_string.word(id_)
        if not positions:
            return word
        return f"{word}_{'-'.join(map(str, self.indexed_string.string_position(id_)))}"

    def visualize_instance_html(
        self,
        exp: Ranked,
        label: Any,
        div_name: str,
        exp_object_name: str,
        text: bool = True,
        opacity: bool = True,
        **kwargs: Any,
    ) -> str:
        """The text, with its words marked in the colours of their weights.

        Args:
            exp: [(id, weight), …].
            label, div_name, exp_object_name: have no effect.
            text: show it.
            opacity: fade the colours by the weights.
            kwargs: have no effect.
        """
        if not text:
            return ""
        indexed = self.indexed_string
        marks = [
            (int(start), int(start) + len(indexed.word(id_)), float(weight))
            for id_, weight in exp
            for start in indexed.string_position(id_)
        ]
        return marked_text(indexed.raw_string(), marks, opacity)


class LimeTextExplainer(SeededByNumpy):
    r"""Explains classifiers of texts, as lime does.

    Args:
        kernel_width: the kernel's width, for distances times 100.
        kernel: ``kernel(d, kernel_width=...)``, distances (n,) → weights (n,). None =
            √exp(−d²/width²).
        verbose: print the intercept and both predictions of every fit.
        class_names: a name for each class; None = their numbers.
        feature_selection: auto, none, highest_weights, forward_selection or lasso_path.
        split_expression, bow, mask_string: as for :class:`IndexedString`.
        random_state: None (numpy's global one), an int or a ``RandomState``.
        char_level: explain characters instead of words.

    Example:
        >>> explainer = LimeTextExplainer(random_state=0)
        >>> cats = lambda texts: np.array([[t.count("cat"), 1 - t.count("cat")] for t in texts])
        >>> explanation = explainer.explain_instance("one cat here", cats, labels=[0])
        >>> explanation.as_list(0)[0][0]
        'cat'
    """

    def __init__(
        self,
        kernel_width: float = 25,
        kernel: Callable[..., Any] | None = None,
        verbose: bool = False,
        class_names: Any = None,
        feature_selection: str = "auto",
        split_expression: Splitter = r"\W+",
        bow: bool = True,
        mask_string: str | None = None,
        random_state: Any = None,
        char_level: bool = False,
    ) -> None:
        kernel_fn = partial(kernel or exponential_kernel, kernel_width=kernel_width)
        self.random_state = check_random_state(random_state)
        self.base = LimeBase(kernel_fn, verbose, random_state=self.random_state)
        self.class_names = class_names
        self.vocabulary = None
        self.feature_selection = feature_selection
        self.bow = bow
        self.mask_string = mask_string
        self.split_expression = split_expression
        self.char_level = char_level

    def explain_instance(
        self,
        text_instance: Any,
        classifier_fn: Any,
        labels: Iterable[Any] = (1,),
        top_labels: int | None = None,
        num_features: int = 10,
        num_samples: int = 5000,
        distance_metric: Any = "cosine",
        model_regressor: Any = None,
        *,
        batch_size: int | None = None,
    ) -> Any:
        """Explain what the classifier says of a text, or of several.

        Args:
            text_instance: a text, or a list of them.
            classifier_fn: a list of n texts → scores [n,classes]. It is called once for each text,
                or more often with ``batch_size``.
            labels: the classes to explain.
            top_labels: explain this many of the most probable classes instead.
            num_features: the largest number of words.
            num_samples: n; the first sample is the text itself.
            distance_metric: the distance between masks; any name that scikit-learn knows.
            model_regressor: None (Ridge, alpha 1) or a scikit-learn regressor.
            batch_size: the most texts of a call; None = all samples of a text.

        Returns:
            Explanation: a list of them for several texts.

        Raises:
            IndexError: the classifier lacks a label.
            NotImplementedError: it returns classes, not scores.
            TypeError: it is no function, or a text is no str.
            ValueError: a text has no words, the outputs have another shape, or a number is below 1.
        """
        several = isinstance(text_instance, list | tuple) or _is_array(text_instance)
        texts = list(text_instance) if several else [text_instance]
        check_num_samples(num_samples)
        check_batch_size(batch_size)
        wanted = asked_for(labels, top_labels, stacklevel=2)
        explained = [
            self._explained(
                self._indexed(text), classifier_fn, wanted, top_labels, num_samples, batch_size,
                num_features=num_features, selection=self.feature_selection,
                metric=distance_metric, regressor=model_regressor,
            )
            for text in texts
        ]  # fmt: skip
        return explained if several else explained[0]

    def _indexed(self, text: str) -> Any:
        if self.char_level:
            return IndexedCharacters(text, self.bow, self.mask_string)
        return IndexedString(text, self.split_expression, self.bow, self.mask_string)

    def _explained(
        self,
        indexed: Any,
        classifier_fn: Any,
        wanted: list[Any] | None,
        top_labels: Any,
        num_samples: int,
        batch_size: int | None,
        **settings: Any,
    ) -> Explanation:
        if not indexed.num_words():
            raise ValueError(
                f"text_instance has no words to leave out, got {indexed.raw_string()[:40]!r}; "
                "check split_expression, or pass char_level=True"
            )
        kept = kept_words(self.random_state, indexed.num_words(), num_samples)
        outputs = outputs_of_parts(
            classifier_fn, _calls(indexed, kept, batch_size or num_samples), "classifier_fn"
        )
        scores = class_scores(outputs, "classifier_fn", sums=False)
        names = self.class_names
        names = [str(j) for j in range(scores.shape[1])] if names is None else names
        explanation = Explanation(
            TextDomainMapper(indexed), class_names=names, random_state=self.random_state
        )
        explanation.predict_proba = scores[0]
        if wanted is None:
            wanted = most_probable(scores[0], top_labels)
            explanation.top_labels = wanted[::-1]
        design = kept[:, :-1].astype(np.float64)
        distances = distances_of(design, settings["metric"]) * 100
        fit_labels(explanation, self.base, design, scores, wanted, distances=distances, **settings)
        return explanation


def kept_words(random_state: np.random.RandomState, words: int, num_samples: int) -> Array:
    """Which words each sample keeps: [n, words + 1] bool; the last column keeps the separators.

    A sample leaves out 1…``words`` of them; all these numbers are equally likely. The first sample
    keeps all.
    """
    sizes = random_state.randint(1, words + 1, num_samples - 1)
    kept = np.ones((num_samples, words + 1), dtype=bool)
    for row, size in zip(kept[1:], sizes, strict=True):
        row[random_state.permutation(words)[:size]] = False
    return kept


def _calls(indexed: Any, kept: Array, size: int) -> Iterator[list[str]]:
    """The texts of each call, made as they are needed; the first is the whole text."""
    for start in range(0, len(kept), size):
        texts = [indexed.joined(row) for row in kept[start : start + size]]
        yield [indexed.raw_string(), *texts[1:]] if start == 0 else texts


def _is_array(texts: Any) -> bool:
    return hasattr(texts, "__array__") and getattr(texts, "ndim", 0) > 0
