"""Explanations from inside a training loop, which they leave as it was.

:class:`ExplanationLogger` is free of any framework. ``LightningCallback``, ``TransformersCallback``
and :func:`ignite_handler` call it at the right moment; each needs its library only when it is used.
"""

import dataclasses
import importlib
import json
import math
import operator
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchlime import metrics, plot
from torchlime.checks import check_count, check_images, check_targets, device_of
from torchlime.explanation import Explanation
from torchlime.lime import Lime, Model
from torchlime.predictions import module_of

Write = Callable[[int, Tensor, dict[str, float]], object]  # step, picture, numbers

_COLUMNS = 8  # pictures in a row
_LEAST_HEIGHT = 112  # pixels of a picture: smaller images are enlarged by a whole factor


class ExplanationLogger:
    """Explains the same images every so often, and hands pictures and numbers to a sink.

    The explanations change nothing: not the weights, modes, buffers, gradients nor any random
    state. One seed and one set of images, so that pictures of different steps compare.

    Convention:
        A picture holds the overlay of every image and target, eight in a row; images of less than
        112 pixels height are enlarged. Numbers are means over images and targets:
        ``score`` (the model on the unmasked image), ``fidelity`` (weighted R² of the surrogate),
        ``inside`` (share of the positive evidence on the object, with ``objects``) and ``unwell``
        (share of images whose explanation has ``problems``).

        Under ``torch.distributed`` rank 0 alone explains and writes. A model sharded by FSDP needs
        all its ranks in every forward pass: call ``step`` on each; all explain, rank 0 writes.

    Args:
        explainer: the settings, its seed included.
        images: [B,C,H,W] float, as the model takes them. They follow the model to its device.
        targets: as for :meth:`torchlime.Lime.explain`; None = the best class at that step.
        sink: an object with ``add_image`` and ``add_scalar`` (TensorBoard's SummaryWriter), an
            object with ``log`` (a W&B run), a folder (it gets ``00000042.png`` and a line of
            ``numbers.jsonl`` for each step), or a callable (step, picture [3,h,w] uint8, numbers).
        every: explain at steps that this number divides.
        objects: the pixels of the object in each image, [B,H,W] or [H,W] bool, for ``inside``.
        name: what the entries are called in TensorBoard and W&B.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape, device or range.

    Example:
        >>> from torchlime.segments import Grid
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
        >>> def sink(step, picture, numbers):
        ...     print(step, list(picture.shape), sorted(numbers))
        >>> images, labels = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
        >>> explainer = Lime(Grid(4, 4), num_samples=64)
        >>> logger = ExplanationLogger(explainer, images, labels, sink, every=100)
        >>> for step in range(101):
        ...     explanation = logger.step(net, step)
        0 [3, 112, 232] ['fidelity', 'score', 'unwell']
        100 [3, 112, 232] ['fidelity', 'score', 'unwell']
    """

    def __init__(
        self,
        explainer: Lime,
        images: Tensor,
        targets: int | Tensor | None,
        sink: Any,
        *,
        every: int = 1,
        objects: Tensor | None = None,
        name: str = "explanations",
    ):
        check_images(images)
        check_targets(targets, images)
        check_count(every, "every")
        size = images.shape[-2:]
        if objects is not None and (
            objects.dtype != torch.bool or objects.shape not in (size, (len(images), *size))
        ):
            raise ValueError(
                f"objects must be bool [B,H,W] or [H,W] with B, H, W = {[len(images), *size]}, "
                f"got {objects.dtype} {list(objects.shape)}"
            )
        self.explainer = explainer
        self.images = images.detach().clone()  # the caller may fill their buffer anew
        self.targets = targets.clone() if isinstance(targets, Tensor) else targets
        self.objects = objects
        self.every = every
        self._write = _writer(sink, name)
        self._reported = False

    def step(self, model: Model, step: int) -> Explanation | None:
        """Explain ``model`` and log it, if ``every`` divides ``step``; else None.

        A sink's error is reported once, as a RuntimeWarning, and stops nothing; an error of the
        explanation itself raises.
        """
        step, rank = operator.index(step), _rank()
        if step % self.every or (rank and not _needs_every_rank(model)):
            return None
        device = device_of(module_of(model)) or self.images.device
        targets = self.targets
        explanation = self.explainer.explain(
            model,
            self.images.to(device),
            targets.to(device) if isinstance(targets, Tensor) else targets,
        )
        if rank == 0:
            try:
                self._write(step, self._picture(explanation), self._numbers(explanation))
            except Exception as error:
                self._report(error, step)
        return explanation

    def _numbers(self, explanation: Explanation) -> dict[str, float]:
        numbers = {
            "score": explanation.scores,
            "fidelity": explanation.fidelity,
            "unwell": (~explanation.ok).double(),
        }
        if self.objects is not None:
            inside = self.objects.to(explanation.segments.device)
            numbers["inside"] = metrics.share_inside(explanation, inside)
        return {name: values.mean().item() for name, values in numbers.items()}

    def _picture(self, explanation: Explanation) -> Tensor:
        factor = math.ceil(_LEAST_HEIGHT / self.images.shape[2])
        large = dataclasses.replace(explanation, segments=_enlarged(explanation.segments, factor))
        images = _enlarged(self.images, factor)
        pictures = [
            plot.overlay(large[i], image, target)
            for i, image in enumerate(images)
            for target in explanation.targets[i].tolist()
        ]
        return _rows(pictures)

    def _report(self, error: Exception, step: int) -> None:
        if not self._reported:
            self._reported = True
            warnings.warn(
                f"the explanation of step {step} could not be logged ({type(error).__name__}: "
                f"{error}); training goes on, and later errors of this sink are not reported",
                RuntimeWarning,
                stacklevel=3,
            )


