"""Small designs that an int seed fixes: a CPU draws each once, and keeps a few.

For a tiny input, drawing takes longer than scoring. On other devices nothing is kept: there a
tensor belongs to the stream, or to the capture, in which it was made.
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchlime._checks import is_integer
from torchlime._host import is_at_hand

LARGEST = 1 << 16  # entries of a design that is kept
MOST = 16  # designs that are kept; the next one drops them all

Draw = Callable[[Any, Tensor, int, int, int | Tensor, int], Tensor]

_kept: dict[tuple[Draw, Any, int, int, int, int], Tensor] = {}


def drawn_once(draw: Draw) -> Draw:
    """Decorates a sampler's method (count, bound, num_samples, seed, first) → design.

    Each call returns a new tensor, which the caller may change. The method may use the settings of
    the sampler. Of ``count`` it may use only the device.
    """

    @functools.wraps(draw)
    def known(
        sampler: Any, count: Tensor, bound: int, num_samples: int, seed: int | Tensor, first: int
    ) -> Tensor:
        arguments = sampler, count, bound, num_samples, seed, first
        small = num_samples * bound <= LARGEST
        if not (small and is_integer(seed) and is_at_hand(count)):
            return draw(*arguments)
        key = draw, sampler, bound, num_samples, int(seed), first
        found = _kept.get(key)
        if found is not None:
            return found.clone()
        found = draw(*arguments)
        if type(found) is Tensor:  # fake tensors have another type
            if len(_kept) >= MOST:
                _kept.clear()
            _kept[key] = found.clone()
        return found

    return known
