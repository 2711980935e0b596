"""Slow, literal definitions: what the fast code is held against. None of them is timed."""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

MASK64 = 2**64 - 1


# ---- masks ---------------------------------------------------------------------------------------


def splitmix(bits: int) -> int:
    """One step of SplitMix64, with Python's integers."""
    bits = (bits + 0x9E3779B97F4A7C15) & MASK64
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK64
    return bits ^ (bits >> 31)


def hash64(seed: int, *counters: int) -> int:
    bits = splitmix(seed & MASK64)
    for counter in counters:
        bits = splitmix(bits ^ counter)
    return bits


def bernoulli(count: int, width: int, num_samples: int, seed: int, keep: float) -> np.ndarray:
    masks = np.zeros((num_samples, width), dtype=bool)
    for i in range(num_samples):
        for j in range(count):
            masks[i, j] = i == 0 or (hash64(seed, i, j) >> 11) / 2**53 < keep
    return masks


def fixed_count(count: int, width: int, num_samples: int, seed: int, remove: float) -> np.ndarray:
    masks = np.zeros((num_samples, width), dtype=bool)
    masks[:, :count] = True
    hidden = min(max(math.floor(remove * count + 0.5), 1), count)
    for i in range(1, num_samples):
        keys = [hash64(seed, i, j) for j in range(count)]
        masks[i, sorted(range(count), key=keys.__getitem__)[:hidden]] = False
    return masks


def sizes(count: int, width: int, num_samples: int, seed: int, shares, paired) -> np.ndarray:
    masks = np.zeros((num_samples, width), dtype=bool)
    masks[:, :count] = True
    for i in range(1, num_samples if count > 1 else 1):
        turn, second = divmod(i - 1, 2) if paired else (i - 1, 0)
        hidden = math.floor(shares[turn % len(shares)] * count + 0.5)
        hidden = min(max(hidden, 1), count - 1)
        keys = [hash64(seed, turn, j) for j in range(count)]
        smallest = sorted(range(count), key=keys.__getitem__)[:hidden]
        masks[i, :count] = second == 0
        masks[i, smallest] = second == 1
    return masks


def size_law(count: int, width: int, num_samples: int, seed: int, masses, paired, proper):
    """``masses`` are those of the sizes 0 … count."""
    rows = []
    for i in range(num_samples):
        if proper and (count == 1 or i < 2):
            rows.append([i % 2 == 0] * count)
            continue
        turn = i // 2 if paired else i
        share = (hash64(seed, turn, MASK64) >> 11) / 2**53
        kept = next(k for k in range(count + 1) if share < sum(masses[: k + 1]) / sum(masses))
        keys = [hash64(seed, turn, j) for j in range(count)]
        shown = sorted(range(count), key=keys.__getitem__)[count - kept :]
        rows.append([(j in shown) != (paired and i % 2 == 1) for j in range(count)])
    masks = np.zeros((num_samples, width), dtype=bool)
    masks[:, :count] = rows
    return masks


def orthogonal(count: int, width: int, num_samples: int, seed: int, first: int = 0) -> np.ndarray:
    m = max(3, math.ceil(math.log2(width)))
    n = 2**m

    def permutation(size: int, stream: int, time: int, start: int = 0) -> list[int]:
        keys = {k: hash64(seed, stream, time, k) for k in range(start, size)}
        return sorted(keys, key=lambda k: (keys[k] ^ 2**63, k))  # as signed integers

    def inner(row: int, code: int) -> int:
        return (row & code).bit_count() % 2

    rows = []
    if first == 0 and num_samples < 1.5 * n:
        order = max(num_samples - 1, width).bit_length()
        chosen = permutation(2**order, 1, 0)[:num_samples]
        codes = permutation(2**order, 2, 0, start=1)[:width]
        signs = [hash64(seed, 3, 0, j) & 1 for j in range(width)]
        rows = [[inner(i, c) ^ s for c, s in zip(codes, signs, strict=True)] for i in chosen]
    length = field_size(m) if m <= 8 else 1
    for block in range(math.ceil((first + num_samples) / (2 * n)) if not rows else 0):
        cycle, turn = divmod(block, length)
        places = permutation(n, 2, cycle)[:width]
        signs = [hash64(seed, 3, cycle, j) & 1 for j in range(width)]
        codes, flips = places, [0] * width
        if length > 1:
            form = permutation(length, 4, cycle)[turn]
            codes = [point(m, place) for place in places]
            flips = [quadratic(m, form, place) for place in places]
        columns = list(zip(codes, signs, flips, strict=True))
        for i in permutation(n, 1, block):
            row = [inner(i, code) ^ sign ^ flip for code, sign, flip in columns]
            rows += [row, [1 - entry for entry in row]]
    masks = np.array(rows[first:][:num_samples], dtype=bool)
    masks[:, count:] = False
    return masks


