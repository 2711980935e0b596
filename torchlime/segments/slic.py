"""SLIC superpixels: k-means in colour and position, as a few dense tensor operations."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchlime._checks import check_count, check_images, check_positive, check_real
from torchlime._labelmap import Segments
from torchlime._precision import solve_dtype
from torchlime.segments.axis import Axis
from torchlime.segments.components import INDEX_MASK, connect_labels

# A window penalty is above every squared distance, and the penalty of a cell beyond the border is
# above two window penalties. With the distance they stay below 2**24, so float32 holds the sum.
OUTSIDE_WINDOW = 2.0**22
OUTSIDE_GRID = 3 * OUTSIDE_WINDOW


@dataclass(frozen=True)
class Slic:
    """Superpixels by SLIC (Achanta et al. 2012), batched and without reading back to the host.

    A pixel joins the centre, among those of the 9 nearest cells, that minimises

        d² = |Δcolour|² + (compactness / step)² · |Δposition|²,   step = √(pixels per segment),

    A centre more than a cell away along an axis does not count. Centres then move to the means of
    their pixels. They start at the means of a regular grid, and pixels join ``iterations`` times.
    At the end the largest connected part of each segment stays, and every other part merges into
    the most similar part beside it (:func:`~torchlime.segments.components.connect_labels`).

    Args:
        num_segments: how many segments to ask for. The grid has about that many nearly square
            cells, and their number is the ``bound`` (49 for 50 in a square); an image may have
            fewer segments.
        compactness: weight of position against colour; a large weight gives squares. Colours are
            on the scale of Lab whatever the channels, so one value suits grey and colour images.
            (scikit-image leaves grey images in [0,1]: its value there is a hundredth of ours.)
        iterations: assignments of the pixels; 0 returns the grid itself.
        blur: smooth the image with a 3×3 binomial first, against noise.
        min_size_factor: a segment goes to its neighbours if fewer pixels than this share of the
            mean size were assigned to it. In [0, 1).

    Convention:
        Images may have any range: each is scaled to [0,1] by its own minimum and maximum over
        all channels; non-finite values count as 0. Three channels are taken as sRGB and
        converted to Lab, any other number is multiplied by 100, the range of L. Segments are
        4-connected and numbered by the raster order of their grid cells. A pixel at the same
        distance from several centres counts in all their means, and goes to the first cell in
        raster order. ``ok`` is False where the search for connected parts ran out of rounds: the
        segments are connected even then, but a part that was kept may have been larger.

    An image's segments are the same, bit for bit, in any batch. Colours are computed pixel by pixel
    in float64 and rounded to whole numbers. These are so small that every later sum and product is
    exact, in any order, by any kernel, and with TF32 too. (A CPU may compute the powers of Lab by
    vector or by scalar code, which differ in the last of 53 bits. This can show only where a colour
    is that close to the middle of two whole numbers.)

    Raises:
        TypeError: ``num_segments`` or ``iterations`` is not an int, or the images are not float.
        ValueError: a setting is out of its range, the images are not [B,C,H,W], or have 2**26
            pixels or more.

    Example:
        >>> segments = Slic(num_segments=4)(torch.rand(2, 3, 32, 32))
        >>> segments.labels.shape, segments.bound
        (torch.Size([2, 32, 32]), 4)
    """

    num_segments: int = 50
    compactness: float = 10.0
    iterations: int = 5
    blur: bool = True
    min_size_factor: float = 0.1

    def __post_init__(self) -> None:
        check_count(self.num_segments, "num_segments")
        check_positive(self.compactness, "compactness")
        check_count(self.iterations, "iterations", least=0)
        check_real(self.min_size_factor, "min_size_factor")
        if not 0 <= self.min_size_factor < 1:
            raise ValueError(f"min_size_factor must be in [0, 1), got {self.min_size_factor!r}")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Segments:
        """Segment ``images`` [B,C,H,W], float of any precision and range."""
        check_images(images)
        height, width = images.shape[2:]
        if height * width > INDEX_MASK:
            raise ValueError(f"images must have fewer than 2**26 pixels, got {height}x{width}")
        grid = _grid(height, width, int(self.num_segments))
        with torch.autocast(images.device.type, enabled=False):
            colours, pixel = _whole_numbers(_colours(images, self.blur), grid, self.compactness)
            cells = _nearest_cells(colours, pixel, grid, self.iterations)
            min_size = self.min_size_factor * height * width / grid.cells
            labels, count, ok = connect_labels(cells, colours, grid.cells, min_size)
        return Segments(labels, count, ok, grid.cells)


class _Grid(NamedTuple):
    """The cells that start the clusters: G cells, of which the largest has P pixels."""

    rows: Axis
    columns: Axis

    @property
    def cells(self) -> int:
        return self.rows.parts * self.columns.parts

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.parts, self.columns.parts

    def cut(self, image: Tensor) -> Tensor:
        """[B,C,H,W] → [B,G,C,P]: the pixels of each cell together, padded to one size."""
        rows, _ = self.rows.tiles(image.device)
        columns, _ = self.columns.tiles(image.device)
        image = image.index_select(2, rows.flatten()).index_select(3, columns.flatten())
        image = image.view(*image.shape[:2], *rows.shape, *columns.shape)
        return image.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(1, 2)

    def join(self, cells: Tensor) -> Tensor:
        """The inverse of ``cut`` without channels, [B,G,P] → [B,H,W]."""
        image = cells.reshape(-1, *self.shape, self.rows.size, self.columns.size)
        image = image.transpose(2, 3).flatten(3).flatten(1, 2)
        image = image.index_select(1, self.rows.places(cells.device))
        return image.index_select(2, self.columns.places(cells.device))


def _grid(height: int, width: int, num_segments: int) -> _Grid:
    """About ``num_segments`` cells that are nearly square."""
    rows = round(math.sqrt(num_segments * height / width))
    rows = min(max(rows, 1), height, num_segments)
    columns = min(max(round(num_segments / rows), 1), width)
    return _Grid(Axis(height, rows), Axis(width, columns))


def _colours(images: Tensor, blur: bool) -> Tensor:
    """Each image on the scale of Lab, in float64."""
    pixels = images.to(solve_dtype(images.device)).nan_to_num(0.0, 0.0, 0.0)
    # Values are halved, so that no range overflows.
    low = pixels.amin(dim=(1, 2, 3), keepdim=True) / 2
    span = pixels.amax(dim=(1, 2, 3), keepdim=True) / 2 - low
    pixels = (pixels / 2 - low) / torch.where(span > 0, span, 1)
    if blur:
        pixels = _binomial_blur(pixels)
    return _lab(pixels) if pixels.shape[1] == 3 else 100 * pixels


def _binomial_blur(pixels: Tensor) -> Tensor:
    """Weights 1/4, 1/2, 1/4 along both axes; the border is repeated."""
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., :-2] + padded[..., 2:]).add_(padded[..., 1:-1], alpha=2)
    return (across[..., :-2, :] + across[..., 2:, :]).add_(across[..., 1:-1, :], alpha=2) / 16


def _lab(rgb: Tensor) -> Tensor:
    """sRGB in [0,1] to CIE Lab (D65, 2° observer), the same as kornia's ``rgb_to_lab``.

    kornia's function copies a matrix from the host on every call.
    """
    from kornia.color import rgb_to_linear_rgb

    red, green, blue = rgb_to_linear_rgb(rgb).unbind(1)
    x = (0.412453 * red + 0.357580 * green + 0.180423 * blue) / 0.95047
    y = 0.212671 * red + 0.715160 * green + 0.072169 * blue
    z = (0.019334 * red + 0.119193 * green + 0.950227 * blue) / 1.08883
    xyz = torch.stack((x, y, z), dim=1)
    root = xyz.clamp(min=0.008856) ** (1 / 3)
    fx, fy, fz = torch.where(xyz > 0.008856, root, 7.787 * xyz + 4 / 29).unbind(1)
    return torch.stack((116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)), dim=1)


def _whole_numbers(colours: Tensor, grid: _Grid, compactness: float) -> tuple[Tensor, Tensor]:
    """Round colours to whole numbers, and say how far apart two pixels are on that scale.

    Every number is at most M in size, where M² <= 2**20 / (C + 2), so the squared distance of two
    points is at most 2**22. M is below 2**8, so the factors of a product are exact even in
    bfloat16, which a caller's matmul precision may use. (6 bits and 20 serve photos equally well.)
    Positions count up to 2.5 cells from the middle of a pixel's own cell, because the clusters that
    the pixel may join have no pixels further away.
    """
    largest = min(math.isqrt(2**20 // (colours.shape[1] + 2)), 2**8) - 2
    high, low = colours.amax(dim=(2, 3), keepdim=True), colours.amin(dim=(2, 3), keepdim=True)
    weight = compactness / math.sqrt(grid.rows.step * grid.columns.step)
    farthest = 2.5 * weight * max(grid.rows.size, grid.columns.size)
    spread = (high - low).amax(dim=(1, 2, 3), keepdim=True) / 2
    scale = largest / spread.clamp(min=farthest)
    return ((colours - (high + low) / 2) * scale).round(), weight * scale.flatten()


class _Points(NamedTuple):
    """The pixels by cells: whole numbers, positions measured from their cell's origin."""

    features: Tensor  # [B·G,C+3,P]: colours, row, column and 1, all 0 where a cell is padded
    rows: Tensor  # [B,G,rows of a cell]
    columns: Tensor  # [B,G,columns of a cell]
    origin: Tensor  # [B,C+2,1,G]: of the cell in the image, 0 for colours
    inside: Tensor  # [9,G]: 1 where that neighbour of the cell is in the grid, 0 where not
    pixel: Tensor  # [B]: how far two pixels are apart


