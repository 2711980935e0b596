"""Connected components of label maps, and the repair that leaves one region for every label.

No step waits for the device and no shape depends on the data. On a CPU the host can look at the
data at once, so rounds that would change nothing are left out. Everything is integer arithmetic, so
results are the same in any batch, in any order of additions and on any device. Pixels are
neighbours along the axes alone, whatever the number of axes: 2 neighbours in a series, 4 in an
image, 6 in a volume.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchlime._host import is_at_hand
from torchlime._precision import solve_dtype

# Turns needed in five orientations of maps up to 256x256, and in brackets of about 512x512:
# spirals 8 (10), serpentines 9 (9), percolation at any density 8 (9), depth-first mazes 10 (11), a
# tree made to merge in pairs 12 (14). Volumes of 33³ and 40³: mazes 10, serpentines 9, percolation
# 6.
TURNS = 14
JUMPS = (3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1)  # in each turn: chains are long at first
# The host looks after these turns. Tiny images are done after turn 1, photos after turn 3 or 4.
LOOKS = (1, *range(3, TURNS))
# On photos 1 round reaches 99.4 % of the pixels and 2 rounds 99.99 %.
MERGE_ROUNDS = 3
# Float32 holds the sum of this many whole numbers below 2**8 exactly, and rounds their mean right.
FLOAT32_PIXELS = 2**16 - 1
INDEX_BITS = 26  # a pixel index, with a size above it, is packed into an int64
INDEX_MASK = 2**INDEX_BITS - 1


class _Packing(NamedTuple):
    """A label in the lowest bits of an integer, a step or a place above it, and a flag above both.

    The flag ``nobody`` is set where no owner is known yet.
    """

    dtype: torch.dtype
    bits: int
    nobody: int

    @property
    def owner(self) -> int:
        """The label and the flag."""
        return self.nobody | (2**self.bits - 1)


# Steps take 22 bits. Half as many bits in all take a CPU about half the time.
NARROW, WIDE = _Packing(torch.int32, 7, 2**29), _Packing(torch.int64, INDEX_BITS, 2**61)


def connected_components(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Regions of equal labels in ``labels`` [B,*axes], any integers.

    Hooking and pointer jumping (Shiloach and Vishkin 1982). Runs along the last axis come from one
    cumulative maximum. Then every pixel points to a pixel of its region, at first to the start of
    its run. Each turn looks at the pairs of neighbours p and q of one label, p before q. In even
    turns, the pixel that q points to takes p's pointer, if that is lower; in odd turns, the pixel
    that p points to takes q's. In every fourth turn, counted from the last, a pixel takes the
    pointer of its run's start. Otherwise the hook of a run could be lost.

    Returns:
        root [B,P] int32 for P pixels, the index of the region's first pixel in raster order, and
        converged [B] bool.

    Convention:
        Pixels that share a root are connected whatever the budget. Where ``converged`` is False the
        turns did not suffice, and the regions are the runs along the last axis.
    """
    width, pixels = labels.shape[-1], labels[0].numel()
    index = torch.arange(pixels + width, dtype=torch.int32, device=labels.device)
    index, places = index[:pixels], index[pixels:]  # of the pixels, and of the lost hooks
    begins = _begins(labels)
    runs = (index * begins).view_as(labels).cummax(dim=-1).values.flatten(1)
    pairs = list(_pairs(labels))
    if not pairs:
        return runs, _all_true(runs)
    root = starts = F.pad(runs, (0, width), value=pixels)
    aside = [_aside(stride, same, begins, index, places) for stride, same in pairs]
    for turn in range(TURNS):
        for (stride, _), elsewhere in zip(pairs, aside, strict=True):
            low, high = root[:, : pixels - stride], root[:, stride:pixels]
            if turn % 2:
                low, high = high, low
            root = root.scatter_reduce(1, torch.maximum(high, elsewhere), low, "amin")
        for _ in range(JUMPS[turn]):
            root = root.gather(1, root)
        passes = (TURNS - turn) % 4 == 1  # the last turn among them
        looks = turn in LOOKS and is_at_hand(root)
        if passes or looks:
            passed = root.gather(1, starts)
            if looks and _converged(passed[:, :pixels], pairs).all():
                return passed[:, :pixels], _all_true(runs)  # no turn would change a pointer
            root = passed if passes else root
    root = root[:, :pixels]
    converged = _converged(root, pairs)
    return torch.where(converged[:, None], root, runs), converged


