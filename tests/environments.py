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


def brought_by(extras: Iterable[str], packages: Iterable[str] = ()) -> set[str]:
    """The distributions that ``pip install 'torchlime[extras]' packages`` brings."""
    found: set[tuple[str, str]] = set()
    waiting = [("torchlime", extra) for extra in ("", *extras)]
    waiting += [(canonicalize_name(name), "") for name in packages]
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


def installed(distribution: str) -> bool:
    """Whether it is installed here."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def hidden_without(extras: Iterable[str], packages: Iterable[str] = ()) -> set[str]:
    """The first names of installed modules that these extras and packages do not bring."""
    seen = modules_of(brought_by(extras, packages))
    return set(_distributions()) - seen - {"torchlime", "tests"}


HIDE = """
import sys, importlib.machinery
hidden = set({hidden!r}.split())
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        gone = name.partition(".")[0] in hidden
        return None if gone else super().find_spec(name, path, target)
sys.meta_path = [Finder if one is importlib.machinery.PathFinder else one for one in sys.meta_path]
"""


def command(
    code: str, extras: Iterable[str], *arguments: str, packages: Iterable[str] = ()
) -> list[str]:
    """A command line that runs ``code`` as if only torchlime and ``extras`` were installed."""
    hidden = " ".join(sorted(hidden_without(extras, packages)))
    return [sys.executable, "-c", HIDE.replace("{hidden!r}", repr(hidden)) + code, *arguments]


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
