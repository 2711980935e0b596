"""A hidden window of cells in every row."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchlime._checks import check_count, check_rows
from torchlime._hash import numbers
from torchlime.masks._drawing import finite_rows, in_blocks, present


@dataclass(frozen=True)
class SlidingWindow:
    """Hide a window that slides over a grid of segments: the design of occlusion.

    Row 0 keeps all. Each further row hides the window at one place; the place along the last axis
    changes fastest. Places are ``stride`` cells apart, and the last window of an axis is cut off at
    the edge. ``num_samples`` is an upper limit; N is the number of places plus one.

    Convention:
        The segments are the cells of the grid in row-major order, as those of
        :class:`torchlime.segments.Grid`. A grid may have any number of axes.

    Source: Zeiler & Fergus 2014, section 4.2.

    Args:
        grid: the number of cells along each axis.
        window: the cells of the window along each axis.
        stride: the step from one window to the next, in cells along each axis, or one number for
            all axes. It is at most the window, so that every cell is hidden.

    Raises:
        TypeError, ValueError: the arguments do not fit each other; or, when drawing,
            ``num_samples`` is too small, or the grid has another number of cells than S.

    Example:
        >>> import torch
        >>> masks = SlidingWindow(grid=(1, 4), window=(1, 2))(torch.tensor([4]), 4, 9, seed=0)
        >>> masks[0].int().tolist()
        [[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 0]]
    """

    endless: ClassVar[bool] = False  # there are no rows beyond

    grid: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...] | int = 1

    def __post_init__(self) -> None:
        for name, values in (("grid", self.grid), ("window", self.window)):
            if not isinstance(values, tuple) or not values:
                raise TypeError(f"{name} must be a tuple of ints, such as (7, 7), got {values!r}")
        strides = self.strides
        for value in (*self.grid, *self.window, *strides):
            check_count(value, "each number of grid, window and stride")
        if not len(self.grid) == len(self.window) == len(strides):
            raise ValueError(
                "grid, window and stride must have as many axes, got "
                f"{self.grid}, {self.window} and {self.stride}"
            )
        for cells, window, stride in zip(self.grid, self.window, strides, strict=True):
            if window > cells:
                raise ValueError(f"window {self.window} must lie within the grid {self.grid}")
            if stride > window and window < cells:
                raise ValueError(
                    f"stride {self.stride} must be at most the window {self.window}, or cells "
                    "between two windows are never hidden"
                )

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride along each axis."""
        return self.stride if isinstance(self.stride, tuple) else (self.stride,) * len(self.grid)

    @property
    def places(self) -> tuple[int, ...]:
        """The number of windows along each axis."""
        axes = zip(self.grid, self.window, self.strides, strict=True)
        return tuple(math.ceil((cells - window) / stride) + 1 for cells, window, stride in axes)

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Enumerate masks [B,N,S] bool; ``seed`` has no effect."""
        check_rows(num_samples, first)
        cells = math.prod(self.grid)
        if bound != cells:
            raise ValueError(
                f"{self!r} has {cells} cells, but there are up to {bound} segments; segment with "
                "Grid of the same numbers"
            )
        rows = finite_rows(self, math.prod(self.places) + 1, num_samples, first)
        masks = in_blocks(lambda r: self.rows(r)[None], numbers(rows, count, first), bound)
        return masks & present(count, bound)

    def rows(self, number: Tensor) -> Tensor:
        """The masks [n,S] of the rows ``number`` [n]."""
        hidden = torch.ones(1, dtype=torch.bool, device=number.device)
        for axis, (cells, window) in enumerate(zip(self.grid, self.window, strict=True)):
            behind = [1] * (len(self.grid) - axis - 1)
            place = (number - 1) // math.prod(self.places[axis + 1 :]) % self.places[axis]
            start = place[:, None] * self.strides[axis]
            cell = numbers(cells, number)
            covered = (cell >= start) & (cell < start + window)
            hidden = hidden & covered.view(len(number), *[1] * axis, cells, *behind)
        return ~hidden.flatten(1) | (number == 0)[:, None]

    def covering(self, axis: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The first and the last window over each cell of an axis: int64 [cells]."""
        cell = torch.arange(self.grid[axis], device=device)
        window, stride = self.window[axis], self.strides[axis]
        first = (cell - window + stride).clamp(min=0) // stride
        return first, (cell // stride).clamp(max=self.places[axis] - 1)
