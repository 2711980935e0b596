"""Grids of cells that fade into each other, shifted anew for every sample: the masks of RISE.

Along an axis of L pixels with s cells, a cell is C = ⌈L/s⌉ pixels. The values of the cells are
upsampled linearly to (s + 1)·C pixels, of which L are taken from the shift on, 0 … C − 1. So a mask
is the product of a matrix for each axis with the values of the cells, and is made for the rows of
a chunk alone.
"""

import math

import torch
from torch import Tensor

from torchlime._hash import hash64, numbers, seeds_of, shift_right
from torchlime._kinds import IMAGES
from torchlime._labelmap import Segments
from torchlime._problems import Problem, broken, flag
from torchlime._row_groups import size_of
from torchlime.black_box import BlackBox
from torchlime.features.pixels import Perturbed, default_chunk_size, filled
from torchlime.strategies import Features, Fill, Rows


class ShiftedGrids(Features):
    """The cells of a grid over images: a row shows image · m + fill · (1 − m), m the soft mask.

    The features are the cells in raster order. A mask of sample i and its shift depend on
    (seed, sample) alone.

    Convention:
        The cells' values are bilinear between the cells' centres, and mirrored at the centres of
        the outer ones, as the authors' code has it (scikit-image's ``resize``). In the first round
        of a design with the input beside it, row 0 is the input and row i + 1 is sample i.

    Source: Petsiuk, Das & Saenko 2018, section 3.2.

    Args:
        images: [B,C,*axes] float.
        fill: what hidden parts show, as for :class:`torchlime.features.Pixels`.
        grid: the number of cells along each axis.
        seed: of the shifts: an int, or an int64 tensor [B].
        segments: given to the fill, if it is a function of them.

    Raises:
        ValueError: the grid does not fit the images.
    """

    kind = IMAGES

    def __init__(
        self,
        images: Tensor,
        fill: Fill | Tensor | None,
        grid: tuple[int, ...],
        seed: int | Tensor,
        segments: Segments | None = None,
    ):
        self.images = images
        self.axes = tuple(images.shape[2:])
        self.grid = grid
        if len(grid) != len(self.axes) or any(
            cells > length for cells, length in zip(grid, self.axes, strict=True)
        ):
            raise ValueError(
                f"grid must have a number of cells for each axis of {self.axes}, at most its "
                f"pixels, got {grid}"
            )
        self.bound = math.prod(grid)
        self.count = torch.full((1,), self.bound, device=images.device).expand(len(images))
        self.seeds = seeds_of(seed, self.count)
        self.fill = filled(fill, images, segments)
        self.chunk_size = default_chunk_size(images.device, math.prod(self.axes))
        self.dtype = torch.promote_types(images.dtype, torch.float32)

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that makes the perturbed images of masks [B,n,S]."""
        return _Shifted(
            self.images,
            self.fill,
            self,
            design,
            dtype=box.dtype,
            channels_last=box.channels_last and not box.contiguous,
            reuse=box.reuse,
            first=first or -1,  # row 0 of the first round is the input
        )

    def masks(self, cells: Tensor, first: int, images: slice = slice(None)) -> Tensor:
        """The soft masks [b,n,*axes] of the samples ``first`` … of cells [b,n,S] bool.

        The cells are those of ``images``; or b is 1 where all images share one seed.
        """
        seeds = self.seeds if len(self.seeds) == 1 else self.seeds[images]
        samples = numbers(cells.shape[1], cells, first)
        found = cells.to(self.dtype).unflatten(2, self.grid)
        for axis, (parts, length) in enumerate(zip(self.grid, self.axes, strict=True)):
            shape = [1] * len(self.grid)
            shape[axis] = length
            low, high, share = (
                values.unflatten(2, shape)
                for values in _between(
                    self._shifts(seeds, samples, axis), parts, length, self.dtype
                )
            )
            at = axis + 2
            found = torch.lerp(_taken(found, low, at), _taken(found, high, at), share)
        return found

    def _shifts(self, seeds: Tensor, samples: Tensor, axis: int) -> Tensor:
        """The shifts [b or 1,n] of samples along an axis, 0 … C − 1, each as likely."""
        bits = hash64(seeds[:, None], -1 - axis, samples)  # masks count from 0 there
        return shift_right(bits, 11) % _cell(self.axes[axis], self.grid[axis])

    def problems(self, design: Tensor | None, box: BlackBox) -> Tensor:
        """Flags for non-finite images."""
        return flag(broken(self.images), Problem.NON_FINITE_IMAGE)


class _Shifted(Perturbed):
    """As :class:`Perturbed`, for the soft masks of :class:`ShiftedGrids`.

    Where m is 1 or 0, the row is the image or the fill, bit for bit.
    """

    def __init__(self, *given: object, first: int, **settings: object):
        super().__init__(*given, **settings)  # type: ignore[arg-type]
        self.first = first

    def _take(self, segments: ShiftedGrids, rank: int) -> None:  # type: ignore[override]
        self.grids = segments

    def _perturb(self, images: slice, samples: slice, rows: slice) -> None:
        layout = (*self.shape[1:], self.shape[0]) if self.channels_last else self.shape
        cells = self.masks[images, samples]
        hidden = 1 - self.grids.masks(cells, self.first + samples.start, images)
        hidden = hidden.unsqueeze(-1 if self.channels_last else 2)
        image, fill = (
            values[images, None].unflatten(2, layout).to(hidden.dtype)
            for values in (self.images, self.fill)
        )
        out = self._pixels[rows].view(size_of(images), size_of(samples), *layout)
        out.copy_(torch.lerp(image, fill, hidden))


def _cell(length: int, parts: int) -> int:
    """C, the pixels of a cell."""
    return -(-length // parts)


def _between(
    shifts: Tensor, parts: int, length: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells that each pixel lies between, and the share of the second: [b,n,L] each.

    Pixel o of (s + 1)·C lies at ((2o + 1)·s − (s + 1)·C) / d in units of cells, with
    d = 2·(s + 1)·C, and is mirrored at 0 and s − 1.
    """
    wide = (parts + 1) * _cell(length, parts)
    unit, last = 2 * wide, parts - 1
    place = shifts[..., None] + numbers(length, shifts)
    at = ((2 * place + 1) * parts - wide).abs()
    at = torch.where(at > last * unit, 2 * last * unit - at, at).clamp(min=0)
    low = at.div(unit, rounding_mode="floor")
    share = (at - low * unit).to(dtype) / unit
    return low, (low + 1).clamp(max=last), share


def _taken(values: Tensor, index: Tensor, axis: int) -> Tensor:
    """The values at ``index``, which has one axis of its own, along that axis."""
    shape = [*values.shape]
    shape[axis] = index.shape[axis]
    return values.gather(axis, index.expand(shape))
