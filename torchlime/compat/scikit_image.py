"""scikit-image's segmentations as callables, in place of ``lime.wrappers.scikit_image``."""

import inspect
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from torchlime._extras import imported

ALGORITHMS = ("quickshift", "felzenszwalb", "slic")


def has_arg(fn: Callable[..., Any], arg_name: str) -> bool:
    """Whether ``fn`` has a named parameter ``arg_name``; ``*args`` and ``**kwargs`` do not count.

    >>> has_arg(lambda image, ratio=1, **more: image, "ratio")
    True
    """
    try:
        signature = inspect.signature(fn)
    except ValueError:  # a compiled function without a signature
        signature = inspect.signature(fn.__call__)  # type: ignore[operator]
    parameter = signature.parameters.get(arg_name)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return parameter is not None and parameter.kind in named


class BaseWrapper:
    """A function and the parameters that it will be called with.

    Example:
        >>> wrapper = BaseWrapper(lambda image, ratio=1: image, ratio=2)
        >>> wrapper.target_params
        {'ratio': 2}
        >>> wrapper.set_params(colour=3)
        Traceback (most recent call last):
        ValueError: colour is not a valid parameter
    """

    def __init__(self, target_fn: Callable[..., Any] | None = None, **target_params: Any) -> None:
        self.target_fn = target_fn
        self.target_params = target_params

    def _check_params(self, parameters: Iterable[str]) -> None:
        target = self.target_fn
        if target is None:
            if not callable(self):
                raise TypeError(
                    "invalid argument: tested object is not callable,"
                    "                 please provide a valid target_fn"
                )
            target = self
        elif not isinstance(target, types.FunctionType | types.MethodType):
            target = target.__call__  # type: ignore[operator]
        if isinstance(parameters, str):
            raise TypeError("invalid argument: list or dictionnary expected")
        for name in parameters:
            if not has_arg(target, name):
                raise ValueError(f"{name} is not a valid parameter")

    def set_params(self, **params: Any) -> None:
        """Replace all parameters.

        Raises:
            ValueError: the function has no such parameter.
        """
        self._check_params(params)
        self.target_params = params

    def filter_params(
        self, fn: Callable[..., Any], override: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The parameters that ``fn`` takes, and ``override`` in any case."""
        known = {name: value for name, value in self.target_params.items() if has_arg(fn, name)}
        return {**known, **(override or {})}


class SegmentationAlgorithm(BaseWrapper):
    """scikit-image's ``quickshift``, ``felzenszwalb`` or ``slic``: image [H,W,3] → labels [H,W].

    ``random_seed`` becomes ``rng`` where scikit-image renamed it. A parameter that the function
    does not have is left out, as in lime, but with a warning.

    Raises:
        ImportError: scikit-image is not installed.
        AttributeError: when called, the algorithm is none of these, as in lime.

    Example:
        >>> segment = SegmentationAlgorithm("slic", n_segments=4, start_label=0)
        >>> segment.target_params
        {'n_segments': 4, 'start_label': 0}
    """

    def __init__(self, algo_type: str, **target_params: Any) -> None:
        self.algo_type = algo_type
        if algo_type not in ALGORITHMS:
            return  # lime notices only when it is called
        target = getattr(_segmentation(), algo_type)
        renamed = has_arg(target, "rng") and not has_arg(target, "random_seed")
        if renamed and "random_seed" in target_params:
            target_params.setdefault("rng", target_params.pop("random_seed"))
        super().__init__(target, **target_params)
        known = self.filter_params(target)
        if unknown := sorted(target_params.keys() - known.keys()):
            warnings.warn(
                f"scikit-image's {algo_type} has no parameter {', '.join(unknown)}; left out",
                stacklevel=2,
            )
        self.set_params(**known)

    def __call__(self, *args: Any) -> Any:
        """Segment the first argument."""
        if not hasattr(self, "target_fn"):
            raise AttributeError(
                f"'SegmentationAlgorithm' object has no attribute 'target_fn': {self.algo_type!r} "
                f"is none of {', '.join(ALGORITHMS)}"
            )
        return self.target_fn(args[0], **self.target_params)  # type: ignore[misc]


def _segmentation() -> types.ModuleType:
    return imported("skimage.segmentation", "this segmentation", "lime")
