"""Options: one table of all settings, and what the typed words mean."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torchlime
from torchlime import segments
from torchlime._files import bytes_of
from torchlime._taking import stops_early
from torchlime.cli.meanings import (
    DTYPES,
    KERNELS,
    MOST_ROWS,
    SAMPLERS,
    SEGMENTERS,
    SURROGATES,
    UsageError,
    above_zero,
    boxes,
    choice,
    count,
    device,
    fill,
    method,
    nearest,
    strategy,
    weights_file,
)
from torchlime.methods import Method
from torchlime.models.limits import Limits
from torchlime.rounds import GOOD, MOST, Once, Until, first_check

if TYPE_CHECKING:
    from torchlime.models import Marks

_LARGEST_CONFIG = 2**20  # bytes

# The setting of an explainer that an option is about.
_SETTINGS = {
    "sampler": "sampler",
    "kernel": "kernel",
    "surrogate": "surrogate",
    "segments": "segmenter",
    "segmenter": "segmenter",
    "segment-side": "segmenter",
    "fill": "fill",
    "until": "rounds",
}
# The settings of a file that each flag overrides.
_EXCLUDED = {
    "until": ("samples",),
    "samples": ("until", "most-samples"),
    "most-samples": ("samples",),
}
_NOUNS = {"segmenter": "segments", "rounds": "number of samples"}


# ---- Readers: a word → what it means, or ValueError ----------------------------------------------


# ---- The table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """A flag of ``torchlime explain``, and a key of its configuration file.

    Args:
        default: the word that stands for the default; None where there is none.
        read: a word → what it means; raises ValueError where it has no meaning.
        help: a line for ``--help``.
        many: whether it may be given several times.
    """

    default: Any
    read: Callable[[str], Any]
    help: str
    many: bool = False


ROUNDS_OPTIONS = {
    "until": Option(None, above_zero,
        "instead of a number of samples: draw until the error of the coefficients is at most this "
        "share of their length, such as 0.25, for each by itself; this needs standard errors, "
        "which lasso does not give"),
    "most-samples": Option(MOST, count(2, MOST_ROWS), "with --until: the most samples"),
}  # fmt: skip
FIXED = torchlime.Lime.num_samples
OPTIONS = {
    "model": Option("efficientnet_lite0", str,
        "one of torchlime models, timm:NAME, hf:FOLDER, torchvision:NAME (segmentation networks "
        "and detectors too), or module:function of your own"),
    "weights": Option("DEFAULT", weights_file,
        "a file with a state dict, torchvision's name for one, or none for random weights"),
    "output": Option(None, choice("softmax", "logit", "sigmoid", "none"),
        "what is explained: softmax, logit, sigmoid, or none (what the network gives); "
        "default: softmax, or the output of your own Classifier"),
    "top": Option(None, count(1),
        "explain and draw the TOP best classes (default: list three and draw the best)"),
    "target": Option([], str,
        "explain and draw this class, an index or a category's name; repeatable", many=True),
    "target-region": Option(None, str,
        "for a segmentation network: explain the class inside this black-and-white picture of the "
        "photo's size (white is inside), or in the one of the photo's name in this folder"),
    "target-box": Option(None, boxes,
        "for a detector: explain the object in this box, x0,y0,x1,y1 in pixels of the photo; or a "
        "CSV file with the columns photo,x0,y0,x1,y1"),
    "method": Option(None, method,
        "a method that the command torchlime methods lists, in the place of sampler, kernel and "
        "surrogate; it has its own number of samples and its own fill, unless --samples or --fill "
        "is given"),
    "samples": Option(None, count(2, MOST_ROWS),
        "exactly this many perturbed copies of each photo (default: as many as each photo needs, "
        "until the error of the coefficients of the drawn classes is at most "
        f"{GOOD.error:.0%} of their length, "
        f"{MOST} at most; {FIXED} with lasso, which cannot stop early)"),
    "until": ROUNDS_OPTIONS["until"],
    "most-samples": Option(None, count(2, MOST_ROWS),
        f"the most samples, where each photo takes what it needs (default: {MOST})"),
    "segments": Option(50, count(1), "about how many superpixels each photo has"),
    "segmenter": Option("slic", choice(*SEGMENTERS), ", ".join(SEGMENTERS)),
    "segment-side": Option(1024, count(0),
        "segment a reduced copy where the longer side of what the network sees is larger; "
        "0 segments at full size"),
    "sampler": Option("orthogonal", strategy(SAMPLERS),
        "orthogonal, bernoulli[:KEPT SHARE] or fixed-count[:HIDDEN SHARE]"),
    "fill": Option("mean", fill,
        "what a hidden segment shows: mean, image-mean, blur[:SIGMA], #rrggbb or a grey in 0…1"),
    "kernel": Option("exponential", strategy(KERNELS),
        "exponential[:WIDTH], inverse-distance, uniform or without-unmasked (exponential)"),
    "surrogate": Option("ridge", strategy(SURROGATES),
        "ridge[:ALPHA], lasso[:FRACTION] or least-squares"),
    "strongest": Option(5, count(1), "segments that are numbered and listed"),
    "seed": Option(0, count(-10**17), "the seed of the masks"),
    "device": Option("auto", device, "auto, cpu, cuda, cuda:1, …"),
    "dtype": Option("fp32", choice(*DTYPES), "the precision of forward passes: fp32, bf16 or fp16"),
    "page": Option(None, count(1), "which page or frame of a photo with several, from 1"),
    "max-seconds": Option(Limits.seconds, above_zero, "seconds that decoding a photo may take"),
    "max-pixels": Option(Limits.pixels, count(1), "pixels of a photo, width × height"),
    "max-memory": Option(Limits.memory, count(1), "MiB that decoding a photo may take"),
    "out": Option("explanation.png", str,
        "the pictures: a .png, a folder/, or a pattern with {photo} and {target}"),
    "save": Option(None, str,
        "keep the explanations too: an .npz, a folder/, or a pattern with {photo}"),
    "max-side": Option(2000, count(0),
        "the largest longer side of a drawn photo; 0 keeps every photo's own size"),
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


class Words(dict[str, Any]):
    """What was asked, in words, by the names of options.

    Attributes:
        given: the names that somebody gave; the others have their defaults.
    """

    given: frozenset[str] = frozenset()


def words_of(
    flags: Mapping[str, Any], config: str | None, options: Mapping[str, Option] = OPTIONS
) -> Words:
    """What was asked, in words: the defaults, then the configuration file, then the flags.

    Raises:
        UsageError: the file cannot be used, or two options exclude each other.
    """
    words: dict[str, Any] = {name: option.default for name, option in options.items()}
    if "photos" in flags:
        words["photos"] = []
    if config == "":
        raise UsageError("--config: it needs a file's name, and got an empty one")
    given = {} if config is None else _read_config(Path(config), words)
    for flag, weaker in _EXCLUDED.items():  # a flag overrides the file
        if flags.get(flag.replace("-", "_")) is not None:
            given = {name: value for name, value in given.items() if name not in weaker}
    given |= {name.replace("_", "-"): value for name, value in flags.items() if value != []}
    found = Words({name: given.get(name, value) for name, value in words.items()})
    found.given = frozenset(name for name in options if given.get(name) is not None)
    _check_number(found)
    return found


def _check_number(words: Words) -> None:
    """Raise where it is said in two ways how many samples there are."""
    if {"until", "samples"} <= words.given:
        raise UsageError(
            "--until and --samples exclude each other; --most-samples says how many there may be"
        )
    if {"most-samples", "samples"} <= words.given:
        raise UsageError(
            "--samples and --most-samples exclude each other: the first is a fixed number"
        )
    fixed = words.get("samples") is not None and words.get("until") is None
    if fixed and "most-samples" in words.given:
        raise UsageError("--most-samples goes with --until; without it, take --samples")


def _read_config(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """The words in a file, for the ``known`` names; a word may be a list where that is one."""
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
    """What the words of all options mean, which have to fit each other.

    Of ``samples``, ``until`` and ``most_samples``, what is not used is None. A method has its own.
    """
    asked = each_meaning(words, options)
    asked.photos = [Path(str(photo)) for photo in words.get("photos", [])]
    asked.given = getattr(words, "given", frozenset())
    if asked.top is not None and asked.target:
        raise UsageError("--top and --target exclude each other")
    if asked.target_region is not None and asked.target_box is not None:
        raise UsageError("--target-region and --target-box exclude each other")
    if asked.target_box is not None and asked.top is not None:
        raise UsageError("--top and --target-box exclude each other: a box is one object")
    if asked.method is None:
        _settle_number(asked)
        _check_enough(asked)
    return asked


def _settle_number(asked: argparse.Namespace) -> None:
    """Let ``samples``, or ``until`` and ``most_samples``, say how many samples there are."""
    if asked.samples is not None and asked.until is None:
        asked.most_samples = None
    elif stops_early(asked.sampler, asked.surrogate):
        asked.samples = None
        asked.until, asked.most_samples = asked.until or GOOD.error, asked.most_samples or MOST
    elif asked.until is not None or asked.most_samples is not None:
        flag = "most-samples" if asked.until is None else "until"
        raise UsageError(
            f"--{flag} needs standard errors, which lasso does not give; take --samples"
        )
    else:
        asked.samples = FIXED


def _check_enough(asked: argparse.Namespace) -> None:
    """Raise where there are too few samples for the segments, whatever the photo."""
    if asked.until is None:
        if asked.segments >= asked.samples:
            raise UsageError(
                f"--samples {asked.samples} are too few for --segments {asked.segments}: "
                "a fit needs more samples than segments"
            )
        return
    lead = int(not getattr(asked.sampler, "beside", False))
    first = first_check(asked.sampler, asked.segments, lead=lead)
    if first > asked.most_samples:
        raise UsageError(
            f"--most-samples {asked.most_samples} are too few for --segments {asked.segments}: "
            f"the errors are first checked after {first} samples"
        )


def each_meaning(words: Mapping[str, Any], options: Mapping[str, Option]) -> argparse.Namespace:
    """What the words of some options mean, each by itself."""
    asked = argparse.Namespace()
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
    return asked


def _filled(word: object) -> str:
    if not str(word).strip():
        raise ValueError("it needs a value, and got an empty one")
    return str(word)


def explainer_of(asked: argparse.Namespace) -> torchlime.Lime | torchlime.Rise:
    """The explainer with these options.

    Raises:
        UsageError: an option contradicts the method.
    """
    if asked.method is not None:
        return _of_method(asked, asked.method)
    return torchlime.Lime(
        segmenter=_segmenter(asked),
        sampler=asked.sampler,
        num_samples=asked.samples or FIXED,
        rounds=rounds_of(asked),
        fill=asked.fill,
        kernel=asked.kernel,
        surrogate=asked.surrogate,
        autocast=DTYPES[asked.dtype],
        seed=asked.seed,
    )


def _of_method(asked: argparse.Namespace, method: Method) -> torchlime.Lime | torchlime.Rise:
    """The explainer of a method, with the options that are free in it."""
    for option, setting in _SETTINGS.items():
        if option in asked.given and setting in method.fixes:
            raise UsageError(
                f"--method {method.name} has its own {_NOUNS.get(setting, setting)}; leave "
                f"--{option} out"
            )
    settings: dict[str, Any] = {"autocast": DTYPES[asked.dtype], "seed": asked.seed}
    if "segmenter" not in method.fixes:
        settings["segmenter"] = _segmenter(asked)
    if "fill" in asked.given:
        settings["fill"] = asked.fill
    if "samples" in asked.given:
        settings["num_samples"] = asked.samples
    if asked.until is not None:
        settings["rounds"] = Until(error=asked.until, most=asked.most_samples or MOST)
    elif "most-samples" in asked.given:
        if "most" not in method.own:
            raise UsageError(f"--method {method.name} does not stop by need; take --samples")
        settings["most"] = asked.most_samples
    if "difference" in method.own:  # a picture says what hiding a segment changes
        settings["difference"] = True
    explainer = method(**settings)
    until = asked.until is None and isinstance(getattr(explainer, "rounds", None), Until)
    if until and "samples" in asked.given:
        raise UsageError(
            f"--method {method.name} draws samples until it is sure; leave --samples out, or give "
            "the most with --most-samples"
        )
    return explainer


def rounds_of(asked: argparse.Namespace) -> Once | Until:
    """How many samples are drawn, and when they are enough."""
    return Once() if asked.until is None else Until(error=asked.until, most=asked.most_samples)


def _segmenter(asked: argparse.Namespace) -> Any:
    """The segmenter; a grid needs no reduced copy, since it costs nothing at any size."""
    segmenter = SEGMENTERS[asked.segmenter](asked.segments)
    if asked.segmenter == "grid" or not asked.segment_side:
        return segmenter
    return segments.Reduced(segmenter, asked.segment_side)


def marks_of(asked: argparse.Namespace) -> "Marks | None":
    """The region or box of each photo, if there is one.

    Raises:
        UsageError: there is no such file or folder.
    """
    from torchlime.models import Marks

    if asked.target_region is None and asked.target_box is None:
        return None
    if asked.target_region is not None and not Path(asked.target_region).exists():
        raise UsageError(f"--target-region: there is no file or folder {asked.target_region}")
    return Marks(asked.target_region, asked.target_box)


def limits_of(asked: argparse.Namespace) -> Limits:
    """What decoding a photo may take, by these options."""
    return Limits(asked.max_seconds, asked.max_pixels, asked.max_memory)


def record_of(
    words: Mapping[str, Any],
    asked: argparse.Namespace,
    options: Mapping[str, Option] = OPTIONS,
) -> dict[str, Any]:
    """The resolved options, for JSON; a value that is not plain is given by its word."""
    record: dict[str, Any] = {}
    if "photos" in words:
        record["photos"] = [str(photo) for photo in asked.photos]
    for name in options:
        value = getattr(asked, name.replace("-", "_"))
        every = value if isinstance(value, list) else [value]
        plain = all(one is None or isinstance(one, str | int | float) for one in every)
        record[name] = value if plain else str(words[name])
    return record