def _points(colours: Tensor, pixel: Tensor, grid: _Grid) -> _Points:
    batch, channels = colours.shape[:2]
    rows, top, real_rows = _places(grid.rows, pixel)
    columns, left, real_columns = _places(grid.columns, pixel)
    rows = rows[:, :, None].expand(-1, -1, grid.columns.parts, -1).flatten(1, 2)
    columns = columns[:, None].expand(-1, grid.rows.parts, -1, -1).flatten(1, 2)
    origin = colours.new_zeros(batch, channels + 2, *grid.shape)
    origin[:, -2] = top[:, :, None]
    origin[:, -1] = left[:, None]
    tile = (batch, grid.cells, 1, grid.rows.size, grid.columns.size)
    positions = (rows[:, :, None, :, None].expand(tile), columns[:, :, None, None].expand(tile))
    real = (real_rows[:, None, :, None] & real_columns[:, None]).expand(batch, *grid.shape, -1, -1)
    real = real.reshape(tile).to(colours.dtype)
    features = torch.cat((grid.cut(colours), *(p.flatten(3) for p in positions)), dim=2)
    features = torch.cat((features * real.flatten(3), real.flatten(3)), dim=2)
    small = grid.rows.size * grid.columns.size * 2**8 <= 2**24  # then so is every sum in a cell
    return _Points(
        features.to(torch.float32 if small else colours.dtype).flatten(0, 1),
        rows,
        columns,
        origin.flatten(2)[:, :, None],
        F.unfold(colours.new_ones(1, 1, *grid.shape), kernel_size=3, padding=1)[0],
        pixel,
    )