MODULI = {8: 0b1011, 32: 0b100101, 128: 0b10000011}  # of the fields, as polynomials over F₂


def field_size(m: int) -> int:
    return 2 ** (m if m % 2 else m - 1)


def product(a: int, b: int, size: int) -> int:
    """a · b in the field, as polynomials."""
    total = 0
    while b:
        total ^= a * (b & 1)
        a, b = a << 1, b >> 1
        a ^= MODULI[size] * (a >= size)
    return total


def power(a: int, exponent: int, size: int) -> int:
    total = 1
    for _ in range(exponent):
        total = product(total, a, size)
    return total


def trace(a: int, size: int) -> int:
    total, conjugate = 0, a
    for _ in range(size.bit_length() - 1):
        total, conjugate = total ^ conjugate, product(conjugate, conjugate, size)
    assert total in (0, 1)
    return total


def element(number: int, size: int) -> int:
    """g^number with g = x; 0 for the last number."""
    return 0 if number == size - 1 else power(2, number, size)


@functools.cache
def point(m: int, place: int) -> int:
    """The place's column as a number: bit k is tr(x g^k), and above them e."""
    size = field_size(m)
    bit, number = divmod(place, size)
    x = element(number, size)
    code = sum(
        trace(product(x, power(2, k, size), size), size) << k for k in range(size.bit_length() - 1)
    )
    return code + bit * size