def _all_true(runs: Tensor) -> Tensor:
    return runs.new_ones(len(runs), dtype=torch.bool)


def _converged(root: Tensor, pairs: list[tuple[int, Tensor]]) -> Tensor:
    """Whether neighbours of one label share a root [B,P]: [B] bool. Each run has one root."""
    joined = [
        ((root[:, :-stride] == root[:, stride:]) >= same).all(dim=1) for stride, same in pairs
    ]
    return functools.reduce(torch.bitwise_and, joined)


def _aside(stride: int, same: Tensor, begins: Tensor, index: Tensor, places: Tensor) -> Tensor:
    """The places of the hooks that are not needed: [B,P−stride], below 0 for those that are.

    A hook between two labels must be lost. It goes to a row of ``places`` behind the pixels, since
    a GPU is slow where many hooks go to one place. Where neither of two neighbours begins its run,
    the pair before them joins the same two runs. Then the hook is not needed, and goes to the
    second pixel of the pair, to which no pixel points. (A CPU is slow where a whole run writes to
    one place.)
    """
    needed = begins[:, :-stride] | begins[:, stride:]
    again = torch.sub(index[stride:], needed, alpha=len(index))
    rows = (len(same), -1, len(places))
    return torch.where(same.reshape(rows), again.view(rows), places).flatten(1)


def _begins(labels: Tensor) -> Tensor:
    """1 where a run along the last axis begins, else 0: [B,P] int32."""
    begins = torch.ones(labels.shape, dtype=torch.int32, device=labels.device)
    begins[..., 1:].copy_(labels[..., 1:] != labels[..., :-1])
    return begins.flatten(1)


