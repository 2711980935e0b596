"""How many samples are drawn, and when they are enough.

Convention:
    ``sizes(num_samples)`` gives the number of samples of each round. ``settled(fit, count)`` tells
    after a round whether to stop. A rule that stops early reads back one flag a round.
"""

from dataclasses import dataclass

from torch import Tensor

from torchlime.fit import Fit


@dataclass(frozen=True)
class Once:
    """All samples in one round. Nothing is read back.

    Example:
        >>> Once().sizes(512)
        (512,)
    """

    def sizes(self, num_samples: int) -> tuple[int, ...]:
        """One round."""
        return (num_samples,)

    def settled(self, fit: Fit, count: Tensor) -> bool:
        """True: there is no other round."""
        return True