@functools.cache
def quadratic(m: int, form: int, place: int) -> int:
    """Gold's form of odd m, Kerdock's of even m, at a place."""
    size = field_size(m)
    bit, number = divmod(place, size)
    ax = product(element(form, size), element(number, size), size)
    if m % 2:
        return trace(power(ax, 3, size), size)
    sums = sum(trace(power(ax, 2**i + 1, size), size) for i in range(1, (m - 2) // 2 + 1))
    return (sums + bit * trace(ax, size)) % 2


def leave_one_out(count: int, width: int) -> np.ndarray:
    masks = np.zeros((width + 1, width), dtype=bool)
    masks[:, :count] = True
    for j in range(count):
        masks[j + 1, j] = False
    return masks


def sliding_window(grid, window, strides) -> np.ndarray:
    places = []
    for cells, size, stride in zip(grid, window, strides, strict=True):
        starts = [0]
        while starts[-1] + size < cells:
            starts.append(starts[-1] + stride)
        places.append(starts)
    rows = [np.ones(grid, dtype=bool)]
    for place in itertools.product(*places):
        shown = np.ones(grid, dtype=bool)
        shown[tuple(slice(p, p + size) for p, size in zip(place, window, strict=True))] = False
        rows.append(shown)
    return np.stack([row.reshape(-1) for row in rows])


def permutations(count: int, width: int, num_samples: int, seed: int, paired: bool) -> np.ndarray:
    rows, kept = [set(range(count))], set(range(count))
    for walk in itertools.count():
        number = walk // 2 if paired else walk
        keys = [hash64(seed, number, j) for j in range(count)]
        signed = [key - 2**64 if key >= 2**63 else key for key in keys]
        order = sorted(range(count), key=signed.__getitem__)
        for step in range(width):  # nothing is left to change from step ``count`` on
            if step < count:
                kept = kept ^ {order[step]}
            rows.append(kept)
        if len(rows) >= num_samples:
            break
    return np.array([[j in kept for j in range(width)] for kept in rows[:num_samples]])


def gaussian(count: int, num_samples: int, seed: int, antithetic: bool) -> np.ndarray:
    def normal(sample: int, feature: int) -> float:
        bits = hash64(seed, sample, feature)
        radius = math.sqrt(-2 * math.log(((bits >> 32) + 0.5) / 2**32))
        return radius * math.cos(2 * math.pi * (bits & (2**32 - 1)) / 2**32)

    noise = np.zeros((num_samples, count))
    for i in range(num_samples if not antithetic else num_samples // 2 * 2):
        for j in range(count):
            noise[i, j] = (-1) ** i * normal(i // 2, j) if antithetic else normal(i, j)
    return noise


def all_masks(count: int) -> np.ndarray:
    return np.array(list(itertools.product([False, True], repeat=count)))[::-1]


# ---- fills and perturbed images ------------------------------------------------------------------


def segment_mean(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    fill = np.empty_like(image)
    for label in np.unique(labels):
        for channel in range(image.shape[0]):
            fill[channel][labels == label] = image[channel][labels == label].mean()
    return fill


def perturbed_image(
    image: np.ndarray, fill: np.ndarray, labels: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    out = np.empty_like(image)
    for y, x in np.ndindex(labels.shape):
        out[:, y, x] = (image if mask[labels[y, x]] else fill)[:, y, x]
    return out


# ---- weights -------------------------------------------------------------------------------------


def distance(name: str, mask: np.ndarray, energy: np.ndarray | None = None) -> float:
    """Of a mask without padding to the all-kept one, from the vectors themselves."""
    z, ones = mask.astype(float), np.ones(len(mask))
    if name == "cosine":
        return 1 - z @ ones / math.sqrt((z @ z) * (ones @ ones)) if z.any() else 1.0
    if name == "euclidean":
        return float(np.linalg.norm(ones - z))
    return math.sqrt(energy[~mask].sum() / energy.sum()) if energy.sum() else 0.0


# ---- surrogates ----------------------------------------------------------------------------------


def weighted_least_squares(
    z: np.ndarray, y: np.ndarray, w: np.ndarray, alpha: float = 0.0
) -> tuple[float, np.ndarray]:
    """Intercept and slopes of minimum norm, by a pseudo-inverse of the centred design."""
    z, y = z.astype(float), y.astype(float)
    z_mean, y_mean = w @ z / w.sum(), w @ y / w.sum()
    rows = np.sqrt(w)[:, None] * (z - z_mean)
    right = np.sqrt(w) * (y - y_mean)
    rows = np.vstack([rows, math.sqrt(alpha) * np.eye(z.shape[1])])
    slopes = np.linalg.pinv(rows, rcond=1e-10) @ np.concatenate([right, np.zeros(z.shape[1])])
    return y_mean - z_mean @ slopes, slopes


def hc3(
    z: np.ndarray, y: np.ndarray, w: np.ndarray, intercept: float, slopes: np.ndarray, alpha: float
) -> np.ndarray:
    """Standard errors of the slopes, by the formula with explicit [S+1,S+1] matrices."""
    x = np.hstack([np.ones((len(z), 1)), z.astype(float)])
    penalty = alpha * np.diag([0.0] + [1.0] * z.shape[1])
    m = np.linalg.pinv((x * w[:, None]).T @ x + penalty)
    residuals = y - intercept - z @ slopes
    meat = np.zeros_like(m)
    for i in range(len(z)):
        leverage = w[i] * x[i] @ m @ x[i]
        if 1 - leverage >= 1e-8:
            meat += (w[i] * residuals[i] / (1 - leverage)) ** 2 * np.outer(x[i], x[i])
    return np.sqrt(np.diag(m @ meat @ m))[1:]


def hc3_of_pairs(
    z: np.ndarray, y: np.ndarray, w: np.ndarray, intercept: float, slopes: np.ndarray, alpha: float
) -> np.ndarray:
    """As :func:`hc3`, where rows 2i and 2i + 1 are a pair; a last row may be without partner."""
    x = np.hstack([np.ones((len(z), 1)), z.astype(float)])
    penalty = alpha * np.diag([0.0] + [1.0] * z.shape[1])
    m = np.linalg.pinv((x * w[:, None]).T @ x + penalty)
    residuals = y - intercept - z @ slopes
    meat = np.zeros_like(m)
    for start in range(0, len(z), 2):
        pull, in_slopes = np.zeros(x.shape[1]), 0.0
        for i in range(start, min(start + 2, len(z))):
            leverage = w[i] * x[i] @ m @ x[i]
            pull += w[i] * residuals[i] / (1 - leverage) * x[i]
            in_slopes += leverage - w[i] / w.sum()
        if start + 1 == len(z):
            in_slopes = 0.0
        lost = (1 - in_slopes / 2) ** 2 / (1 - in_slopes) if in_slopes < 1 else 16.0
        meat += min(lost, 16.0) * np.outer(pull, pull)
    return np.sqrt(np.diag(m @ meat @ m))[1:]


# ---- the limit of LIME (Garreau & Mardaoui 2021), for any exchangeable weight --------------------


def limit_of_lime(
    moments: dict[frozenset[int], float], d: int, width: float = 0.25
) -> tuple[float, np.ndarray]:
    """LIME's intercept and slopes at N → ∞ for f(z) = Σ m_S Π_{i∈S} z_i, z ~ Bernoulli(1/2)^d.

    With ψ(t) = exp(−(1−√(1−t))² / 2ν²) of the share t of hidden segments and
    α_p = E[ψ z_1⋯z_p], the weighted normal equations close on α_0, α_1, α_2.
    """

    def psi(t: float) -> float:
        return math.exp(-((1 - math.sqrt(1 - t)) ** 2) / (2 * width**2))

    def alpha(p: int) -> float:
        return sum(math.comb(d - p, s) * 0.5**d * psi(s / d) for s in range(d - p + 1))

    a0, a1, a2 = alpha(0), alpha(1), alpha(2)
    mean = sum(m * alpha(len(s)) for s, m in moments.items())
    joint = np.array([sum(m * alpha(len(s | {j})) for s, m in moments.items()) for j in range(d)])
    a, b = a1 - a2, a2 - a1**2 / a0
    c = joint - a1 / a0 * mean
    slopes = (c - b * c.sum() / (a + d * b)) / a
    return (mean - a1 * slopes.sum()) / a0, slopes


# ---- metrics -------------------------------------------------------------------------------------


def areas(score: Callable[[np.ndarray], float], coefficients: np.ndarray) -> tuple[float, float]:
    """Deletion and insertion area of ``score(mask)``, segment by segment."""
    order = sorted(range(len(coefficients)), key=lambda s: -coefficients[s])
    hidden, shown = [], []
    for k in range(len(order) + 1):
        first = np.isin(np.arange(len(order)), order[:k])
        hidden.append(score(~first))
        shown.append(score(first))
    deletion, insertion = (np.trapezoid(y) / len(order) for y in (hidden, shown))
    return deletion, insertion


def weighted_r2(y: np.ndarray, predicted: np.ndarray, w: np.ndarray) -> float:
    mean = sum(w * y) / sum(w)
    return 1 - sum(w * (y - predicted) ** 2) / sum(w * (y - mean) ** 2)


def jaccard(a: np.ndarray, b: np.ndarray, top: int) -> float:
    """Of the sets of the largest absolute coefficients that are not 0."""

    def strongest(c: np.ndarray) -> set[int]:
        return {s for s in sorted(range(len(c)), key=lambda s: -abs(c[s]))[:top] if c[s] != 0}

    one, other = strongest(a), strongest(b)
    return len(one & other) / len(one | other) if one | other else 1.0


def share_inside(coefficients: np.ndarray, labels: np.ndarray, inside: np.ndarray) -> float:
    within = total = 0.0
    for y, x in np.ndindex(labels.shape):
        evidence = max(coefficients[labels[y, x]], 0.0) / (labels == labels[y, x]).sum()
        total += evidence
        within += evidence * inside[y, x]
    return within / total
