"""The kinds of design, masks and noise, and how kernels and surrogates take them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from torchlime._antithetic import in_pairs
from torchlime._checks import check_same_device
from torchlime._problems import Problem, failed
from torchlime._returns import check_weights
from torchlime.fit import Fit


@dataclass(frozen=True)
class Masks:
    """Features that are kept or hidden: the design is masks [B,N,S] bool, True = kept.

    Either row 0 keeps all, so it is the input itself, and is fitted like any other row; or the
    input is scored ``beside`` the design, as a row more that is not fitted. The sampler decides.

    Args:
        part: what a feature is called.
        input: what an input is called.
        beside: whether the input is scored beside the rows of the design.
    """

    part: str = "segment"
    input: str = "image"
    beside: bool = False

    samples: ClassVar[str] = "samples"

    @property
    def these(self) -> str:
        """Subject and verb of a sentence about the inputs."""
        return f"the {self.input}s are"

    def drawn_by(self, sampler: object) -> "Masks":
        """This kind for the masks of a sampler, whose attribute ``beside`` says where the input is.

        A sampler without that attribute begins with the input.
        """
        return replace(self, beside=bool(getattr(sampler, "beside", False)))

    def rows(self, masks: Tensor, count: Tensor) -> Tensor:
        """The rows that the model gets, [B,N,S] or [B,1+N,S]: the input, and the masks [B,N,S]."""
        if not self.beside:
            return masks
        shared = masks.stride(0) == count.stride(0) == 0  # one draw for all, as expanded views
        some, own = (masks[:1], count[:1]) if shared else (masks, count)
        whole = torch.arange(masks.shape[2], device=masks.device) < own[:, None, None]
        return torch.cat([whole, some], dim=1).expand(len(masks), -1, -1)

    def check(self, masks: Any, count: Tensor, bound: int) -> Tensor:
        """Return ``masks``, or raise unless they are [B,N,S] bool on the inputs' device."""
        return check_masks(masks, count, bound, self.these)

    def weights(
        self, kernel: Callable[..., Tensor], masks: Tensor, count: Tensor, energy: Tensor | None
    ) -> Tensor:
        """The kernel's weights [B,N]; computed once where all inputs share one design."""
        if energy is None and masks.stride(0) == count.stride(0) == 0:
            shape = (1, masks.shape[1])
            shared = check_weights(kernel(masks[:1], count[:1], None), shape)
            return shared.expand(len(masks), -1)
        return check_weights(kernel(masks, count, energy), (len(masks), masks.shape[1]))

    def fit(
        self,
        surrogate: Callable[..., Fit],
        masks: Tensor,
        scores: Tensor,
        weights: Tensor,
        count: Tensor,
    ) -> Fit:
        """The surrogate's fit."""
        return surrogate(masks, scores, weights, count)

    def fields(
        self, fit: Fit, masks: Tensor, weights: Tensor, count: Tensor, **_: Any
    ) -> dict[str, Any]:
        """The fields of an Explanation that follow from a fit."""
        effective = effective_samples(weights)
        return _fields(fit, fit.intercepts + fit.coefficients.sum(dim=2), effective) | {
            "problems": _problems(fit, effective, count)
        }


