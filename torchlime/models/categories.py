"""Categories: which of a model's classes a name means, and which an unknown name may mean."""

import difflib
import re
from collections.abc import Callable, Sequence
from functools import partial

from torchlime.folders import meant_by
from torchlime.models.imagenet import with_synonyms

_LISTED = 8
_FEW = 3


def called(name: str, categories: Sequence[str]) -> list[int]:
    """The indices of the categories that ``name`` means, none if there are none.

    These are the categories of exactly this name; else those that
    :func:`~torchlime.folders.meant_by` finds; else those that ImageNet calls so, by a synonym or by
    the WordNet id.

    >>> called("tabby cat", ["tench", "n02123045"])
    [1]
    """
    same = [index for index, category in enumerate(categories) if category == name]
    return same or meant_by(name, categories) or meant_by(name, with_synonyms(categories))


def alike(name: str, others: Sequence[str], categories: Sequence[str]) -> list[int]:
    """The indices of those ``others`` that mean a category that ``name`` means.

    >>> alike("tabby cat", ["n01440764", "n02123045"], ["tench", "tabby, tabby cat, n02123045"])
    [1]
    """
    meant = called(name, categories)
    known = with_synonyms(categories)
    # The names alone leave few of perhaps a thousand folders.
    near = [i for i, other in enumerate(others) if meant_by(other, [known[c] for c in meant])]
    return [i for i in near if not set(meant).isdisjoint(called(others[i], categories))]


def listed(indices: Sequence[int], categories: Sequence[str]) -> str:
    """Some categories with their indices, in words.

    >>> listed([1, 0], ["crane bird", "crane"])
    "'crane' (1), 'crane bird' (0)"
    """
    return ", ".join(f"{categories[index]!r} ({index})" for index in indices)


def offers(name: str, categories: Sequence[str], marks: Sequence[object] | None = None) -> str:
    """ " (nearest: …)" with the categories that may have been meant by an unknown name, if any.

    These categories share a word with it, in a name of their own or of ImageNet's. First come those
    that share most, then those with the same end, as "tiger cat" for "cat", then those whose first
    name it is. If none shares a word, up to three with a similar spelling are offered. Each is
    followed by its index, or by its entry in ``marks``.

    >>> offers("cat", ["crate", "cat flap", "tiger cat", "tabby, tabby cat"])
    ' (nearest: tiger cat (2), tabby cat (3), cat flap (1))'
    >>> offers("tabi", ["crate", "cat flap", "tiger cat", "tabby, tabby cat"])
    ' (nearest: tabby (3))'
    """
    named = list(enumerate(names.split(",") for names in with_synonyms(categories)))
    found = _best(named, partial(_by_words, _words(name)))
    most = _LISTED
    if not found:
        found, most = _best(named, partial(_by_letters, " ".join(_words(name)))), _FEW
    marks = range(len(categories)) if marks is None else marks
    near = ", ".join(f"{other.strip()} ({marks[index]})" for index, other in found[:most])
    more = f" and {len(found) - most} more" if found[most:] and most == _LISTED else ""
    return f" (nearest: {near}{more})" if near else ""


Rank = tuple[float, ...] | None


def _best(
    named: Sequence[tuple[int, list[str]]], rank: Callable[[str, int], Rank]
) -> list[tuple[int, str]]:
    """Each category's name of the lowest rank, lowest first, without those that have no rank."""
    found: list[tuple[tuple[float, ...], int, str]] = []
    for index, names in named:
        ranks = [(rank(other, place), other) for place, other in enumerate(names)]
        known = [(one, index, other) for one, other in ranks if one is not None]
        found += sorted(known)[:1]
    return [(index, other) for _, index, other in sorted(found)]


def _by_words(asked: list[str], other: str, place: int) -> Rank:
    words = _words(other)
    shared = len(set(asked) & set(words))
    return (-shared, words[-1] != asked[-1], place > 0) if shared else None


def _by_letters(asked: str, other: str, place: int) -> Rank:
    matcher = difflib.SequenceMatcher(None, " ".join(_words(other)), asked, autojunk=False)
    alike = matcher.ratio() if matcher.quick_ratio() >= 0.5 else 0.0
    return (-alike,) if alike >= 0.5 else None


def _words(name: str) -> list[str]:
    return re.findall(r"\w+", name.replace("_", " ").casefold())
