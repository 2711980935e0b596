"""The columns of a table's rows: the others show values drawn from a background."""

from functools import partial

import torch
from torch import Tensor

from torchlime._hash import numbers, seeds_of
from torchlime._kinds import Kind, Masks, Noise
from torchlime._precision import solve_dtype
from torchlime._problems import Problem, flag
from torchlime.background import Background
from torchlime.background.draws import Draws
from torchlime.black_box import BlackBox
from torchlime.strategies import Block, Features, Rows

CHUNK_ENTRIES = 1 << 20
BINNED, PLAIN = Masks("feature", "row"), Noise("feature", "row")


class Table(Features):
    """The features of rows [B,C]; each sample is a row drawn from the background.

    With bins, a feature is kept where the drawn value is in the bin of the row's own, and the
    design is masks. Without bins, a feature of numbers is noise: the distance of the drawn number
    from the row's, in standard deviations. A feature of categories is -1 where the drawn category
    differs from the row's, else 0.

    The draw depends on the seed, not on the row. So if all rows share a seed, the model scores
    N − 1 + B rows instead of N·B.

    Args:
        background: what is drawn from.
        x: [B,C] float.
        seed: an int, or an int64 tensor [B].
        around: draw numbers around the row's own. It needs a background without bins.

    Raises:
        TypeError, ValueError: the seed is neither.
    """

    def __init__(self, background: Background, x: Tensor, seed: int | Tensor, around: bool = False):
        batch, width = len(x), len(background)
        self.background = background
        self.x = x
        self.count = torch.full((1,), width, device=x.device).expand(batch)
        self.bound = width
        self.kind: Kind = BINNED if background.binned else PLAIN
        self.chunk_size = min(max(CHUNK_ENTRIES // x.shape[1], 64), 4096)
        self.shared = not isinstance(seed, Tensor) and not around
        self.seeds = seeds_of(seed, self.count)
        self.around = around
        self.draws = Draws.of(background, x.device)
        self.bins = self.draws.bins_of(x)
        own = x.to(solve_dtype(x.device))[:, self.draws.place]
        self._own = torch.where(self.draws.is_number, own, self.bins.to(own.dtype))
        deviation = self.draws.deviation[:, 0]
        self._scale = torch.where(self.draws.is_number & (deviation > 0), deviation, 1.0)

    def sampler(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """The rows ``first`` … first + N − 1 of the design [B,N,F]."""
        return self.design(*self.drawn(numbers(num_samples, count, first)), first)

    def drawn(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is drawn for samples [n]: bins [b,n,F], and without bins the values [b,n,F] too."""
        if isinstance(self.kind, Masks):
            return self._bins(self.seeds, samples), None
        values, bins = self._values(slice(0, len(self.x)), samples)
        return bins, values

    def design(self, bins: Tensor, values: Tensor | None, first: int = 0) -> Tensor:
        """The design [B,n,F] of drawn bins and values, of which the first is row ``first``."""
        if values is None:
            masks = bins == self.bins[:, None].to(bins.dtype)
            if first == 0:
                masks[:, 0] = True
            return masks
        moved = (values - self._own[:, None]) / self._scale
        changed = (bins != self.bins[:, None]).to(moved.dtype)
        return torch.where(self.draws.is_number, moved, -changed)

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that makes chunks [n,C]; sample 0 of the first round is the row itself."""
        return partial(self._chunk, box.dtype or self.x.dtype, first)

    def _chunk(self, dtype: torch.dtype, first: int, blocks: list[Block], size: int) -> Tensor:
        parts = []
        for inputs, samples in blocks:
            if first == 0 and samples.start == 0:  # a block of its own
                parts.append(self.x[inputs, None])
                continue
            before = first - int(first == 0 and self.kind.beside)
            every = numbers(samples.stop - samples.start, self.x, before + samples.start)
            parts.append(self.draws.inputs(self._values(inputs, every)[0]))
        chunk = torch.cat([part.flatten(0, 1).to(dtype) for part in parts])
        return torch.cat([chunk, chunk[-1:].expand(size - len(chunk), -1)])

    def _values(self, inputs: slice, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The drawn values of features [b,n,F], and their bins."""
        seeds = self.seeds if len(self.seeds) == 1 else self.seeds[inputs]
        bins = self._bins(seeds, samples)
        if isinstance(self.kind, Masks):
            values = self.draws.numbers(seeds, samples, bins)
        else:
            words = self.draws.numbers(seeds, samples, bins)
            centre = self._own[inputs, None] if self.around else self.draws.mean[:, 0]
            plain = centre + self._scale * self.draws.normal(seeds, samples)
            values = torch.where(self.draws.is_number, plain, words)
        batch = inputs.stop - inputs.start
        return values.expand(batch, -1, -1), bins.expand(batch, -1, -1)

    def _bins(self, seeds: Tensor, samples: Tensor) -> Tensor:
        """The drawn bins [b,n,F]."""
        return self.draws.bins(seeds, samples)

    def problems(self, design: Tensor | None, box: BlackBox) -> Tensor:
        """Flags for rows with infinite numbers, or with values that the background has not."""
        infinite = self.x.isinf().any(dim=1)
        return flag(infinite, Problem.NON_FINITE_IMAGE) | flag(
            (self.bins < 0).any(dim=1), Problem.UNKNOWN_VALUE
        )

    def fields(self) -> dict[str, Tensor]:
        """The bins [B,F]; without bins also the numbers [B,F], 1 for categories, and the scale."""
        if isinstance(self.kind, Masks):
            return {"bins": self.bins}
        ones = torch.ones_like(self._own)
        return {
            "bins": self.bins,
            "vectors": torch.where(self.draws.is_number, self._own, ones),
            "scale": self._scale.expand_as(self._own),
        }


class ScoredTable(Table):
    """Some rows of a table whose samples are drawn and scored already; chunks are the scores.

    Args:
        table: all rows, of one draw.
        some: which of them.
        drawn: what :meth:`Table.drawn` gave: [1,N,F].
        own: [B,K], the scores of all rows.
        samples: [n,K], those of the samples.
    """

    def __init__(
        self,
        table: Table,
        some: slice,
        drawn: tuple[Tensor, Tensor | None],
        own: Tensor,
        samples: Tensor,
    ):
        super().__init__(table.background, table.x[some], seed=0)
        self.chunk_size = max(len(self.x), len(samples))  # each is one chunk
        self._drawn = drawn
        self._scores = own[some], samples

    def sampler(
        self, count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """The design [B,N,F] of the draw."""
        return self.design(*self._drawn)

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that makes chunks of scores [n,K]."""
        return self._scored

    def _scored(self, blocks: list[Block], size: int) -> Tensor:
        own, known = self._scores
        parts = [
            own[inputs] if samples.start == 0 else known[samples.start - 1 : samples.stop - 1]
            for inputs, samples in blocks
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class EveryRow(Table):
    """One input whose samples are all that the model gets for rows that share their draw.

    They are the rows themselves, and then the samples of the draw.

    Args:
        table: the rows, of one draw.
        num_samples: N, the rows of the draw.
    """

    def __init__(self, table: Table, num_samples: int):
        super().__init__(table.background, table.x[:1], seed=0)
        self.seeds = table.seeds
        self._rows = table.x
        self._known = self.draws.bins(self.seeds, numbers(num_samples, self.x))

    def _bins(self, seeds: Tensor, samples: Tensor) -> Tensor:
        return self._known[:, samples]

    def _chunk(self, dtype: torch.dtype, first: int, blocks: list[Block], size: int) -> Tensor:
        batch, parts = len(self._rows), []
        for one, samples in blocks:
            parts.append(self._rows[samples.start : samples.stop].to(dtype))
            start = max(samples.start - batch, 0) + 1  # sample 0 would be the row itself
            stop = samples.stop - batch + 1
            if start < stop:
                drawn = slice(start, stop)
                parts.append(super()._chunk(dtype, first, [(one, drawn)], stop - start))
        chunk = torch.cat(parts)
        return torch.cat([chunk, chunk[-1:].expand(size - len(chunk), -1)])
