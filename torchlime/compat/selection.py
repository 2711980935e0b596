"""Forward selection from a Gram matrix: each step updates the matrix, and fits nothing again."""

import numpy as np

from torchlime.compat.arrays import Array


def forward_steps(gram: Array, cross: Array, count: int) -> Array:
    """The ``count`` columns that forward selection takes, in order.

    Args:
        gram: [k,k] of the centred, weighted columns.
        cross: [k], their products with the labels.
        count: at most k.
    """
    floor = 1e-12 * gram.diagonal()
    chosen: list[int] = []
    for _ in range(count):
        room = gram.diagonal()
        free = room > floor
        gain = np.where(free, cross**2 / np.where(free, room, 1.0), 0.0)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        if free[best]:
            share = gram[best] / gram[best, best]
            cross = cross - share * cross[best]
            gram = gram - np.outer(share, gram[best])
    return np.array(chosen)
