"""count → masks [B,N,S]: which features each sample keeps.

Convention:
    True = the segment is kept. Row 0 keeps all. Columns beyond an image's count are False.
    A mask entry depends on (seed, sample, segment, S) alone, not on the batch, the device or any
    global generator. (:class:`FixedCount` also depends on the count, and :class:`Orthogonal` on
    the number of samples, which sets the size of its blocks.) ``seed`` is an int, for one draw that
    all inputs share, or an int64 tensor [B] on the device of ``count``. A sampler that has an
    endless design gives its rows ``first`` … first + N − 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_fraction, check_rows
from torchlime._hash import hash64, numbers, seeds_of, shift_right
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime._warn import warn


@dataclass(frozen=True)
class Bernoulli:
    """Keep each segment independently with probability ``keep``.

    This is the design of Ribeiro et al. 2016 for images, where ``keep`` is 0.5.

    Raises:
        ValueError: ``keep`` is not strictly between 0 and 1.

    Example:
        >>> masks = Bernoulli(keep=0.5)(torch.tensor([3]), 4, 1000, seed=0)
        >>> masks.shape, masks[0, 0].tolist()
        (torch.Size([1, 1000, 4]), [True, True, True, False])
    """

    keep: float = 0.5

    def __post_init__(self) -> None:
        check_fraction(self.keep, "keep")

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Draw masks [B,N,S] bool; see the module's convention."""
        check_rows(num_samples, first)
        seeds = seeds_of(seed, count)[:, None, None]
        columns = numbers(bound, count)

        def draw(samples: Tensor) -> Tensor:
            bits = shift_right(hash64(seeds, samples[:, None], columns), 11)  # 53 uniform bits
            return bits < int(self.keep * 2**53)

        masks = _in_blocks(draw, numbers(num_samples, count, first), len(seeds) * bound)
        return _beginning_whole(masks, first) & present(count, bound)


@dataclass(frozen=True)
class Orthogonal:
    """Randomised Hadamard design with fold-over: balanced masks in complement pairs.

    A block of 2^(m+1) rows is ``z[i, j] = parity(popcount(i & c[j])) ^ s[j]`` with distinct random
    ``c[j]`` in 2^m … 2^(m+1)−1 and random bits ``s[j]``. Within a block every pair and triple of
    columns is exactly uncorrelated (strength 3), so main effects are free of each other and
    of all two-way interactions. Blocks are independent draws. A row and its complement stand next
    to each other and the pairs are in random order, so a block that is cut short keeps most of its
    balance. Row 0 keeps all and row 1 hides all.

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
        _refuse_further_rows(self, first)
        order = (bound - 1).bit_length()  # m0
        if num_samples < 2 << order:
            if not torch.compiler.is_compiling():
                warn(
                    f"Orthogonal needs num_samples >= {2 << order} for up to {bound} "
                    f"segments; with {num_samples} the masks are Bernoulli(0.5)",
                )
            return Bernoulli()(count, bound, num_samples, seed=seed)
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

        masks = _in_blocks(draw, numbers(blocks, count), len(seeds) * 2 * pairs * bound)
        masks[:, :1] ^= ~masks[:, :1, :1]  # change the first block's signs: row 0 keeps all
        masks = masks.flatten(1, 2)[:, :num_samples]
        return masks & present(count, bound)


@dataclass(frozen=True)
class FixedCount:
    """Hide the same number of segments, a share ``remove`` of them, in every row but the first.

    The number hidden is clamp(floor(remove·count + 0.5), 1, count); the choice is uniform.

    Raises:
        ValueError: ``remove`` is not strictly between 0 and 1.

    Example:
        >>> masks = FixedCount(remove=0.2)(torch.tensor([10]), 10, 5, seed=0)
        >>> masks.sum(-1).tolist()
        [[10, 8, 8, 8, 8]]
    """

    remove: float = 0.2

    def __post_init__(self) -> None:
        check_fraction(self.remove, "remove")

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Draw masks [B,N,S] bool; see the module's convention."""
        check_rows(num_samples, first)
        seeds = seeds_of(seed, count)[:, None, None]
        columns = numbers(bound, count)
        exists = present(count, bound)
        share = count.to(solve_dtype(count.device)) * self.remove
        hidden = (share + 0.5).floor().long().clamp(min=1).minimum(count)
        last = (hidden - 1)[:, None, None]
        width = bound.bit_length()

        def draw(samples: Tensor) -> Tensor:
            # The smallest keys are hidden; the column in the low bits makes every key distinct.
            bits = hash64(seeds, samples[:, None], columns)
            keys = (shift_right(bits, width + 1) << width) | columns
            keys = torch.where(exists, keys, torch.iinfo(torch.int64).max)
            return keys > keys.sort().values.gather(2, last.expand(-1, len(samples), 1))

        masks = _in_blocks(draw, numbers(num_samples, count, first), exists.numel())
        return _beginning_whole(masks, first) & exists


