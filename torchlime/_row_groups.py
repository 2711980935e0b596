"""The rows of [B,N] in the order in which the model gets them, and which of them share a chunk."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchlime.strategies import Block


def size_of(block: slice) -> int:
    """How many numbers a slice covers."""
    return block.stop - block.start


def joined(blocks: list[Block]) -> list[Block]:
    """The same rows; row 0 of a single input and its next rows become one block."""
    if len(blocks) == 1:
        return blocks
    (inputs, first), (same, others), *rest = blocks
    single = inputs == same and size_of(inputs) == 1
    if not (single and first.stop == others.start):
        return blocks
    return [(inputs, slice(first.start, others.stop)), *rest]


@dataclass(frozen=True)
class Group:
    """Rows that may share a chunk.

    Args:
        blocks: rectangles of [B,N], in the order of their rows; each is one input, or one sample.
        unmasked: how many of the rows, the first ones, are row 0 of an input.
    """

    blocks: list[Block]
    unmasked: int = 0

    @property
    def rows(self) -> int:
        """How many they are."""
        return sum(size_of(inputs) * size_of(samples) for inputs, samples in self.blocks)

    def cut(self, start: int, stop: int) -> Iterator[Block]:
        """The rows ``start`` … ``stop`` − 1, as rectangles."""
        for inputs, samples in self.blocks:
            size = size_of(inputs) * size_of(samples)
            low, high = max(start, 0), min(stop, size)
            if low < high and size_of(inputs) > 1:
                yield slice(inputs.start + low, inputs.start + high), samples
            elif low < high:
                yield inputs, slice(samples.start + low, samples.start + high)
            start, stop = start - size, stop - size


def groups_of(
    batch: int,
    samples: int,
    lead: int,
    lengths: Sequence[Sequence[int]] | None,
    inputs: Sequence[int] | None = None,
) -> list[Group]:
    """The rows of [B,N] in the order of the convention; rows of each length are a group.

    With ``inputs`` only the rows of these inputs; ``lead`` is then 0.

    ``lead`` is 1 where sample 0 of every input comes first, else 0. Without ``lengths`` [B][N] all
    rows are one group. With them, long rows come first, so that memory runs out early.
    """
    taking = range(batch) if inputs is None else inputs
    if lengths is None:
        blocks = [(slice(0, batch), slice(0, 1))] * lead
        if samples > lead:
            blocks += [(slice(b, b + 1), slice(lead, samples)) for b in taking]
        return [Group(blocks, batch * lead)]
    firsts = [
        Group([(images, slice(0, 1))], size_of(images))
        for _, images in _runs([row[0] for row in lengths], 0)
        if lead
    ]
    found: dict[int, list[Block]] = {}
    for b in taking:
        for length, run in _runs(lengths[b], lead):
            found.setdefault(length, []).append((slice(b, b + 1), run))
    return firsts + [Group(found[length]) for length in sorted(found, reverse=True)]


def _runs(values: Sequence[int], first: int) -> Iterator[tuple[int, slice]]:
    """Each run of equal values from place ``first`` on, with its places."""
    start = first
    for value, run in itertools.groupby(values[first:]):
        stop = start + sum(1 for _ in run)
        yield value, slice(start, stop)
        start = stop
