"""How a model is called: its wrappers, networks, dtype, layout and autocast."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map_only

from torchlime._checks import check_count, device_of
from torchlime._networks import Rewind, evaluating, module_of, networks_of

Model = Callable[..., Any]
Progress = Callable[[int, int], object]
Call = Callable[[Model, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Forward:
    """How rows pass through the model.

    Args:
        chunk_size: rows of a forward pass at most; None = what suits the inputs and the device.
        exact_chunks: give every forward pass exactly ``chunk_size`` rows, also where there are
            fewer in all: for engines of a fixed batch, such as TensorRT, ONNX or exported programs.
            Rows that are too many are computed and dropped. Where memory runs out, chunks are not
            made smaller.
        autocast: torch.bfloat16 or torch.float16; None leaves the caller's setting.
        pad: give the last chunk the shape of the others, so that compiled models do not
            recompile; False where the model must see the true rows only.
        differentiable: let gradients flow from the scores to the model's parameters. Every chunk
            is a checkpoint, so that the memory stays at one chunk's graph.
        progress: called with (rows done, rows in all) after each chunk. The model is in eval mode
            then, and the function must leave it so.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.
    """

    chunk_size: int | None = None
    exact_chunks: bool = False
    autocast: torch.dtype | None = None
    pad: bool = True
    differentiable: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.chunk_size is not None:
            check_count(self.chunk_size, "chunk_size")
        if self.exact_chunks and (self.chunk_size is None or not self.pad):
            missing = "pad=True" if self.chunk_size else "chunk_size=, the rows of every pass"
            raise ValueError(f"exact_chunks=True needs {missing}")
        if self.autocast not in (None, torch.bfloat16, torch.float16):
            raise ValueError(
                f"autocast must be torch.bfloat16, torch.float16 or None, got {self.autocast}"
            )
        if self.progress is not None and not callable(self.progress):
            raise TypeError(f"progress must be callable, got {type(self.progress).__name__}")

    @classmethod
    def of(
        cls, settings: Any, *, differentiable: bool = False, progress: Progress | None = None
    ) -> "Forward":
        """With the chunks and autocast of an explainer's settings."""
        return cls(
            chunk_size=settings.chunk_size,
            exact_chunks=settings.exact_chunks,
            autocast=settings.autocast,
            differentiable=differentiable,
            progress=progress,
        )


def autocast_around(device: torch.device) -> torch.dtype | None:
    """The dtype of the caller's autocast; None where it is off."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


class Arguments(NamedTuple):
    """A chunk of arguments by position and by name."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


class RefusedLayout(Exception):
    """The model failed on a channels-last chunk; in contiguous chunks it may work."""


def called(model: Model, chunk: Any) -> Any:
    """The model's outputs of a chunk, as :class:`BlackBox` says."""
    if isinstance(chunk, Arguments):
        return model(*chunk.positional, **chunk.named)
    if isinstance(chunk, tuple):
        return model(*chunk)
    return model(**chunk) if isinstance(chunk, Mapping) else model(chunk)


