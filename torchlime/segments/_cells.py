"""The cells that start the clusters of Slic: a grid over any number of axes."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchlime._host import kept
from torchlime.segments.axis import Axis


class Cells(NamedTuple):
    """G cells in raster order, of which the largest has P pixels.

    There are n axes. A cell has 3ⁿ neighbours in raster order, itself among them.
    """

    axes: tuple[Axis, ...]

    @property
    def number(self) -> int:
        """G."""
        return math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return tuple(axis.parts for axis in self.axes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels of the largest cell along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def step(self) -> float:
        """The side of a cube that has as many pixels as a cell has on average."""
        volume, axes = math.prod(axis.step for axis in self.axes), len(self.axes)
        return math.sqrt(volume) if axes == 2 else volume ** (1 / axes)

    def cut(self, channels: list[Tensor]) -> Tensor:
        """C channels [B,*axes] → [B,G,C,P]: the pixels of each cell, padded by 0 to one size."""
        count = len(self.axes)
        uneven = [axis.length % axis.parts > 0 for axis in self.axes]
        if any(uneven):  # behind the last pixel stands a 0
            image = torch.stack(channels)
            image = F.pad(image, [width for axis in reversed(uneven) for width in (0, int(axis))])
            for dim, axis in enumerate(self.axes, start=2):
                if uneven[dim - 2]:
                    image = image.index_select(dim, axis.padded_tiles(image))
            channels = list(image.unbind(0))
        sides = [side for axis in self.axes for side in (axis.parts, axis.size)]
        parts, sizes = range(1, 1 + 2 * count, 2), range(2, 2 + 2 * count, 2)
        views = [one.view(len(one), *sides).permute(0, *parts, *sizes) for one in channels]
        return torch.stack(views, dim=1 + count).flatten(2 + count).flatten(1, count)

    def join(self, cells: Tensor) -> Tensor:
        """The inverse of ``cut`` without channels: numbers [B,G,P] → [B,*axes] int32."""
        count = len(self.axes)
        image = cells.reshape(-1, *self.shape, *self.sizes)
        image = image.permute(0, *(d for k in range(1, count + 1) for d in (k, k + count)))
        image = image.to(torch.int32, memory_format=torch.contiguous_format)
        for dim, axis in enumerate(self.axes, start=1):
            image = image.flatten(dim, dim + 1)
            if axis.length % axis.parts:
                image = image.index_select(dim, axis.places(cells))
        return image

    def around(self, values: Tensor) -> Tensor:
        """[B,C,G] → [B,C,3,…,3,*shape], a view: the values of each cell's neighbours.

        They are 0 beyond the grid. ``flatten(2 + n).flatten(2, 1 + n)`` makes it [B,C,3ⁿ,G].
        """
        count = len(self.axes)
        values = F.pad(values.unflatten(2, self.shape), (1, 1) * count)
        for dim in range(2, 2 + count):
            values = values.unfold(dim, 3, 1)
        cells, neighbours = range(2, 2 + count), range(2 + count, 2 + 2 * count)
        return values.permute(0, 1, *neighbours, *cells)

    def gather(self, values: Tensor) -> Tensor:
        """[B,C,3ⁿ,G] → [B,C,G]: what all cells give to each cell. It is the adjoint of ``around``.

        ``F.fold`` adds along the last two axes, and slices along the first of three.
        """
        batch, channels = values.shape[:2]
        *first, rows, columns = (1, 1, *self.shape)[-3:]
        window = (3 if len(self.axes) > 1 else 1, 3)
        planes = 3 if len(self.axes) > 2 else 1
        values = values.reshape(batch, channels, planes, -1, *first, rows * columns)
        values = values.transpose(3, 4).flatten(1, 4)
        padding = (window[0] // 2, 1)
        values = F.fold(values, (rows, columns), window, padding=padding)
        values = values.view(batch, channels, planes, *first, rows * columns)
        if planes == 3:
            before, own, after = values.unbind(2)
            own = own.clone()
            own[:, :, :-1] += before[:, :, 1:]
            own[:, :, 1:] += after[:, :, :-1]
            values = own
        return values.reshape(batch, channels, self.number)

    @kept
    def offsets(self, device: torch.device) -> Tensor:
        """How far each neighbour is from a cell in raster order: [3ⁿ] int64."""
        steps = torch.arange(-1, 2, device=device)
        offsets = steps
        for parts in self.shape[1:]:
            offsets = torch.add(steps, offsets[:, None], alpha=parts).flatten()
        return offsets


def cells_of(sides: tuple[int, ...], number: int) -> Cells:
    """About ``number`` cells with nearly equal sides, in an image of ``sides``."""
    axes: tuple[Axis, ...] = ()
    for place, length in enumerate(sides):
        rest = len(sides) - place
        volume = number * length ** (rest - 1) / math.prod(sides[place + 1 :])
        parts = round(math.sqrt(volume) if rest == 2 else volume ** (1 / rest))
        parts = min(max(parts, 1), length, number)
        axes += (Axis(length, parts),)
        number = max(round(number / parts), 1)
    return Cells(axes)
