"""Rows → scores [B,N,T], in chunks that mix the rows of several examples."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from torchlime._undisturbed import undisturbed
from torchlime.black_box import BlackBox, Forward
from torchlime.compat.captum.calling import Calls, as_scores, wrong_number
from torchlime.compat.captum.room import Refused, Room, refusing, same_alone
from torchlime.predictions import Predictions
from torchlime.strategies import Block, Reference

MakeRows = Callable[[BlackBox], Callable[[list[Block], int], tuple[Tensor, ...]]]
Advance = Callable[[int], object]
Score = Callable[[Any, Tensor], Tensor]


class Scoring:
    """Scores the perturbed inputs of a call.

    Args:
        calls: the forward function with its arguments.
        perturbations_per_eval: k, the fewest rows of a forward pass. A pass has more rows where
            that suits the device, and fewer where memory runs out.
        single: every row must have one score; False = T is the number of outputs of a row.
        advance: called with the number of rows done.
    """

    def __init__(
        self,
        calls: Calls,
        perturbations_per_eval: int = 1,
        *,
        single: bool = True,
        advance: Advance = lambda done: None,
    ):
        self.calls = calls
        self.least = perturbations_per_eval
        self.single = single
        self.advance = advance
        self.device = calls.inputs.device

    def __call__(self, make_rows: MakeRows, samples: int) -> Tensor:
        """The scores [B,N,T] of N samples of each example, in the solve's dtype.

        First all rows run together, by the rules of :class:`torchlime.compat.captum.room.Room`;
        several examples are proof enough. Captum's own calls, k samples of one example at a time,
        are also made where further arguments, or inputs of one row, do not belong to examples.

        Raises:
            AssertionError: there is not one score for each row. Errors of the function pass
                through.
        """
        batch = self.calls.inputs.batch
        room = Room(self.least, self.calls.inputs.tensors, self.device)
        if self.calls.by_row and (batch > 1 or room.holds_more(samples)):
            # An error may come from calls that Captum does not make.
            with contextlib.suppress(Refused):
                scores = self._together(make_rows, samples, room.size)
                proven = batch > 1 or not room.is_unproven
                if proven or self._same_alone(make_rows, scores):
                    return scores
            self.advance(0)
        return self._apart(make_rows, samples)

    def of_batch(self, make_rows: MakeRows, samples: int) -> Tensor:
        """The scores [1,N,T] of samples of the whole batch; each sample takes one call."""

        def score(outputs: Any, rows: Tensor) -> Tensor:
            return self._scores(self.calls.targets(outputs, None), len(rows))

        box = self.calls.box(lambda chunk: self.calls.run(chunk, self.calls.further.values))
        return self._predicted(box, score, make_rows(box), 1, samples, 1)

    def _together(self, make_rows: MakeRows, samples: int, size: int) -> Tensor:
        calls = self.calls

        def run(chunk: tuple[Any, tuple[Tensor, ...]]) -> Any:
            rows, tensors = chunk
            with refusing():
                return calls.run(tensors, calls.further.of_rows(rows))

        def score(outputs: Any, rows: Tensor) -> Tensor:
            with refusing():
                return self._scores(calls.targets(outputs, rows), len(rows))

        batch = calls.inputs.batch
        index = torch.arange(batch, device=self.device)
        box = calls.box(run)
        make = make_rows(box)

        def rows(blocks: list[Block], size: int) -> Any:
            return by_row(index, blocks), make(blocks, size)

        return self._predicted(box, score, rows, batch, samples, size)

    def _apart(self, make_rows: MakeRows, samples: int) -> Tensor:
        found = []
        for example in range(self.calls.inputs.batch):
            box, rows, score = self._of_example(make_rows, example)
            before = example * samples
            found.append(self._predicted(box, score, rows, 1, samples, self.least, before))
        return torch.cat(found)

    def _of_example(self, make_rows: MakeRows, example: int) -> tuple[BlackBox, Any, Score]:
        """The function, rows and scores of one example, as Captum calls it."""
        calls = self.calls

        def run(tensors: tuple[Tensor, ...]) -> Any:
            return calls.run(tensors, calls.further.of_example(example, len(tensors[0])))

        def score(outputs: Any, rows: Tensor) -> Tensor:
            return self._scores(calls.targets(outputs, rows + example), len(rows))

        box = calls.box(run)
        make, own = make_rows(box), slice(example, example + 1)

        def rows(blocks: list[Block], size: int) -> Any:
            return make([(own, samples) for _, samples in blocks], size)

        return box, rows, score

    def _same_alone(self, make_rows: MakeRows, scores: Tensor) -> bool:
        """Whether three rows of the one example have the same scores alone."""
        box, rows, score = self._of_example(make_rows, 0)
        none = torch.zeros(1, dtype=torch.int64, device=self.device)

        def of_row(sample: int) -> Tensor:
            block = [(slice(0, 1), slice(sample, sample + 1))]
            return score(box(rows(block, 1)), none)

        with undisturbed(self.device), box.prepared():
            return same_alone(of_row, scores[0], box.autocast)

    def _predicted(
        self,
        box: BlackBox,
        score: Score,
        rows: Any,
        batch: int,
        samples: int,
        size: int,
        before: int = 0,
    ) -> Tensor:
        forward = Forward(pad=False, progress=lambda done, _: self.advance(before + done))
        with undisturbed(self.device):
            scores = _Scores(score)
            return Predictions(box, scores, batch, forward, size, batch * samples)(rows, samples)

    def _scores(self, explained: Any, rows: int) -> Tensor:
        scores = as_scores(explained, rows, self.device)
        if self.single and scores.shape[1] != (self.calls.targets.several or 1):
            raise AssertionError(wrong_number(explained, rows))
        return scores


class _Scores:
    """Scores for the engine: no row fixes anything for others."""

    def __init__(self, score: Score):
        self.score = score

    def reference(self, outputs: Any, rows: Tensor) -> dict[str, Tensor]:
        """The numbers of the targets [n,T]."""
        scores = self.score(outputs, rows)
        return {"targets": torch.arange(scores.shape[1], device=rows.device).expand(len(rows), -1)}

    def __call__(self, outputs: Any, rows: Tensor, reference: Reference) -> Tensor:
        """The scores [n,T]."""
        return self.score(outputs, rows)


def by_row(index: Tensor, blocks: list[Block]) -> Tensor:
    """The example [n] of each row of the blocks."""
    parts = [
        index[examples, None].expand(-1, samples.stop - samples.start).flatten()
        for examples, samples in blocks
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@contextlib.contextmanager
def progress(shown: bool, name: str, total: int, rows: int) -> Iterator[Advance]:
    """Show ``rows`` rows on stderr as Captum's bar of ``total`` steps; yields what counts them."""
    if not shown:
        yield lambda done: None
        return
    steps = lambda done: done * total // max(rows, 1)  # noqa: E731
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield lambda done: print(
            f"\r{name} attribution: {100 * done // max(rows, 1)}%", end="", file=sys.stderr
        )
        print(file=sys.stderr)
        return
    with tqdm(total=total, desc=f"{name} attribution", mininterval=0.5) as bar:
        yield lambda done: bar.update(steps(done) - bar.n)
