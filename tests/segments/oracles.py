"""Slow literal re-implementations for the segmenters: one image, one pixel at a time, NumPy."""

import math

import numpy as np
from scipy import ndimage


def regions(labels):
    """Map [H,W] in which two pixels share a number iff they are in one region of one label."""
    out = np.zeros(labels.shape, int)
    for label in np.unique(labels):
        parts, _ = ndimage.label(labels == label)
        out = np.where(parts > 0, parts + out.max(), out)
    return out


def disconnected(labels):
    """How many labels of the map [H,W] are not one region."""
    return sum(ndimage.label(labels == label)[1] != 1 for label in np.unique(labels))


def connect(labels, colours, num_labels, min_size, rounds):
    """Largest regions, the others merged into them, the rest filled along lines."""
    height, width = labels.shape
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
                (((mean[part] - mean[parts[v, u]]) ** 2).sum(), before[v, u])
                for y, x in zip(*here.nonzero(), strict=True)
                for v, u in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x))
                if 0 <= v < height and 0 <= u < width and before[v, u] >= 0
            ]
            if offers:
                owners[here] = min(offers)[1]
    for view in (owners, owners[:, ::-1], owners.T, owners.T[:, ::-1]):
        for line in view:
            for place in range(1, len(line)):
                if line[place] < 0:
                    line[place] = line[place - 1]
    return owners, count


def slic_colours(image, blur):
    """[C,H,W] on the scale of Lab, by kornia's own conversion."""
    import torch
    from kornia.color import rgb_to_lab

    image = np.where(np.isfinite(image), image, 0).astype(float)
    span = image.max() - image.min()
    image = (image - image.min()) / (span if span > 0 else 1)
    if blur:
        for axis in (1, 2):
            image = ndimage.correlate1d(image, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    return rgb_to_lab(torch.from_numpy(image)).numpy() if len(image) == 3 else 100 * image


def slic_cells(image, rows, columns, compactness, iterations, blur):
    """The cell [H,W] of a grid rows × columns that each pixel joins, and the whole colours."""
    colours = slic_colours(image, blur)
    channels, height, width = colours.shape
    high, low = colours.max((1, 2), keepdims=True), colours.min((1, 2), keepdims=True)
    weight = compactness / math.sqrt(height / rows * width / columns)
    farthest = 2.5 * weight * max(math.ceil(height / rows), math.ceil(width / columns))
    largest = min(math.floor(math.sqrt(2**20 / (channels + 2))), 256) - 2
    scale = largest / max((high - low).max() / 2, farthest)
    colours = np.round((colours - (high + low) / 2) * scale)
    pixel = weight * scale

    cell = np.empty((height, width), int)
    for i in range(rows):
        for j in range(columns):
            down = slice(i * height // rows, (i + 1) * height // rows)
            along = slice(j * width // columns, (j + 1) * width // columns)
            cell[down, along] = i * columns + j
    y, x = np.indices((height, width))
    points = np.stack([*colours, np.round(y * pixel), np.round(x * pixel)])
    centres = [np.round(points[:, cell == k].mean(1)) for k in range(rows * columns)]
    nearest = cell
    for _ in range(iterations):
        members = [[] for _ in centres]
        nearest = np.empty_like(cell)
        for y in range(height):
            for x in range(width):
                i, j = divmod(cell[y, x], columns)
                costs = {}
                for k, centre in enumerate(centres):
                    if max(abs(k // columns - i), abs(k % columns - j)) <= 1:
                        away = np.abs(points[:, y, x] - centre)
                        far = (away[-2] > pixel * (height / rows)) + (
                            away[-1] > pixel * (width / columns)
                        )
                        costs[k] = (far, (away**2).sum())
                least = min(costs.values())
                tied = [k for k, cost in costs.items() if cost == least]
                nearest[y, x] = tied[0]
                for k in tied:
                    members[k].append(points[:, y, x])
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


def maze(size, seed):
    """Corridors of ones cut by a depth-first walk: one region without loops."""
    random = np.random.default_rng(seed)
    cut = np.zeros((size, size), int)
    cut[0, 0] = 1
    stack = [(0, 0)]
    while stack:
        y, x = stack[-1]
        ahead = [
            (y + dy, x + dx)
            for dy, dx in ((2, 0), (-2, 0), (0, 2), (0, -2))
            if 0 <= y + dy < size and 0 <= x + dx < size and not cut[y + dy, x + dx]
        ]
        if not ahead:
            stack.pop()
            continue
        v, u = ahead[random.integers(len(ahead))]
        cut[v, u] = cut[(y + v) // 2, (x + u) // 2] = 1
        stack.append((v, u))
    return cut


def tree(size):
    """Columns of ones joined at heights that make regions merge in pairs, round by round."""
    path = np.zeros((size, size), int)
    for number, column in enumerate(range(0, size, 2)):
        path[int(f"{number:08b}"[::-1], 2) * size // 512 :, column] = 1
        level = ((number + 1) & -(number + 1)).bit_length() - 1
        if column + 1 < size:
            path[max(size - 17 + 2 * level, 0), column + 1] = 1
    return path
