"""Explanations inside a training loop. They leave the training as it was.

:class:`ExplanationLogger` needs no framework. ``LightningCallback``, ``TransformersCallback``
and :func:`ignite_handler` call it at the right moment; each needs its library only when it is used.
"""

from typing import Any

from torchlime._extras import imported
from torchlime.training.adapters import ADAPTERS, ignite_handler
from torchlime.training.logger import ExplanationLogger

__all__ = ["ExplanationLogger", "ignite_handler"]


def __getattr__(name: str) -> Any:
    """Make an adapter's class when it is first used, because this imports its library.

    Raises:
        AttributeError: there is no such name.
        ImportError: the library is not installed.
    """
    if name not in ADAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    adapter, module, base = ADAPTERS[name]
    library = imported(module, name, "training")
    bases = (adapter, getattr(library, base))
    made = type(name, bases, {"__module__": __name__, "__doc__": adapter.__doc__})
    globals()[name] = made  # once, so that instances pickle
    return made
