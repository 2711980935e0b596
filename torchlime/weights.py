"""design → proximity weights [B,N]: the weight of each sample in the fit.

Distances:
    cosine: 1 − √(kept / count), the cosine distance to the mask that keeps all; 1 where all is
        hidden.
    euclidean: √(hidden), the euclidean distance between masks. For noise it is the euclidean
        length, and it is the only distance that noise has.
    pixel_euclidean: √(Σ energy of hidden segments / Σ energy) in [0,1], with energy [B,S] = Σ over
        the segment of (x − fill)². This is exactly ‖x − perturbed‖ / ‖x − fill‖, without making an
        image. It is 0 where the fill equals the image.

Convention:
    A kernel is called with masks [B,N,S] bool, count [B] and energy. If it has a method
    ``of_noise``, the pipeline passes noise to that method. Any other callable gets noise in the
    place of masks. In ``__call__`` a float design is noise too, for callers who wrap a kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from torchlime._checks import check_positive
from torchlime._kinds import weights_of_noise
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks, rows_of
from torchlime._size_laws import BinomialLaw, Law, ShapleyLaw, check_law, kept_by, probabilities

Distance = Literal["cosine", "euclidean", "pixel_euclidean"]


@dataclass(frozen=True)
class Exponential:
    """exp(−d²/2σ²) with σ = ``width``; the defaults are those of Ribeiro et al. 2016 for images.

    Raises:
        ValueError: ``width`` is not above 0, or ``distance`` is unknown.

    Example:
        >>> masks = torch.tensor([[[True, True], [False, False]]])
        >>> Exponential(width=1.0)(masks, torch.tensor([2])).tolist()
        [[1.0, 0.6065306597126334]]
    """

    by_row: ClassVar[bool] = True  # a row's weight does not depend on the other rows

    width: float = 0.25
    distance: Distance = "cosine"

    def __post_init__(self) -> None:
        check_positive(self.width, "width")
        _check_distance(self.distance)

    @property
    def needs_energy(self) -> bool:
        """Whether the call wants ``energy``."""
        return self.distance == "pixel_euclidean"

    def __call__(self, masks: Tensor, count: Tensor, energy: Tensor | None = None) -> Tensor:
        """Weights [B,N] of masks [B,N,S], in (0,1]."""
        if masks.is_floating_point():
            return self.of_noise(masks, count)
        return self._of(_distances(self.distance, masks, count, energy))

    def of_noise(self, noise: Tensor, count: Tensor) -> Tensor:
        """Weights [B,N] of noise [B,N,F], in (0,1]."""
        return self._of(_lengths(self.distance, noise))

    def _of(self, distance: Tensor) -> Tensor:
        return torch.exp(distance.square() / (-2 * self.width**2))


@dataclass(frozen=True)
class InverseDistance:
    """1 / max(d, the smallest positive d of the image), so that the image weighs as its nearest.

    Raises:
        ValueError: ``distance`` is unknown.

    Example:
        >>> masks = torch.tensor([[[True] * 4, [True, False, False, False], [False] * 4]])
        >>> InverseDistance("euclidean")(masks, torch.tensor([4])).tolist()
        [[0.577..., 0.577..., 0.5]]
    """

    distance: Distance = "pixel_euclidean"

    def __post_init__(self) -> None:
        _check_distance(self.distance)

    @property
    def needs_energy(self) -> bool:
        """Whether the call wants ``energy``."""
        return self.distance == "pixel_euclidean"

    def __call__(self, masks: Tensor, count: Tensor, energy: Tensor | None = None) -> Tensor:
        """Weights [B,N] of masks [B,N,S]; all 1 where every distance is 0."""
        if masks.is_floating_point():
            return self.of_noise(masks, count)
        return self._of(_distances(self.distance, masks, count, energy))

    def of_noise(self, noise: Tensor, count: Tensor) -> Tensor:
        """Weights [B,N] of noise [B,N,F]; all 1 where every distance is 0."""
        return self._of(_lengths(self.distance, noise))

    def _of(self, distance: Tensor) -> Tensor:
        nearest = torch.where(distance > 0, distance, torch.inf).amin(dim=1, keepdim=True)
        nearest = torch.where(nearest.isinf(), 1.0, nearest)
        return 1 / distance.maximum(nearest)


@dataclass(frozen=True)
class Uniform:
    """Every sample has the same weight.

    Example:
        >>> Uniform()(torch.ones(1, 3, 2, dtype=torch.bool), torch.tensor([2])).tolist()
        [[1.0, 1.0, 1.0]]
    """

    by_row: ClassVar[bool] = True

    @property
    def needs_energy(self) -> bool:
        """False: no distance is measured."""
        return False

    def __call__(self, masks: Tensor, count: Tensor, energy: Tensor | None = None) -> Tensor:
        """Weights [B,N] of ones."""
        return torch.ones(masks.shape[:2], dtype=solve_dtype(masks.device), device=masks.device)

    def of_noise(self, noise: Tensor, count: Tensor) -> Tensor:
        """Weights [B,N] of ones."""
        return self(noise, count)


@dataclass(frozen=True)
class ImportanceWeights:
    """The probability of a mask's size under the law ``target``, divided by that under ``drawn``.

    With these weights, a sum over masks that one law drew has the expectation of a sum over masks
    of the other law. So :class:`torchlime.masks.SizeLaw` may draw by a law of small variance, and
    the fit stays that of the target. Leverage SHAP draws by leverage and aims at Shapley values::

        sampler = SizeLaw(LeverageLaw())
        kernel = ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw())
        surrogate = ConstrainedLeastSquares()

    Args:
        target: the law of sizes that the fit is for; see :class:`torchlime.masks.SizeLaw`.
        drawn: the law of the sampler; :class:`torchlime.masks.BinomialLaw` for masks of
            :class:`torchlime.masks.Bernoulli` and :class:`torchlime.masks.Exhaustive`.

    Convention:
        Weights have a mean of 1 over the draw. They are 0 where one of the laws has no mass: under
        a law of Shapley or leverage that is a mask that keeps all, or none. The Shapley kernel is
        infinite there, which means that the fit goes through these scores:
        :class:`torchlime.surrogates.ConstrainedLeastSquares` makes it so, whatever they weigh. Any
        other surrogate leaves them out, and does not give Shapley values. All weights of an input
        of one feature are 1, as there are no other masks.

    Source: Musco & Witter 2025 (Leverage SHAP).

    Raises:
        TypeError, ValueError: a law cannot be called; or, when weighing, the design is noise, or a
            law returns another shape.

    Example:
        >>> from torchlime.masks import LeverageLaw, ShapleyLaw
        >>> masks = torch.tensor([[[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]], dtype=torch.bool)
        >>> kernel = ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw())
        >>> kernel(masks, torch.tensor([4])).round(decimals=4).tolist()
        [[0.0, 1.0909, 0.8182]]
    """

    by_row: ClassVar[bool] = True

    target: Law
    drawn: Law = BinomialLaw()

    def __post_init__(self) -> None:
        check_law(self.target, "target")
        check_law(self.drawn, "drawn")

    @property
    def needs_energy(self) -> bool:
        """False: no distance is measured."""
        return False

    def __call__(self, masks: Tensor, count: Tensor, energy: Tensor | None = None) -> Tensor:
        """Weights [B,N] of masks [B,N,S]."""
        if masks.is_floating_point():
            return self.of_noise(masks, count)
        bound = masks.shape[2]
        target, drawn = (probabilities(law, count, bound) for law in (self.target, self.drawn))
        ratio = torch.where(drawn > 0, target / torch.where(drawn > 0, drawn, 1.0), 0.0)
        ratio = torch.where(target.sum(dim=1, keepdim=True) > 0, ratio, 1.0)
        return ratio.gather(1, kept_by(masks).long())

    def of_noise(self, noise: Tensor, count: Tensor) -> Tensor:
        """Raise: noise has no size."""
        raise TypeError(
            f"{type(self).__name__} weighs masks by how many features they keep, got noise; use "
            "kernel=Uniform()"
        )


@dataclass(frozen=True)
class ShapleyKernel(ImportanceWeights):
    """(n − 1) / (C(n,k) k (n − k)) for a mask that keeps k of n features: KernelSHAP's kernel.

    It is for designs in which all masks are equally likely: those of
    :class:`torchlime.masks.Exhaustive` and :class:`torchlime.masks.Bernoulli` with ``keep`` 0.5.
    :class:`torchlime.masks.SizeLaw` draws by the kernel itself, so that weights are equal
    (:class:`Uniform`), and needs far fewer samples.

    Convention:
        Weights are multiplied by one factor for each count, so that their mean over all masks is 1.
        Masks that keep all or none have an infinite kernel. Here they weigh 0, unless there are no
        others; :class:`torchlime.surrogates.ConstrainedLeastSquares` goes through their scores.

    Source: Lundberg & Lee 2017, theorem 2.

    Example:
        >>> masks = torch.tensor([[[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]], dtype=torch.bool)
        >>> ShapleyKernel()(masks, torch.tensor([4])).round(decimals=4).tolist()
        [[0.0, 1.4545, 0.7273]]
    """

    target: Law = field(default=ShapleyLaw(), init=False, repr=False)
    drawn: Law = field(default=BinomialLaw(), init=False, repr=False)


@dataclass(frozen=True)
class WithoutUnmasked:
    """Another kernel's weights, but 0 for row 0 if it keeps all and so is the unmasked image x.

    Most samplers begin with x, so that x is scored. If x is fitted too, as in lime, all
    coefficients shift by about the same amount. With :class:`Exponential` weights of cosine
    distances this is about 4e/N, where e is the error at x of a surrogate that is fitted to the
    other samples. This is a bias, and a better sampler does not reduce it. This kernel is of no use
    with samplers that score x beside the design, such as :class:`torchlime.masks.Orthogonal`, the
    default, nor with noise. Do not use it with ``Exhaustive``: there x is one of all masks, and the
    fit without x is not exact.

    Raises:
        TypeError: ``kernel`` cannot be called.

    Example:
        >>> masks = torch.tensor([[[True, True], [True, False], [False, False]]])
        >>> WithoutUnmasked(Uniform())(masks, torch.tensor([2])).tolist()
        [[0.0, 1.0, 1.0]]
    """

    kernel: Callable[..., Tensor] = field(default_factory=Exponential)

    def __post_init__(self) -> None:
        if not callable(self.kernel):
            raise TypeError(f"kernel must be callable, got {self.kernel!r}")

    @property
    def by_row(self) -> bool:
        """Whether a row's weight does not depend on the other rows; the other kernel decides."""
        return getattr(self.kernel, "by_row", False)

    @property
    def needs_energy(self) -> bool:
        """Whether the call wants ``energy``; the other kernel decides."""
        return getattr(self.kernel, "needs_energy", False)

    def __call__(self, masks: Tensor, count: Tensor, energy: Tensor | None = None) -> Tensor:
        """Weights [B,N] of masks [B,N,S]."""
        if masks.is_floating_point():
            return self.of_noise(masks, count)
        weights = self.kernel(masks, count, energy)
        unmasked = masks[:, 0].sum(dim=1, keepdim=True) == count[:, None]
        return torch.cat([weights[:, :1].masked_fill(unmasked, 0), weights[:, 1:]], dim=1)

    def of_noise(self, noise: Tensor, count: Tensor) -> Tensor:
        """The other kernel's weights [B,N] of noise [B,N,F]."""
        return weights_of_noise(self.kernel, noise, count)


def _check_distance(distance: str) -> None:
    if distance not in get_args(Distance):
        raise ValueError(f"distance must be one of {get_args(Distance)}, got {distance!r}")


def _distances(name: Distance, masks: Tensor, count: Tensor, energy: Tensor | None) -> Tensor:
    """Distance [B,N] of masks [B,N,S] to the mask that keeps all."""
    if name == "pixel_euclidean":
        if energy is None:
            raise ValueError(
                "distance='pixel_euclidean' needs energy [B,S], the sum over each segment of "
                "(image - fill)**2, which soft segments and left-out tokens do not have; take "
                "distance='cosine'"
            )
        return _hidden_share(masks, energy.to(solve_dtype(masks.device))).sqrt()
    dtype = solve_dtype(masks.device)
    kept = kept_by(masks)
    if name == "cosine":
        return 1 - (kept.to(dtype) / count[:, None]).sqrt()
    return (count[:, None] - kept).to(dtype).sqrt()


def _lengths(name: Distance, noise: Tensor) -> Tensor:
    """Euclidean length [B,N] of noise [B,N,F]."""
    if name != "euclidean":
        raise ValueError(
            f"distance={name!r} is one of masks, which are bool; noise takes 'euclidean'"
        )
    dtype = solve_dtype(noise.device)
    batch, samples, width = noise.shape
    blocks = row_blocks(samples, batch * width, noise.device)
    lengths = [torch.linalg.vector_norm(rows_of(noise, rows).to(dtype), dim=2) for rows in blocks]
    return lengths[0] if len(lengths) == 1 else torch.cat(lengths, dim=1)


def _hidden_share(masks: Tensor, energy: Tensor) -> Tensor:
    """Share [B,N] of an image's energy that lies in its hidden segments."""
    total = energy.sum(dim=1, keepdim=True)
    shares = (energy / torch.where(total > 0, total, 1.0))[..., None]
    batch, samples, width = masks.shape
    hidden = [
        torch.bmm((~masks[:, rows]).to(energy.dtype), shares)[..., 0]
        for rows in row_blocks(samples, batch * width, masks.device)
    ]
    return torch.cat(hidden, dim=1)
