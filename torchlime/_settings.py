"""Checks of keywords: the error for an unknown keyword names the nearest known one."""

import difflib
from collections.abc import Iterable


def check_keywords(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise unless every keyword is known.

    Raises:
        TypeError: a keyword is unknown; the message names it and the nearest known one.

    Example:
        >>> check_keywords(["num_sample"], ["num_samples", "seed"], "explain()")
        Traceback (most recent call last):
        TypeError: explain() has no keyword 'num_sample'; did you mean 'num_samples'?
    """
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(sorted(known))}"
            raise TypeError(f"{where} has no keyword {name!r}; {hint}")


class NearestKeyword:
    """A mixin: ``Settings(wrong=…)`` names the field that was meant."""

    def __new__(cls, *_: object, **settings: object) -> "NearestKeyword":
        """Check the keywords before the dataclass takes them."""
        fields = getattr(cls, "__dataclass_fields__", {})
        check_keywords(settings, fields, f"{cls.__name__}()")
        return super().__new__(cls)
