"""Hooks of one thread, and what they make of rotary angles."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Rotated:
    """Rotary angles of the patches that each row keeps; made once a forward pass."""

    def __init__(self, kept: Tensor):
        self.kept = kept
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def all(self, angles: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Each of angles [P,d] → [n,1,k,d]."""
        return tuple(self.of(each) for each in angles)

    def block(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of a block, with its ``rope`` cut; as they are where it is given none.

        It is [P,d] → [n,1,k,d], or [heads,P,d] → [n,heads,k,d].
        """
        rope = kwargs.get("rope")
        return None if rope is None else (args, kwargs | {"rope": self.of(rope)})

    def of(self, angles: Tensor) -> Tensor:
        """Angles [P,d] → [n,1,k,d], or [heads,P,d] → [n,heads,k,d]; the last result is kept."""
        if id(angles) not in self._made:
            own = angles[None] if angles.dim() == 2 else angles
            made = own[:, self.kept].movedim(0, 1)
            self._made = {id(angles): (angles, made)}
        return self._made[id(angles)][1]


class Hooks:
    """Hooks that see the forward passes of one thread."""

    def __init__(self) -> None:
        self.handles: list[RemovableHandle] = []
        self._thread = threading.get_ident()

    def after(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call hook(module, args, output) after the module; what it returns is the output."""
        self.handles.append(module.register_forward_hook(self._own(hook)))

    def before(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call hook(module, args, kwargs) before; what it returns are the arguments."""
        handle = module.register_forward_pre_hook(self._own(hook), with_kwargs=True)
        self.handles.append(handle)

    def _own(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        def of_this_thread(*args: Any) -> Any:
            return hook(*args) if threading.get_ident() == self._thread else None

        return of_this_thread


@contextlib.contextmanager
def hooked() -> Iterator[Hooks]:
    hooks = Hooks()
    try:
        yield hooks
    finally:
        for handle in hooks.handles:
            handle.remove()
