"""Every segment is kept or hidden independently."""

from dataclasses import dataclass

from torch import Tensor

from torchlime._checks import check_fraction, check_rows
from torchlime._hash import hashed, numbers, shift_right, stems_of
from torchlime.masks._drawing import beginning_whole, in_blocks, present


@dataclass(frozen=True)
class Bernoulli:
    """Keep each segment independently with probability ``keep``.

    This is the design of Ribeiro et al. 2016 for images, where ``keep`` is 0.5.

    Raises:
        ValueError: ``keep`` is not strictly between 0 and 1.

    Example:
        >>> import torch
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
        stems = stems_of(seed, count)
        columns = numbers(bound, count)

        def draw(samples: Tensor) -> Tensor:
            bits = shift_right(hashed(stems, samples[:, None], columns), 11)  # 53 uniform bits
            return bits < int(self.keep * 2**53)

        masks = in_blocks(draw, numbers(num_samples, count, first), len(stems) * bound)
        return beginning_whole(masks, first) & present(count, bound)
