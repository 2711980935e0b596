"""A law says how many segments are kept; each set of that size is equally likely."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_rows
from torchlime._hash import hashed, numbers, shift_right, stems_of
from torchlime._size_laws import Law, ShapleyLaw, check_law, probabilities
from torchlime.masks._drawing import in_blocks, present, without_smallest

_SIZE = -1  # the counter of the size, before those of the columns
_WHOLE = 2**53  # random bits are a share of this


@dataclass(frozen=True)
class SizeLaw:
    """Draw how many segments a row keeps from a law, and then that many segments uniformly.

    The laws are :class:`ShapleyLaw` (KernelSHAP), :class:`LeverageLaw` (Leverage SHAP),
    :class:`UniformLaw`, :class:`GlimeLaw` (GLIME) and :class:`BinomialLaw`.
    With the kernel :class:`torchlime.weights.ImportanceWeights`, masks drawn by one law have the
    expectations of another law.

    Args:
        law: the law of the sizes, or any callable with the signature (count [B], S) → masses
            [B,S+1].
        paired: draw pairs of complements. This needs a symmetric law.

    Convention:
        A ``proper`` law (those of Shapley and leverage) never keeps all segments or none. Then the
        design begins with these two masks: row 0 keeps all, and row 1 hides all. A constrained fit
        needs them (:class:`torchlime.surrogates.ConstrainedLeastSquares`). If an input has one
        segment, its rows keep it and hide it in turn.

        For any other law no row is forced: the input is scored beside the design.

    Source: Lundberg & Lee 2017, supplement; pairs: Covert & Lee 2021.

    Raises:
        TypeError, ValueError: ``law`` is not a law, or it is not symmetric and ``paired`` is True;
            or, when drawing, the law returns another shape, or (on a CPU) masses that are negative
            or not finite.

    Example:
        >>> masks = SizeLaw()(torch.tensor([5]), 5, 1000, seed=0)[0]
        >>> masks[:2].sum(1).tolist(), sorted(set(masks[2:].sum(1).tolist()))
        ([5, 0], [1, 2, 3, 4])
        >>> bool((masks[0::2] ^ masks[1::2]).all())
        True
    """

    law: Law = ShapleyLaw()
    paired: bool = True

    def __post_init__(self) -> None:
        check_law(self.law)
        if self.paired and not getattr(self.law, "symmetric", False):
            raise ValueError(
                f"complements of masks drawn by {self.law!r} follow another law, as it is not "
                "symmetric; pass paired=False"
            )

    @property
    def beside(self) -> bool:
        """Whether the input is beside the design: True unless the law is proper."""
        return not getattr(self.law, "proper", False)

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
        stems = stems_of(seed, count)
        counters, exists = numbers(bound + 1, count, first=_SIZE), present(count, bound)
        below = _cumulative(probabilities(self.law, count, bound))
        lone = (below[:, -1:] == 0)[..., None]

        def draw(samples: Tensor) -> Tensor:
            turn = samples // 2 if self.paired else samples
            even = (samples % 2 == 0)[:, None]
            bits = hashed(stems, turn[:, None], counters)  # for the size and the columns
            hidden = count[:, None, None] - _drawn(below, bits[..., 0])[..., None]
            of_columns = bits[..., 1:].expand(len(count), -1, -1)
            masks = without_smallest(of_columns, hidden.clamp(min=1), exists) | (hidden == 0)
            masks = masks ^ ~even if self.paired else masks
            begins = lone if self.beside else lone | (samples < 2)[:, None]
            return torch.where(begins, even, masks) & exists

        return in_blocks(draw, numbers(num_samples, count, first), exists.numel())


def _cumulative(shares: Tensor) -> Tensor:
    """Cumulative sums [B,S+1] of shares, in whole units of 2⁻⁵³: exact in any order."""
    return (shares * _WHOLE).round_().long().cumsum(dim=1)


def _drawn(below: Tensor, bits: Tensor) -> Tensor:
    """Sizes [B,n] from random bits [b,n]; ``below`` [B,S+1] is of :func:`_cumulative`."""
    most = (below < below[:, -1:]).sum(dim=1, keepdim=True)  # rounding may leave a gap at the end
    share = shift_right(bits, 11).expand(len(below), -1)
    return torch.searchsorted(below, share.contiguous(), right=True).minimum(most)
