"""The networks behind a callable: how they are found, put into eval mode and restored."""

import contextlib
import functools
import inspect
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Rewind = Callable[[], None]
_CALL = frozenset({"__call__"})


def module_of(model: object) -> nn.Module | None:
    """The network that a callable is or is bound to."""
    for candidate in (model, getattr(model, "__self__", None)):
        if isinstance(candidate, nn.Module):
            return candidate
    return None


def networks_of(model: object) -> list[nn.Module]:
    """The networks that a callable is or names in its code, each once.

    The search follows closures, globals, defaults, partials, decorators and containers. In an
    object it follows the attributes and methods that the code names: ``lambda x: self.net(x)``
    leads to ``self.net``. It does not find what has a computed name or is held by compiled code.
    """
    found: dict[int, nn.Module] = {}
    done: set[tuple[int, frozenset[str]]] = set()
    waiting: list[tuple[Any, frozenset[str]]] = [(model, _CALL)]
    while waiting:
        value, names = waiting.pop()
        if isinstance(value, nn.Module):
            found.setdefault(id(value), value)
        elif (id(value), names) not in done:
            done.add((id(value), names))
            waiting += _held(value, names)
    return list(found.values())


def _held(value: Any, names: frozenset[str]) -> Iterator[tuple[Any, frozenset[str]]]:
    """What ``value`` holds, where code uses it by the attributes ``names``; each with its names."""
    if isinstance(value, functools.partial):
        yield from ((held, names) for held in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, MethodType):
        yield value.__func__, _CALL
        yield value.__self__, _names(value.__func__)
    elif isinstance(value, FunctionType):
        used = _names(value)
        cells = [cell for cell in value.__closure__ or () if _is_bound(cell)]
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        named = [value.__globals__[name] for name in used if name in value.__globals__]
        for held in (*(cell.cell_contents for cell in cells), *defaults, *named):
            yield held, used
        yield value.__dict__.get("__wrapped__"), _CALL
    elif isinstance(value, dict):
        yield from ((held, names) for held in value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((held, names) for held in value)
    elif not isinstance(value, type | ModuleType | Tensor):
        for name in names:
            held = inspect.getattr_static(value, name, None)  # runs no code of the object
            if isinstance(held, property):
                held = held.fget
            if isinstance(held, FunctionType):  # a method: its names are attributes of the object
                yield held, _CALL
                yield value, _names(held)
            elif inspect.ismemberdescriptor(held):  # a slot
                yield getattr(value, name, None), names
            else:
                yield held, names


def _names(function: Any) -> frozenset[str]:
    """The names of globals and attributes in a function's code, and in functions within it."""
    codes, names = [getattr(function, "__code__", None)], {"__call__"}
    while codes:
        if isinstance(code := codes.pop(), CodeType):
            names.update(code.co_names)
            codes += code.co_consts
    return frozenset(names)


def _is_bound(cell: Any) -> bool:
    with contextlib.suppress(ValueError):  # a variable that has no value yet
        return cell.cell_contents is not None
    return False


@dataclass
class _Lent:
    """A module in eval mode: its own mode, and how many calls use it."""

    module: nn.Module
    mode: bool
    calls: int = 0


_lent: dict[int, _Lent] = {}
_lent_lock = threading.Lock()


@contextlib.contextmanager
def evaluating(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Use eval mode inside; then restore every submodule's mode and all global RNG states.

    Calls of several threads, and calls within a call, share their modules: the first call notes a
    module's mode, the last call restores it.
    """
    modules = list(dict.fromkeys(module for network in networks for module in network.modules()))
    rewind = random_states(device)
    _lend(networks, modules)
    try:
        yield
    finally:
        _take_back(modules)
        rewind()


def _lend(networks: Sequence[nn.Module], modules: Sequence[nn.Module]) -> None:
    with _lent_lock:
        for module in modules:
            own = _Lent(module, getattr(module, "training", False))
            _lent.setdefault(id(module), own).calls += 1
        for network in networks:
            if any(getattr(module, "training", False) for module in network.modules()):
                with contextlib.suppress(NotImplementedError):  # exported programs have one mode
                    network.eval()


def _take_back(modules: Sequence[nn.Module]) -> None:
    with _lent_lock:
        for module in modules:
            _lent[id(module)].calls -= 1
        free = [_lent.pop(id(module)) for module in modules if not _lent[id(module)].calls]
        _restore_modes([lent.module for lent in free], [lent.mode for lent in free])


def random_states(device: torch.device) -> Rewind:
    """A function that sets back the global generators, which a model may draw from, to now."""
    on_cuda = device.type == "cuda" and torch.cuda.is_available() and torch.cuda.is_initialized()
    python, numpy, host = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state(device) if on_cuda else None

    def rewind() -> None:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(host)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)

    return rewind


def _restore_modes(modules: list[nn.Module], modes: list[bool]) -> None:
    """Call ``train()``, parents first, since layers may act on it; if that fails, set the mode."""
    for module, mode in zip(modules, modes, strict=True):
        if getattr(module, "training", mode) != mode:
            with contextlib.suppress(NotImplementedError):
                module.train(mode)
    for module, mode in zip(modules, modes, strict=True):
        if getattr(module, "training", mode) != mode:
            module.training = mode
