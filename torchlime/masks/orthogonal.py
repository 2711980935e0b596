"""An endless balanced design in complement pairs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchlime._checks import check_count, check_rows
from torchlime._drawn_once import drawn_once
from torchlime._hash import streams
from torchlime._row_blocks import row_blocks
from torchlime.masks._drawing import present
from torchlime.masks._forms import Forms

_LEAST, _MOST = 3, 8  # log2 of the columns for which there are forms
_CARE = 0.15  # with it, nine of ten runs of networks that were not in the choice end well


@dataclass(frozen=True, kw_only=True, repr=False)
class Orthogonal:
    """Randomised Hadamard design with fold-over, whose blocks form cycles of strength 5.

    A block has 2n rows for n = 2^m columns, where m = max(3, ceil(log2 S)):
    ``z[i, j] = parity(popcount(i & c[j])) ^ s[j] ^ Q(c[j])``, and its complement next to it. The
    ``c[j]`` are distinct random points of F₂^m, and the ``s[j]`` are random bits. The pairs are in
    random order, so a block that is cut short keeps most of its balance. Within a block every pair
    and triple of columns is exactly uncorrelated (strength 3). So main effects are free of each
    other and of all two-way interactions.

    The blocks of a cycle share ``c`` and ``s``, and each block has a quadratic form Q of its own. A
    whole cycle has strength 5, so main effects are also free of all three-way interactions. In a
    part of a cycle, the error by these interactions is at most that of independent blocks. The next
    cycle draws ``c`` and ``s`` again.

    | S up to | rows of a block | of a cycle |
    |---|---|---|
    | 8 | 16 | 128 |
    | 16 | 32 | 256 |
    | 32 | 64 | 2048 |
    | 64 | 128 | 4096 |
    | 128 | 256 | 32768 |
    | 256 | 512 | 65536 |

    Above 256 columns there are no forms, and the blocks are independent.

    Args:
        noisy: the model draws random numbers even in eval mode. A cycle does not cancel their
            variance, so :meth:`variance_factor` is 1. The masks are the same. With False, the
            standard errors assume that the model gives equal inputs equal scores. If the scores are
            pure noise, the errors at whole cycles are then only √(1 − ρ) of the true ones. Scores
            that jump, such as class labels, have interactions of all orders, of which a cycle
            cancels less. For the labels of 12 networks of 10 features, .84 to .89 of the runs of
            :class:`torchlime.rounds.Until` ended within the tolerance, and .99 with
            ``noisy=True``, which took more rows.

    Convention:
        No row is forced: the input is scored beside the design. A call gives the rows ``first`` …
        ``first`` + N − 1 of one endless design. There is one exception: a first draw of less than
        3/4 of a block would have too few pairs, so it is a part of a Hadamard design without
        complements.

    Source: Plackett & Burman 1946 (two-level orthogonal arrays), Box & Wilson 1951 (fold-over);
    Kerdock 1972, Gold 1968 and Delsarte & Goethals 1975 (the forms); the complement pairs are the
    paired sampling of Covert & Lee 2021.

    Raises:
        TypeError: ``noisy`` is not a bool.

    Example:
        >>> masks = Orthogonal()(torch.tensor([4]), 4, 16, seed=0)[0]
        >>> masks.sum(0).tolist(), bool((masks[0::2] ^ masks[1::2]).all())
        ([8, 8, 8, 8], True)
    """

    beside: ClassVar[bool] = True

    noisy: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.noisy, bool):
            raise TypeError(f"noisy must be True or False, got {self.noisy!r}")

    def __repr__(self) -> str:
        # As it was before there was a choice: jobs and results know it by this.
        return "Orthogonal(noisy=True)" if self.noisy else "Orthogonal()"

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Draw masks [B,N,S] bool; see the class's convention."""
        check_rows(num_samples, first)
        return self._rows(count, bound, num_samples, seed, first) & present(count, bound)

    def block(self, bound: int) -> int:
        """The rows of a block, for S = ``bound`` columns."""
        return 2 << _order(bound)

    def cycle(self, bound: int) -> int:
        """The rows of a cycle, for S = ``bound`` columns; without forms, the rows of a block."""
        return self.block(bound) * _forms_of(_order(bound))

    def variance_factor(self, bound: int, num_samples: int) -> float:
        """The factor of the residuals' variance, since a cycle cancels a part of it.

        φ = 1 − ρ(1 − f), where f = (b/t)(1 − (b−1)/(L−1)) is the share of the three-way aliases
        that is left after t blocks, b of them since the last whole cycle of L. ρ is the share of
        three-way interactions in the odd part of the residuals. It was measured on networks whose
        outputs of all masks are known: 1/2 + 22/S², and at most 0.85. φ is 1 for ``noisy`` models.
        """
        length, blocks = self.cycle(bound) // self.block(bound), num_samples / self.block(bound)
        if self.noisy or length == 1 or blocks <= 1:
            return 1.0
        rest = blocks % length
        left = rest / blocks * min(1.0, 1 - (rest - 1) / (length - 1))
        return 1 - _order_three(bound) * (1 - left)

    def stopping_factor(self, bound: int, num_samples: int) -> float:
        """max(φ, 1 − ρ + .15): what a rule that stops takes in the place of φ.

        1 − ρ is φ at whole cycles. There a model with fewer three-way interactions than the mean
        has errors that are too small, and a rule would choose just these looks: with φ itself .86
        of the runs of curved networks ended within a tolerance of .15, with .15 more .92 did.
        """
        factor = self.variance_factor(bound, num_samples)
        return max(factor, 1 - _order_three(bound) + _CARE)

    @drawn_once
    def _rows(
        self, count: Tensor, bound: int, num_samples: int, seed: int | Tensor, first: int
    ) -> Tensor:
        """Masks [b,N,S] of inputs that have all columns."""
        if first == 0 and 4 * num_samples < 3 * self.block(bound):
            return _unfolded(count, bound, num_samples, seed)
        return self._blocks(count, bound, num_samples, seed, first)

    def _blocks(
        self, count: Tensor, bound: int, num_samples: int, seed: int | Tensor, first: int
    ) -> Tensor:
        """Rows [b,N,S] of the endless design."""
        order, size = _order(bound), self.block(bound)
        pairs = size // 2
        begin, end = first // size, -(-(first + num_samples) // size)

        def draw(blocks: range) -> Tensor:
            row, place, flip = _drawn(blocks, order, seed, count, bound)
            sign = _parity_sign(row[..., None] & place[:, :, None], order)
            sign ^= (flip << 63)[:, :, None]
            return torch.stack([sign < 0, sign >= 0], dim=3)  # each with its complement

        shared = 1 if isinstance(seed, int) else len(count)
        some = row_blocks(end - begin, shared * pairs * bound, count.device)
        parts = [draw(range(begin, end)[part]) for part in some]
        masks = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        start = first - begin * size
        return masks.flatten(1, 3)[:, start : start + num_samples]


