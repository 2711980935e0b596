"""Options: the one table of what can be set, and what the words that one types mean."""

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

import torchlime
from torchlime import fills, masks, segments, surrogates, weights
from torchlime._files import bytes_of
from torchlime.models.limits import Limits

Table = Mapping[str, Callable[..., Any]]

SEGMENTERS: Table = {
    "slic": segments.Slic,
    "grid": lambda count: segments.Grid(math.isqrt(count), count // math.isqrt(count)),
    "fast-slic": segments.FastSlic,
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
_LARGEST_CONFIG = 2**20  # bytes
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class UsageError(ValueError):
    """What was asked cannot be done."""


def nearest(word: str, known: Iterable[str]) -> str:
    """An offer of what may have been meant by an unknown word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


# ---- Readers: a word → what it means, or ValueError ----------------------------------------------


def _strategy(table: Table) -> Callable[[str], Any]:
    """Of "name" or "name:number"."""

    def read(word: str) -> Any:
        name, colon, number = word.partition(":")
        choice(*table)(name)
        if not colon:
            return table[name]()
        if name not in WITH_NUMBER:
            raise ValueError(f"{name} takes no number, got {word!r}")
        return table[name](_number(number))

    return read


def _fill(word: str) -> Any:
    """One of FILLS, a colour #rrggbb, or a grey level in [0,1]."""
    if re.fullmatch("#[0-9a-fA-F]{6}", word):
        return fills.Constant(tuple(byte / 255 for byte in bytes.fromhex(word[1:])))
    if word[:1].isalpha():
        return _strategy(FILLS)(word)
    if not 0 <= _number(word) <= 1:
        raise ValueError(f"{word} is no grey level in [0,1]")
    return fills.Constant(_number(word))


def _above_zero(word: str) -> float:
    if not 0 < _number(word) < math.inf:
        raise ValueError(f"{word} is no finite number above 0")
    return _number(word)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None


def count(least: int) -> Callable[[str], int]:
    """Of a whole number that is not too small."""

    def read(word: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", word) or int(word) < least:
            raise ValueError(f"{word!r} is not a whole number of at least {least}")
        return int(word)

    return read


def choice(*choices: str) -> Callable[[str], str]:
    """Of one of some words."""

    def read(word: str) -> str:
        if word not in choices:
            raise ValueError(f"{word!r} is none of {', '.join(choices)}{nearest(word, choices)}")
        return word

    return read


def _weights(word: str) -> str | None:
    return None if word == "none" else word


def _device(word: str) -> str:
    """A device that is here; "auto" is CUDA where there is one."""
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


# ---- The table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """A flag of ``torchlime explain``, and a key of its configuration file.

    Args:
        default: what one would type for it; None where that is nothing.
        read: a word → what it means; raises ValueError where that is nothing.
        help: a line for ``--help``.
        many: whether it may be given several times.
    """

    default: Any
    read: Callable[[str], Any]
    help: str
    many: bool = False


OPTIONS = {
    "model": Option("efficientnet_lite0", str,
        "one of torchlime models, timm:NAME, hf:FOLDER, or module:function of your own"),
    "weights": Option("DEFAULT", _weights,
        "a file with a state dict, torchvision's name for one, or none for random ones"),
    "output": Option(None, choice("softmax", "logit", "sigmoid", "none"),
        "what is explained: softmax, logit, sigmoid, or none (what the network gives); "
        "default: softmax, or the output of your own Classifier"),
    "top": Option(None, count(1),
        "explain and draw the TOP best classes (default: list three and draw the best)"),
    "target": Option([], str,
        "explain and draw this class, an index or a category's name; repeatable", many=True),
    "samples": Option(512, count(2), "perturbed copies of each photo"),
    "segments": Option(50, count(1), "superpixels of each photo, about"),
    "segmenter": Option("slic", choice(*SEGMENTERS), ", ".join(SEGMENTERS)),
    "segment-side": Option(1024, count(0),
        "segment a reduced copy where the longer side of what the network sees is larger; "
        "0 segments at full size"),
    "sampler": Option("orthogonal", _strategy(SAMPLERS),
        "orthogonal, bernoulli[:KEPT SHARE] or fixed-count[:HIDDEN SHARE]"),
    "fill": Option("mean", _fill,
        "what a hidden segment shows: mean, image-mean, blur[:SIGMA], #rrggbb or a grey in 0…1"),
    "kernel": Option("exponential", _strategy(KERNELS),
        "exponential[:WIDTH], inverse-distance, uniform or without-unmasked (exponential)"),
    "surrogate": Option("ridge", _strategy(SURROGATES),
        "ridge[:ALPHA], lasso[:FRACTION] or least-squares"),
    "strongest": Option(5, count(1), "segments that are numbered and listed"),
    "seed": Option(0, count(-10**17), "of the masks"),
    "device": Option("auto", _device, "auto, cpu, cuda, cuda:1, …"),
    "dtype": Option("fp32", choice(*DTYPES), "of the forward passes: fp32, bf16 or fp16"),
    "page": Option(None, count(1), "of photos with several pages or frames, which one, from 1"),
    "max-seconds": Option(Limits.seconds, _above_zero, "to decode a photo in, else it is refused"),
    "max-pixels": Option(Limits.pixels, count(1), "of a photo, width × height"),
    "max-memory": Option(Limits.memory, count(1), "MiB that decoding a photo may take"),
    "out": Option("explanation.png", str,
        "the pictures: a .png, a folder/, or a pattern with {photo} and {target}"),
    "save": Option(None, str,
        "keep the explanations too: an .npz, a folder/, or a pattern with {photo}"),
    "max-side": Option(2000, count(0),
        "the longer side of a drawn photo at most; 0 keeps every photo's own size"),
}  # fmt: skip


# ---- Flags and files → options -------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, and which does not guess at shortened flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message} ({self.prog} --help tells more)")


def add_options(parser: argparse.ArgumentParser, options: Mapping[str, Option] = OPTIONS) -> None:
    """A flag for each option; one that is not given leaves no trace in the result."""
    for name, option in options.items():
        default = "" if option.default in (None, []) else f" (default: {option.default})"
        parser.add_argument(
            f"--{name}",
            action="append" if option.many else "store",
            default=argparse.SUPPRESS,
            metavar=name.upper(),
            help=(option.help + default).replace("%", "%%"),
        )


def words_of(
    flags: Mapping[str, Any], config: str | None, options: Mapping[str, Option] = OPTIONS
) -> dict[str, Any]:
    """What was asked, in words: the defaults, then the configuration file, then the flags."""
    words: dict[str, Any] = {name: option.default for name, option in options.items()}
    if "photos" in flags:
        words["photos"] = []
    if config == "":
        raise UsageError("--config: it needs a file's name, and got an empty one")
    if config is not None:
        words |= _read_config(Path(config), words)
    given = {name.replace("_", "-"): value for name, value in flags.items() if value != []}
    return {name: given.get(name, value) for name, value in words.items()}


def _read_config(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """The words in a file, of the ``known`` names; those that are lists there may be lists."""
    import tomllib

    try:
        text = bytes_of(path, "configuration", _LARGEST_CONFIG)
    except OSError as error:
        reason = error.strerror or getattr(error.__cause__, "strerror", None) or str(error)
        raise UsageError(f"cannot read the configuration {path}: {reason}") from error
    except ValueError as error:
        raise UsageError(f"cannot read the configuration: {error}") from error
    try:
        config = tomllib.loads(text.decode("utf-8"))
    except (
        ValueError,
        RecursionError,
    ) as error:  # TOMLDecodeError and UnicodeDecodeError are kinds of it
        raise UsageError(f"the configuration {path} is not TOML: {error}") from error
    for name, value in config.items():
        if name not in known:
            near = nearest(name, known)
            raise UsageError(f"the configuration {path} has an unknown key {name!r}{near}")
        many = isinstance(known[name], list)
        given = value if many and isinstance(value, list) else [value]
        if not all(isinstance(one, str | int | float) for one in given):
            raise UsageError(f"the configuration {path}: {name} cannot be {value!r}")
        config[name] = given if many else value
    return config


def meaning_of(
    words: Mapping[str, Any], options: Mapping[str, Option] = OPTIONS
) -> argparse.Namespace:
    """What the words of all options mean."""
    asked = argparse.Namespace(photos=[Path(str(photo)) for photo in words.get("photos", [])])
    for name, option in options.items():
        try:
            value: Any = None
            if option.many:
                value = [option.read(_filled(word)) for word in words[name]]
            elif words[name] is not None:
                value = option.read(_filled(words[name]))
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"--{name}: {error}") from error
        setattr(asked, name.replace("-", "_"), value)
    if asked.top is not None and asked.target:
        raise UsageError("--top and --target exclude each other")
    if asked.segments >= asked.samples:
        raise UsageError(
            f"--samples {asked.samples} are too few for --segments {asked.segments}: "
            "a fit needs more samples than segments"
        )
    return asked


def _filled(word: object) -> str:
    if not str(word).strip():
        raise ValueError("it needs a value, and got an empty one")
    return str(word)


def explainer_of(asked: argparse.Namespace) -> torchlime.Lime:
    """The explainer with these options."""
    return torchlime.Lime(
        segmenter=_segmenter(asked),
        sampler=asked.sampler,
        num_samples=asked.samples,
        fill=asked.fill,
        kernel=asked.kernel,
        surrogate=asked.surrogate,
        autocast=DTYPES[asked.dtype],
        seed=asked.seed,
    )


def _segmenter(asked: argparse.Namespace) -> Any:
    """Grids cost nothing at any size."""
    segmenter = SEGMENTERS[asked.segmenter](asked.segments)
    if asked.segmenter == "grid" or not asked.segment_side:
        return segmenter
    return segments.Reduced(segmenter, asked.segment_side)


def limits_of(asked: argparse.Namespace) -> Limits:
    """What decoding a photo may take, by these options."""
    return Limits(asked.max_seconds, asked.max_pixels, asked.max_memory)


def record_of(words: Mapping[str, Any], asked: argparse.Namespace) -> dict[str, Any]:
    """The resolved options, for JSON: words where they mean more than a number."""
    record: dict[str, Any] = {"photos": [str(photo) for photo in asked.photos]}
    for name in OPTIONS:
        value = getattr(asked, name.replace("-", "_"))
        plain = value is None or isinstance(value, str | int | float | list)
        record[name] = value if plain else str(words[name])
    return record
