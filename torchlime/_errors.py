"""Errors as one sentence each, and names that people can read."""

import difflib
import textwrap
from collections.abc import Iterable

_SAY_WHAT_IS_WRONG = (ImportError, OSError, RuntimeError, TypeError, ValueError)


def sentence_of(error: BaseException) -> str:
    """An error's message on one line, after its type unless the message explains itself.

    >>> sentence_of(ValueError("top must be \\n at least 1")), sentence_of(KeyError("head"))
    ('top must be at least 1', "KeyError: 'head'")
    """
    sentence = " ".join(str(error).split())
    if sentence and isinstance(error, _SAY_WHAT_IS_WRONG):
        return sentence
    return f"{type(error).__name__}: {sentence}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 160 characters."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, LookupError):  # its text is not a sentence
        line = f"{type(error).__name__}: {line}"
    return textwrap.shorten(line, 160, placeholder="…")


def nearest(name: str, candidates: Iterable[str]) -> str:
    """ " (nearest: …)" with up to three of the candidates; empty where none is near."""
    near = difflib.get_close_matches(name, list(candidates), n=3, cutoff=0.5)
    return f" (nearest: {', '.join(near)})" if near else ""


def printable(name: str) -> str:
    r"""A name for people and for UTF-8: characters that cannot be printed are escaped.

    >>> print(printable("tabby\ncat \udcff"))
    tabby\ncat \udcff
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return "".join(shown)
