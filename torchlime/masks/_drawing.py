"""What samplers of masks share."""

from collections.abc import Callable

import torch
from torch import Tensor

from torchlime._hash import numbers, shift_right
from torchlime._row_blocks import row_blocks

ENDLESS = "Bernoulli, FixedCount, Orthogonal, Permutations, RandomSize, SizeLaw and Sizes can"


def present(count: Tensor, bound: int) -> Tensor:
    """[B,1,S] bool: the columns that stand for a feature."""
    return numbers(bound, count) < count[:, None, None]


def beginning_whole(masks: Tensor, first: int) -> Tensor:
    """``masks`` with row 0 set to keep all, if it is the first row of the design."""
    if first == 0:
        masks[:, 0] = True
    return masks


def refuse_further_rows(sampler: object, first: int) -> None:
    """Raise if a sampler that has no endless design is asked for rows after its first ones."""
    if first:
        raise ValueError(
            f"{type(sampler).__name__} draws all its rows at once, so it cannot go on from row "
            f"first={first}; {ENDLESS}"
        )


def finite_rows(sampler: object, rows: int, num_samples: int, first: int) -> int:
    """How many rows from ``first`` on there are to draw, of a design of ``rows`` rows.

    Raises:
        ValueError: the first draw does not hold them all, or there are none from ``first`` on.
    """
    if first == 0 and num_samples < rows:
        raise ValueError(
            f"{type(sampler).__name__} has {rows} rows here, so it needs num_samples >= {rows}, "
            f"got {num_samples}"
        )
    if first >= rows:
        raise ValueError(
            f"{type(sampler).__name__} has {rows} rows here, so it cannot go on from row "
            f"first={first}; {ENDLESS}"
        )
    return min(num_samples, rows - first)


def in_blocks(draw: Callable[[Tensor], Tensor], rows: Tensor, elements_per_row: int) -> Tensor:
    """Call ``draw`` with a block of row numbers at a time: [b,len(rows),…].

    A draw takes 8 bytes or more for every bit of its result.
    """
    blocks = row_blocks(len(rows), elements_per_row, rows.device)
    parts = [draw(rows[block]) for block in blocks]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def without_smallest(bits: Tensor, hidden: Tensor, exists: Tensor) -> Tensor:
    """Masks that hide the ``hidden`` columns whose random bits are the smallest.

    Args:
        bits: [b,n,S] int64, random.
        hidden: how many, at least 1; broadcasts to [b,n,1].
        exists: [B,1,S] bool, the columns that stand for a feature; b is 1 or B.
    """
    bound = bits.shape[2]
    width = bound.bit_length()
    # The column in the low bits makes every key distinct.
    keys = (shift_right(bits, width + 1) << width) | numbers(bound, bits)
    keys = torch.where(exists, keys, torch.iinfo(torch.int64).max)
    last = (hidden - 1).expand(len(keys), keys.shape[1], 1)
    return keys > keys.sort().values.gather(2, last)