@dataclass(frozen=True)
class Exhaustive:
    """All 2^S masks, each once, so the surrogate is exact and not an estimate.

    Row i hides the segments whose bits are set in i. ``num_samples`` is an upper limit; N is 2^S.

    Convention:
        S must be the exact count. On a CPU a smaller count raises. On another device reading the
        count would cause a wait, so each mask of that image comes 2^(S−count) times instead.

    Raises:
        ValueError: 2^S exceeds ``num_samples``, or S is only a bound of the count.

    Example:
        >>> Exhaustive()(torch.tensor([2]), 2, 4, seed=0).tolist()
        [[[True, True], [False, True], [True, False], [False, False]]]
    """

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Enumerate masks [B,2^S,S] bool; ``seed`` has no effect."""
        _refuse_further_rows(self, first)
        advice = "pass segments= with few segments, or use Grid(rows, cols) as the segmenter"
        if bound >= num_samples.bit_length():
            raise ValueError(
                f"Exhaustive over {bound} segments needs num_samples >= 2**{bound}, "
                f"got {num_samples}; {advice}"
            )
        if count.device.type == "cpu" and not torch.compiler.is_compiling():
            fewest = int(count.min())
            if fewest < bound:
                raise ValueError(
                    f"Exhaustive needs every image to have exactly {bound} segments, "
                    f"got one with {fewest}; {advice}"
                )
        rows = numbers(1 << bound, count)[:, None]
        masks = ((rows >> numbers(bound, count)) & 1) == 0
        return masks & present(count, bound)


def present(count: Tensor, bound: int) -> Tensor:
    """[B,1,S] bool: the columns that stand for a feature."""
    return numbers(bound, count) < count[:, None, None]


def _beginning_whole(masks: Tensor, first: int) -> Tensor:
    """``masks`` with row 0 set to keep all, if it is the first row of the design."""
    if first == 0:
        masks[:, 0] = True
    return masks


def _refuse_further_rows(sampler: object, first: int) -> None:
    if first:
        raise ValueError(
            f"{type(sampler).__name__} draws all its rows at once, so it cannot go on from row "
            f"first={first}; Bernoulli and FixedCount can"
        )


def _in_blocks(draw: Callable[[Tensor], Tensor], rows: Tensor, elements_per_row: int) -> Tensor:
    """Call ``draw`` with a block of row numbers at a time: [b,len(rows),…].

    A draw takes 8 bytes or more for every bit of its result.
    """
    blocks = row_blocks(len(rows), elements_per_row, rows.device)
    return torch.cat([draw(rows[block]) for block in blocks], dim=1)


def _permutations(seeds: Tensor, stream: int, block: Tensor, size: int) -> Tensor:
    """A random permutation of 0…size−1 for every number in ``block``: [b, blocks, size]."""
    keys = hash64(seeds, stream, block[:, None], numbers(size, block))
    return keys.argsort(dim=-1, stable=True)


def _parity(codes: Tensor) -> Tensor:
    """Whether the number of set bits (of the low 32) is odd."""
    for shift in (16, 8, 4, 2, 1):
        codes = codes ^ (codes >> shift)
    return (codes & 1).bool()
