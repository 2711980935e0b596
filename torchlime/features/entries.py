"""Entries: the segments of several inputs of a model, and inputs that are only passed on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchlime._kinds import IMAGES, Kind, Masks
from torchlime._labelmap import Segments
from torchlime._problems import Problem, flag
from torchlime._several import beside, is_several, leaves_of, like, names_of
from torchlime._softmap import SoftSegments
from torchlime.black_box import Arguments, BlackBox
from torchlime.features.pixels import Perturbed, Pixels, default_chunk_size
from torchlime.strategies import Block, Features, Fill, Rows


class Entries(Features):
    """The segments of one input or several; a hidden one shows the fill in each that has it.

    Args:
        inputs: a tensor [B,…], or a tuple or mapping of such. A tuple is called ``model(a, b)``, a
            mapping ``model(**inputs)``.
        segments: of each input, one after another; all of them have one count and one bound. None
            where the input is only passed on.
        fill: one fill for all, or one for each in the structure of the inputs; a tensor is one.
        extra: further inputs of the model, as :func:`torchlime._inputs.as_extra` returns them: a
            row sees those of its own input. A tuple comes after the inputs, a mapping is passed by
            name.
        kind: what inputs and their features are called; None = images, or inputs if several.

    Raises:
        TypeError, ValueError: the fills or the extra inputs do not fit the inputs.
    """

    def __init__(
        self,
        inputs: Any,
        segments: Sequence[Segments | SoftSegments | None],
        fill: Any,
        extra: tuple[Tensor, ...] | Mapping[str, Tensor] = (),
        kind: Kind | None = None,
    ):
        self.inputs = inputs
        self.extra = extra
        self.parts: list[Pixels | Tensor] = []
        for name, leaf, own, shown in zip(
            names_of(inputs), leaves_of(inputs), segments, _fills(fill, inputs), strict=True
        ):
            try:
                self.parts.append(leaf if own is None else Pixels(leaf, own, shown))
            except (TypeError, ValueError) as error:
                place = f"{name}: " if is_several(inputs) else ""
                raise type(error)(f"{place}{error}") from error
        self.explained = [part for part in self.parts if isinstance(part, Pixels)]
        self.count = self.explained[0].count
        self.bound = self.explained[0].bound
        usual = Masks("segment", "input") if is_several(inputs) else IMAGES
        self.kind: Kind = kind or usual
        pixels = [leaf[0, 0].numel() if leaf.dim() > 2 else 1 for leaf in leaves_of(inputs)]
        self.chunk_size = default_chunk_size(self.count.device, sum(pixels))

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that makes the perturbed inputs of masks [B,n,S]."""
        rows = [
            part.rows(design, box, first) if isinstance(part, Pixels) else Repeated(part, box.dtype)
            for part in self.parts
        ]
        extra = [Repeated(values, box.dtype) for values in leaves_of(self.extra)]
        return Together(self.inputs, rows, self.extra, extra)

    def energy(self) -> Tensor | None:
        """[B,S]: Σ over the segment, in all inputs, of (input − fill)²; None for soft segments."""
        parts = [energy for part in self.explained if (energy := part.energy()) is not None]
        return torch.stack(parts).sum(dim=0) if parts else None

    def problems(self, design: Tensor | None, box: BlackBox) -> Tensor:
        """Those of every explained input."""
        problems = self.explained[0].problems(design, box)
        for part in self.explained[1:]:
            problems = problems | part.problems(design, box)
        passed = [part for part in self.parts if isinstance(part, Tensor)]
        for values in (*passed, *leaves_of(self.extra)):
            broken = ~values.isfinite().reshape(len(values), -1).all(dim=1)
            problems = problems | flag(broken, Problem.NON_FINITE_IMAGE)
        return problems

    def fields(self) -> dict[str, Any]:
        """The label maps in the structure of the inputs, and the caller's ids."""
        maps = [p.fields()["segments"] if isinstance(p, Pixels) else None for p in self.parts]
        return {**self.explained[0].fields(), "segments": like(self.inputs, maps)}


def _fills(fill: Any, inputs: Any) -> list[Fill | Tensor]:
    if is_several(fill):
        return beside(fill, inputs, "fill", "a fill or a tensor")
    return [fill] * len(leaves_of(inputs))


class Repeated:
    """Values [B,…] of the inputs, for every row those of its own input.

    Args:
        values: [B,…].
        dtype: the dtype that the model takes. Integers keep theirs.
    """

    def __init__(self, values: Tensor, dtype: torch.dtype | None):
        self.values = values.to(dtype) if dtype and values.is_floating_point() else values

    def __call__(self, blocks: list[Block], rows: int) -> Tensor:
        """[rows,…]; the rows beyond the blocks repeat the last one."""
        parts, filled = [], 0
        for inputs, samples in blocks:
            number = samples.stop - samples.start
            values = self.values[inputs, None]
            parts.append(values.expand(-1, number, *values.shape[2:]).flatten(0, 1))
            filled += len(parts[-1])
        if filled < rows:
            parts.append(parts[-1][-1:].expand(rows - filled, *self.values.shape[1:]))
        return torch.cat(parts)


class Together:
    """Chunks of several inputs: the arguments of the model.

    Args:
        inputs: the inputs, for their structure.
        rows: of each input, one after another.
        extra: further inputs, for their structure.
        extra_rows: of each further input.
    """

    def __init__(self, inputs: Any, rows: Sequence[Rows], extra: Any, extra_rows: Sequence[Rows]):
        self.inputs = inputs
        self.rows = rows
        self.extra = extra
        self.extra_rows = extra_rows
        self._size = 0

    def __call__(self, blocks: list[Block], size: int) -> Any:
        """The arguments of ``size`` rows: a tuple, a mapping, or both."""
        if size != self._size:  # memory ran out: release all buffers before taking new ones
            for rows in self.rows:
                if isinstance(rows, Perturbed):
                    rows.release()
            self._size = size
        chunk = like(self.inputs, [rows(blocks, size) for rows in self.rows])
        extra = like(self.extra, [rows(blocks, size) for rows in self.extra_rows])
        if isinstance(chunk, Mapping):
            return {**chunk, **extra} if extra else chunk
        positional = chunk if is_several(chunk) else (chunk,)
        if isinstance(extra, Mapping):
            return Arguments(positional, dict(extra))
        return (*positional, *extra)
