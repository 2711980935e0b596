"""Meanings: what a typed word stands for, and the error sentence where it has no meaning."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from torchlime import fills, masks, methods, segments, surrogates, weights

Table = Mapping[str, Callable[..., Any]]


SEGMENTERS: Table = {
    "slic": segments.Slic,
    "grid": lambda count: segments.Grid(math.isqrt(count), count // math.isqrt(count)),
    "fast-slic": segments.FastSlic,
    "scikit-slic": segments.ScikitSlic,
}


SAMPLERS: Table = {
    "orthogonal": masks.Orthogonal,
    "bernoulli": masks.Bernoulli,
    "fixed-count": masks.FixedCount,
}


FILLS: Table = {"mean": fills.SegmentMean, "image-mean": fills.ImageMean, "blur": fills.Blur}


KERNELS: Table = {
    "exponential": weights.Exponential,
    "inverse-distance": weights.InverseDistance,
    "uniform": weights.Uniform,
    "without-unmasked": weights.WithoutUnmasked,
}


SURROGATES: Table = {
    "ridge": surrogates.Ridge,
    "lasso": lambda fraction=0.2: surrogates.Lasso(fraction=fraction),
    "least-squares": surrogates.LeastSquares,
}


WITH_NUMBER = {"bernoulli", "fixed-count", "blur", "exponential", "ridge", "lasso"}


MOST_ROWS = 10**7  # of an input: their masks are held in memory


DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class UsageError(ValueError):
    """What was asked cannot be done."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A suggestion for an unknown word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def strategy(table: Table) -> Callable[[str], Any]:
    """A reader of "name" or "name:number"."""

    def read(word: str) -> Any:
        name, colon, value = word.partition(":")
        choice(*table)(name)
        if not colon:
            return table[name]()
        if name not in WITH_NUMBER:
            raise ValueError(f"{name} takes no number, got {word!r}")
        return table[name](number(value))

    return read


def method(word: str) -> methods.Method:
    """A method that explains photos."""
    found = methods.get(word)
    if found.takes != "images":
        raise ValueError(
            f"{found.name} takes {found.takes}, which only Python can give: "
            f"torchlime.methods.{found.name}"
        )
    return found


def fill(word: str) -> Any:
    """One of FILLS, a colour #rrggbb, or a grey level in [0,1]."""
    if re.fullmatch("#[0-9a-fA-F]{6}", word):
        return fills.Constant(tuple(byte / 255 for byte in bytes.fromhex(word[1:])))
    if word[:1].isalpha():
        return strategy(FILLS)(word)
    if not 0 <= number(word) <= 1:
        raise ValueError(f"{word} is not a grey level in [0,1]")
    return fills.Constant(number(word))


def above_zero(word: str) -> float:
    """A finite number above 0."""
    if not 0 < number(word) < math.inf:
        raise ValueError(f"{word} is not a finite number above 0")
    return number(word)


def number(word: str) -> float:
    """A number."""
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None


def count(least: int, most: int = 10**18) -> Callable[[str], int]:
    """A reader of whole numbers of at least ``least``, and at most ``most``."""

    def read(word: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", word) or int(word) < least:
            raise ValueError(f"{word!r} is not a whole number of at least {least}")
        if int(word) > most:
            raise ValueError(f"{word} is more than {most}")
        return int(word)

    return read


def choice(*choices: str) -> Callable[[str], str]:
    """A reader of one of ``choices``."""

    def read(word: str) -> str:
        if word not in choices:
            raise ValueError(f"{word!r} is none of {', '.join(choices)}{nearest(word, choices)}")
        return word

    return read


def boxes(word: str) -> Any:
    """A box x0,y0,x1,y1; or the boxes in a CSV file, by the ids of photos."""
    from torchlime.models.marks import boxes_in, corners

    if not word.lower().endswith(".csv"):
        return corners(word)
    try:
        return boxes_in(word)
    except OSError as error:
        raise ValueError(str(error)) from error


def weights_file(word: str) -> str | None:
    """A name or a file; "none" for random weights."""
    return None if word == "none" else word


def device(word: str) -> str:
    """A device of this machine; "auto" is CUDA where there is one."""
    if word == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|(cuda|xpu)(:[0-9]{1,3})?", word):
        raise ValueError(f"{word!r} is none of auto, cpu, cuda, cuda:1, mps, xpu")
    try:
        torch.empty(1, device=word)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"there is no {word} device here ({reason})") from error
    return word
