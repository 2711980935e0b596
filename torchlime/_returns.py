"""Checks of what a caller's own strategies return: types and shapes, which the host knows."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from torchlime._checks import check_count, check_real
from torchlime.fit import Fit


def check_weights(weights: Any, shape: tuple[int, int]) -> Tensor:
    """Return a kernel's weights, or raise unless they are floats [B,N]."""
    return _checked(weights, shape, "the kernel must return a float tensor [B,N]")


def check_scores(scores: Any, shape: tuple[int, int]) -> Tensor:
    """Return the scores of a chunk, or raise unless they are floats [n,T]."""
    return _checked(scores, shape, "the scores of a chunk must be a float tensor [n,T]")


def check_reference(reference: Any, rows: int) -> Mapping[str, Tensor]:
    """Return what rows fix, or raise unless it maps names to tensors [n,…], "targets" among them.

    Raises:
        TypeError, ValueError: it is none of these; the sentence says which.
    """
    if not isinstance(reference, Mapping) or "targets" not in reference:
        got = sorted(reference) if isinstance(reference, Mapping) else type(reference).__name__
        raise TypeError(f'reference() of scores must return a mapping with "targets", got {got}')
    for name, values in reference.items():
        if not isinstance(values, Tensor) or values.shape[:1] != (rows,):
            got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"{name!r} in the reference of scores must be a tensor of {rows} rows, got {got}"
            )
    targets = reference["targets"]
    if targets.dim() != 2 or targets.is_floating_point():
        raise ValueError(
            f"targets in the reference of scores must be int64 [n,T], got {targets.dtype} "
            f"{list(targets.shape)}"
        )
    return reference


def check_fit(fit: Any, scores: Tensor, features: int) -> Fit:
    """Return a surrogate's fit to scores [B,N,T], or raise unless its fields have their shapes.

    Raises:
        TypeError, ValueError: it is no Fit, or a field has another shape, which is named.
    """
    if not isinstance(fit, Fit):
        raise TypeError(f"the surrogate must return a Fit, got {type(fit).__name__}")
    batch, _, targets = scores.shape
    for name, shape in (
        ("coefficients", (batch, targets, features)),
        ("standard_errors", (batch, targets, features)),
        ("intercepts", (batch, targets)),
        ("fidelity", (batch, targets)),
        ("ok", (batch,)),
    ):
        value = getattr(fit, name)
        if not isinstance(value, Tensor) or value.shape != shape:
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} of the surrogate's fit must be {list(shape)}, got {got}")
    return fit


def variance_factor(sampler: Any, bound: int, num_samples: int) -> float:
    """What a sampler multiplies the variances of N samples of S features by; 1 if it says nothing.

    Raises:
        TypeError, ValueError: it is no finite number of at least 0.
    """
    return _factor(sampler, "variance_factor", bound, num_samples)


def stopping_factor(sampler: Any, bound: int, num_samples: int) -> float:
    """The same where a rule asks whether to stop; ``variance_factor`` if it says nothing else.

    Raises:
        TypeError, ValueError: it is no finite number of at least 0.
    """
    own = getattr(sampler, "stopping_factor", None)
    name = "variance_factor" if own is None else "stopping_factor"
    return _factor(sampler, name, bound, num_samples)


def _factor(sampler: Any, name: str, bound: int, num_samples: int) -> float:
    method = getattr(sampler, name, None)
    if method is None:
        return 1.0
    factor = method(bound, num_samples)
    check_real(factor, f"{name}() of the sampler")
    if not 0 <= factor < math.inf:
        raise ValueError(
            f"{name}() of the sampler must be a finite number of at least 0, got {factor!r}"
        )
    return float(factor)


def check_rounds(sizes: Iterable[int], sampler: Callable[..., Any]) -> list[int]:
    """The sizes of rounds, or raise unless they can be drawn.

    Raises:
        TypeError, ValueError: there is none, one is no whole number above 0, or the sampler has no
            further rows.
    """
    listed = list(sizes)
    if not listed:
        raise ValueError("sizes() of rounds must give at least one round")
    for size in listed:
        check_count(size, "a size of rounds")
    if len(listed) > 1 and not _takes_first(sampler):
        raise TypeError(
            "several rounds need a sampler that takes first=, the number of its first row; "
            f"{sampler!r} does not"
        )
    return listed


def check_number(design: Tensor, rows: int) -> Tensor:
    """Return rows of an endless design, or raise unless there are as many as were asked for."""
    if design.shape[1] != rows:
        raise ValueError(
            f"Until and resume ask the sampler for {rows} rows, and it returned {design.shape[1]}"
        )
    return design


def goes_on(sampler: Callable[..., Any]) -> bool:
    """Whether a sampler may have further rows: it takes ``first=``, and does not say otherwise."""
    return getattr(sampler, "endless", True) and _takes_first(sampler)


def has_errors(surrogate: Any) -> bool:
    """Whether a surrogate may give standard errors: True unless it says that it does not."""
    return bool(getattr(surrogate, "errors", True))


def _takes_first(sampler: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(sampler).parameters.values()
    except (TypeError, ValueError):  # of code that says nothing
        return True
    return any(p.name == "first" or p.kind is p.VAR_KEYWORD for p in parameters)


def _checked(values: Any, shape: tuple[int, int], expected: str) -> Tensor:
    expected = f"{expected} = {list(shape)}"
    if not isinstance(values, Tensor):
        raise TypeError(f"{expected}, got {type(values).__name__}")
    if not values.is_floating_point() or values.shape != shape:
        raise ValueError(f"{expected}, got {values.dtype} {list(values.shape)}")
    return values
