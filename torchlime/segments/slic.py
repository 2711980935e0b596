"""SLIC superpixels: k-means in colour and position, as a few dense tensor operations."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchlime._checks import check_count, check_positive, check_real, check_spatial
from torchlime._host import is_at_hand
from torchlime._labelmap import Segments
from torchlime._undisturbed import without_autocast
from torchlime.segments._cells import Cells, cells_of
from torchlime.segments._colours import colours_of
from torchlime.segments.components import INDEX_MASK, connect_labels

# Every cell that sees a centre adds this share of the last centre to its sums. A sum over pixels
# loses the share by rounding. A sum over no pixels is the share alone, so its mean is the last
# centre. The share is a power of 2, so the mean is exact.
NOTHING = 2.0**-100


@dataclass(frozen=True)
class Slic:
    """Superpixels by SLIC (Achanta et al. 2012), batched and without reading back to the host.

    It takes series [B,C,L], images [B,C,H,W], and volumes or videos [B,C,D,H,W]: inputs of n = 1, 2
    or 3 axes. A pixel joins the centre, among those of the 3ⁿ nearest cells, that minimises

        d² = |Δcolour|² + (compactness / step)² · |Δposition|²,   stepⁿ = pixels per segment.

    A centre more than a cell away along an axis does not count. Centres then move to the means of
    their pixels. They start at the means of a regular grid, and pixels join ``iterations`` times.
    At the end the largest connected part of each segment stays, and every other part merges into
    the most similar part beside it (:func:`~torchlime.segments.components.connect_labels`).

    Args:
        num_segments: how many segments to ask for. The grid has about that many cells, nearly
            square (cubic), and their number is the ``bound`` (49 for 50 in a square); an image may
            have fewer segments.
        compactness: weight of position against colour; a large weight gives squares. Colours are
            on the scale of Lab whatever the channels, so one value suits grey and colour images.
            (scikit-image leaves grey images in [0,1]: its value there is a hundredth of ours.)
        iterations: assignments of the pixels; 0 returns the grid itself.
        blur: smooth the image with a binomial of 3 pixels along each axis first, against noise.
        min_size_factor: a segment goes to its neighbours if fewer pixels than this share of the
            mean size were assigned to it. In [0, 1).

    Convention:
        Images may have any range: each is scaled to [0,1] by its own minimum and maximum over
        all channels; non-finite values count as 0. Three channels of images and volumes are taken
        as sRGB and converted to Lab. Any other number, and all channels of series, are multiplied
        by 100, the range of L. Segments are connected, where pixels touch along the axes alone (4
        neighbours in an image, 6 in a volume), and numbered by the raster order of their grid
        cells. A pixel at the same distance from several centres counts in all their means, and
        goes to the first cell in raster order. ``ok`` is False where the search for connected parts
        ran out of rounds: the segments are connected even then, but a part that was kept may have
        been larger.

    An image's segments are the same, bit for bit, in any batch. Colours are computed pixel by pixel
    in float64 and rounded to whole numbers. These are so small that every later sum and product is
    exact, in any order, by any kernel, and with TF32 too. (A CPU may compute Lab by vector or by
    scalar code, which differ in the last of 53 bits. This can show only where a colour is that
    close to the middle of two whole numbers.)

    A volume takes about 250 bytes a pixel while it is segmented, an image about 150, so large ones
    may go through :class:`~torchlime.segments.Reduced`.

    Raises:
        TypeError: ``num_segments`` or ``iterations`` is not an int, or the images are not float.
        ValueError: a setting is out of its range, the images do not have 1 to 3 axes behind the
            channels, or have 2**26 pixels or more.

    Example:
        >>> segments = Slic(num_segments=4)(torch.rand(2, 3, 32, 32))
        >>> segments.labels.shape, segments.bound
        (torch.Size([2, 32, 32]), 4)
        >>> Slic(num_segments=8)(torch.rand(1, 1, 12, 16, 16)).labels.shape
        torch.Size([1, 12, 16, 16])
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
        """Segment ``images`` [B,C,*axes], float of any precision and range."""
        check_spatial(images)
        sides = tuple(images.shape[2:])
        pixels = math.prod(sides)
        if pixels > INDEX_MASK:
            shown = "×".join(map(str, sides))
            raise ValueError(
                f"images must have fewer than 2**26 pixels, got {shown}; "
                "Reduced(Slic(), max_side=...) segments a smaller copy"
            )
        grid = cells_of(sides, int(self.num_segments))
        with without_autocast(images.device):
            colours, pixel = _whole_numbers(colours_of(images, self.blur), grid, self.compactness)
            cells = _nearest_cells(colours, pixel, grid, self.iterations)
            min_size = self.min_size_factor * pixels / grid.number
            labels, count, ok = connect_labels(cells, colours, grid.number, min_size)
        return Segments(labels, count, ok, grid.number)