@dataclass(frozen=True)
class Noise:
    """Features that are numbers: the design is noise [B,N,F], in units of a scale.

    Noise of 0 is the input itself. The input is scored beside the samples, but it is not fitted.
    """

    part: str = "feature"
    input: str = "vector"

    beside: ClassVar[bool] = True
    samples: ClassVar[str] = "samples (or antithetic pairs)"

    @property
    def these(self) -> str:
        """Subject and verb of a sentence about the inputs."""
        return "x is"

    def drawn_by(self, sampler: object) -> "Noise":
        """This kind: the input is beside noise, whatever draws it."""
        return self

    def rows(self, noise: Tensor, count: Tensor) -> Tensor:
        """The noise: the features themselves put the input in front of it."""
        return noise

    def check(self, noise: Any, count: Tensor, bound: int) -> Tensor:
        """Return ``noise``, or raise unless it is [B,N,F] float on the inputs' device."""
        shape = (len(count), bound)
        expected = f"a float tensor [B,N,F] with B, F = {list(shape)} and N > 0"
        if not isinstance(noise, Tensor):
            raise TypeError(f"the sampler must return {expected}, got {type(noise).__name__}")
        if not noise.is_floating_point() or not _is_design(noise, shape):
            raise ValueError(
                f"the sampler must return {expected}, got {noise.dtype} {list(noise.shape)}; "
                "Gaussian() does, the samplers of masks do not"
            )
        check_same_device(noise, count, "noise", self.these)
        return noise

    def weights(
        self, kernel: Callable[..., Tensor], noise: Tensor, count: Tensor, energy: Tensor | None
    ) -> Tensor:
        """The kernel's weights [B,N]; computed once where all inputs share one design."""
        if noise.stride(0) == count.stride(0) == 0:
            shape = (1, noise.shape[1])
            shared = check_weights(weights_of_noise(kernel, noise[:1], count[:1]), shape)
            return shared.expand(len(noise), -1)
        shape = (len(noise), noise.shape[1])
        return check_weights(weights_of_noise(kernel, noise, count), shape)

    def fit(
        self,
        surrogate: Callable[..., Fit],
        noise: Tensor,
        scores: Tensor,
        weights: Tensor,
        count: Tensor,
    ) -> Fit:
        """The fit by the surrogate's ``of_noise``, or by the surrogate itself if it has none."""
        return getattr(surrogate, "of_noise", surrogate)(noise, scores, weights, count)

    def fields(
        self,
        fit: Fit,
        noise: Tensor,
        weights: Tensor,
        count: Tensor,
        *,
        vectors: Tensor,
        scale: Tensor,
        **_: Any,
    ) -> dict[str, Any]:
        """The fields of an Explanation, in units of the features: vectors [B,F], scale [B,F]."""
        unit = scale[:, None]
        slopes, errors = fit.coefficients / unit, fit.standard_errors / unit
        intercepts = fit.intercepts - (slopes * vectors[:, None]).sum(dim=2)
        local, effective = fit.intercepts, effective_samples(weights)
        fit = fit._replace(coefficients=slopes, standard_errors=errors, intercepts=intercepts)
        directions = torch.where(in_pairs(noise), effective / 2, effective)
        return _fields(fit, local, effective) | {"problems": _problems(fit, directions, count)}


Kind = Masks | Noise
IMAGES, VECTORS = Masks("segment", "image"), Noise("feature", "vector")


def check_through_input(surrogate: Any, kind: Kind) -> None:
    """Raise if a fit goes through the score of the input, and no row of the design is the input.

    Raises:
        ValueError: this is the case.
    """
    if isinstance(kind, Masks) and kind.beside and getattr(surrogate, "through_input", False):
        raise ValueError(
            f"{surrogate!r} needs rows of the design that keep all and that hide all, but this "
            f"sampler has the {kind.input} beside its design; use sampler=SizeLaw() or Exhaustive()"
        )


def words_of(kind: Kind) -> dict[str, str]:
    """The words that sentences about an explanation use."""
    parts, samples = f"{kind.part}s", kind.samples
    return {"input": kind.input, "part": kind.part, "parts": parts, "samples": samples}


def check_masks(masks: Any, count: Tensor, bound: int, these: str = "the images are") -> Tensor:
    """Return ``masks``, or raise unless they are [B,N,S] bool on the device of ``count``."""
    shape = (len(count), bound)
    expected = f"bool [B,N,S] with B, S = {shape[0]}, {shape[1]} and N > 0"
    if not isinstance(masks, Tensor):
        raise TypeError(f"masks must be {expected}, got {type(masks).__name__}")
    if masks.dtype != torch.bool or not _is_design(masks, shape):
        raise ValueError(f"masks must be {expected}, got {masks.dtype} {list(masks.shape)}")
    check_same_device(masks, count, "masks", these)
    return masks


def weights_of_noise(kernel: Callable[..., Tensor], noise: Tensor, count: Tensor) -> Tensor:
    """Weights [B,N] of noise by the kernel's ``of_noise``, or by the kernel if it has none."""
    method = getattr(kernel, "of_noise", None)
    return kernel(noise, count, None) if method is None else method(noise, count)


def effective_samples(weights: Tensor) -> Tensor:
    """(Σw)²/Σw² of weights [B,N]: [B]."""
    squares = torch.bmm(weights[:, None], weights[..., None]).flatten()
    return weights.sum(dim=1).square() / squares


def _is_design(design: Tensor, shape: tuple[int, int]) -> bool:
    return design.dim() == 3 and design.shape[::2] == shape and 0 not in design.shape


def _fields(fit: Fit, local_predictions: Tensor, effective: Tensor) -> dict[str, Tensor]:
    return {
        "coefficients": fit.coefficients,
        "standard_errors": fit.standard_errors,
        "intercepts": fit.intercepts,
        "fidelity": fit.fidelity,
        "local_predictions": local_predictions,
        "effective_samples": effective,
    }


def _problems(fit: Fit, directions: Tensor, count: Tensor) -> Tensor:
    """Problems of the fit [B]; ``directions`` is how many independent samples there are."""
    enough = directions - count >= 1 - 1e-9  # NaN is too few
    return failed({Problem.SOLVE_FAILED: fit.ok, Problem.TOO_FEW_EFFECTIVE_SAMPLES: enough})
