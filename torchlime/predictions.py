"""rows → scores [B,N,T]: the model over all rows, in chunks of one shape.

Convention:
    Row 0 of every input comes first, then the other rows input by input. So the unmasked inputs
    are scored first, and all later rows know on the device what they fix, such as their best
    classes. Further rounds of samples run input by input. Rows of several lengths run by their
    length: see :class:`torchlime.strategies.SortedRows`.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from torchlime._networks import Rewind, random_states
from torchlime._precision import solve_dtype
from torchlime._returns import check_reference, check_scores
from torchlime._row_groups import Group, groups_of, size_of
from torchlime.black_box import BlackBox, Forward, RefusedLayout, is_out_of_memory
from torchlime.strategies import Block, Reference, Rows, Scores


@dataclass(frozen=True)
class Chunk:
    """Rows of one forward pass.

    Args:
        blocks: rectangles of [B,N], their rows one after another.
        size: how many rows the model gets; what the blocks lack is padding.
        filled: how many of them are no padding.
        unmasked: how many of the rows, the first ones, are row 0 of an input.
    """

    blocks: list[Block]
    size: int
    filled: int
    unmasked: int

    def by_row(self, values: Tensor) -> Tensor:
        """Values [B,…] of the inputs → [size,…]: for each row those of the input it belongs to."""
        inputs = self.blocks[0][0]
        if size_of(inputs) == 1 and all(others == inputs for others, _ in self.blocks):
            return values[inputs].expand(self.size, *values.shape[1:])
        parts = []
        for inputs, samples in self.blocks:
            shape = (-1, size_of(samples), *values.shape[1:])
            parts.append(values[inputs, None].expand(shape).flatten(0, 1))
        padding = parts[-1][-1:].expand(self.size - self.filled, *values.shape[1:])
        return torch.cat([*parts, padding])


class Predictions:
    """Scores the rows of B inputs, round by round.

    A model that draws random numbers in eval mode goes on drawing from chunk to chunk and from
    round to round.

    Args:
        box: the model.
        scores: which scores of its outputs are explained.
        batch: B.
        forward: how rows pass through the model.
        chunk_size: rows of a forward pass where ``forward`` names none.
        total: rows of all rounds.

    Attributes:
        reference: what the unmasked rows fixed, by input; it has "targets" [B,T] int64.

    Raises:
        torch.OutOfMemoryError: not even one row fits. Errors of the model, the scores and the
            progress pass through.
    """

    def __init__(
        self,
        box: BlackBox,
        scores: Scores,
        batch: int,
        forward: Forward,
        chunk_size: int,
        total: int,
    ):
        self.box = box
        self.scores = scores
        self.forward = forward
        self.total = total
        self.reference: dict[str, Tensor] = {}
        self._index = torch.arange(batch, device=box.device)
        self._most = forward.chunk_size or chunk_size
        self._done = 0
        self._told = 0, total
        self._onward: Rewind | None = None  # where the rows so far left the random states

    def __call__(self, rows: Rows, samples: int, inputs: Sequence[int] | None = None) -> Tensor:
        """The scores [B,n,T] of ``samples`` rows of every input, in the solve's dtype.

        In the first call sample 0 of every input is the unmasked one. In later calls only some
        ``inputs`` may take part, in rising order; the scores of the others are 0.
        """
        batch, lead = len(self._index), int(self._done == 0)
        lengths = getattr(rows, "lengths", None)
        groups = groups_of(batch, samples, lead, lengths, inputs)
        chunks, parts = [], []
        alone = self.forward.differentiable  # each chunk prepares itself
        with torch.set_grad_enabled(alone), contextlib.nullcontext() if alone else self._prepared():
            for chunk, found in self._chunks(rows, groups):
                chunks.append(chunk)
                parts.append(found[: chunk.filled])
                self._done += chunk.filled
                if self.forward.progress is not None:
                    self._told = self._done, self.total
                    self.forward.progress(*self._told)
            found = torch.cat(parts).to(solve_dtype(parts[0].device))
            if lengths is None and inputs is None:
                return _by_input(found, batch, samples, lead)
            scores = _by_block(found, chunks, batch, samples)
            return scores if lengths is None else rows.unsorted(scores)  # type: ignore[attr-defined]

    def expect(self, left: Sequence[int]) -> None:
        """Say how many rows of each input may follow."""
        self.total = self._done + sum(left)

    def finish(self) -> None:
        """Say that no row follows; the progress ends at the rows that were taken."""
        self.total = self._done
        if self.forward.progress is not None and self._told[1] != self._done:
            self.forward.progress(self._done, self._done)

    def _chunks(self, rows: Rows, groups: list[Group]) -> Iterator[tuple[Chunk, Tensor]]:
        """Each chunk with its scores [size,T]."""
        for group in groups:
            left = group.rows
            self._size = _even(left, self._most)
            while left:
                chunk = self._chunk(group, group.rows - left)
                found = self._tried(rows, chunk, left)
                if found is not None:
                    left -= chunk.filled
                    yield chunk, found

    def _chunk(self, group: Group, start: int) -> Chunk:
        stop = min(start + self._size, group.rows)
        unmasked = max(0, min(stop, group.unmasked) - start)
        size = self._size if self.forward.pad else stop - start
        if self.forward.exact_chunks:
            size = self._most
        return Chunk(list(group.cut(start, stop)), size, stop - start, unmasked)

    def _tried(self, rows: Rows, chunk: Chunk, left: int) -> Tensor | None:
        """A chunk's scores; None where it must be made again, smaller or in another layout.

        ``left`` is how many rows of its group are to be scored.
        """
        try:
            found, self.reference = self._scored(rows, chunk, self.reference)
            return found
        except RefusedLayout:
            self.box.contiguous = True
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.forward.exact_chunks:
                raise torch.OutOfMemoryError(_NO_MEMORY_FOR.format(chunk.size)) from error
            if chunk.size == 1:
                raise torch.OutOfMemoryError(_NO_MEMORY) from error
            self._most = chunk.size // 2
            self._size = _even(left, self._most)
        if self._done == 0 and self._onward is not None:
            self._onward()  # a model that draws begins again
        _release_memory(self.box.device)
        return None

    def _scored(
        self, rows: Rows, chunk: Chunk, known: Reference
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores of a chunk, and what the unmasked rows have fixed so far."""
        if not self.forward.differentiable:
            return self._score(rows, chunk, known)

        def alone(rewind: Rewind) -> tuple[Tensor, dict[str, Tensor]]:
            # A backward pass runs this again, when everything around the chunk is over. So the
            # chunk prepares the model, and random states go on where the chunk before stopped.
            with self.box.prepared():
                rewind()
                result = self._score(rows, chunk, known)
                self._onward = random_states(self.box.device)
                return result

        onward = self._onward or random_states(self.box.device)
        return checkpoint(alone, onward, use_reentrant=False, preserve_rng_state=False)

    def _score(
        self, rows: Rows, chunk: Chunk, known: Reference
    ) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = self.box(rows(chunk.blocks, chunk.size))
        index, reference = chunk.by_row(self._index), dict(known)
        if chunk.unmasked:
            with torch.no_grad():
                found = check_reference(self.scores.reference(outputs, index), chunk.size)
            new = {name: values[: chunk.unmasked] for name, values in found.items()}
            reference = (
                {name: torch.cat([known[name], new[name]]) for name in new} if known else new
            )
        scores = self.scores(outputs, index, _ByRow(chunk, reference))
        return check_scores(scores, (chunk.size, reference["targets"].shape[1])), reference

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[None]:
        with self.box.prepared() as rewind:
            if self._onward is None:
                self._onward = rewind
            else:
                self._onward()
            yield
            if self._done < self.total:  # another round may go on from here
                self._onward = random_states(self.box.device)