class BlackBox:
    """A model and how it is called. Every call makes one, while the caller's autocast is on.

    Convention:
        A chunk is a tensor (the model's one argument), a tuple (its arguments), a mapping (its
        keywords) or :class:`Arguments` (both).

    Args:
        model: any callable.
        device: the device of the inputs.
        forward: how rows pass through the model.
        these: subject and verb of a sentence about the inputs.
        call: model, chunk → outputs.

    Attributes:
        networks: the networks that the model is or names in its code.
        dtype: the dtype of the model's first floating parameter; None = that of the inputs.
        channels_last: whether its convolutions run faster on channels-last images.
        contiguous: whether the model failed on channels-last images.
        ready: whether the caller has prepared the model, as a capture in a CUDA graph must, where
            modes and random states cannot be touched; :meth:`prepared` only autocasts then.

    Raises:
        TypeError, ValueError, RuntimeError: the model cannot be called; the message says why.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        forward: Forward,
        these: str = "the inputs are",
        call: Call = called,
    ):
        self._call = call
        self.model = _unwrapped(model, forward.differentiable)
        self.networks = networks_of(self.model)
        every = (module for network in self.networks for module in network.modules())
        self.modules = list(dict.fromkeys(every))
        self.device = device
        self.reuse = not forward.differentiable
        self.autocast = forward.autocast or autocast_around(device)
        _refuse_distributed(self.modules)
        self.dtype = _dtype(self.model, device, these)
        self.channels_last = _wants_channels_last(self.modules, device)
        self.contiguous = False
        self._called = self.model
        self.ready = False
        self._worked = False  # in this layout
        self._shape: list[int] | None = None  # of a row of outputs

    def __call__(self, chunk: Any) -> Any:
        """The model's outputs of a chunk.

        Raises:
            RefusedLayout: the model failed, but in another layout the same chunk may work.
        """
        if self.contiguous:
            chunk = tree_map_only(Tensor, _contiguous, chunk)
        try:
            outputs = self._call(self._called, chunk)
        except Exception as error:
            if self._worked or is_out_of_memory(error) or not _in_channels_last(chunk):
                raise
            raise RefusedLayout from error
        self._worked = True
        return self._checked(outputs)

    def pixelwise(self, *images: Tensor) -> tuple[Tensor, ...]:
        """What the model first does to every pixel by itself, done to ``images`` [B,C,*axes].

        A model says so by a method ``pixelwise_and_rest() → (first, rest)``, as
        :class:`torchlime.models.Classifier` has it. From then on only the rest is called. A select
        of pixels commutes with the first part, so the outputs are the same, bit for bit.
        """
        says = getattr(type(self.model), "pixelwise_and_rest", None)  # not what torch.compile wraps
        parts = says(self.model) if says is not None else None
        if parts is None:
            return images
        first, self._called = parts
        return tuple(first(image.to(self.dtype or image.dtype)) for image in images)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[Rewind]:
        """Eval mode and autocast inside, once for many chunks: each keeps its weights' casts.

        Yields what sets the random states to those before.
        """
        prepared: contextlib.AbstractContextManager[Rewind] = contextlib.nullcontext(_nothing)
        if not self.ready:
            prepared = evaluating(self.networks, self.modules, self.device)
        autocast: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if self.autocast is not None:
            autocast = torch.autocast(self.device.type, self.autocast)
        with prepared as rewind, autocast:
            yield rewind

    def _checked(self, outputs: Any) -> Any:
        """The outputs, or an error if their rows differ in shape from those of the first chunk."""
        scores = getattr(outputs, "logits", outputs)
        if isinstance(scores, Tensor) and scores.dim() <= 2:  # a class a column
            shape = list(scores.shape[1:])
            if self._shape is not None and shape != self._shape:
                raise ValueError(
                    f"the model returned rows of shape {self._shape} for the first chunk and of "
                    f"{shape} for a later one; it must return the same classes for all"
                )
            self._shape = shape
        return outputs


def _nothing() -> None:
    """Set no random states back."""


def _in_channels_last(chunk: Any) -> bool:
    leaves = (leaf for leaf in tree_leaves(chunk) if isinstance(leaf, Tensor) and leaf.dim() == 4)
    return any(
        leaf.stride() != _contiguous(leaf).stride()
        and leaf.is_contiguous(memory_format=torch.channels_last)
        for leaf in leaves
    )


def _contiguous(tensor: Tensor) -> Tensor:
    """The tensor made contiguous; its strides are contiguous too, even for a single channel."""
    return tensor.contiguous().view(-1).view(tensor.shape)


def _unwrapped(model: Model, differentiable: bool) -> Model:
    """The network within DistributedDataParallel: its wrapper waits for all ranks."""
    if not callable(model):
        raise TypeError(f"model must be callable, got {type(model).__name__}")
    if differentiable and torch.is_inference_mode_enabled():
        raise RuntimeError(
            "differentiable=True needs gradients, but inference_mode rules them out; "
            "leave inference_mode, or use torch.no_grad() around the rest"
        )
    inner = getattr(model, "_orig_mod", model)  # torch.compile around it
    if not isinstance(inner, DistributedDataParallel):
        return model
    if differentiable:
        raise ValueError(
            "differentiable=True does not take a DistributedDataParallel model, because it would "
            "skip the reduction of gradients; pass model.module. One backward() with a loss "
            "through the wrapper reduces both gradients; without one, reduce them yourself"
        )
    return inner.module


def _refuse_distributed(modules: Sequence[nn.Module]) -> None:
    if any(isinstance(module, DistributedDataParallel) for module in modules):
        raise ValueError(
            "the model holds a DistributedDataParallel, which would wait for the other ranks; "
            "build it around ddp.module instead"
        )


def _dtype(model: Model, device: torch.device, these: str) -> torch.dtype | None:
    """The dtype of the model's first floating parameter, if it has one."""
    network = module_of(model)
    own = device_of(network)
    if own not in (None, device):
        raise ValueError(
            f"the model is on {own}, {these} on {device}; move one of them with .to(device)"
        )
    parameters = () if network is None else network.parameters()
    return next((p.dtype for p in parameters if p.is_floating_point()), None)


def _wants_channels_last(modules: Sequence[nn.Module], device: torch.device) -> bool:
    """Whether convolutions run faster on channels-last images.

    On a CPU, a channels-last input alone was measured 1.3 (float32) to 2 times (bfloat16) as fast,
    whatever the layout of the weights. On other devices the layout of the weights decides.
    """
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    if device.type == "cpu":
        return bool(convolutions)
    # Look at the parameters, because .weight may be computed anew, as spectral_norm does.
    kernels = (p for module in convolutions for p in module.parameters() if p.dim() == 4)
    return any(
        kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
        for kernel in kernels
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    signs = ("can't allocate memory", "not enough memory", "ALLOC_FAILED", "out of memory")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
