"""Slow literal re-implementations for the segmenters: one image, one pixel at a time, NumPy."""

import math

import numpy as np
from scipy import ndimage


def regions(labels):
    """Map [*axes] in which two pixels share a number iff they are in one region of one label."""
    out = np.zeros(labels.shape, int)
    for label in np.unique(labels):
        parts, _ = ndimage.label(labels == label)
        out = np.where(parts > 0, parts + out.max(), out)
    return out


def disconnected(labels):
    """How many labels of the map [*axes] are not one region."""
    return sum(ndimage.label(labels == label)[1] != 1 for label in np.unique(labels))


def connect(labels, colours, num_labels, min_size, rounds):
    """Largest regions, the others merged into them, the rest filled along lines."""
    parts = regions(labels)
    owners = np.full(labels.shape, -1)
    count = 0
    for label in range(num_labels):
        if (labels == label).sum() < max(min_size, 1):
            continue
        here = parts[labels == label]  # in raster order, so the first of equals is met first
        largest = max(dict.fromkeys(here), key=lambda part: (here == part).sum())
        owners[parts == largest] = count
        count += 1
    mean = {part: np.round(colours[:, parts == part].mean(1)) for part in np.unique(parts)}
    for _ in range(rounds):
        before = owners.copy()
        for part in mean:
            here = parts == part
            if (before[here] >= 0).any():
                continue
            offers = [
                (((mean[part] - mean[parts[near]]) ** 2).sum(), before[near])
                for place in zip(*here.nonzero(), strict=True)
                for near in beside(place, labels.shape)
                if before[near] >= 0
            ]
            if offers:
                owners[here] = min(offers)[1]
    for axis in reversed(range(labels.ndim)):
        lines = np.moveaxis(owners, axis, -1)
        for view in (lines, lines[..., ::-1]):
            for start in np.ndindex(view.shape[:-1]):
                line = view[start]
                for place in range(1, len(line)):
                    if line[place] < 0:
                        line[place] = line[place - 1]
    return owners, count


def beside(place, shape):
    """The pixels that touch one along the axes."""
    for axis, side in enumerate(shape):
        for step in (-1, 1):
            if 0 <= place[axis] + step < side:
                yield (*place[:axis], place[axis] + step, *place[axis + 1 :])


