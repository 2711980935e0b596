"""Rows in blocks, so that the memory of sums over samples does not grow with their number."""

from collections.abc import Iterator

BLOCK_ELEMENTS = 1 << 22


def row_blocks(num_rows: int, elements_per_row: int, multiple: int = 1) -> Iterator[slice]:
    """Slices that cover ``range(num_rows)``, each of about 4 million elements.

    All but the last are of a ``multiple`` of rows, and at least of that many.
    """
    rows = max(1, BLOCK_ELEMENTS // max(1, elements_per_row) // multiple) * multiple
    for start in range(0, num_rows, rows):
        yield slice(start, min(start + rows, num_rows))
