"""How many features a mask keeps: its size, and laws of it.

Convention:
    A law is called with count [B] and the bound S. It gives the masses [B,S+1] of the sizes 0 … S,
    as floats of the solve's dtype. They need not add up to 1, and those beyond the count have no
    effect. Any callable may stand in a law's place.

    An attribute ``symmetric`` that is True says that the sizes k and count − k have one mass. An
    attribute ``proper`` that is True says that the sizes 0 and count have none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from torchlime._checks import check_fraction, check_positive
from torchlime._precision import solve_dtype

Law = Callable[[Tensor, int], Tensor]
MaskDistance = Literal["cosine", "euclidean"]


def kept_by(masks: Tensor) -> Tensor:
    """How many features masks [B,N,S] keep: [B,N], whole numbers."""
    width = masks.shape[-1]
    counter = torch.uint8 if width < 1 << 8 else torch.int16 if width < 1 << 15 else torch.int64
    if masks.device.type != "cpu":  # a CPU adds bytes to few bits many times as fast
        counter = solve_dtype(masks.device)
    return masks.view(torch.uint8).sum(dim=-1, dtype=counter)


@dataclass(frozen=True)
class ShapleyLaw:
    """Size k has mass (n − 1) / (k (n − k)) for 0 < k < n, where n is the count.

    This is the mass of all sets of one size under the Shapley kernel (Lundberg & Lee 2017), which
    is infinite for k = 0 and k = n. Least squares of equal weights on such a draw is KernelSHAP.

    Example:
        >>> ShapleyLaw()(torch.tensor([4]), 4).tolist()
        [[0.0, 1.0, 0.75, 1.0, 0.0]]
    """

    symmetric: ClassVar[bool] = True
    proper: ClassVar[bool] = True

    def __call__(self, count: Tensor, bound: int) -> Tensor:
        """Masses [B,S+1]; see the module's convention."""
        size, number = _sizes(count, bound)
        inside = (size > 0) & (size < number)
        product = torch.where(inside, size * (number - size), 1.0)
        return torch.where(inside, (number - 1) / product, 0.0)


@dataclass(frozen=True)
class LeverageLaw:
    """All sizes from 1 to count − 1 have one mass.

    A set of features then has the probability of its leverage in the constrained least squares
    problem that the Shapley values solve (Musco & Witter 2025).

    Example:
        >>> LeverageLaw()(torch.tensor([3]), 4).tolist()
        [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """

    symmetric: ClassVar[bool] = True
    proper: ClassVar[bool] = True

    def __call__(self, count: Tensor, bound: int) -> Tensor:
        """Masses [B,S+1]; see the module's convention."""
        size, number = _sizes(count, bound)
        return ((size > 0) & (size < number)).to(size.dtype)


@dataclass(frozen=True)
class UniformLaw:
    """All sizes from 0 to the count have one mass.

    Example:
        >>> UniformLaw()(torch.tensor([2]), 3).tolist()
        [[1.0, 1.0, 1.0, 0.0]]
    """

    symmetric: ClassVar[bool] = True
    proper: ClassVar[bool] = False

    def __call__(self, count: Tensor, bound: int) -> Tensor:
        """Masses [B,S+1]; see the module's convention."""
        size, number = _sizes(count, bound)
        return (size <= number).to(size.dtype)


@dataclass(frozen=True)
class BinomialLaw:
    """Every feature is kept with probability ``keep`` by itself; so all masks alike for 0.5.

    It is the law of :class:`torchlime.masks.Bernoulli`, and for 0.5 that of
    :class:`torchlime.masks.Exhaustive`.

    Raises:
        TypeError, ValueError: ``keep`` is no number strictly between 0 and 1.

    Example:
        >>> BinomialLaw()(torch.tensor([2]), 3).round(decimals=9).tolist()
        [[0.25, 0.5, 0.25, 0.0]]
    """

    proper: ClassVar[bool] = False

    keep: float = 0.5

    def __post_init__(self) -> None:
        check_fraction(self.keep, "keep")

    @property
    def symmetric(self) -> bool:
        """Whether ``keep`` is 0.5."""
        return self.keep == 0.5

    def __call__(self, count: Tensor, bound: int) -> Tensor:
        """Masses [B,S+1]; see the module's convention."""
        size, number = _sizes(count, bound)
        each = size * math.log(self.keep) + (number - size) * math.log1p(-self.keep)
        return (_log_binomial(size, number) + each).exp()