def slic_colours(image, blur):
    """[C,*axes] on the scale of Lab, by kornia's own conversion."""
    import torch
    from kornia.color import rgb_to_lab

    image = np.where(np.isfinite(image), image, 0).astype(float)
    span = image.max() - image.min()
    image = (image - image.min()) / (span if span > 0 else 1)
    if blur:
        for axis in range(1, image.ndim):
            image = ndimage.correlate1d(image, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    if len(image) != 3 or image.ndim == 2:
        return 100 * image
    return (
        rgb_to_lab(torch.from_numpy(image.reshape(3, len(image[0]), -1))).view(image.shape).numpy()
    )


def slic_cells(image, shape, compactness, iterations, blur):
    """The cell [*axes] of a grid of ``shape`` that each pixel joins, and the whole colours."""
    colours = slic_colours(image, blur)
    channels, *sides = colours.shape
    axes = range(len(sides))
    within = tuple(range(1, colours.ndim))
    high, low = colours.max(within, keepdims=True), colours.min(within, keepdims=True)
    steps = [side / parts for side, parts in zip(sides, shape, strict=True)]
    weight = compactness / math.prod(steps) ** (1 / len(sides))
    farthest = 2.5 * weight * max(math.ceil(step) for step in steps)
    room = 2**20 if len(sides) < 3 else 2**19
    largest = min(math.floor(math.sqrt(room / (channels + len(sides)))), 256) - 2
    scale = largest / max((high - low).max() / 2, farthest)
    colours = np.round((colours - (high + low) / 2) * scale)
    pixel = weight * scale

    homes = list(np.ndindex(*shape))
    cell = np.empty(sides, int)
    for k, home in enumerate(homes):
        box = [(i * n // p, (i + 1) * n // p) for i, n, p in zip(home, sides, shape, strict=True)]
        cell[tuple(slice(*ends) for ends in box)] = k
    points = np.stack([*colours, *np.round(np.indices(sides) * pixel)])
    centres = [np.round(points[:, cell == k].mean(1)) for k in range(len(homes))]
    nearest = cell
    for _ in range(iterations):
        members = [[] for _ in centres]
        nearest = np.empty_like(cell)
        for place in np.ndindex(*sides):
            point, own = points[(slice(None), *place)], homes[cell[place]]
            costs = {}
            for k, centre in enumerate(centres):
                if max(abs(homes[k][a] - own[a]) for a in axes) <= 1:
                    away = np.abs(point - centre)
                    far = sum(away[channels + a] > pixel * steps[a] for a in axes)
                    costs[k] = (far, (away**2).sum())
            least = min(costs.values())
            tied = [k for k, cost in costs.items() if cost == least]
            nearest[place] = tied[0]
            for k in tied:
                members[k].append(point)
        centres = [
            np.round(np.mean(m, axis=0)) if m else c for m, c in zip(members, centres, strict=True)
        ]
    return nearest, colours


def explained_variation(labels, image):
    """Share of the variance of ``image`` [C,H,W] that the means of the segments explain."""
    pixels = np.asarray(image, float).reshape(len(image), -1)
    labels = labels.reshape(-1)
    sizes = np.bincount(labels)
    kept = sizes > 0
    sums = np.stack([np.bincount(labels, channel)[kept] for channel in pixels])
    mean = pixels.mean(1, keepdims=True)
    between = (sizes[kept] * (sums / sizes[kept] - mean) ** 2).sum()
    return between / ((pixels - mean) ** 2).sum()


def spiral(size):
    """A path of ones, one pixel wide, wound to the middle."""
    path = np.zeros((size, size), int)
    y, x, dy, dx = 0, 0, 0, 1
    path[0, 0] = 1

    def free(y, x):
        return not (0 <= y < size and 0 <= x < size) or path[y, x] == 0

    while True:
        for _ in range(2):
            ahead = (y + dy, x + dx)
            inside = 0 <= ahead[0] < size and 0 <= ahead[1] < size
            if inside and path[ahead] == 0 and free(ahead[0] + dy, ahead[1] + dx):
                break
            dy, dx = dx, -dy
        else:
            return path
        y, x = ahead
        path[y, x] = 1


def serpentine(size):
    """A path of ones along the rows, back and forth."""
    path = np.ones((size, size), int)
    path[1::2] = 0
    path[1::4, -1] = path[3::4, 0] = 1
    return path


def maze(size, seed, axes=2):
    """Corridors of ones cut by a depth-first walk: one region without loops."""
    random = np.random.default_rng(seed)
    shape = (size,) * axes
    cut = np.zeros(shape, int)
    stack = [(0,) * axes]
    cut[stack[0]] = 1
    while stack:
        here = np.array(stack[-1])
        steps = [step for axis in np.eye(axes, dtype=int) for step in (axis, -axis)]
        ahead = [
            step
            for step in steps
            if ((here + 2 * step >= 0) & (here + 2 * step < size)).all()
            and not cut[tuple(here + 2 * step)]
        ]
        if not ahead:
            stack.pop()
            continue
        step = ahead[random.integers(len(ahead))]
        cut[tuple(here + step)] = cut[tuple(here + 2 * step)] = 1
        stack.append(tuple(here + 2 * step))
    return cut


def large_maze(size, seed):
    """As :func:`maze` in two axes, but fast: one step takes about a microsecond."""
    random = np.random.default_rng(seed)
    side = (size + 1) // 2
    order = np.argsort(random.random((side * side, 4)), axis=1).tolist()
    seen, corridors = bytearray(side * side), np.zeros((2 * side - 1, 2 * side - 1), int)
    corridors[::2, ::2] = 1
    stack, walls = [0], []
    seen[0] = 1
    while stack:
        here = stack[-1]
        row, column = divmod(here, side)
        while order[here]:
            way = order[here].pop()
            new_row, new_column = row + (0, 0, 1, -1)[way], column + (1, -1, 0, 0)[way]
            new = new_row * side + new_column
            if 0 <= new_row < side and 0 <= new_column < side and not seen[new]:
                seen[new] = 1
                walls.append((row + new_row, column + new_column))
                stack.append(new)
                break
        else:
            stack.pop()
    corridors[tuple(np.array(walls).T)] = 1
    return corridors


def tree(size):
    """Columns of ones joined at heights that make regions merge in pairs, round by round."""
    path = np.zeros((size, size), int)
    for number, column in enumerate(range(0, size, 2)):
        path[int(f"{number:08b}"[::-1], 2) * size // 512 :, column] = 1
        level = ((number + 1) & -(number + 1)).bit_length() - 1
        if column + 1 < size:
            path[max(size - 17 + 2 * level, 0), column + 1] = 1
    return path
