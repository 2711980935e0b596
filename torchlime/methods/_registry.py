"""Recipes by name, each with one sentence and its paper."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

import torch

from torchlime._settings import check_keywords
from torchlime.lime import AnyFill, Lime
from torchlime.strategies import Rounds, Segmenter


class MethodSettings(TypedDict, total=False):
    """What every recipe takes: the fields of :class:`torchlime.Lime` that are not fixed."""

    segmenter: Segmenter
    num_samples: int
    fill: AnyFill
    rounds: Rounds
    chunk_size: int | None
    exact_chunks: bool
    autocast: torch.dtype | None
    seed: int


STRATEGIES = ("sampler", "kernel", "surrogate")


@dataclass(frozen=True)
class Method:
    """A method of the literature, as a recipe over strategies.

    Args:
        name: in :func:`names`.
        sentence: what it does, in one sentence.
        paper: authors, year and title.
        part: how the recipe differs from the paper; "" where it does not.
        make: settings → an object with ``explain(model, images, targets, …)``.
        takes: "images", "vectors", or "label maps" beside the images.
        fixes: the settings that make the method and cannot be chosen.
    """

    name: str
    sentence: str
    paper: str
    part: str
    make: Callable[..., Any]
    takes: str = "images"
    fixes: tuple[str, ...] = STRATEGIES

    def __call__(self, **settings: Any) -> Any:
        """The explainer with these settings."""
        return self.make(**settings)

    @property
    def own(self) -> tuple[str, ...]:
        """The settings that only this method has."""
        kinds = inspect.signature(self.make).parameters.values()
        return tuple(p.name for p in kinds if p.kind is not p.VAR_KEYWORD)

    def __str__(self) -> str:
        """The sentence, the paper and how the recipe differs from it."""
        part = f" Here: {self.part}" if self.part else ""
        return f"{self.sentence} {self.paper}.{part}"


METHODS: dict[str, Method] = {}
Recipe = TypeVar("Recipe", bound=Callable[..., Any])


def recipe(
    paper: str,
    part: str = "",
    *,
    name: str | None = None,
    takes: str = "images",
    also_fixes: tuple[str, ...] = (),
) -> Callable[[Recipe], Recipe]:
    """Register a function; the first line of its docstring is the sentence."""

    def enter(make: Recipe) -> Recipe:
        known = name or make.__name__
        if known in METHODS:
            raise ValueError(f"there are two methods {known}")
        sentence = (make.__doc__ or "").partition("\n\n")[0].replace("\n    ", " ")
        METHODS[known] = Method(
            known, sentence, paper, part, make, takes, STRATEGIES + also_fixes
        )  # fmt: skip
        return make

    return enter


def names() -> tuple[str, ...]:
    """The names of all methods, sorted.

    Example:
        >>> from torchlime import methods
        >>> "kernel_shap" in methods.names()
        True
    """
    return tuple(sorted(METHODS))


def get(name: str) -> Method:
    """The method of that name; dashes and capitals may stand for underscores and small letters.

    Raises:
        TypeError: the name is no string.
        ValueError: there is none; the message gives the nearest name.

    Example:
        >>> from torchlime import methods
        >>> methods.get("kernel-shap")(num_samples=256).surrogate
        ConstrainedLeastSquares()
        >>> methods.get("kernel_shop")
        Traceback (most recent call last):
        ValueError: there is no method 'kernel_shop'; did you mean kernel_shap?
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {type(name).__name__}")
    wanted = name.casefold().replace("-", "_")
    found = METHODS.get(wanted)
    if found is None:
        near = difflib.get_close_matches(wanted, METHODS, n=1, cutoff=0.5)
        known = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}"
        raise ValueError(f"there is no method {name!r}; {known}")
    return found


def describe(name: str) -> str:
    """A method in one sentence, with its paper and how the recipe differs from it.

    Example:
        >>> from torchlime import methods
        >>> print(methods.describe("leave_one_out"))
        What the score loses when one segment is hidden and all others are shown.
        Robnik-Šikonja & Kononenko 2008, Explaining Classifications for Individual Instances. Here:
        a hidden segment shows the fill, while the paper averages over the values of a feature.
    """
    return str(get(name))


def with_lime(name: str, settings: Mapping[str, Any], /, **strategies: Any) -> Lime:
    """A Lime with a method's strategies and the caller's settings.

    Raises:
        TypeError: a setting is unknown, or is one of the method's own strategies.
    """
    check_free(name, settings, strategies)
    return Lime(**strategies, **settings)


def check_free(
    name: str,
    settings: Mapping[str, Any],
    strategies: Mapping[str, Any],
    free: Iterable[str] = MethodSettings.__annotations__,
) -> None:
    """Raise unless the settings are ``free``, and none of a method's own strategies.

    The error for an unknown one names the method, and the nearest setting that it has.
    """
    for setting in settings:
        if setting in strategies:
            raise TypeError(
                f"{name} is made of {setting}={strategies[setting]!r}, so {setting} cannot be "
                "chosen; make a torchlime.Lime(...) of your own"
            )
    known = dict.fromkeys([*METHODS[name].own, *(one for one in free if one not in strategies)])
    check_keywords(settings, known, f"{name}()")
