"""The words of texts: a hidden one is left out, or another text stands in its place."""

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchlime._kinds import Masks
from torchlime._names import TextNames
from torchlime._words import Split, spans_of
from torchlime.black_box import BlackBox
from torchlime.strategies import Block, Features, Rows

if TYPE_CHECKING:
    import numpy as np


class Words(Features):
    """The words of texts; a chunk is a list of strings.

    The strings are made as they are scored, on the host. So a design on another device is read
    once a round.

    Args:
        texts: B strings.
        split: text → its words, see :mod:`torchlime.texts`.
        hide: what stands in the place of a hidden word.
        together: all occurrences of a word are one feature.
        device: of the design and of the fit.

    Attributes:
        names: the words of each text, and where they are.

    Raises:
        TypeError, ValueError: a text has no words, or ``split`` does not return words of it.
    """

    kind = Masks("word", "text")

    def __init__(
        self,
        texts: Sequence[str],
        split: Split,
        hide: str = "",
        together: bool = True,
        device: torch.device | str = "cpu",
    ):
        self._texts = [_Text(text, split, hide, together) for text in texts]
        sizes = [len(text.words) for text in self._texts]
        self.count = torch.tensor(sizes, device=device)
        self.bound = max(sizes)
        self.names = TextNames(
            tuple(texts),
            tuple(tuple(text.words) for text in self._texts),
            tuple(tuple(map(tuple, text.spans)) for text in self._texts),
        )

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that makes chunks of n strings; row 0 of the first round is the text."""
        masks = design.cpu().numpy()  # read back: strings are made on the host

        def chunk(blocks: list[Block], size: int) -> list[str]:
            strings = [
                string
                for inputs, samples in blocks
                for number in range(inputs.start, inputs.stop)
                for string in self._texts[number].without(masks[number, samples])
            ]
            return strings + strings[-1:] * (size - len(strings))

        return chunk


class _Text:
    """A text in pieces: words, which can be hidden, and what is between them."""

    def __init__(self, text: str, split: Split, hide: str, together: bool):
        import numpy as np

        found = spans_of(text, split)
        names = [text[begin:end] for begin, end in found]
        number = {name: place for place, name in enumerate(dict.fromkeys(names))}
        features = [number[name] for name in names] if together else list(range(len(names)))
        self.words = list(number) if together else names
        self.spans: list[list[tuple[int, int]]] = [[] for _ in self.words]
        # Each word brings two pieces: itself, and the text up to the next one.
        self.pieces, self.hidden, owners, end = [text[: found[0][0]]], [""], [-1], found[0][0]
        ends = [begin for begin, _ in found[1:]] + [len(text)]
        for (begin, end), after, feature in zip(found, ends, features, strict=True):
            self.spans[feature].append((begin, end))
            self.pieces += [text[begin:end], text[end:after]]
            self.hidden += [hide, ""]
            owners += [feature, -1]
        self.hide = hide
        self.owners = np.array(owners)

    def without(self, masks: "np.ndarray[Any, Any]") -> list[str]:
        """The text under masks [n,S]: [n] strings."""
        kept = masks[:, self.owners] | (self.owners < 0)
        if not self.hide:
            return ["".join(compress(self.pieces, row)) for row in kept.tolist()]
        both = list(zip(self.hidden, self.pieces, strict=True))
        return [
            "".join(pair[keep] for pair, keep in zip(both, row, strict=True))
            for row in kept.tolist()
        ]
