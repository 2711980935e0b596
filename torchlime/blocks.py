"""Rows in blocks, so that the memory of sums over samples does not grow with their number."""

from collections.abc import Iterator

BLOCK_ELEMENTS = 1 << 22


def row_blocks(num_rows: int, elements_per_row: int) -> Iterator[slice]:
    """Slices that cover ``range(num_rows)``, each of about 4 million elements (at least a row)."""
    rows = max(1, BLOCK_ELEMENTS // max(1, elements_per_row))
    for start in range(0, num_rows, rows):
        yield slice(start, min(start + rows, num_rows))
