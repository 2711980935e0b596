"""text → where its words are: splits that a text explanation can use."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

Span = tuple[int, int]
Split = Callable[[str], Sequence[str] | Sequence[Span]]

# Scripts that are written without blanks: each character is a word.
_SINGLE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SINGLE}]|(?:(?![{_SINGLE}])\w)+(?:['’](?:(?![{_SINGLE}])\w)+)*")


def words(text: str) -> list[Span]:
    """Where the words of a text are.

    A word is letters, digits and their combining marks, with apostrophes inside ("don't"). A
    Chinese or Japanese character is a word of its own.

    Example:
        >>> [text[a:b] for text in ["Don't panic!"] for a, b in words(text)]
        ["Don't", 'panic']
    """
    # A combining mark is no letter for a regular expression, but it belongs to the one before.
    plain = "".join("a" if unicodedata.category(c)[0] == "M" else c for c in text)
    return [match.span() for match in _WORD.finditer(plain)]


def characters(text: str) -> list[Span]:
    """Every character that is no blank.

    Example:
        >>> characters("a b")
        [(0, 1), (2, 3)]
    """
    return [(place, place + 1) for place, c in enumerate(text) if not c.isspace()]


def by_tokenizer(tokenizer: Any) -> Split:
    """The tokens of a fast tokenizer of Hugging Face, as a split.

    Raises:
        TypeError: the tokenizer does not say where its tokens are.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise TypeError(
            f"{type(tokenizer).__name__} does not say where its tokens are in a text; use a fast "
            "tokenizer, or split=words"
        )

    def split(text: str) -> list[Span]:
        found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        return [(begin, end) for begin, end in found["offset_mapping"] if end > begin]

    return split


def spans_of(text: str, split: Split) -> list[Span]:
    """Where the words of a text are, by any split: spans, or words found from left to right.

    Raises:
        TypeError, ValueError: what ``split`` returned is not that.
    """
    found: Sequence[Any] = split(text)
    spans, end = [], 0
    for word in found:
        if isinstance(word, str):
            begin = text.find(word, end)
            if begin < 0 or not word:
                raise ValueError(
                    f"split must return words in the order of the text; {word!r} is not in "
                    f"{text[end : end + 40]!r}"
                )
            span = (begin, begin + len(word))
        elif isinstance(word, tuple | list) and len(word) == 2:
            span = (int(word[0]), int(word[1]))
            if not end <= span[0] < span[1] <= len(text):
                raise ValueError(
                    f"split must return spans in the order of the text, got {span} after {end} in "
                    f"a text of {len(text)} characters"
                )
        else:
            raise TypeError(f"split must return words or spans (begin, end), got {word!r}")
        end = span[1]
        spans.append(span)
    if not spans:
        raise ValueError(f"the text {text[:40]!r} has no words to hide")
    return spans
