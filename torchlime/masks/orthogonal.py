"""Balanced designs in complement pairs."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchlime._checks import check_rows
from torchlime._hash import hash64, numbers, seeds_of
from torchlime._warn import warn
from torchlime.masks._drawing import in_blocks, present, refuse_further_rows
from torchlime.masks.bernoulli import Bernoulli


@dataclass(frozen=True)
class Orthogonal:
    """Randomised Hadamard design with fold-over: balanced masks in complement pairs.

    A block of 2^(m+1) rows is ``z[i, j] = parity(popcount(i & c[j])) ^ s[j]`` with distinct random
    ``c[j]`` in 2^m … 2^(m+1)−1 and random bits ``s[j]``. Within a block every pair and triple of
    columns is exactly uncorrelated (strength 3), so main effects are free of each other and
    of all two-way interactions. Blocks are independent draws. A row and its complement stand next
    to each other and the pairs are in random order, so a block that is cut short keeps most of its
    balance. No row is forced: the input is scored beside the design, as one row more.

    m0 is ceil(log2 S), and m is m0 + 1 if N holds such a block (N ≥ 2^(m0+2)), else m0. If N holds
    no whole block (N < 2^(m0+1)), rows are Bernoulli(0.5), and a warning names the N that this
    design needs.

    Source: Plackett & Burman 1946 (two-level orthogonal arrays), Box & Wilson 1951 (fold-over);
    the complement pairs are the paired sampling of Covert & Lee 2021.

    Example:
        >>> masks = Orthogonal()(torch.tensor([4]), 4, 16, seed=0)[0]
        >>> masks.sum(0).tolist(), bool((masks[0::2] ^ masks[1::2]).all())
        ([8, 8, 8, 8], True)
    """

    beside: ClassVar[bool] = True

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Draw masks [B,N,S] bool; see the module's convention.

        Raises:
            ValueError: ``first`` is above 0. The size of a block depends on the number of samples,
                so this design has no further rows.
        """
        check_rows(num_samples, first)
        refuse_further_rows(self, first)
        order = (bound - 1).bit_length()  # m0
        if num_samples < 2 << order:
            if not torch.compiler.is_compiling():
                warn(
                    f"Orthogonal needs num_samples >= {2 << order} for up to {bound} "
                    f"segments; with {num_samples} the masks are Bernoulli(0.5)",
                )
            return Bernoulli()(count, bound, num_samples, seed=seed, first=1)  # none is forced
        if num_samples >= 4 << order:
            order += 1
        pairs = 1 << order
        blocks = math.ceil(num_samples / (2 * pairs))
        seeds = seeds_of(seed, count)[:, None, None]
        columns = numbers(bound, count)

        def draw(block: Tensor) -> Tensor:
            codes = pairs + _permutations(seeds, 1, block, pairs)[..., :bound]
            signs = (hash64(seeds, 2, block[:, None], columns) & 1).bool()
            first = _permutations(seeds, 3, block, pairs)
            rows = torch.stack([first, first + pairs], dim=-1).flatten(-2)  # [b, blocks, 2·pairs]
            return _parity(rows[..., :, None] & codes[..., None, :]) ^ signs[..., None, :]

        masks = in_blocks(draw, numbers(blocks, count), len(seeds) * 2 * pairs * bound)
        masks = masks.flatten(1, 2)[:, :num_samples]
        return masks & present(count, bound)


def _permutations(seeds: Tensor, stream: int, block: Tensor, size: int) -> Tensor:
    """A random permutation of 0…size−1 for every number in ``block``: [b, blocks, size]."""
    keys = hash64(seeds, stream, block[:, None], numbers(size, block))
    return keys.argsort(dim=-1, stable=True)


def _parity(codes: Tensor) -> Tensor:
    """Whether the number of set bits (of the low 32) is odd."""
    for shift in (16, 8, 4, 2, 1):
        codes = codes ^ (codes >> shift)
    return (codes & 1).bool()