def ignite_handler(logger: ExplanationLogger, model: Model) -> Callable[[Any], None]:
    """A handler of PyTorch-Ignite's events; ``every`` counts epochs.

    ``trainer.add_event_handler(Events.EPOCH_COMPLETED, ignite_handler(logger, model))``
    """

    def explain(engine: Any) -> None:
        logger.step(model, engine.state.epoch)

    return explain


class _Callback:
    def __init__(self, logger: ExplanationLogger):
        super().__init__()
        self.logger = logger


class _Lightning(_Callback):
    """A Lightning Callback that logs after validation; ``every`` counts epochs.

    The sanity check before the fit is skipped. The module is called as it is: its ``forward``
    takes images and returns scores.
    """

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log, at the trainer's epoch."""
        if not trainer.sanity_checking:
            self.logger.step(pl_module, trainer.current_epoch)


class _Transformers(_Callback):
    """A transformers TrainerCallback that logs after evaluation; ``every`` counts global steps."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log, at the trainer's global step."""
        self.logger.step(kwargs["model"], state.global_step)


_ADAPTERS: dict[str, tuple[type, str, str]] = {
    "LightningCallback": (_Lightning, "lightning.pytorch", "Callback"),
    "TransformersCallback": (_Transformers, "transformers", "TrainerCallback"),
}


def __getattr__(name: str) -> Any:
    """Make an adapter's class when it is first asked for: that imports its library."""
    if name not in _ADAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    adapter, module, base = _ADAPTERS[name]
    try:
        library = importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{name} needs {package}: pip install {package}") from error
    bases = (adapter, getattr(library, base))
    made = type(name, bases, {"__module__": __name__, "__doc__": adapter.__doc__})
    globals()[name] = made  # once, so that instances pickle
    return made


def _writer(sink: Any, name: str) -> Write:
    """What to call with (step, picture, numbers)."""
    if isinstance(sink, str | os.PathLike):
        return _folder(Path(sink))
    if hasattr(sink, "add_image") and hasattr(sink, "add_scalar"):

        def write(step: int, picture: Tensor, numbers: dict[str, float]) -> None:
            sink.add_image(f"{name}/overlay", picture, step)
            for key, value in numbers.items():
                sink.add_scalar(f"{name}/{key}", value, step)

        return write
    if callable(getattr(sink, "log", None)):

        def log(step: int, picture: Tensor, numbers: dict[str, float]) -> None:
            entries = {f"{name}/{key}": value for key, value in numbers.items()}
            sink.log({f"{name}/overlay": _image(picture), **entries}, step=step)

        return log
    if callable(sink):
        return sink
    raise TypeError(
        "sink must be a folder, a callable (step, picture, numbers), or an object with add_image "
        f"and add_scalar or with log, got {type(sink).__name__}"
    )


def _folder(path: Path) -> Write:
    def write(step: int, picture: Tensor, numbers: dict[str, float]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        plot.save_png(picture, path / f"{step:08}.png")
        with (path / "numbers.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")

    return write


def _image(picture: Tensor) -> Any:
    """A PIL image, in W&B's wrapper where that library is at work."""
    from torchvision.transforms.functional import to_pil_image

    image = to_pil_image(picture)
    wandb = sys.modules.get("wandb")
    return wandb.Image(image) if wandb is not None else image


def _enlarged(pixels: Tensor, factor: int) -> Tensor:
    """Every pixel of […,H,W] as a square of ``factor`` by ``factor``."""
    return pixels.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def _rows(pictures: list[Tensor], gap: int = 8) -> Tensor:
    """Pictures of one size in rows, on white."""
    _, height, width = pictures[0].shape
    columns = min(_COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    shape = (3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    canvas = pictures[0].new_full(shape, 255)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[:, top : top + height, left : left + width] = picture
    return canvas


def _rank() -> int:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return 0


def _needs_every_rank(model: object) -> bool:
    """Whether FSDP, of either version, shards a part of the model."""
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    sharded = (FSDPModule, FullyShardedDataParallel)
    return isinstance(model, torch.nn.Module) and any(
        isinstance(module, sharded) for module in model.modules()
    )