@dataclass(frozen=True)
class GlimeLaw:
    """Size k has mass C(n, k) exp(−d²/2σ²): LIME's weight times the number of masks that have it.

    Where LIME draws each feature with probability 1/2 and weighs a mask by its distance d, this law
    draws masks by that weight. Equal weights then have the same limit (GLIME, Tan et al. 2023).

    Args:
        width: σ.
        distance: "cosine": d = 1 − √(k/n). "euclidean": d = √(n − k), and the features are kept
            independently with probability 1 / (1 + exp(−1/2σ²)), as by :class:`BinomialLaw`.

    Raises:
        TypeError, ValueError: ``width`` is no number above 0, or ``distance`` is unknown.

    Example:
        >>> masses = GlimeLaw(width=1.0, distance="euclidean")(torch.tensor([1]), 1)
        >>> (masses / masses.sum()).round(decimals=4).tolist()
        [[0.3775, 0.6225]]
    """

    symmetric: ClassVar[bool] = False
    proper: ClassVar[bool] = False

    width: float = 0.25
    distance: MaskDistance = "cosine"

    def __post_init__(self) -> None:
        check_positive(self.width, "width")
        if self.distance not in get_args(MaskDistance):
            known = get_args(MaskDistance)
            raise ValueError(f"distance must be one of {known}, got {self.distance!r}")

    def __call__(self, count: Tensor, bound: int) -> Tensor:
        """Masses [B,S+1]; see the module's convention."""
        size, number = _sizes(count, bound)
        if self.distance == "cosine":
            squared = (1 - (size / number).sqrt()).square()
        else:
            squared = number - size
        logarithm = _log_binomial(size, number) - squared / (2 * self.width**2)
        return (logarithm - logarithm.amax(dim=1, keepdim=True)).exp()


_OWN = (ShapleyLaw, LeverageLaw, UniformLaw, BinomialLaw, GlimeLaw)


def check_law(law: Any, name: str = "law") -> None:
    """Raise unless ``law`` can be called."""
    if not callable(law) or isinstance(law, type):
        raise TypeError(f"{name} must be a law of sizes, such as ShapleyLaw(), got {law!r}")


def probabilities(law: Law, count: Tensor, bound: int) -> Tensor:
    """The probabilities [B,S+1] of sizes; all 0 where the law has no mass at all.

    Raises:
        TypeError, ValueError: the law returned something else than masses [B,S+1]; or, on a CPU,
            negative or non-finite ones.
    """
    masses = law(count, bound)
    expected = f"the law must return floats [B,S+1] = {[len(count), bound + 1]}"
    if not isinstance(masses, Tensor):
        raise TypeError(f"{expected}, got {type(masses).__name__}")
    if not masses.is_floating_point() or masses.shape != (len(count), bound + 1):
        raise ValueError(f"{expected}, got {masses.dtype} {list(masses.shape)}")
    masses = masses.to(solve_dtype(count.device))
    size, number = _sizes(count, bound)
    masses = masses.masked_fill(size > number, 0.0)
    # On a GPU this check would wait. The laws of this module need no check, and can be compiled.
    looks = masses.device.type == "cpu" and not isinstance(law, _OWN)
    if looks and not ((masses >= 0) & masses.isfinite()).all():
        raise ValueError(f"the masses of {law!r} must be finite numbers of at least 0")
    total = masses.sum(dim=1, keepdim=True)
    return masses / torch.where(total > 0, total, 1.0)


def _sizes(count: Tensor, bound: int) -> tuple[Tensor, Tensor]:
    """The sizes 0 … S [1,S+1], and the count [B,1], in the solve's dtype."""
    dtype = solve_dtype(count.device)
    return torch.arange(bound + 1, dtype=dtype, device=count.device)[None], count[:, None].to(dtype)


def _log_binomial(size: Tensor, number: Tensor) -> Tensor:
    """log C(n, k); −∞ for k > n."""
    hidden = number - size
    found = (number + 1).lgamma() - (size + 1).lgamma() - (hidden.clamp(min=0) + 1).lgamma()
    return found.masked_fill(hidden < 0, -torch.inf)