def _drawn(
    blocks: range, order: int, seed: int | Tensor, count: Tensor, bound: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What blocks are made of: their rows, and the places and signs of their columns.

    Returns:
        row [b,n,2^m], place [b,n,S] (or [b,1,S] where blocks share one) and flip [b,n,S], of which
        bit 0 counts.
    """
    length = _forms_of(order)
    cycles = range(blocks.start // length, (blocks.stop - 1) // length + 1)
    sizes = len(blocks), len(cycles)
    bits = streams(seed, count, (blocks, cycles, cycles, cycles), 1 << order)
    # A random permutation of the pairs of each block, and one of the columns of each cycle
    row, place = bits[:, : sum(sizes)].argsort(dim=-1, stable=True).split(sizes, dim=1)
    flip, forms = bits[:, sum(sizes) :].split(len(cycles), dim=1)
    place, flip = place[..., :bound], flip[..., :bound]
    if length == 1:
        return row, place, flip
    skip = blocks.start - cycles.start * length

    def of_blocks(by_cycle: Tensor) -> Tensor:
        every = by_cycle[:, :, None].expand(-1, -1, length, -1).flatten(1, 2)
        return every[:, skip : skip + len(blocks)]

    if len(cycles) > 1:
        place, flip = of_blocks(place), of_blocks(flip)
    forms = forms[..., :length].argsort(dim=-1, stable=True).flatten(1)
    place, value = Forms(order).columns(place, forms[:, skip : skip + len(blocks), None])
    return row, place, flip ^ value


def _unfolded(count: Tensor, bound: int, num_samples: int, seed: int | Tensor) -> Tensor:
    """N random rows of a Hadamard design whose columns are no complements: [b,N,S]."""
    order = max(num_samples - 1, bound).bit_length()
    size = 1 << order
    bits = streams(seed, count, (range(1), range(1), range(1)), size)
    row = bits[:, 0].argsort(dim=-1, stable=True)[:, :num_samples]
    code = bits[:, 1, 1:].argsort(dim=-1, stable=True)[:, :bound] + 1  # 0 is constant
    code = code + size * (bits[:, 2, :bound] & 1)
    return _parity_sign((row + size)[:, :, None] & code[:, None], order + 1) < 0


def _order(bound: int) -> int:
    """m."""
    check_count(bound, "bound")
    return max(_LEAST, (bound - 1).bit_length())


def _forms_of(order: int) -> int:
    """The blocks of a cycle."""
    return Forms(order).number if order <= _MOST else 1


# Bit 63 − k tells whether k, of six bits, has an odd number of bits set.
_ODD = sum((k.bit_count() & 1) << (63 - k) for k in range(64))


def _parity_sign(codes: Tensor, width: int) -> Tensor:
    """An int64 below 0 where the number of set bits is odd, of codes of ``width`` bits."""
    while width > 6:
        half = max(6, (width + 1) // 2)
        codes = (codes ^ (codes >> half)) & ((1 << half) - 1)
        width = half
    return torch.bitwise_left_shift(_ODD, codes)


def _order_three(bound: int) -> float:
    """ρ: with it, 95 % intervals of networks with 8 to 14 segments cover .93 to .98."""
    return min(0.85, 0.5 + 22 / bound**2)
