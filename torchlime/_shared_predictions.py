"""rows → scores [B,N,T] where all inputs share their samples: the model gets each row once."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from torchlime.black_box import BlackBox, Forward
from torchlime.predictions import Predictions
from torchlime.strategies import Block, Rows
from torchlime.targets import Classes


class SharedPredictions:
    """Like :class:`torchlime.predictions.Predictions`, for inputs with ``Features.shared``.

    The model gets N − 1 + B rows instead of N·B: the inputs as they are, and the samples once. The
    scores of all classes of a sample are kept, so that each input takes those of its targets.
    """

    def __init__(
        self,
        box: BlackBox,
        scores: Classes,
        batch: int,
        forward: Forward,
        chunk_size: int,
        total: int,
    ):
        self.scores = scores
        self.forward = forward
        self.total = total // batch - 1 + batch
        self.reference: Mapping[str, Tensor] = {}
        self._own = Predictions(box, scores, batch, self._from(0), chunk_size, batch)
        samples = self._from(batch)
        self._samples = Predictions(box, Classes("all"), 1, samples, chunk_size, total // batch - 1)

    def __call__(self, rows: Rows, samples: int, inputs: Sequence[int] | None = None) -> Tensor:
        """The scores [B,n,T]; in the first call sample 0 of every input is the input itself.

        A row costs the same for one input and for all, so all take part, whatever ``inputs`` says.
        """
        parts, begin = [], 0
        if not self.reference:
            parts.append(self._own(rows, 1))
            self.reference = self._own.reference
            begin = 1

        def shared(blocks: list[Block], size: int) -> Tensor:
            moved = [(one, slice(s.start + begin, s.stop + begin)) for one, s in blocks]
            return rows(moved, size)

        if samples > begin:
            every = self._samples(shared, samples - begin)
            with torch.set_grad_enabled(self.forward.differentiable):
                parts.append(self.scores.of_inputs(every, self.reference))
                return torch.cat(parts, dim=1)
        return parts[0]

    def expect(self, left: Sequence[int]) -> None:
        """Say how many rows of each input may follow."""
        own = 0 if self.reference else len(left)
        self._samples.expect([max(left) - int(own > 0)])
        self.total = len(left) + self._samples.total

    def finish(self) -> None:
        """Say that no row follows; the progress ends at the rows that were taken."""
        self._samples.expect([0])
        self.total = self._own.total + self._samples.total
        self._samples.finish()

    def _from(self, done: int) -> Forward:
        """How rows are forwarded, with progress that counts ``done`` rows before them."""
        progress = self.forward.progress
        if progress is None:
            return self.forward
        return dataclasses.replace(
            self.forward, progress=lambda rows, _: progress(rows + done, self.total)
        )