def _places(axis: Axis, pixel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places [B,parts,size] from the middle of each part, the middles, and which are real."""
    index, real = axis.tiles(pixel.device)
    place = (index * pixel[:, None, None]).round()
    middle = place[:, :, axis.size // 2]
    return place - middle[:, :, None], middle, real


def _nearest_cells(colours: Tensor, pixel: Tensor, grid: _Grid, iterations: int) -> Tensor:
    """K-means over the 3×3 cells around each pixel's own: the cell it joins, [B,H,W]."""
    batch = colours.shape[0]
    own = torch.arange(grid.cells, device=colours.device)[:, None]
    if iterations == 0:
        return grid.join(own.expand(batch, -1, grid.rows.size * grid.columns.size))
    points = _points(colours, pixel, grid)
    sums = points.features.sum(dim=2, dtype=colours.dtype).view(batch, 1, grid.cells, -1)
    sums = _in_image(sums.permute(0, 3, 1, 2), points.origin)
    centres = (sums[:, :-1] / sums[:, -1:]).round().squeeze(2)
    for _ in range(iterations - 1):
        members = _nearest(centres, points, grid)
        sums = torch.bmm(members, points.features.mT).to(colours.dtype)
        sums = sums.view(batch, grid.cells, 9, -1).permute(0, 3, 2, 1)
        sums = _in_image(sums, points.origin).flatten(1, 2)
        sums = F.fold(sums, grid.shape, kernel_size=3, padding=1).flatten(2)
        size = sums[:, -1:]
        means = (sums[:, :-1] / size.clamp(min=1)).round()
        centres = torch.where(size > 0, means, centres)
    members = _nearest(centres, points, grid)
    first = torch.arange(9, 0, -1, device=own.device)[:, None]
    around = 9 - members.mul_(first).amax(dim=1).long().view(batch, grid.cells, -1)
    return grid.join(own + (around // 3 - 1) * grid.columns.parts + around % 3 - 1)


def _in_image(sums: Tensor, origin: Tensor) -> Tensor:
    """Sums [B,C+3,n,G] of features, with positions measured from the corner of the image."""
    return torch.cat((sums[:, :-1] + sums[:, -1:] * origin, sums[:, -1:]), dim=1)


def _nearest(centres: Tensor, points: _Points, grid: _Grid) -> Tensor:
    """Which of the 9 centres around its cell are nearest to each pixel: 0 or 1, [B·G,9,P]."""
    channels = centres.shape[1] - 2
    near = F.unfold(centres.view(*centres.shape[:2], *grid.shape), kernel_size=3, padding=1)
    near = near.view(*centres.shape[:2], 9, grid.cells)
    near = ((near - points.origin) * points.inside).permute(0, 3, 2, 1)
    colour, row, column = near[..., :channels], near[..., -2, None], near[..., -1, None]
    exact = points.features.dtype
    fixed = colour.square().sum(dim=3, keepdim=True)
    fixed = fixed + OUTSIDE_GRID * (1 - points.inside.mT[..., None])
    rows = fixed + _along(row, points.rows, points.pixel * grid.rows.step)
    columns = _along(column, points.columns, points.pixel * grid.columns.step)
    cost = rows.to(exact)[..., :, None] + columns.to(exact)[..., None, :]
    cost = cost.flatten(3).flatten(0, 1)
    # |c|² − 2 c·x: the pixel's own |x|² is the same for all its candidates.
    cost.baddbmm_(colour.to(exact).flatten(0, 1), points.features[:, :channels], alpha=-2)
    return cost.eq_(cost.amin(dim=1, keepdim=True))


def _along(centre: Tensor, places: Tensor, window: Tensor) -> Tensor:
    """Squared distances [B,G,9,size] along one axis, with the penalty outside the window."""
    distance = centre - places[:, :, None]
    outside = distance.abs() > window[:, None, None, None]
    return distance.square() + OUTSIDE_WINDOW * outside
