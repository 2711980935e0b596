"""Captum's own classes, where it is installed: ours are subclasses, and its objects are known."""

import importlib
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def _installed(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_attr = _installed("captum.attr")

# Parents of our classes, so that isinstance() holds for code that expects Captum's.
LimeBaseParent: Any = getattr(_attr, "LimeBase", object)
LimeParent: Any = getattr(_attr, "Lime", object)
KernelShapParent: Any = getattr(_attr, "KernelShap", object)
FeatureAblationParent: Any = getattr(_attr, "FeatureAblation", object)
OcclusionParent: Any = getattr(_attr, "Occlusion", object)
ShapleyValueSamplingParent: Any = getattr(_attr, "ShapleyValueSampling", object)
ModelParent: Any = getattr(_installed("captum._utils.models.model"), "Model", object)


def is_captums(value: Any, module: str, name: str) -> bool:
    """Whether a function or class is the one of that name in a module of Captum.

    >>> is_captums(print, "captum.attr._core.lime", "default_perturb_func")
    False
    """
    place = (getattr(value, "__module__", None), getattr(value, "__qualname__", None))
    return place == (module, name)


def wrapped(method: Method) -> Method:
    """A method with ``__wrapped__``, by which Captum's NoiseTunnel and others call it."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return call  # type: ignore[return-value]
