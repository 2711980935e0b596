"""What the features of each input are called."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class Names(Protocol):
    """The features' names, which follow an explanation when it is indexed."""

    def of(self, bins: Tensor | None) -> list[list[str]]:
        """The names of the features of every input, in the order of the coefficients."""
        ...

    def __getitem__(self, index: slice) -> "Names":
        """Those of some inputs."""
        ...


@dataclass(frozen=True)
class BinNames:
    """A feature is called after its bin: "2.00 < age <= 3.00".

    Args:
        texts: of the bins of every feature.
        unknown: of a value that is in none, for every feature.
    """

    texts: tuple[tuple[str, ...], ...]
    unknown: tuple[str, ...]

    def of(self, bins: Tensor | None) -> list[list[str]]:
        """The names for bins [B,F], which are read on the host."""
        assert bins is not None
        return [
            [
                unknown if number < 0 else texts[number]
                for number, texts, unknown in zip(row, self.texts, self.unknown, strict=True)
            ]
            for row in bins.tolist()  # read back: names are on the host
        ]

    def __getitem__(self, index: slice) -> "BinNames":
        """The same: bins tell the inputs apart."""
        return self


@dataclass(frozen=True)
class GivenNames:
    """Names that are known: one tuple for every input."""

    texts: tuple[tuple[str, ...], ...]

    def of(self, bins: Tensor | None) -> list[list[str]]:
        """The names."""
        return [list(names) for names in self.texts]

    def __getitem__(self, index: slice) -> "GivenNames":
        """Those of some inputs."""
        return GivenNames(self.texts[index])


@dataclass(frozen=True)
class TextNames:
    """The words of texts, and where they are.

    Args:
        texts: [B].
        words: of each text, in the order of the coefficients.
        spans: (begin, end) of every occurrence of each word, in characters.
    """

    texts: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    spans: tuple[tuple[tuple[tuple[int, int], ...], ...], ...]

    def of(self, bins: Tensor | None) -> list[list[str]]:
        """The words."""
        return [list(words) for words in self.words]

    def __getitem__(self, index: slice) -> "TextNames":
        """Those of some texts."""
        return TextNames(self.texts[index], self.words[index], self.spans[index])


def record_of(named: Names | None, bins: Tensor | None) -> dict[str, Any] | None:
    """Names as JSON can hold them; bins are read on the host."""
    if named is None:
        return None
    record: dict[str, Any] = {"words": named.of(bins)}
    if isinstance(named, TextNames):
        record |= {"texts": named.texts, "spans": named.spans}
    return record


def of_record(record: Any, count: Tensor) -> GivenNames | TextNames | None:
    """Names from a file, for ``count`` [B] features.

    Raises:
        ValueError: the record holds something else.
    """
    if record is None:
        return None
    words = tuple(tuple(names) for names in record["words"])
    if [len(names) for names in words] != count.tolist():  # of a file, on the host
        raise ValueError("named must hold a text for every feature of every input")
    if not all(isinstance(name, str) for names in words for name in names):
        raise ValueError("the names of features must be texts")
    if "texts" not in record:
        return GivenNames(words)
    spans = tuple(
        tuple(tuple((int(begin), int(end)) for begin, end in places) for places in features)
        for features in record["spans"]
    )
    texts = tuple(record["texts"])
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("texts must be strings")
    if len(texts) != len(words) or [len(features) for features in spans] != count.tolist():
        raise ValueError("texts and spans must be of every input and feature")
    for text, features in zip(texts, spans, strict=True):
        if not all(0 <= a < b <= len(text) for places in features for a, b in places):
            raise ValueError("spans must lie within their texts")
    return TextNames(texts, words, spans)
