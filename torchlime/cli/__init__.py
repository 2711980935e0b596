"""The command line: ``torchlime explain``, ``explain-table``, ``explain-text``, ``job`` and others.

Other packages compute and draw. Words become settings (options.py, meanings.py, estimating.py).
Photos, rows and texts become results and files (explaining.py, rows.py, texts.py, outputs.py),
folders and tables become jobs (job.py, table_job.py) or a page (serving.py). An error becomes one
sentence, which names flags in place of Python's arguments (sentences.py).
"""

import argparse
import contextlib
import io
import json
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torchlime
from torchlime.cli import job, rows, table_job, texts
from torchlime.cli.explaining import complain, explain
from torchlime.cli.loading import importable_here
from torchlime.cli.meanings import UsageError
from torchlime.cli.options import Parser, add_options
from torchlime.cli.sentences import in_flags
from torchlime.cli.serving import add_options as add_app_options
from torchlime.cli.serving import serve

if TYPE_CHECKING:
    from torchlime.methods import Method

_EXPLAIN: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "explain": explain,
    "explain-table": rows.explain,
    "explain-text": texts.explain,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; exit code 0, 1 where a photo, row or text failed, 2 for any other error."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack letters of a name
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _arguments(argv)
        if arguments.command == "models":
            return _models(arguments.part)
        if arguments.command == "methods":
            return _methods(arguments.part)
        if arguments.command == "job":
            with _quiet(machine=False):
                return job.run(arguments)
        if arguments.command == "job-table":
            with _quiet(machine=False):
                return table_job.run(arguments)
        if arguments.command == "report":
            return job.report(arguments)
        if arguments.command == "app":
            with importable_here(*arguments.model):
                serve(arguments)
            return 0
        with _quiet(arguments.json):
            document = _EXPLAIN[arguments.command](arguments)
        if arguments.json:
            print(json.dumps(document, indent=1, allow_nan=False))
        sys.stdout.flush()
        results = next(document[name] for name in ("photos", "rows", "texts") if name in document)
        return 1 if any("error" in result for result in results) else 0
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # from files, libraries and models that we do not know
        complain(error, debug="--debug" in argv)
        return 2


def _arguments(argv: list[str]) -> argparse.Namespace:
    """The parsed arguments; photos and texts may stand on both sides of a flag."""
    parser, of_files = _parsers()
    if not argv or argv[0] not in of_files:
        return parser.parse_args(argv)
    return of_files[argv[0]].parse_intermixed_args(argv[1:], argparse.Namespace(command=argv[0]))


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The program's parser, and those of the commands that take any number of files."""
    parser = Parser(prog="torchlime", description=(torchlime.__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--version", action="version", version=torchlime.__version__)
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    explain = commands.add_parser("explain", help="explain what a classifier sees in photos")
    explain.add_argument("photos", nargs="*", metavar="photo", help="default: scikit-image's cat")
    add_options(explain)
    explain.add_argument("--config", help="a TOML file with these options; flags override it")
    explain.add_argument("--json", action="store_true", help="print one JSON document, no text")
    table, text = rows.add_parser(commands), texts.add_parser(commands)
    jobs = [*job.add_parsers(commands), table_job.add_parser(commands)]
    models = commands.add_parser("models", help="list names of classifiers")
    models.add_argument("part", nargs="?", default="", help="only names that contain this")
    methods = commands.add_parser(
        "methods", help="list the methods for --method, with their papers"
    )
    methods.add_argument("part", nargs="?", default="", help="only names that contain this")
    app = commands.add_parser("app", help="serve a web page, for this machine alone")
    add_app_options(app)
    for command in (explain, table, text, models, methods, app, *jobs):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser, {"explain": explain, "explain-text": text}


@contextlib.contextmanager
def _quiet(machine: bool) -> Iterator[None]:
    """Keep stdout for a machine's document; show warnings in one line, none of large photos."""
    from torchlime import models

    with contextlib.ExitStack() as stack:
        if machine:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(warnings.catch_warnings())
        warnings.showwarning = _show_warning  # put back by catch_warnings
        models.refuse_bombs()
        yield


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    sentence = in_flags(" ".join(str(message).split()))
    print(f"torchlime: warning: {sentence}", file=sys.stderr)


def _models(part: str) -> int:
    from torchlime import models

    found = [name for name in models.names() if part.casefold() in name.casefold()]
    if not found:
        raise UsageError(f"no name contains {part!r}; timm:NAME and hf:FOLDER are not listed")
    print("\n".join(found), flush=True)
    return 0


def _methods(part: str) -> int:
    from torchlime import methods

    part = part.casefold().replace("-", "_")
    found = [methods.get(name) for name in methods.names() if part in name]
    if not found:
        raise UsageError(f"no name contains {part!r}; there are {', '.join(methods.names())}")
    print("\n\n".join(map(_told, found)), flush=True)
    return 0


def _told(method: "Method") -> str:
    """A method in a few lines, for people."""
    lines = [method.sentence, f"{method.paper}."]
    lines += [f"Here: {method.part}"] * bool(method.part)
    if method.takes != "images":
        lines.append(f"It takes {method.takes}, which only Python can give.")
    indented = (
        textwrap.fill(line, 96, initial_indent="    ", subsequent_indent="    ") for line in lines
    )
    return "\n".join([method.name, *indented])
