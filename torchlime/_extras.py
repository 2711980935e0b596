"""Packages that only some callers need."""

import importlib
from types import ModuleType

_PACKAGES = {"sklearn": "scikit-learn", "skimage": "scikit-image"}  # of modules of another name


def imported(module: str, wanted_by: str, extra: str) -> ModuleType:
    """Import an optional package, or say the one line that installs all of its extra.

    Args:
        module: what to import.
        wanted_by: what needs it, the subject of the sentence.
        extra: the name in pyproject.toml's optional dependencies.

    Raises:
        ImportError: it is not installed, or a package that it needs itself is not.

    Example:
        >>> imported("no_such", "figure()", "plot")
        Traceback (most recent call last):
        ImportError: figure() needs the package no-such: pip install 'torchlime[plot]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing(error.name or module, wanted_by, extra) from error


def missing(module: str, wanted_by: str, extra: str) -> ImportError:
    """What :func:`imported` raises."""
    name = module.partition(".")[0]
    package = _PACKAGES.get(name, name.replace("_", "-"))
    message = f"{wanted_by} needs the package {package}: pip install 'torchlime[{extra}]'"
    return ImportError(message, name=name)
