"""Checks of arguments, as far as the host can do them; each error says what to do."""

import dataclasses
import itertools
import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_images(images: Any, name: str = "images") -> None:
    """Raise unless ``images`` is a non-empty float tensor [B,C,H,W]."""
    _check_input(
        images, name, "[B,C,H,W]", range(4, 5), "image, channel and pixel",
        make="torchvision.transforms.functional.to_tensor(photo)[None] makes one",
        convert=f"for 8-bit pixels pass {name}.float() / 255",
    )  # fmt: skip


def check_inputs(images: Any, name: str = "images") -> None:
    """Raise unless ``images`` is a non-empty float tensor [B,C,*axes] or [B,F].

    Integers of 32 or 64 bits are taken as ids [B,L] or [B,C,L].
    """
    ids = isinstance(images, Tensor) and images.dtype in (torch.int32, torch.int64)
    if ids and images.dim() in (2, 3) and 0 not in images.shape:
        return
    shape = "[B,C,H,W] (or [B,F], [B,C,L], [B,C,D,H,W])"
    _check_input(
        images, name, shape, range(2, 17), "image, channel and pixel",
        make="torchvision.transforms.functional.to_tensor(photo)[None] makes one",
        convert=f"for 8-bit pixels pass {name}.float() / 255",
    )  # fmt: skip


def check_vectors(x: Any) -> None:
    """Raise unless ``x`` is a non-empty float tensor [B,F] or [B,…]."""
    _check_input(
        x, "x", "[B,F] or [B,…]", range(2, 65), "vector and feature",
        make="torch.as_tensor(x) makes one", convert="pass x.float()",
    )  # fmt: skip


def _check_input(
    value: Any, name: str, shape: str, ranks: range, one: str, *, make: str, convert: str
) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a float tensor {shape}, got {type(value).__name__}; {make}"
        )
    if value.dim() not in ranks:
        hint = f"; add the batch axis: {name}[None]" if value.dim() + 1 in ranks else ""
        raise ValueError(f"{name} must have shape {shape}, got {list(value.shape)}{hint}")
    if value.dtype not in FLOATS:
        raise TypeError(
            f"{name} must be floating point (16, 32 or 64 bits), got {value.dtype}; {convert}"
        )
    if 0 in value.shape:
        raise ValueError(f"{name} must hold at least one {one}, got {list(value.shape)}")


def is_integer(value: Any) -> bool:
    """Whether ``value`` is a whole number of Python or numpy; a bool is not."""
    return isinstance(value, int | Integral) and not isinstance(value, bool)


def check_targets(
    targets: Any, batch: int, device: torch.device, these: str = "the inputs are"
) -> None:
    """Raise unless ``targets`` are None, an int, or an int tensor [B] or [B,T] on the device."""
    if targets is None or is_integer(targets):
        return
    expected = "targets must be None, an int or an int tensor [B] or [B,T]"
    if not isinstance(targets, Tensor):
        raise TypeError(f"{expected}, got {type(targets).__name__}")
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(f"{expected}, got {targets.dtype}")
    if targets.dim() not in (1, 2) or targets.shape[0] != batch or 0 in targets.shape:
        raise ValueError(f"{expected} with B = {batch}, got {list(targets.shape)}")
    if targets.device != device:
        raise ValueError(
            f"targets is on {targets.device}, {these} on {device}; "
            "move one of them with .to(device)"
        )


def check_object(pixels: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise unless ``pixels`` are bool [B,H,W] or [H,W] for images of ``shape`` (B, H, W)."""
    expected = f"{name} must be bool [B,H,W] or [H,W] with B, H, W = {list(shape)}"
    if not isinstance(pixels, Tensor):
        raise TypeError(f"{expected}, got {type(pixels).__name__}")
    if pixels.dtype != torch.bool or pixels.shape not in (shape, shape[1:]):
        raise ValueError(f"{expected}, got {pixels.dtype} {list(pixels.shape)}")


def check_real(value: Any, name: str) -> None:
    """Raise unless ``value`` is a number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def check_positive(value: Any, name: str) -> None:
    """Raise unless ``value`` is a finite number above 0."""
    check_real(value, name)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_fraction(value: Any, name: str) -> None:
    """Raise unless ``value`` lies strictly between 0 and 1."""
    check_real(value, name)
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")


def check_count(value: Any, name: str, least: int = 1) -> None:
    """Raise unless ``value`` is a whole number of at least ``least``."""
    if not is_integer(value):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_callables(**strategies: Any) -> None:
    """Raise unless each is callable, and is not the class of a strategy."""
    for name, strategy in strategies.items():
        check_made(strategy, name)
        if not callable(strategy):
            is_map = name == "segmenter" and hasattr(strategy, "shape")
            got = "a label map, which goes to explain(segments=)" if is_map else repr(strategy)
            raise TypeError(f"{name} must be callable, got {got}")


def check_made(strategy: Any, name: str) -> None:
    """Raise if the class of a strategy is given where an object of it is needed.

    >>> from torchlime.masks import Bernoulli
    >>> check_made(Bernoulli, "sampler")
    Traceback (most recent call last):
    TypeError: sampler must be an object such as Bernoulli(), got the class Bernoulli; call it first
    """
    if isinstance(strategy, type) and dataclasses.is_dataclass(strategy):
        kind = strategy.__name__
        raise TypeError(
            f"{name} must be an object such as {kind}(), got the class {kind}; call it first"
        )


def check_rows(num_samples: Any, first: Any) -> None:
    """Raise unless a sampler can give rows ``first`` … first + num_samples − 1 of its design."""
    check_count(first, "first", 0)
    check_count(num_samples, "num_samples", 1 if first else 2)


def check_same_device(
    tensor: Tensor, inputs: Tensor, name: str, these: str = "the images are"
) -> None:
    """Raise unless ``tensor`` lies where the inputs do."""
    if tensor.device != inputs.device:
        raise ValueError(
            f"{name} is on {tensor.device}, {these} on {inputs.device}; "
            "move one of them with .to(device)"
        )


def device_of(module: object) -> torch.device | None:
    """Device of a module's first parameter or buffer; None for a plain callable."""
    if not isinstance(module, torch.nn.Module):
        return None
    tensors = itertools.chain(module.parameters(), module.buffers())
    return next((tensor.device for tensor in tensors), None)


def check_spatial(images: Any) -> None:
    """Raise unless ``images`` is a non-empty float tensor with one to three axes behind C."""
    _check_input(
        images, "images", "[B,C,L], [B,C,H,W] or [B,C,D,H,W]", range(3, 6),
        "image, channel and pixel",
        make="torchvision.transforms.functional.to_tensor(photo)[None] makes one",
        convert="for 8-bit pixels pass images.float() / 255",
    )  # fmt: skip
