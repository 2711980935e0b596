"""Serving: ``torchlime app`` starts the page (torchlime/app) for this machine alone."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

import torchlime
from torchlime.cli.options import OPTIONS, UsageError, nearest

MODELS = ("efficientnet_lite0", "resnet18", "resnet34", "inception_v3")
MAX_UPLOAD = 20  # MB
_FLAGS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",  # asks nothing on stdin and opens no browser
    "server.maxUploadSize": str(MAX_UPLOAD),
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "browser.serverAddress": "127.0.0.1",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of ``torchlime app``, which hands them on to the page."""
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL[=WEIGHTS]",
        help="one more classifier that may be chosen, as for torchlime explain, with the file of "
        f"its weights; the first is chosen at the start; repeatable (always: {', '.join(MODELS)})",
    )  # fmt: skip
    parser.add_argument("--folder", help="photos that may be looked at, best as FOLDER/CLASS/…")
    parser.add_argument("--port", help="default: 8501, or the next that is free")


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


def serve(arguments: argparse.Namespace) -> None:
    """Start the page, and return when it is stopped.

    Raises:
        ImportError: Streamlit is not installed.
        OSError: the server could not be started.
        UsageError: there is no such folder or model, or it is no port.
    """
    try:
        from streamlit.web import cli as streamlit
    except ImportError as error:
        raise ImportError("the page needs Streamlit: pip install 'torchlime[app]'") from error
    _check(arguments)
    flags = dict(_FLAGS)
    if arguments.port is not None:
        flags["server.port"] = arguments.port
    for_page = [f"--model={model}" for model in arguments.model]
    if arguments.folder is not None:
        for_page.append(f"--folder={os.path.abspath(arguments.folder)}")
    page = Path(torchlime.__file__).parent / "app" / "page.py"
    command = ["run", str(page), *(f"--{name}={value}" for name, value in flags.items())]
    try:
        streamlit.main([*command, "--", *for_page], standalone_mode=False)
    except SystemExit as left:
        if left.code:
            raise OSError("the page's server could not be started") from left


def _check(arguments: argparse.Namespace) -> None:
    from torchlime import models

    folder = arguments.folder
    if folder is not None and not (folder.strip() and Path(folder).is_dir()):
        raise UsageError(f"--folder: there is no folder {folder or repr(folder)}")
    port = arguments.port
    if port is not None and not (port.isdecimal() and 0 < int(port) < 2**16):
        raise UsageError(f"--port: {port!r} is not a port, 1 to 65535")
    asked = [model.partition("=")[0] for model in arguments.model]
    for name in asked:
        if asked.count(name) > 1:
            raise UsageError(f"--model: {name} is given twice, and can be chosen once")
    known = models.names()
    for name in allowed_models(arguments.model):
        if ":" not in name and name not in known:
            raise UsageError(f"--model: unknown model {name!r}{nearest(name, known)}")
