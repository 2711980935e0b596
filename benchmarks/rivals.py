"""Designs that the library does not have, re-implemented from their papers to be compared.

Each is a callable (count, bound, num_samples, seed, first) → masks [B,N,S], all of whose B draws
differ. ``weights`` of a design are those of its rows in the fit, where they are not the kernel's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._hash import hash64, numbers, seeds_of
from torchlime.masks import Bernoulli
from torchlime.masks._drawing import present
from torchlime.weights import Exponential


@dataclass(frozen=True)
class Blocks:
    """The library's design before the endless stream, as it was: independent Hadamard blocks.

    A block of 2^(m+1) rows is folded over; m is ceil(log2 S) + 1 if N holds such a block, else one
    less. If N holds no block, rows are Bernoulli. Unless ``beside``, row 0 keeps all, as in 0.1.
    Further rows (``first``) are those of the larger blocks, for a rule that looks after each.
    """

    beside: bool = True

    def block(self, bound: int) -> int:
        """The rows of a larger block."""
        return 4 << (bound - 1).bit_length()

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """Rows first … first + N − 1."""
        order = (bound - 1).bit_length()
        if first == 0 and num_samples < 2 << order:
            return Bernoulli()(count, bound, num_samples, seed=seed, first=int(self.beside))
        if first or num_samples >= self.block(bound):
            order += 1
        pairs = 1 << order
        begin, end = first // (2 * pairs), -(-(first + num_samples) // (2 * pairs))
        block = torch.arange(begin, end)
        seeds = seeds_of(seed, count)[:, None, None]
        codes = pairs + _permutations(seeds, 1, block, pairs)[..., :bound]
        signs = (hash64(seeds, 2, block[:, None], numbers(bound, count)) & 1).bool()
        half = _permutations(seeds, 3, block, pairs)
        rows = torch.stack([half, half + pairs], dim=-1).flatten(-2)
        masks = _parity(rows[..., :, None] & codes[..., None, :]) ^ signs[..., None, :]
        if not self.beside and begin == 0:
            masks[:, :1] ^= ~masks[:, :1, :1]  # change the first block's signs: row 0 keeps all
        start = first - 2 * pairs * begin
        return masks.flatten(1, 2)[:, start : start + num_samples] & present(count, bound)


def _permutations(seeds: Tensor, stream: int, block: Tensor, size: int) -> Tensor:
    keys = hash64(seeds, stream, block[:, None], numbers(size, block))
    return keys.argsort(dim=-1, stable=True)


def _parity(codes: Tensor) -> Tensor:
    for shift in (16, 8, 4, 2, 1):
        codes = codes ^ (codes >> shift)
    return (codes & 1).bool()


@dataclass(frozen=True)
class Independent:
    """Bernoulli masks, of which none is forced to be the input."""

    beside = True

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """Rows first … first + N − 1."""
        return Bernoulli()(count, bound, num_samples, seed=seed, first=first + 1)


@dataclass(frozen=True)
class Paired:
    """Bernoulli masks, each followed by its complement (Covert & Lee 2021)."""

    beside = True

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """Rows first … first + N − 1."""
        begin, stop = first // 2, math.ceil((first + num_samples) / 2)
        half = Bernoulli()(count, bound, stop - begin, seed=seed, first=begin + 1)
        both = torch.stack([half, ~half & present(count, bound)], dim=2).flatten(1, 2)
        return both[:, first - 2 * begin : first - 2 * begin + num_samples]


@dataclass(frozen=True)
class BySize:
    """Masks of a random size, all of a size alike likely, with the weights that make up for it.

    ``shares`` gives the probability of each size k = 0…K, up to a factor, from the kernel's weight
    of that size [K+1] and the number of masks of that size [K+1].
    """

    shares: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False

    beside = True

    def distribution(self, bound: int) -> tuple[Tensor, Tensor]:
        """The probabilities of sizes [K+1], and the weight [K+1] of a mask of each.

        Their mean is that of the kernel's weights of all masks, since a penalty depends on it.
        """
        kernel = size_weights(bound)
        ways = torch.tensor([math.comb(bound, k) for k in range(bound + 1)], dtype=torch.float64)
        shares = self.shares(kernel, ways)
        shares = shares / shares.sum()
        return shares, torch.where(shares > 0, kernel * ways / ways.sum() / shares, 0.0)

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """Rows first … first + N − 1 of B draws."""
        seeds = seeds_of(seed, count)[:, None, None]
        step = 2 if self.paired else 1
        begin, stop = first // step, math.ceil((first + num_samples) / step)
        rows = torch.arange(begin, stop)[:, None]
        limits = self.distribution(bound)[0].cumsum(0)
        drawn = (hash64(seeds, rows, torch.tensor([bound])) & (2**52 - 1)).double() / 2**52
        size = torch.searchsorted(limits, drawn).clamp(max=bound)
        keys = hash64(seeds, rows, numbers(bound, count))
        rank = keys.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
        masks = rank < size
        if self.paired:
            masks = torch.stack([masks, ~masks], dim=2).flatten(1, 2)
        return masks[:, first - step * begin : first - step * begin + num_samples]

    def weights(self, masks: Tensor) -> Tensor:
        """The weights [B,N] of masks [B,N,K]."""
        return self.distribution(masks.shape[2])[1][masks.sum(2)]


def size_weights(bound: int) -> Tensor:
    """The kernel's weight of a mask that keeps k of K features: [K+1]."""
    masks = torch.arange(bound)[None, None] < torch.arange(bound + 1)[None, :, None]
    return Exponential()(masks, torch.tensor([bound]))[0]


def glime(kernel: Tensor, ways: Tensor) -> Tensor:
    """GLIME (Tan et al. 2023): masks come as often as they weigh, and all weigh the same."""
    return kernel * ways


def leverage(kernel: Tensor, ways: Tensor) -> Tensor:
    """Leverage scores (Musco & Witter 2025): all sizes are alike likely."""
    return torch.ones_like(ways)
