"""Scores of samples of a whole batch, for the methods that do not cut it into examples."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchlime._precision import solve_dtype
from torchlime.black_box import BlackBox
from torchlime.compat.captum.arguments import repeated
from torchlime.compat.captum.calling import Calls, as_scores, wrong_number
from torchlime.compat.captum.perturbed import Perturbed
from torchlime.compat.captum.room import Refused, Room, refusing
from torchlime.compat.captum.scoring import Advance, Scoring, by_row
from torchlime.strategies import Block

MakeRows = Callable[[BlackBox, bool], Perturbed]  # model, whether a sample is the whole batch


class Outputs(NamedTuple):
    """The explained outputs of one call on the batch.

    Attributes:
        scores: [R,T] in the solve's dtype. R is B where the first axis of the outputs is the
            examples, else 1.
        shape: of the outputs.
        dtype: of the outputs.
    """

    scores: Tensor
    shape: tuple[int, ...]
    dtype: torch.dtype


def outputs_of(explained: Any, batch: int, device: torch.device) -> Outputs:
    """The outputs of a call on ``batch`` examples.

    Raises:
        AssertionError: they are no numbers.
    """
    shape = tuple(getattr(explained, "shape", ()))
    rows = batch if shape and shape[0] == batch else 1
    scores = as_scores(explained, rows, device).to(solve_dtype(device))
    dtype = explained.dtype if isinstance(explained, Tensor) else scores.dtype
    if isinstance(explained, int) or dtype == torch.bool:  # differences have signs
        dtype = torch.int64
    return Outputs(scores, shape, dtype)


class Drawn:
    """A design that all examples share, whose masks are made when a chunk needs them.

    Args:
        masks: numbers of samples [n] → masks [n,F] bool.
        device: of the inputs.
    """

    def __init__(self, masks: Callable[[Tensor], Tensor], device: torch.device):
        self.masks = masks
        self.device = device

    def __getitem__(self, block: tuple[slice, slice], /) -> Tensor:
        """The masks [b,n,F] of a block (examples, samples)."""
        examples, samples = block
        numbers = torch.arange(samples.start, samples.stop, device=self.device)
        return self.masks(numbers).expand(examples.stop - examples.start, -1, -1)


class BatchScoring(Scoring):
    """Scores samples; each of them changes the same features in all examples.

    Args:
        calls: the forward function with its arguments.
        perturbations_per_eval: k. Captum's calls have k samples of the batch.
        unchanged: the outputs of sample 0, whose scores are known.
        advance: called with the number of samples done.
    """

    def __init__(
        self,
        calls: Calls,
        perturbations_per_eval: int,
        unchanged: Outputs,
        advance: Advance = lambda done: None,
    ):
        super().__init__(calls, perturbations_per_eval, single=False, advance=self._told)
        self.report = advance
        self.share = 1.0  # samples a row
        self.unchanged = unchanged
        self.batch = calls.inputs.batch

    def of_samples(self, make_rows: MakeRows, samples: int) -> Tensor:
        """The scores [R,N,T] of the samples 1…N, in the solve's dtype.

        First the rows of all examples and samples run together, in chunks that suit the device.
        One row of sample 0 is among them, as the second row. If its score is not that of the call
        on the batch, a row's score depends on other rows. Then, and also where the function cannot
        take the rows, Captum's own calls are made. This test reads one flag back. It is made only
        for perturbations_per_eval=1, since otherwise the caller says that the function takes more
        rows than the batch.

        Raises:
            AssertionError: the outputs do not grow with the samples of a call.
        """
        room = Room(self.least, self.calls.inputs.tensors, self.device)
        rows_are_examples = len(self.unchanged.scores) == self.batch and self.unchanged.shape
        if self.least > 1 and not self.unchanged.shape:
            raise AssertionError(self._not_growing((), 1))
        more = self.batch > 1 or room.holds_more(samples)
        if rows_are_examples and self.calls.by_row and more:
            with contextlib.suppress(Refused):
                return self._mixed(make_rows, samples, room.size)
            self.advance(0)
        return self._captums(make_rows, samples)

    def _mixed(self, make_rows: MakeRows, samples: int, size: int) -> Tensor:
        calls, width = self.calls, self.unchanged.scores.shape[1]
        index = torch.arange(self.batch, device=self.device)

        def run(chunk: tuple[Tensor, tuple[Tensor, ...]]) -> tuple[Any, Tensor]:
            rows, tensors = chunk
            with refusing():
                return calls.run(tensors, calls.further.of_rows(rows)), rows

        def score(outputs: tuple[Any, Tensor], _: Tensor) -> Tensor:
            with refusing():
                explained, number = calls.targets(*outputs), len(outputs[1])
                if not isinstance(explained, Tensor) or explained.shape[:1] != (number,):
                    raise Refused
                scores = as_scores(explained, number, self.device)
                if scores.shape[1] != width:
                    raise Refused
                return scores

        box = calls.box(run)
        make = make_rows(box, False)

        def rows(blocks: list[Block], size: int) -> tuple[Tensor, tuple[Tensor, ...]]:
            found = [one for _, flat in blocks for one in rectangles(flat, samples)]
            return by_row(index, found), make(found, size)

        total = 1 + self.batch * samples
        self.share = samples / total
        found = self._predicted(box, score, rows, 1, total, size)[0]
        if self.least == 1 and not self._agrees(found[1], box.autocast):
            raise Refused
        return torch.cat([found[:1], found[2:]]).view(self.batch, samples, width)

    def _captums(self, make_rows: MakeRows, samples: int) -> Tensor:
        calls, unchanged = self.calls, self.unchanged
        every = torch.arange(self.batch, device=self.device)

        def run(tensors: tuple[Tensor, ...]) -> tuple[Any, int]:
            times = len(tensors[0]) // self.batch  # the first always has all examples
            further = tuple(repeated(value, times) for value in calls.further.values)
            return calls.run(tensors, further), times

        def score(found: tuple[Any, int], _: Tensor) -> Tensor:
            outputs, times = found
            explained = calls.targets(outputs, every.repeat(times) if times > 1 else None)
            shape = tuple(getattr(explained, "shape", ()))
            if times > 1 and (not shape or shape[0] != times * unchanged.shape[0]):
                raise AssertionError(self._not_growing(shape, times))
            scores = as_scores(explained, times, self.device)
            if scores.shape[1] != unchanged.scores.numel():
                raise AssertionError(wrong_number(explained, times))
            return scores

        box = calls.box(run)
        make = make_rows(box, True)

        def rows(blocks: list[Block], size: int) -> tuple[Tensor, ...]:
            return make([(one, slice(s.start + 1, s.stop + 1)) for one, s in blocks], size)

        self.share = 1.0
        found = self._predicted(box, score, rows, 1, samples, self.least)[0]
        return found.unflatten(1, unchanged.scores.shape).transpose(0, 1)

    def _agrees(self, found: Tensor, autocast: torch.dtype | None) -> bool:
        """Whether scores [T] of sample 0 differ from the known ones by rounding only."""
        dtype, expected = self.unchanged.dtype, self.unchanged.scores[0]
        kinds = [kind for kind in (dtype, autocast) if kind is not None and kind.is_floating_point]
        rounding = max((torch.finfo(kind).eps ** (1 / 3) for kind in kinds), default=0.0)
        size = expected.nan_to_num(0, 0, 0).abs().amax()
        close = (found - expected).abs() <= rounding * size
        same = close | (found == expected) | (found.isnan() & expected.isnan())
        return bool(same.all())  # read back: which calls are made depends on it

    def _told(self, rows: int) -> None:
        self.report(int(rows * self.share))

    def _not_growing(self, shape: tuple[int, ...], times: int) -> str:
        return (
            "When perturbations_per_eval > 1, forward_func's output should be a tensor whose 1st "
            f"dim grow with the input batch size: for {self.batch} rows it is "
            f"{list(self.unchanged.shape)}, for {times * self.batch} rows {list(shape)}; pass "
            "perturbations_per_eval=1"
        )


def rectangles(flat: slice, samples: int) -> Iterator[Block]:
    """Rows as blocks (examples, samples): 1…N of each example, and sample 0 of example 0 as row 1.

    >>> [(e.start, s.start, s.stop) for e, s in rectangles(slice(0, 6), 5)]
    [(0, 1, 2), (0, 0, 1), (0, 2, 6)]
    """
    yield from _blocks(flat.start - (flat.start > 1), min(flat.stop, 1), samples)
    if flat.start <= 1 < flat.stop:
        yield slice(0, 1), slice(0, 1)
    yield from _blocks(max(flat.start, 2) - 1, flat.stop - 1, samples)


def _blocks(start: int, stop: int, samples: int) -> Iterator[Block]:
    while start < stop:
        example, sample = divmod(start, samples)
        if sample == 0 and stop - start >= samples:  # whole examples
            several = (stop - start) // samples
            yield slice(example, example + several), slice(1, samples + 1)
            start += several * samples
        else:
            number = min(samples - sample, stop - start)
            yield slice(example, example + 1), slice(sample + 1, sample + number + 1)
            start += number
