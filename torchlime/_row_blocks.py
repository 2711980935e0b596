"""Rows in blocks, so that the memory of sums over samples does not grow with their number."""

from collections.abc import Iterator

import torch
from torch import Tensor

# A CPU is fastest if the few tensors of a block, of 8 bytes an element, stay in its cache.
# A GPU is fastest if there are few kernels.
ELEMENTS_ON_CPU = 1 << 18
ELEMENTS_ELSEWHERE = 1 << 22


def row_blocks(
    num_rows: int, elements_per_row: int, device: torch.device, multiple: int = 1
) -> Iterator[slice]:
    """Slices that cover ``range(num_rows)``, each of as many elements as suit the device.

    The number of rows in a slice is a multiple of ``multiple``, except in the last slice.
    """
    elements = ELEMENTS_ON_CPU if device.type == "cpu" else ELEMENTS_ELSEWHERE
    rows = max(1, elements // max(1, elements_per_row) // multiple) * multiple
    for start in range(0, num_rows, rows):
        yield slice(start, min(start + rows, num_rows))


def rows_of(values: Tensor, rows: slice) -> Tensor:
    """The rows of values [B,N,…]; the values themselves for all rows, since a view takes time."""
    return values if rows.stop - rows.start == values.shape[1] else values[:, rows]
