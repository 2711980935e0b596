"""What an extra brings, and a Python that sees only this."""

import importlib.metadata
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def brought_by(extras: Iterable[str]) -> set[str]:
    """The distributions that ``pip install 'torchlime[extras]'`` brings, of those installed here.

    Raises:
        PackageNotFoundError: one that torchlime asks for itself is not installed here.
    """
    found: set[tuple[str, str]] = set()
    waiting = [("torchlime", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for needed in _needed(name, extra):
            own = canonicalize_name(needed.name)
            waiting += [(own, one) for one in ("", *needed.extras)]
    return {name for name, _ in found}


def modules_of(distributions: set[str]) -> set[str]:
    """The first names of the modules in some distributions."""
    return {
        module
        for module, names in _distributions().items()
        if distributions & {canonicalize_name(name) for name in names}
    }


def hidden_without(extras: Iterable[str]) -> set[str]:
    """The first names of installed modules that these extras do not bring."""
    return set(_distributions()) - modules_of(brought_by(extras)) - {"torchlime", "tests"}


# Names that are not to be found come as arguments, then the code.
HIDE = """
import sys, importlib.machinery
hidden = set(sys.argv.pop(1).split())
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        gone = name.partition(".")[0] in hidden
        return None if gone else super().find_spec(name, path, target)
sys.meta_path = [Finder if one is importlib.machinery.PathFinder else one for one in sys.meta_path]
exec(compile(sys.argv.pop(1), "README.md", "exec"))
"""


def command(code: str, extras: Iterable[str], *arguments: str) -> list[str]:
    """A command line that runs ``code`` as if only torchlime and ``extras`` were installed."""
    hidden = " ".join(sorted(hidden_without(extras)))
    return [sys.executable, "-c", HIDE, hidden, code, *arguments]


@cache
def _distributions() -> dict[str, list[str]]:
    found = importlib.metadata.packages_distributions()
    return {module: list(names) for module, names in found.items()}


def _needed(name: str, extra: str) -> list[Requirement]:
    """What a distribution asks for under an extra; torchlime is not always installed."""
    if name == "torchlime":
        return [Requirement(line) for line in (EXTRAS[extra] if extra else PROJECT["dependencies"])]
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []  # such as a package for another system
    parsed = [Requirement(line) for line in lines]
    return [one for one in parsed if one.marker is None or one.marker.evaluate({"extra": extra})]
