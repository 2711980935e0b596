"""Connected components of label maps, and the repair that leaves one region for every label.

No step waits for the host and no shape depends on the data. Everything is integer arithmetic, so
results are the same in any batch, in any order of additions and on any device. Regions are
4-connected throughout.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Rounds needed with 3 jumps each, over maps up to 256x256 in four orientations: spirals and
# serpentines 4, percolation at any density 5, depth-first mazes 7, a tree made to merge in pairs
# 10. K-means cells of photos, 1 to 400 segments at compactness 0.1 to 40: 4; of noise: 5.
HOOKING_ROUNDS = 12
JUMPS = 3
# On photos 1 round reaches 99.4 % of the pixels and 2 rounds 99.99 %.
MERGE_ROUNDS = 3
INDEX_BITS = 26  # a pixel index, with a size or a distance above it, is packed into an int64
INDEX_MASK = 2**INDEX_BITS - 1
NOBODY = 2**61


def connected_components(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Regions of equal labels in ``labels`` [B,H,W], any integers.

    Min-hooking and pointer jumping (Shiloach and Vishkin 1982): horizontal runs come from one
    cumulative maximum, then in each round every root hooks to the smallest root that a vertical
    pair of its pixels touches.

    Returns:
        root [B,H·W] int64, the index of the region's first pixel in raster order, and
        converged [B] bool.

    Convention:
        Pixels that share a root are connected whatever the budget: only roots hook, so no part
        of a tree is ever left behind. Where ``converged`` is False a region may be split.
    """
    _, height, width = labels.shape
    pixels = height * width
    index = torch.arange(pixels, device=labels.device).view(1, height, width)
    starts = F.pad(labels[:, :, 1:] != labels[:, :, :-1], (1, 0), value=True)
    root = torch.where(starts, index, 0).cummax(dim=2).values.flatten(1)
    same = (labels[:, 1:] == labels[:, :-1]).flatten(1)
    for _ in range(HOOKING_ROUNDS if height > 1 else 0):
        above, below = root[:, :-width], root[:, width:]
        high, low = torch.maximum(above, below), torch.minimum(above, below)
        hooks = same & (root.gather(1, high) == high)
        root = root.scatter_reduce(1, high, torch.where(hooks, low, high), "amin")
        for _ in range(JUMPS):
            root = root.gather(1, root)
    for _ in range(pixels.bit_length()):
        root = root.gather(1, root)
    split = same & (root[:, :-width] != root[:, width:])
    return root, ~split.any(dim=1)


def connect_labels(
    labels: Tensor, colours: Tensor, num_labels: int, min_size: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Give every label one connected region, and dense ids to the labels that keep one.

    A label stays if all its regions together have at least ``min_size`` pixels; the largest region
    is kept. Every other region merges into the kept region beside it of the nearest mean colour.
    (Where an already merged part lies between them, the mean colour of that part counts.) What a
    few such rounds do not reach is filled along rows, then along columns.

    Args:
        labels: [B,H,W] int64 in 0…num_labels−1, fewer than 2**26 pixels an image.
        colours: [B,C,H,W], whole numbers held in floats, squared distances below 2**35.
        num_labels: how many labels there may be.
        min_size: in pixels, at most H·W / num_labels, so that a label always stays.

    Returns:
        labels [B,H,W] int64 dense in 0…count−1, count [B] int64 and converged [B] bool: False
        where :func:`connected_components` ran out of rounds, so that the region kept may not
        have been the whole one.

    Convention:
        New ids follow the order of the labels. Among regions of one size, the one with the first
        pixel in raster order is kept. Among neighbours at one distance, the one with the lowest
        label wins. Lines are filled from the left, the right, above and below, in this order.
    """
    root, converged = connected_components(labels)
    flat = labels.flatten(1)
    ones = torch.ones_like(flat)
    size = torch.zeros_like(root).scatter_add_(1, root, ones).gather(1, root)
    rank = (size << INDEX_BITS) - root
    best = rank.new_zeros(len(labels), num_labels).scatter_reduce_(1, flat, rank, "amax")
    stays = rank.new_zeros(len(labels), num_labels).scatter_add_(1, flat, ones) >= max(min_size, 1)
    ids = stays.cumsum(dim=1) - 1
    kept = (rank == best.gather(1, flat)) & stays.gather(1, flat)
    owners = torch.where(kept, ids.gather(1, flat), NOBODY).view_as(labels)
    owners = _merge(owners, root.view_as(labels), _means(colours, root, size))
    owners = _fill_along(_fill_along(owners, dim=2), dim=1)
    return owners, ids[:, -1] + 1, converged


def _means(colours: Tensor, root: Tensor, size: Tensor) -> Tensor:
    """Colours [B,C,H,W] with every pixel's replaced by the rounded mean of its region."""
    index = root[:, None].expand(-1, colours.shape[1], -1)
    sums = torch.zeros_like(index).scatter_add_(2, index, colours.flatten(2).long())
    return (sums.gather(2, index).to(colours.dtype) / size[:, None]).round().view_as(colours)


def _merge(owners: Tensor, root: Tensor, colours: Tensor) -> Tensor:
    """Let ownerless regions join the owner beside them at the smallest step in ``colours``."""
    across, down = _steps(colours, dim=3), _steps(colours, dim=2)
    from_left, from_right = F.pad(across, (1, 0)), F.pad(across, (0, 1))
    from_above, from_below = F.pad(down, (0, 0, 1, 0)), F.pad(down, (0, 0, 0, 1))
    root = root.flatten(1)
    for _ in range(MERGE_ROUNDS):
        around = F.pad(owners, (1, 1, 1, 1), value=NOBODY)
        beside = torch.minimum(around[:, 1:-1, :-2] + from_left, around[:, 1:-1, 2:] + from_right)
        stacked = torch.minimum(around[:, :-2, 1:-1] + from_above, around[:, 2:, 1:-1] + from_below)
        offer = torch.minimum(beside, stacked).flatten(1)
        offer = torch.full_like(offer, NOBODY).scatter_reduce_(1, root, offer, "amin")
        offer = torch.where(offer < NOBODY, offer & INDEX_MASK, NOBODY).gather(1, root)
        owners = torch.where(owners < NOBODY, owners, offer.view_as(owners))
    return owners


def _steps(colours: Tensor, dim: int) -> Tensor:
    """Squared distances of neighbours along ``dim``, above the bits that hold an owner."""
    return colours.diff(dim=dim).square().sum(dim=1).long() << INDEX_BITS


def _fill_along(owners: Tensor, dim: int) -> Tensor:
    """Extend the owned pixels of a line over its ownerless ones, forwards and then backwards."""
    place = torch.arange(owners.shape[dim], device=owners.device) << INDEX_BITS
    place = place.view(-1, *[1] * (2 - dim))
    for _ in range(2):
        latest = torch.where(owners < NOBODY, owners + place, -1).cummax(dim=dim).values
        owners = torch.where(latest < 0, NOBODY, latest & INDEX_MASK).flip(dim)
    return owners