class _ByRow(Mapping[str, Tensor]):
    """What the unmasked rows fixed, for every row of a chunk."""

    def __init__(self, chunk: Chunk, reference: Reference):
        self.chunk = chunk
        self.reference = reference

    def __getitem__(self, name: str) -> Tensor:
        return self.chunk.by_row(self.reference[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.reference)

    def __len__(self) -> int:
        return len(self.reference)


_NO_MEMORY = (
    "out of memory with a single row in the forward pass; free memory on the device, "
    "use smaller inputs, a smaller model or autocast=torch.bfloat16"
)

_NO_MEMORY_FOR = (
    "out of memory with {} rows in the forward pass, and exact_chunks=True forbids fewer; free "
    "memory on the device, or take an engine of a smaller batch and its chunk_size"
)


def _by_input(scores: Tensor, batch: int, samples: int, lead: int) -> Tensor:
    """Scores [B·n,T] in the order of the convention, as [B,n,T]; ``lead`` rows come first."""
    targets = scores.shape[1]
    if batch == 1 or samples == 1 or not lead:
        return scores.view(batch, samples, targets)
    rest = scores[batch:].view(batch, samples - 1, targets)
    return torch.cat([scores[:batch, None], rest], dim=1)


def _by_block(scores: Tensor, chunks: list[Chunk], batch: int, samples: int) -> Tensor:
    """Scores [m,T] in the order of the chunks' blocks, as [B,n,T]; 0 where there is none."""
    found, start = scores.new_zeros(batch, samples, scores.shape[1]), 0
    for inputs, some in (block for chunk in chunks for block in chunk.blocks):
        shape = (size_of(inputs), size_of(some), -1)
        stop = start + shape[0] * shape[1]
        found[inputs, some] = scores[start:stop].view(shape)
        start = stop
    return found


def _even(total: int, most: int) -> int:
    """Rows of a chunk such that ``total`` rows fill the fewest chunks of at most ``most``."""
    return math.ceil(total / math.ceil(total / most))


def _release_memory(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
