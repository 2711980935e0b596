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
_LEAVES = (str, bytes, int, float, complex, type(None), np.ndarray)  # they hold no network


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
    of_types: dict[type, dict[str, Any]] = {}
    waiting: list[tuple[Any, frozenset[str]]] = [(model, _CALL)]
    while waiting:
        value, names = waiting.pop()
        if isinstance(value, nn.Module):
            found.setdefault(id(value), value)
        elif (id(value), names) not in done:
            done.add((id(value), names))
            waiting += _held(value, names, of_types)
    return list(found.values())


def _held(
    value: Any, names: frozenset[str], of_types: dict[type, dict[str, Any]]
) -> Iterator[tuple[Any, frozenset[str]]]:
    """What ``value`` holds, where code uses it by the attributes ``names``; each with its names.

    ``of_types`` keeps the attributes that types have.
    """
    if isinstance(value, _LEAVES):
        return
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
        for name, held in _attributes(value, names, of_types):
            if isinstance(held, property):
                held = held.fget
            if isinstance(held, FunctionType):  # a method: its names are attributes of the object
                yield held, _CALL
                yield value, _names(held)
            elif inspect.ismemberdescriptor(held):  # a slot
                yield getattr(value, name, None), names
            else:
                yield held, names


def _attributes(
    value: Any, names: frozenset[str], of_types: dict[type, dict[str, Any]]
) -> Iterator[tuple[str, Any]]:
    """Those of an object's attributes that are named; no code of the object runs."""
    kind = type(value)
    if kind not in of_types:
        of_types[kind] = {
            n: held for base in reversed(kind.__mro__) for n, held in vars(base).items()
        }
    of_type = of_types[kind]
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = {}
    own = own if isinstance(own, dict) else {}
    for name in names & of_type.keys():
        held = of_type[name]
        if name not in own or inspect.isdatadescriptor(held):
            yield name, held
    for name in names & own.keys():
        if not inspect.isdatadescriptor(of_type.get(name)):
            yield name, own[name]


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
_lent_lock = threading.RLock()  # a network's own eval() may explain


@contextlib.contextmanager
def evaluating(
    networks: Sequence[nn.Module], modules: Sequence[nn.Module], device: torch.device
) -> Iterator[Rewind]:
    """Eval mode inside; every module's own mode and all global RNG states come back after.

    Calls of several threads, and calls within a call, share their modules: the first of them notes
    a module's mode, the last brings it back. Yields what sets the RNG states to those before.

    Args:
        networks: that are called.
        modules: of the networks, each once.
        device: whose generator may be drawn from.
    """
    lent: list[nn.Module] = []
    with _drawing.undone(device) as rewind:
        try:
            _lend(networks, modules, lent)
            yield rewind
        finally:
            _take_back(lent)


def _lend(
    networks: Sequence[nn.Module], modules: Sequence[nn.Module], lent: list[nn.Module]
) -> None:
    """Switch to eval mode; ``lent`` then holds what has to be taken back."""
    with _lent_lock:
        trains = any(getattr(module, "training", False) for module in modules)
        if not (trains or any(id(module) in _lent for module in modules)):
            return
        for module in modules:
            own = _Lent(module, getattr(module, "training", False))
            _lent.setdefault(id(module), own).calls += 1
            lent.append(module)
        for network in networks if trains else ():
            with contextlib.suppress(NotImplementedError):  # exported programs have one mode
                network.eval()


def _take_back(modules: Sequence[nn.Module]) -> None:
    with _lent_lock:
        for module in modules:
            _lent[id(module)].calls -= 1
        free = [_lent.pop(id(module)) for module in modules if not _lent[id(module)].calls]
        _restore_modes([lent.module for lent in free], [lent.mode for lent in free])


class _Drawing:
    """Calls that may draw random numbers, in this thread and in others.

    A call sets the generators back to where it found them. Where calls of several threads overlap,
    what one found is in the middle of another: then the last sets them back to before the first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[int] = []
        self._overlap = False
        self._first: Rewind | None = None

    @contextlib.contextmanager
    def undone(self, device: torch.device) -> Iterator[Rewind]:
        """The random states come back afterwards; yields what sets them back now."""
        own = threading.get_ident()
        with self._lock:
            rewind = random_states(device)
            if not self._threads:
                self._first, self._overlap = rewind, False
            self._overlap |= any(thread != own for thread in self._threads)
            self._threads.append(own)
        try:
            yield rewind
        finally:
            with self._lock:
                self._threads.remove(own)
                if not self._overlap:
                    rewind()
                elif not self._threads and self._first is not None:
                    self._first()
                if not self._threads:
                    self._first = None


_drawing = _Drawing()


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
