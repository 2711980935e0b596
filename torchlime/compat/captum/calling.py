"""How a forward function is called, as Captum calls it: its arguments, and its rows' scores."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from torchlime._precision import solve_dtype
from torchlime.black_box import BlackBox, Forward
from torchlime.compat.captum.arguments import Further, Inputs
from torchlime.compat.captum.targets import Targets

ForwardFunc = Callable[..., Any]


def takes_nothing(function: ForwardFunc) -> bool:
    """Whether a function has no parameter: Captum calls it without arguments then."""
    return len(inspect.signature(function).parameters) == 0


def run(function: ForwardFunc, tensors: tuple[Any, ...], further: tuple[Any, ...]) -> Any:
    """What the function returns for inputs and further arguments."""
    return _in_torch(function() if takes_nothing(function) else function(*tensors, *further))


class Calls:
    """The calls of a forward function for one set of inputs.

    The function runs in the mode (training or evaluation) that its networks are in, as in Captum.

    Args:
        function: the caller's; if it takes no argument, it gets none.
        inputs: the inputs.
        target: see :class:`torchlime.compat.captum.targets.Targets`.
        further: see :class:`torchlime.compat.captum.arguments.Further`.

    Raises:
        AssertionError: the target is of another type.
        TypeError: the function cannot be called.
    """

    def __init__(
        self, function: ForwardFunc, inputs: Inputs, target: Any = None, further: Any = None
    ):
        if not callable(function):
            raise TypeError(f"forward_func must be callable, got {type(function).__name__}")
        self.function = function
        self.inputs = inputs
        self.targets = Targets(target, inputs.device, inputs.batch)
        self.further = Further(further, inputs.batch)
        self.without_arguments = takes_nothing(function)

    @property
    def by_row(self) -> bool:
        """Whether chunks may mix examples: all that is given has a row for each."""
        even = all(len(tensor) == self.inputs.batch for tensor in self.inputs.given)
        return even and self.further.by_row

    def whole(self, tensors: tuple[Tensor, ...] | None = None) -> Any:
        """The explained outputs of one call on the batch, or on tensors in its place."""
        with torch.no_grad():
            outputs = self.run(tensors or self.inputs.given, self.further.values)
            return self.targets(outputs, None)

    def run(self, tensors: tuple[Any, ...], further: tuple[Any, ...]) -> Any:
        """What the function returns; arrays of the host go to the device of the inputs."""
        if self.without_arguments:
            return _in_torch(self.function(), self.inputs.device)
        return _in_torch(self.function(*tensors, *further), self.inputs.device)

    def box(self, run: Callable[[Any], Any]) -> BlackBox:
        """The function as the model of torchlime's engine; ``run`` calls it with a chunk."""
        function = self.function
        if isinstance(function, DistributedDataParallel):  # its wrapper waits for all ranks
            function = function.module
        return _AsItIs(_named(function), self.inputs.device, Forward(), call=lambda _, c: run(c))


class _AsItIs(BlackBox):
    """A model whose modes and random states are left as they are."""

    @contextlib.contextmanager
    def prepared(self) -> Iterator[Callable[[], None]]:
        """The caller's autocast inside."""
        autocast: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if self.autocast is not None:
            autocast = torch.autocast(self.device.type, self.autocast)
        with autocast:
            yield lambda: None

    def _checked(self, outputs: Any) -> Any:
        return outputs


def _named(function: ForwardFunc) -> ForwardFunc:
    """A function that names the caller's: the engine finds networks in it, but no dtype."""
    return lambda *arguments: function(*arguments)


def _in_torch(outputs: Any, device: torch.device | None = None) -> Any:
    """Arrays, and lists of numbers, as tensors: models of the host return them."""
    if isinstance(outputs, list) and outputs and all(isinstance(v, int | float) for v in outputs):
        outputs = np.asarray(outputs)
    if isinstance(outputs, np.ndarray):
        return torch.as_tensor(outputs, device=device)
    return outputs


def as_scores(outputs: Any, rows: int, device: torch.device) -> Tensor:
    """Explained outputs as scores [rows,T]; T is 1 where there is one output a row.

    Raises:
        AssertionError: the outputs are no numbers, or not the same number for each row.
    """
    if isinstance(outputs, np.generic):
        outputs = torch.as_tensor(outputs)
    if not isinstance(outputs, Tensor):
        if not isinstance(outputs, int | float):
            raise AssertionError(
                f"forward_func must return a tensor or a number, got {type(outputs).__name__}"
            )
        outputs = torch.full((), outputs, dtype=solve_dtype(device), device=device)
    if outputs.numel() == 0 or outputs.numel() % rows:
        raise AssertionError(wrong_number(outputs, rows))
    scores = outputs.reshape(rows, -1).to(device)
    return scores if scores.is_floating_point() else scores.to(solve_dtype(device))


def wrong_number(outputs: Any, rows: int) -> str:
    """Captum's sentence for outputs that are not one for each row, and what came."""
    shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    return (
        "Number of outputs is not appropriate, must return one output per perturbed input: "
        f"forward_func gave {shape} for {rows} perturbed inputs; pass target= to choose one output"
    )