def _pairs(labels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The neighbours along each axis but the last: (stride, same).

    Pixels p and p + stride of the raster order are neighbours of one label where ``same``
    [B,P−stride] is True at p.
    """
    for dim in range(labels.dim() - 2, 0, -1):
        if labels.shape[dim] > 1:
            same = _step_after(labels, dim) == _step_before(labels, dim)
            stride = labels.shape[dim + 1 :].numel()
            if dim == 1:
                yield stride, same.flatten(1)
            else:
                same = _padded(same, dim, before=0, after=1, value=False).flatten(1)
                yield stride, same[:, :-stride]


def _step_before(values: Tensor, dim: int) -> Tensor:
    """All but the last along ``dim``."""
    return values.narrow(dim, 0, values.shape[dim] - 1)


def _step_after(values: Tensor, dim: int) -> Tensor:
    """All but the first along ``dim``."""
    return values.narrow(dim, 1, values.shape[dim] - 1)


def _padded(values: Tensor, dim: int, before: int, after: int, value: float = 0) -> Tensor:
    """``values`` with one of its axes padded."""
    behind = [0, 0] * (values.dim() - 1 - dim)
    return F.pad(values, (*behind, before, after), value=value)


def connect_labels(
    labels: Tensor, colours: Tensor, num_labels: int, min_size: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Give every label one connected region, and dense ids to the labels that keep one.

    A label stays if all its regions together have at least ``min_size`` pixels; the largest region
    is kept. Every other region merges into the kept region beside it of the nearest mean colour.
    (Where an already merged part lies between them, the mean colour of that part counts.) What a
    few such rounds do not reach is filled along rows, then along columns, then along planes.

    Args:
        labels: [B,*axes] int32 or int64 in 0…num_labels−1, fewer than 2**26 pixels an image.
        colours: [B,C,*axes], whole numbers held in floats, of squared lengths and distances below
            2**22 − 1. In images of 2**13 pixels or more, all are between −2**8 and 2**8.
        num_labels: how many labels there may be.
        min_size: in pixels, at most P / num_labels for P pixels, so that a label always stays.

    Returns:
        labels [B,*axes] int64 dense in 0…count−1, count [B] int64 and converged [B] bool: False
        where :func:`connected_components` ran out of turns, so that the region that was kept may be
        only a part of the largest one.

    Convention:
        New ids follow the order of the labels. Among regions of one size, the one with the first
        pixel in raster order is kept. Among neighbours at one distance, the one with the lowest
        label wins. Lines are filled along the last axis first; forwards, then backwards.
    """
    small = num_labels <= 2**NARROW.bits and max(labels.shape[1:]) <= NARROW.nobody >> NARROW.bits
    packing = NARROW if small else WIDE
    labels = labels.to(packing.dtype)
    root, converged = connected_components(labels)
    flat = labels.flatten(1)
    dtype = torch.int32 if root.shape[1] <= FLOAT32_PIXELS else torch.int64
    values = root.new_ones((len(labels), colours.shape[1] + 1, root.shape[1]), dtype=dtype)
    values[:, :-1].copy_(colours.flatten(2))
    sums = _sums(values, root)
    size = sums[:, -1].long()
    rank = torch.add(root, size, alpha=-(1 << INDEX_BITS))  # the largest region comes first
    best = rank.new_zeros(len(labels), num_labels).scatter_reduce_(1, flat, rank, "amin")
    one = values[:, -1, :1]
    pixels = values.new_zeros(best.shape).scatter_add_(1, flat, one.expand_as(flat))
    stays = pixels >= max(min_size, 1)
    largest = best.mul_(stays).gather(1, flat)  # no region has the rank 0
    smaller = torch.ne(rank, largest, out=torch.empty_like(flat))
    owners = flat.add(smaller, alpha=packing.nobody).view_as(labels)
    if not _all_owned(owners, packing):
        owners = _merge(owners, root, _means(sums).view_as(colours), packing)
    number = stays.cumsum(dim=1)
    ids = (number - 1).gather(1, owners.flatten(1))
    return ids.view_as(labels), number[:, -1], converged


def _sums(values: Tensor, root: Tensor) -> Tensor:
    """Sums of whole numbers [B,C,P] over each pixel's region: [B,C,P]."""
    index = root[:, None].expand_as(values)
    return torch.zeros_like(values).scatter_add_(2, index, values).gather(2, index)


def _means(sums: Tensor) -> Tensor:
    """Means [B,C,P], rounded to whole numbers, of sums [B,C+1,P], the last of which are sizes."""
    if sums.dtype is torch.int64 or torch.get_default_dtype() is not torch.float32:
        sums = sums.to(solve_dtype(sums.device))  # else the quotient of int32 is float32
    return (sums[:, :-1] / sums[:, -1:]).round_().float()


def _merge(owners: Tensor, root: Tensor, colours: Tensor, packing: _Packing) -> Tensor:
    """Let ownerless regions join the owner beside them at the smallest step in ``colours``.

    What a neighbour offers is its owner below the step to it, and the least offer wins. An owner's
    own pixels are below all offers. Regions that the rounds do not reach are filled along lines.
    """
    steps = _steps(colours, packing)
    for _ in range(MERGE_ROUNDS):
        around = _around(owners, packing.nobody)
        offers = steps.view(around.shape) | around
        while offers.dim() > owners.dim():
            offers = functools.reduce(torch.minimum, offers.unbind(1))
        best = owners.flatten(1).scatter_reduce(1, root, offers.flatten(1), "amin")
        owners = best.gather(1, root).bitwise_and_(packing.owner).view_as(owners)
        if _all_owned(owners, packing):
            return owners
    return _filled(owners, packing)


def _all_owned(owners: Tensor, packing: _Packing) -> bool:
    """Whether the host knows that every pixel has an owner, so that nothing is left to merge."""
    return is_at_hand(owners) and bool(owners.amax() < packing.nobody)


def _around(owners: Tensor, nobody: int) -> Tensor:
    """The owners around each pixel: [B,2n,*axes], or a view [B,2,2,H,W] of the same order.

    First come the pixels before it along each axis, then those after it, the last axis first.
    """
    axes = owners.dim() - 1
    around = F.pad(owners, (1, 1) * axes, value=nobody)
    if axes == 2:  # they lie 0, w − 1, w + 1 and 2w after the first: one strided view
        whole, row, one = around.stride()
        size = (len(owners), 2, 2, *owners.shape[1:])
        return around.as_strided(size, (whole, row + 1, row - 1, row, one), 1)
    inner = [slice(1, -1)] * axes
    before = [around[:, *inner[:k], :-2, *inner[k + 1 :]] for k in range(axes)]
    after = [around[:, *inner[:k], 2:, *inner[k + 1 :]] for k in range(axes)]
    return torch.stack(before + after[::-1], dim=1)


def _steps(colours: Tensor, packing: _Packing) -> Tensor:
    """1 + the squared distance to each neighbour that :func:`_around` gives, [B,2n,P].

    They are above the bits that hold an owner. Beyond the border there is nobody at any distance.
    """
    axes = range(colours.dim() - 2)
    padded = F.pad(colours, (1, 1) * len(axes))
    front, back = slice(-1), slice(1, None)
    own = padded[:, :, *[front for _ in axes]]
    if len(axes) == 2:  # the pixels after it along the last axis and the first, as one view
        *others, row, one = padded.stride()
        size = (*own.shape[:2], 2, *own.shape[2:])
        ahead = padded.as_strided(size, (*others, row - one, row, one), one)
        distances = _squared_distance(own[:, :, None], ahead)
    else:
        after = [padded[:, :, *[back if k == axis else front for k in axes]] for axis in axes]
        distances = torch.stack([_squared_distance(own, one) for one in after[::-1]], dim=1)
    unit = 2.0**packing.bits
    steps = torch.rsub(distances, unit, alpha=-unit).to(packing.dtype).unbind(1)
    places = [[front if k == axis else back for k in axes] for axis in reversed(axes)]
    before = [step[:, *place] for step, place in zip(steps, places, strict=True)]
    after = [step[:, *[back for _ in axes]] for step in steps]
    return torch.stack(before[::-1] + after, dim=1).flatten(2)


def _squared_distance(one: Tensor, other: Tensor) -> Tensor:
    """|one − other|² of colours [B,C,…]: [B,…]."""
    return F.mse_loss(one.expand_as(other), other, reduction="none").sum(dim=1)


def _filled(owners: Tensor, packing: _Packing) -> Tensor:
    """The owners, extended over ownerless pixels along every axis, the last axis first."""
    end, step = max(owners.shape[1:]) << packing.bits, 1 << packing.bits
    places = torch.arange(end - step, -step, -step, dtype=owners.dtype, device=owners.device)
    for dim in range(owners.dim() - 1, 0, -1):
        owners = _fill_along(owners, dim, places, packing)
    return owners


def _fill_along(owners: Tensor, dim: int, places: Tensor, packing: _Packing) -> Tensor:
    """Extend the owned pixels of a line over its ownerless ones, forwards and then backwards.

    A pixel takes the latest owner before it. Where there is none, it takes the first of the line.
    ``places`` fall from pixel to pixel, above the bits that hold an owner, and are at least as many
    as the pixels. So the latest owner is the least number, and the first one the largest. A shift
    by 2 bits makes ``nobody`` negative, so it is never the largest.
    """
    place = places[: owners.shape[dim]].view(-1, *[1] * (owners.dim() - 1 - dim))
    latest = (owners | place).cummin(dim=dim).values
    first = (latest << 2).amax(dim=dim, keepdim=True) >> 2
    return torch.minimum(latest, first).bitwise_and_(packing.owner)