def outside_window(axes: int) -> float:
    """The penalty of a cell that is too far along one axis.

    It is as large as any squared distance. A cell that is not beyond the border has a reward as
    large as those of all axes and a distance. No sum exceeds 2**24 in size, so float32 holds it.
    """
    return 2.0**22 if axes < 3 else 2.0**21


def _whole_numbers(colours: Tensor, grid: Cells, compactness: float) -> tuple[Tensor, Tensor]:
    """Round colours to whole numbers, and say how far apart two pixels are on that scale.

    There are n axes. Every number is at most M in size, where M² (C + n) is a quarter of the window
    penalty, so the squared distance of two points is at most that penalty. M is below 2**8, so the
    factors of a product are exact even in bfloat16, which a caller's matmul precision may use.
    (6 bits and a penalty of 2**20 serve photos equally well.) Positions count up to 2.5 cells from
    the middle of a pixel's own cell, because the clusters that the pixel may join have no pixels
    further away.
    """
    axes, channels = len(grid.axes), colours.shape[1]
    quarter = int(outside_window(axes)) // 4
    largest = min(math.isqrt(quarter // (channels + axes)), 2**8) - 2
    pixels = colours.flatten(2)
    low, high = pixels.amin(dim=2), pixels.amax(dim=2)
    weight = compactness / grid.step
    farthest = 2.5 * weight * max(grid.sizes)
    spread = (high - low).amax(dim=1).clamp_(min=2 * farthest)
    scale = 2 * largest / spread
    both = (high + low).view(*low.shape, *[1] * axes)
    moved = torch.sub(colours, both, alpha=0.5).mul_(scale.view(-1, *[1] * (axes + 1)))
    return moved.round_().to(_type_of_sums(grid, moved.dtype)), weight * scale


def _type_of_sums(grid: Cells, wide: torch.dtype) -> torch.dtype:
    """Float32 if it holds every sum in a cell, every number of a cell, and every position."""
    largest = max(math.prod(grid.sizes) * 2**8, grid.number * 4, max(grid.shape) * 2**7)
    return torch.float32 if largest <= 2**24 else wide


class _Points(NamedTuple):
    """The pixels by cells: whole numbers, positions measured from the middle of their cell."""

    features: Tensor  # [B·G,C+n+1,P]: colours, positions and 1, all 0 where a cell is padded
    places: Tensor  # [B,G,1,n,size]: positions of the pixels along each axis, size the largest
    origin: Tensor  # [B,C+n+1,1,G]: the middle of the cell in the image, 0 for colours and 1
    seen_from: Tensor  # [B,*shape,1,…,1,C+n+1]: the same, in the axes of a cell's neighbours
    inside: Tensor  # [1,*shape,3,…,3,1]: 1 where that neighbour of the cell is in the grid, else 0
    reach: Tensor  # [B,1,1,n,1]: the largest squared distance from a centre along each axis


def _points(colours: Tensor, pixel: Tensor, grid: Cells) -> _Points:
    batch, channels = colours.shape[:2]
    axes = len(grid.axes)
    along = torch.arange(max(colours.shape[2:]), device=pixel.device) * pixel[:, None]
    along = along.round_().to(colours.dtype)
    positions = [_along_axis(along[:, :side], k, axes) for k, side in enumerate(colours.shape[2:])]
    positions.append(colours.new_ones([1] * (axes + 1)))
    spread = [values.expand(batch, *colours.shape[2:]) for values in positions]
    pixels = grid.cut([*colours.unbind(1), *spread])
    middle = pixels.view(batch, grid.number, -1, *grid.sizes)
    for size in grid.sizes:
        middle = middle.select(3, (size - 1) // 2)
    middle = F.pad(middle[:, :, channels:-1], (channels, 1))
    features = torch.addcmul(pixels, middle[..., None], pixels[:, :, -1:], value=-1)
    inside = grid.around(features[:1, :, -1, 0][None])  # the 1 of each cell's first pixel
    steps = [axis.step for axis in grid.axes]
    if len(set(steps)) == 1:
        reach = (pixel * steps[0])[:, None].expand(-1, axes)
    else:
        reach = torch.stack(torch._foreach_mul([pixel] * axes, steps), dim=1)
    farthest = torch.div(reach, 1, rounding_mode="floor", out=features.new_empty(reach.shape))
    farthest.square_()
    origin = middle.to(pixel.dtype).mT[:, :, None]
    return _Points(
        features.flatten(0, 1),
        _places(features, channels, grid),
        origin,
        _cells_first(origin.unflatten(3, grid.shape).unflatten(2, [1] * axes), axes),
        _cells_first(inside, axes),
        farthest[:, None, None, :, None],
    )


def _along_axis(values: Tensor, number: int, axes: int) -> Tensor:
    """``values`` [...,size] as [...,1,…,size,…,1]: they lie along that one of so many axes."""
    return values.view(*values.shape[:-1], *[1] * number, -1, *[1] * (axes - 1 - number))


def _places(features: Tensor, channels: int, grid: Cells) -> Tensor:
    """The places of the pixels along each axis, [B,G,1,n,size]; a short axis ends in zeros."""
    pixels = features.unflatten(-1, grid.sizes)
    found = []
    for number, size in enumerate(grid.sizes):
        own = pixels[:, :, channels + number]
        for other in range(len(grid.sizes) - 1, -1, -1):
            own = own if other == number else own.select(2 + other, 0)
        missing = max(grid.sizes) - size
        found.append(F.pad(own, (0, missing)) if missing else own)
    return torch.stack(found, dim=2)[:, :, None]


def _nearest_cells(colours: Tensor, pixel: Tensor, grid: Cells, iterations: int) -> Tensor:
    """K-means over the 3ⁿ cells around each pixel's own: the cell it joins, [B,*axes]."""
    batch = colours.shape[0]
    if iterations == 0:
        own = torch.arange(grid.number, device=colours.device)[:, None]
        return grid.join(own.expand(batch, -1, math.prod(grid.sizes)))
    points = _points(colours, pixel, grid)
    sums = points.features.sum(dim=2).view(batch, 1, grid.number, -1)
    centres = _means(_in_image(sums.permute(0, 3, 1, 2), points.origin).squeeze(2))
    for _ in range(iterations - 1):
        members, near = _nearest(centres, points, grid)
        sums = near.baddbmm_(members, points.features.mT, beta=NOTHING)
        sums = sums.view(batch, grid.number, *sums.shape[1:]).permute(0, 3, 2, 1)
        last, centres = centres, _means(grid.gather(_in_image(sums, points.origin)))
        if is_at_hand(centres) and torch.equal(centres, last):
            break  # the centres do not move any more, so their members are final
    else:
        members, _ = _nearest(centres, points, grid)
    # The first of the nearest is the one that is the farthest ahead of the cell G places on.
    ahead = grid.number - grid.offsets(members)
    most = members.mul_(ahead[:, None]).amax(dim=1).view(batch, grid.number, -1)
    behind = torch.arange(grid.number, 2 * grid.number, dtype=most.dtype, device=most.device)
    return grid.join(behind[:, None] - most)


def _means(sums: Tensor) -> Tensor:
    """Sums [B,C+n+1,G] over pixels → their rounded means; the last of them is 1."""
    return (sums / sums[:, -1:]).round_()


def _in_image(sums: Tensor, origin: Tensor) -> Tensor:
    """Sums [B,C+n+1,·,G] of features, with positions measured from the corner of the image."""
    moved = torch.empty(sums.shape, dtype=origin.dtype, device=origin.device)
    return torch.addcmul(sums, sums[:, -1:], origin, out=moved)


def _cells_first(around: Tensor, axes: int) -> Tensor:
    """What :meth:`Cells.around` gives, [B,C,3,…,3,*shape], as [B,*shape,3,…,3,C], a view."""
    cells, neighbours = range(2 + axes, 2 + 2 * axes), range(2, 2 + axes)
    around = around.permute(0, *cells, *neighbours, 1)
    # A compiler gives a tensor that is written by ``out=`` the strides of its sources.
    return around.contiguous() if torch.compiler.is_compiling() else around


def _nearest(centres: Tensor, points: _Points, grid: Cells) -> tuple[Tensor, Tensor]:
    """Which of the 3ⁿ centres around its cell are nearest to each pixel: 0 or 1, [B·G,3ⁿ,P].

    |c|² − 2 c·x decides: the pixel's own |x|² is the same for all its candidates. The centres come
    back too, as the cell sees them: [B·G,3ⁿ,C+n+1], and 0 where there is none.
    """
    axes, window = len(grid.axes), outside_window(len(grid.axes))
    around = _cells_first(grid.around(centres), axes)
    seen = points.features.new_empty(around.shape)
    torch.addcmul(around, points.seen_from, points.inside, value=-1, out=seen)
    seen = seen.view(-1, grid.number, 3**axes, seen.shape[-1])
    along, places = torch.broadcast_tensors(seen[..., -1 - axes : -1, None], points.places)
    outside = F.mse_loss(along, places, reduction="none").gt_(points.reach)
    seen, outside = seen.flatten(0, 1), outside.flatten(0, 1)
    near, known = seen[..., :-1], seen[..., -1:]
    rows = near.reshape(-1, 1, near.shape[2])
    reward = -(axes + 1) * window  # of a cell in the grid: the others need no penalty
    cost = torch.baddbmm(known.reshape(-1, 1, 1), rows, rows.mT, beta=reward)
    cost = cost.view(near.shape[:2])
    for number, size in enumerate(grid.sizes):
        far = _along_axis(outside[..., number, :size], number, number + 1)
        cost = torch.add(cost[..., None], far, alpha=window)
    cost = cost.flatten(2).baddbmm_(near, points.features[:, :-1], alpha=-2)
    return cost.eq_(cost.amin(dim=1, keepdim=True)), seen
