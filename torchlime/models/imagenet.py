"""ImageNet: the WordNet ids and synonyms of its 1000 classes."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from torchlime.folders import meant_by

_TABLE = Path(__file__).with_name("imagenet.txt")


class Synset(NamedTuple):
    """A meaning in WordNet.

    Convention:
        id: the name of its ImageNet folder, "n02123045".
        names: its synonyms, "tabby, tabby cat".
    """

    id: str
    names: str


@cache
def synsets() -> tuple[Synset, ...]:
    """The classes of ImageNet-1k, in the order of a network's outputs; read once, when asked for.

    Source: WordNet 3.0, whose licence stands in the file.

    >>> synsets()[281]
    Synset(id='n02123045', names='tabby, tabby cat')
    """
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    return tuple(Synset(*line.split("\t")) for line in lines if not line.startswith("#"))


def with_synonyms(categories: Sequence[str]) -> list[str]:
    """A model's ``categories``, each with what ImageNet calls it too.

    Categories that are WordNet ids get the synset's names. A model may have 1000 categories that
    are those of ImageNet-1k in their order: more than half of them then share a name with theirs.
    All categories of such a model get names and ids. Other categories stay as they are.

    >>> with_synonyms(["n02123045", "red panda"])
    ['n02123045, tabby, tabby cat', 'red panda']
    """
    known = synsets()
    if len(categories) == len(known):
        agree = sum(bool(meant_by(c, [s.names])) for c, s in zip(categories, known, strict=True))
        if agree > len(known) / 2:
            return [f"{c}, {s.names}, {s.id}" for c, s in zip(categories, known, strict=True)]
    by_id = {synset.id: synset.names for synset in known}
    return [f"{c}, {by_id[c]}" if c in by_id else c for c in categories]
