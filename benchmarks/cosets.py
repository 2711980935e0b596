"""The endless design of sign cosets, from its literal definition: what Orthogonal may be held to.

A cycle keeps the codes of the columns, distinct points c of F_2^m, and one sign for each. Block t
of L also flips the column of c by a quadratic form Q_t(c). All differences of two forms have full
rank (Kerdock 1972 for even m, Gold for odd m), so a whole cycle has strength 5 (Delsarte & Goethals
1975).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from torchlime._hash import hash64, numbers, seeds_of
from torchlime.masks._drawing import present

SHARE = 0.5  # ρ, the part of the odd variance that is of order three


@dataclass(frozen=True)
class Cosets:
    """Sign cosets for up to 16 columns; the input is beside the design."""

    beside = True

    def block(self, bound: int) -> int:
        """The rows of a block."""
        return 2 << _order(bound)

    def variance_factor(self, bound: int, num_samples: int) -> float:
        """φ = 1 − ρ(1 − f), f = (B'/T)(1 − (B' − 1)/(L − 1)); B' of T blocks are in no cycle."""
        blocks, length = num_samples // self.block(bound), len(forms(_order(bound)))
        rest = blocks % length
        f = 1.0 if blocks == 0 else rest / blocks * (1 - (rest - 1) / (length - 1))
        return 1 - SHARE * (1 - f)

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """Rows first … first + N − 1."""
        order = _order(bound)
        points, size = 1 << order, self.block(bound)
        table = torch.tensor(forms(order))
        length = len(table)
        seeds = seeds_of(seed, count)[:, None, None]
        blocks = torch.arange(first // size, -(-(first + num_samples) // size))[:, None]
        cycle = blocks // length

        def shuffled(stream: int, of: Tensor, n: int) -> Tensor:
            keys = hash64(seeds, stream, of, numbers(n, count))
            return keys.argsort(dim=-1, stable=True)

        codes = shuffled(1, cycle, points)[..., :bound]
        signs = hash64(seeds, 2, cycle, numbers(bound, count)) & 1
        turns = shuffled(3, cycle, length)  # which form each block of the cycle has
        turn = turns.gather(2, (blocks % length).expand(len(turns), -1, 1))
        flips = table[turn.expand(-1, -1, bound), codes]
        rows = shuffled(4, blocks, points)
        products = _parity(rows[..., :, None] & codes[..., None, :])
        half = products ^ (signs ^ flips)[..., None, :]
        both = torch.stack([half, 1 - half], dim=3).flatten(2, 3).flatten(1, 2)
        begin = first - first // size * size
        return (both[:, begin : begin + num_samples] == 1) & present(count, bound)


def _order(bound: int) -> int:
    if bound > 16:
        raise ValueError(f"these forms are for up to 16 columns, got {bound}")
    return 3 if bound <= 8 else 4


@lru_cache
def forms(order: int) -> list[list[int]]:
    """Q_t(c) [L,2^m]: tr(a x³) for c = x; for m = 4, c = (x, e): tr((a x)³) + e tr(a x)."""
    if order == 3:
        return [[_trace(_times(a, _cube(x))) for x in range(8)] for a in range(8)]
    return [
        [_trace(_cube(_times(a, c & 7))) ^ ((c >> 3) & _trace(_times(a, c & 7))) for c in range(16)]
        for a in range(8)
    ]


def _times(a: int, b: int) -> int:
    """The product in GF(8), of x³ + x + 1."""
    found = 0
    for bit in range(3):
        found ^= (a << bit) * (b >> bit & 1)
    for bit in (4, 3):
        found ^= (0b1011 << (bit - 3)) * (found >> bit & 1)
    return found


def _cube(x: int) -> int:
    return _times(x, _times(x, x))


def _trace(x: int) -> int:
    square = _times(x, x)
    return x ^ square ^ _times(square, square)


def _parity(codes: Tensor) -> Tensor:
    for shift in (8, 4, 2, 1):
        codes = codes ^ (codes >> shift)
    return codes & 1
