"""Texts cut into words or characters, which can be left out."""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from torchlime._warn import warn
from torchlime.compat.arrays import Array

Splitter = str | Callable[[str], Sequence[str]]


class _Indexed:
    """A text as pieces, some of which are words; joining the pieces gives the text.

    Attributes:
        raw, bow, mask_string: as given.
        as_list: the pieces.
        string_start: where each piece starts, in characters: int64.
        inverse_vocab: the words.
        positions: the pieces of each word: lists of them, or one number each without ``bow``.
    """

    def __init__(self, raw: str, pieces: list[str], words: Iterable[int], bow: bool, mask: str):
        self.raw, self.bow, self.mask_string, self.as_list = raw, bow, mask, pieces
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        self.string_start = np.cumsum(lengths) - lengths
        self.inverse_vocab: list[str] = []
        self.positions: Any = []
        known: dict[str, int] = {}
        for i in words:
            word = pieces[i]
            if bow and word in known:
                self.positions[known[word]].append(i)
                continue
            known[word] = len(self.inverse_vocab)
            self.inverse_vocab.append(word)
            self.positions.append([i] if bow else i)
        if not bow:
            self.positions = np.array(self.positions, dtype=np.int64)

    @cached_property
    def as_np(self) -> Array:
        """The pieces as an array, all as wide as the longest; made when it is asked for."""
        return np.array(self.as_list)

    @cached_property
    def word_of_piece(self) -> Array:
        """The word that each piece belongs to, [pieces] int64; separators have ``num_words()``."""
        owner = np.full(len(self.as_list), self.num_words(), dtype=np.int64)
        for word, at in enumerate(self.positions):
            owner[at] = word
        return owner

    def raw_string(self) -> str:
        """The text."""
        return self.raw

    def num_words(self) -> int:
        """How many words there are."""
        return len(self.inverse_vocab)

    def word(self, id_: int) -> str:
        """The word of an id."""
        return self.inverse_vocab[id_]

    def string_position(self, id_: int) -> Array:
        """Where a word starts, in characters: [occurrences] int64."""
        return self.string_start[np.atleast_1d(self.positions[id_])]

    def inverse_removing(self, words_to_remove: Any) -> str:
        """The text without these words (ids), or with ``mask_string`` in their place."""
        kept = np.ones(self.num_words() + 1, dtype=bool)
        kept[np.asarray(words_to_remove, dtype=np.int64)] = False
        return self.joined(kept)

    def joined(self, kept: Array) -> str:
        """The text with the words that are ``kept``: [num_words() + 1] bool, the last True."""
        of_pieces = kept[self.word_of_piece].tolist()
        if self.bow:
            return "".join(itertools.compress(self.as_list, of_pieces))
        mask = self.mask_string
        return "".join([p if k else mask for p, k in zip(self.as_list, of_pieces, strict=True)])


class IndexedString(_Indexed):
    r"""A text cut into words.

    Args:
        raw_string: the text.
        split_expression: a regular expression of what stands between words, without capturing
            groups; or a function from a text to its words, in order.
        bow: all occurrences of a word are one feature; False = each occurrence is a feature.
        mask_string: without ``bow``, what stands for a word that is left out; None = UNKWORDZ.

    Raises:
        TypeError: the text is not a str.
        ValueError: the expression has a capturing group, or the function's words are not in the
            text.

    Example:
        >>> text = IndexedString("A big, big cat")
        >>> text.inverse_vocab, text.positions, text.inverse_removing([1])
        (['A', 'big', 'cat'], [[0], [2, 4], [6]], 'A ,  cat')
    """

    def __init__(
        self,
        raw_string: str,
        split_expression: Splitter = r"\W+",
        bow: bool = True,
        mask_string: str | None = None,
    ) -> None:
        check_text(raw_string)
        mask = "UNKWORDZ" if mask_string is None else mask_string
        if callable(split_expression):
            tokens = list(split_expression(raw_string))
            if "" in tokens:
                warn("the tokenizer returns empty words, which stand for nothing in the text")
            pieces = self._segment_with_tokens(raw_string, tokens)
            known = set(tokens)
            words = [i for i, piece in enumerate(pieces) if piece in known]
        else:
            splitter = _splitter(split_expression)
            pieces = [piece for piece in splitter.split(raw_string) if piece]
            words = [i for i, piece in enumerate(pieces) if not splitter.match(piece)]
        super().__init__(raw_string, pieces, words, bow, mask)

    @staticmethod
    def _segment_with_tokens(text: str, tokens: Iterable[str]) -> list[str]:
        """The tokens and what stands between them.

        Raises:
            ValueError: a token does not follow in the text.
        """
        pieces, end = [], 0
        for token in tokens:
            start = text.find(token, end)
            if start < 0:
                raise ValueError(
                    "Tokenization produced tokens that do not belong in string! "
                    f"{token!r} does not follow {text[max(end - 20, 0) : end]!r}; "
                    "split_expression must return parts of the text, unchanged and in order"
                )
            pieces += [text[end:start]] * (start > end) + [token]
            end = start + len(token)
        return pieces + [text[end:]] * (end < len(text))


class IndexedCharacters(_Indexed):
    """A text cut into its characters.

    Args:
        raw_string: the text.
        bow: all occurrences of a character are one feature; False = each occurrence is a feature.
        mask_string: without ``bow``, what stands for a character that is left out; None = chr(0).

    Raises:
        TypeError: the text is not a str.
    """

    def __init__(self, raw_string: str, bow: bool = True, mask_string: str | None = None) -> None:
        check_text(raw_string)
        mask = chr(0) if mask_string is None else mask_string
        super().__init__(raw_string, list(raw_string), range(len(raw_string)), bow, mask)


def _splitter(expression: str) -> re.Pattern[str]:
    groups = re.compile(expression).groups
    if groups:
        raise ValueError(
            f"split_expression {expression!r} has {groups} capturing group{'s' * (groups > 1)}, "
            "which would double the separators; write (?:…) instead of (…)"
        )
    return re.compile(f"({expression})|$")


def check_text(text: Any) -> None:
    """Raise unless it is a text."""
    if not isinstance(text, str):
        raise TypeError(f"text_instance must be a str, got {type(text).__name__}")
