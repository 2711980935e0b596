"""Serving: ``torchlime app`` starts the page (torchlime/app) for this machine alone."""

import argparse
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torchlime
from torchlime import server
from torchlime.cli import options
from torchlime.cli.meanings import UsageError, nearest
from torchlime.cli.options import OPTIONS
from torchlime.models.limits import Limits

MODELS = ("efficientnet_lite0", "resnet18", "resnet34", "inception_v3")
MAX_UPLOAD = 20  # MB
LIMITS = Limits(seconds=10)  # somebody waits, and others may wait behind them
_OF_LIMITS = {name: OPTIONS[name] for name in ("max-seconds", "max-pixels", "max-memory")}
_OF_LIMITS["max-seconds"] = replace(_OF_LIMITS["max-seconds"], default=LIMITS.seconds)
_NAMED = re.compile(r"(\w+\.)?[A-Z0-9_]+")
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")  # a name, IPv4 or [IPv6]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of ``torchlime app``, which hands them on to the page."""
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL[=WEIGHTS]",
        help="another classifier to choose from, named as for torchlime explain, with the file of "
        f"its weights; the first is chosen at the start; repeatable (always: {', '.join(MODELS)})",
    )  # fmt: skip
    parser.add_argument(
        "--folder", help="a gallery: a folder of photos, best as FOLDER/CLASS/…, or the results of "
        "torchlime job, whose explanations are shown and not computed again",
    )  # fmt: skip
    parser.add_argument("--port", help="default: 8501, or the next that is free")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME[:PORT]",
        help="another name under which the page may be opened, as in the browser's "
        "address line, such as localhost:9000 for a tunnel; repeatable (always: this machine's "
        "own names, 127.0.0.1, localhost and [::1], with the port)",
    )  # fmt: skip
    options.add_options(parser, _OF_LIMITS)


def allowed_models(asked: Iterable[str]) -> dict[str, str | None]:
    """The classifiers that may be chosen, with their weights, the asked ones first.

    >>> list(allowed_models(["resnet34=mine.pth"]).items())[:2]
    [('resnet34', 'mine.pth'), ('efficientnet_lite0', 'DEFAULT')]
    """
    pairs = [word.partition("=")[::2] for word in (*asked, *MODELS)]
    weights = OPTIONS["weights"]
    allowed: dict[str, str | None] = {}
    for name, file in pairs:
        allowed.setdefault(name, weights.read(file or weights.default))
    return allowed


def named(weights: str | None) -> bool:
    """Whether weights are no file: DEFAULT, another name of torchvision's, or None.

    >>> named("IMAGENET1K_V1"), named("ResNet18_Weights.DEFAULT"), named("resnet18.pth")
    (True, True, False)
    """
    return weights is None or _NAMED.fullmatch(weights) is not None


def limits_of(arguments: argparse.Namespace) -> Limits:
    """What decoding a photo for the page may take.

    Raises:
        UsageError: a flag's value is nothing that can be.
    """
    values = []
    for name, option in _OF_LIMITS.items():
        try:
            values.append(option.read(_given(arguments, name) or str(option.default)))
        except ValueError as error:
            raise UsageError(f"--{name}: {error}") from error
    return Limits(*values)


def _given(arguments: argparse.Namespace, name: str) -> str | None:
    word: str | None = getattr(arguments, name.replace("-", "_"), None)
    if word is not None and not word.strip():
        raise ValueError("it needs a value, and got an empty one")
    return word


def serve(arguments: argparse.Namespace) -> None:
    """Start the page, and end the process when the page is stopped.

    Raises:
        ImportError: Streamlit is not installed, or too old.
        OSError: the server could not be started.
        UsageError: there is no such folder or model, or it is no port, name or limit.
    """
    _check(arguments)
    for_page = [f"--model={model}" for model in arguments.model]
    if arguments.folder is not None:
        for_page.append(f"--folder={os.path.abspath(arguments.folder)}")
    for_page += [
        f"--{name}={_given(arguments, name)}" for name in _OF_LIMITS if _given(arguments, name)
    ]
    server.serve(
        Path(torchlime.__file__).parent / "app" / "page.py",
        for_page,
        port=None if arguments.port is None else int(arguments.port),
        hosts=[host.lower() for host in arguments.allow_host],
        settings={"server.maxUploadSize": MAX_UPLOAD},
    )


def _check(arguments: argparse.Namespace) -> None:
    from torchlime import models

    limits_of(arguments)
    folder = arguments.folder
    if folder is not None and not (folder.strip() and Path(folder).is_dir()):
        raise UsageError(f"--folder: there is no folder {folder or repr(folder)}")
    port = arguments.port
    if port is not None and not (port.isdecimal() and 0 < int(port) < 2**16):
        raise UsageError(f"--port: {port!r} is not a port, 1 to 65535")
    for host in arguments.allow_host:
        if not _HOST.fullmatch(host):
            raise UsageError(f"--allow-host: {host!r} is not a name, or name:port, of a host")
    asked = [model.partition("=")[0] for model in arguments.model]
    for name in asked:
        if asked.count(name) > 1:
            raise UsageError(f"--model: {name} is given twice, but can be chosen only once")
    known = models.names()
    for name, weights in allowed_models(arguments.model).items():
        if ":" not in name and name not in known:
            raise UsageError(f"--model: unknown model {name!r}{nearest(name, known)}")
        if weights is not None and not named(weights) and not Path(weights).is_file():
            raise UsageError(f"--model: there is no file {weights} with the weights of {name}")
