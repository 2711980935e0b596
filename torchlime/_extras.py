"""Packages that only some callers need."""

import importlib
from types import ModuleType


def imported(module: str, wanted_by: str) -> ModuleType:
    """Import an optional package, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0].replace("_", "-")
        raise ImportError(f"{wanted_by} needs a package: pip install {package}") from error
