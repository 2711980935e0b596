"""perturbed images → scores [B,N,T]: the model over all rows, in chunks of one shape.

Convention:
    Rows run: row 0 of every image first, then image by image. So the unmasked images are scored
    first, their best classes are known on the device, and later chunks keep only those columns.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from torchlime._precision import solve_dtype
from torchlime.networks import Rewind, evaluating, networks_of, random_states

Block = tuple[slice, slice]  # images, samples
Synthesize = Callable[[list[Block], int], Tensor]
Targets = int | Tensor | Literal["all"] | None


class Predictions(NamedTuple):
    """Scores [B,N,T] in the solve's dtype, targets [B,T] int64, in_range [B] bool."""

    scores: Tensor
    targets: Tensor
    in_range: Tensor


def predict(
    model: Callable[[Tensor], Any],
    synthesize: Synthesize,
    shape: tuple[int, int],
    device: torch.device,
    targets: Targets = None,
    *,
    top: int = 1,
    chunk_size: int,
    autocast: torch.dtype | None = None,
    pad_last: bool = True,
    differentiable: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Predictions:
    """Score every row of a batch.

    Args:
        model: [n,C,H,W] → [n,classes], or [n] (one target), or an object with such ``.logits``.
        synthesize: (blocks, rows) → [rows,C,H,W], see :class:`torchlime.perturbed.Perturbed`.
        shape: (B, N).
        device: of the images.
        targets: None = the ``top`` best classes of each image's row 0, an int, an int64
            tensor [B] or [B,T], or "all": every class in its order.
        top: how many classes, where ``targets`` is None.
        chunk_size: rows of a forward pass at most. Evened out to ceil(R / ceil(R / chunk_size)),
            and halved when memory runs out, down to one row.
        autocast: a 16-bit dtype for the forward passes; None switches autocast off.
        pad_last: fill the last chunk up to the shape of the others (no recompilation).
        differentiable: let gradients flow from the scores to the model's parameters. Every chunk is
            checkpointed from its masks on, so the memory stays at one chunk's graph.
        progress: called with (rows done, rows in all) after each chunk; the model is then in eval
            mode, and to be left so.

    Raises:
        IndexError: an int target is not a class of the model.
        TypeError, ValueError: the model's output has another type or shape.
        torch.OutOfMemoryError: not even one row fits.
    """
    batch, samples = shape
    total = batch * samples
    rows = _even(total, chunk_size)
    forward = _Forward(model, synthesize, device, autocast)
    score = forward.checkpointed if differentiable else forward
    collected: _Collected | None = None
    done = 0
    with contextlib.nullcontext() if differentiable else forward.prepared():
        while done < total:
            blocks = list(_blocks(done, min(done + rows, total), batch, samples))
            filled = min(rows, total - done)
            outputs, contiguous = None, forward.contiguous
            with _tolerate_out_of_memory(rows), forward.tolerate_view():
                outputs = score(blocks, rows if pad_last else filled)
            if outputs is None:
                if done == 0:
                    forward.onward()  # a model that draws begins again
                if forward.contiguous == contiguous:
                    _release_memory(device)
                    rows = _even(total - done, rows // 2)
                continue  # the same in NCHW, and as a checkpoint of its own
            if collected is None:
                collected = _Collected(shape, outputs, targets, top)
            collected.add(blocks, outputs)
            done += filled
            if progress is not None:
                progress(done, total)
    assert collected is not None  # B, N >= 1
    return Predictions(collected.scores, collected.targets, collected.in_range)


def default_chunk_size(device: torch.device, pixels: int) -> int:
    """Images of a forward pass, of so many pixels each.

    On a CPU as many pixels as 6 images of 224×224 have, or 3 a thread, in 1 to 64 images: a layer's
    activations should stay in its caches, and below the 32 MiB from which glibc's allocator maps
    every tensor anew. On an accelerator those of 256 such images, in 1 to 256.
    """
    on_cpu = device.type == "cpu"
    rows = max(6, 3 * torch.get_num_threads()) if on_cpu else 256
    return min(max(rows * 224**2 // max(pixels, 1), 1), 64 if on_cpu else 256)


class _Forward:
    """Makes a chunk and passes it through the model: outputs [rows,K].

    A model that draws in eval mode draws on from chunk to chunk.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Any],
        synthesize: Synthesize,
        device: torch.device,
        autocast: torch.dtype | None,
    ):
        self.model = model
        self.networks = networks_of(model)
        self.synthesize = synthesize
        self.device = device
        self.autocast = autocast
        self.onward = random_states(device)
        self.contiguous = False

    def __call__(self, blocks: list[Block], rows: int) -> Tensor:
        chunk = self.synthesize(blocks, rows)
        if self.contiguous:  # in its strides, too, where there is a single channel
            chunk = chunk.contiguous().view(-1).view(chunk.shape)
        return _as_matrix(self.model(chunk), chunk)

    def checkpointed(self, blocks: list[Block], rows: int) -> Tensor:
        """The same, made again in a backward pass.

        Then everything around the chunk is over: it is prepared by itself, with random states that
        go on where those of the chunk before stopped.
        """

        def alone(rewind: Rewind) -> Tensor:
            with self.prepared():
                rewind()
                outputs = self(blocks, rows)
                self.onward = random_states(self.device)
                return outputs

        return checkpoint(alone, self.onward, use_reentrant=False, preserve_rng_state=False)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Eval mode and autocast inside, once for many chunks: each keeps its weights' casts."""
        with evaluating(self.networks, self.device), self._autocast():
            yield

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.autocast)

    @contextlib.contextmanager
    def tolerate_view(self) -> Iterator[None]:
        """A model that calls .view on its features cannot take channels_last: next time NCHW."""
        try:
            yield
        except RuntimeError as error:
            if self.contiguous or "view size is not compatible" not in str(error):
                raise
            self.contiguous = True


def _as_matrix(outputs: Any, chunk: Tensor) -> Tensor:
    outputs = getattr(outputs, "logits", outputs)
    expected = f"a float tensor [{chunk.shape[0]},classes] or [{chunk.shape[0]}]"
    given = f"for a chunk of shape {list(chunk.shape)}"
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"the model must return {expected} {given}, got {type(outputs).__name__}; "
            "wrap it in a function that picks the scores"
        )
    if not outputs.is_floating_point():
        raise TypeError(f"the model must return {expected} {given}, got {outputs.dtype}")
    if outputs.dim() not in (1, 2) or outputs.shape[0] != chunk.shape[0] or 0 in outputs.shape:
        raise ValueError(f"the model must return {expected} {given}, got {list(outputs.shape)}")
    if outputs.device != chunk.device:
        raise ValueError(f"the model returned a tensor on {outputs.device} {given}, {chunk.device}")
    return outputs[:, None] if outputs.dim() == 1 else outputs


class _Collected:
    """Collects the chosen columns of every chunk's outputs."""

    def __init__(self, shape: tuple[int, int], outputs: Tensor, targets: Targets, top: int):
        classes = outputs.shape[1]
        self.top = 0 if targets is not None else top
        self.targets = _resolve_targets(targets, top, classes, shape[0], outputs.device)
        self.columns = self.targets.clamp(0, classes - 1)
        self.in_range = (self.columns == self.targets).all(dim=1)
        dtype = solve_dtype(outputs.device)
        self.scores = outputs.new_empty(*shape, self.targets.shape[1], dtype=dtype)

    def add(self, blocks: list[Block], outputs: Tensor) -> None:
        start = 0
        for images, samples in blocks:
            size = (images.stop - images.start, samples.stop - samples.start)
            rows = outputs[start : start + size[0] * size[1]].unflatten(0, size)
            start += size[0] * size[1]
            if self.top and samples.start == 0:
                best = rows[:, 0].sort(dim=1, descending=True, stable=True).indices
                self.targets[images] = self.columns[images] = best[:, : self.top]
            columns = self.columns[images, None].expand(-1, size[1], -1)
            self.scores[images, samples] = rows.gather(2, columns)


def _resolve_targets(
    targets: Targets, top: int, classes: int, batch: int, device: torch.device
) -> Tensor:
    """Targets [B,T]; zeros where they are yet to be found."""
    if targets is None:
        if top > classes:
            raise ValueError(f"top={top}, but the model has {classes} outputs")
        return torch.zeros(batch, top, dtype=torch.int64, device=device)
    if isinstance(targets, Tensor):
        return targets.reshape(batch, -1).long().clone()
    if isinstance(targets, str):
        return torch.arange(classes, device=device).repeat(batch, 1)
    if not 0 <= targets < classes:
        raise IndexError(f"targets={targets}, but the model has {classes} outputs")
    return torch.full((batch, 1), int(targets), dtype=torch.int64, device=device)


def _blocks(start: int, stop: int, batch: int, samples: int) -> Iterator[Block]:
    """The rows ``start`` … ``stop`` of the convention, as rectangles of [B,N]."""
    if start < batch:
        yield slice(start, min(stop, batch)), slice(0, 1)
    row = max(start, batch)
    while row < stop:
        image, sample = divmod(row - batch, samples - 1)
        end = min(sample + stop - row, samples - 1)
        yield slice(image, image + 1), slice(sample + 1, end + 1)
        row += end - sample


def _even(total: int, most: int) -> int:
    """Rows of a chunk such that ``total`` rows fill the fewest chunks of at most ``most``."""
    return math.ceil(total / math.ceil(total / most))


@contextlib.contextmanager
def _tolerate_out_of_memory(rows: int) -> Iterator[None]:
    """Swallow an out-of-memory error of several rows; make a clear one of a single row's."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        if rows == 1:
            raise torch.OutOfMemoryError(
                "out of memory with a single image in the forward pass; free memory on the device, "
                "use smaller images, a smaller model or autocast=torch.bfloat16"
            ) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    signs = ("can't allocate memory", "not enough memory", "ALLOC_FAILED", "out of memory")
    return any(sign in str(error) for sign in signs)


def _release_memory(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
