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
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchlime import metrics, plot
from torchlime._atomic import whole_file
from torchlime._checks import check_count, check_images, check_object, check_targets, device_of
from torchlime._networks import networks_of
from torchlime.black_box import Model
from torchlime.explanation import Explanation, label_map_of
from torchlime.lime import Lime

Write = Callable[[int, Tensor, dict[str, float]], object]  # step, picture, numbers

_COLUMNS = 8  # pictures in a row
_LEAST_HEIGHT = 112  # pixels of a picture: smaller images are enlarged by a whole factor


class ExplanationLogger:
    """Explains the same images every so often, and hands pictures and numbers to a sink.

    The explanations change nothing: not the weights, modes, buffers, gradients nor any random
    state. One seed and one set of images, so that pictures of different steps compare.

    Convention:
        A picture holds the overlay of every image and target, eight in a row; images of less than
        112 pixels height are enlarged, and those of other than 1, 3 or 4 channels shown as the
        mean of their channels. Numbers are ``unwell`` (share of images whose explanation has
        ``problems``) and, over the other images and their targets, the means of ``score`` (the
        model on the unmasked image), ``fidelity`` (weighted R² of the surrogate) and, with
        ``objects``, ``inside`` (share of the positive evidence on the object); NaN where no image
        is left.

        Under ``torch.distributed`` rank 0 alone explains and writes. A model sharded by FSDP needs
        all its ranks in every forward pass: call ``step`` on each; all explain, rank 0 writes.

    Args:
        explainer: the settings, its seed included.
        images: [B,C,H,W] float, as the model takes them. They follow the model to its device.
        targets: as for :meth:`torchlime.Lime.explain`; None = the best class at that step.
        sink: an object with ``add_image`` and ``add_scalar`` (TensorBoard's SummaryWriter), an
            object with ``log`` (a W&B run), a folder (it gets ``00000042.png`` and a line of
            ``numbers.jsonl`` for each step, in place of what it had for that step), or a callable
            (step, picture [3,h,w] uint8, numbers).
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
        >>> explainer = Lime(segmenter=Grid(4, 4), num_samples=64)
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
        if not isinstance(explainer, Lime):
            raise TypeError(f"explainer must be a Lime(...), got {explainer!r}")
        check_images(images)
        check_targets(targets, len(images), images.device, "the images are")
        check_count(every, "every")
        if objects is not None:
            check_object(objects, (len(images), *images.shape[-2:]), "objects")
            objects = objects.clone()
        self.explainer = explainer
        self.images = images.detach().clone()  # the caller may fill their buffer anew
        self.targets = targets.clone() if isinstance(targets, Tensor) else targets
        self.objects = objects
        self.every = every
        self._write = _writer(sink, name)
        self._reported = False

    def step(self, model: Model, step: int) -> Explanation | None:
        """:meth:`log`, if ``every`` divides ``step``; else None."""
        return None if operator.index(step) % self.every else self.log(model, step)

    def log(self, model: Model, step: int) -> Explanation | None:
        """Explain ``model`` and log it as of ``step``; None on a rank that is not needed.

        A sink's error is reported once, as a RuntimeWarning, and stops nothing; an error of the
        explanation itself raises.
        """
        step, rank = operator.index(step), _rank()
        if rank and not _needs_every_rank(model):
            return None
        devices = [device_of(network) for network in networks_of(model)]
        device = next((d for d in devices if d is not None), self.images.device)
        targets = self.targets
        explanation = self.explainer.explain(
            model,
            self.images.to(device),
            targets.to(device) if isinstance(targets, Tensor) else targets,
        )
        if rank == 0:
            picture, numbers = self._picture(explanation), self._numbers(explanation)
            try:
                self._write(step, picture, numbers)
            except Exception as error:
                self._report(error, step)
        return explanation

    def _numbers(self, explanation: Explanation) -> dict[str, float]:
        values = {"score": explanation.scores, "fidelity": explanation.fidelity}
        if self.objects is not None:
            inside = self.objects.to(explanation.coefficients.device)
            values["inside"] = metrics.share_inside(explanation, inside)
        numbers = {name: value[explanation.ok].mean().item() for name, value in values.items()}
        return numbers | {"unwell": (~explanation.ok).double().mean().item()}

    def _picture(self, explanation: Explanation) -> Tensor:
        images = self.images.cpu()
        if images.shape[1] not in (1, 3, 4):  # neither grey, RGB nor RGBA
            images = images.mean(1, keepdim=True)
        factor = math.ceil(_LEAST_HEIGHT / images.shape[2])
        explanation = explanation.to("cpu")
        segments = _enlarged(label_map_of(explanation), factor)
        large = dataclasses.replace(explanation, segments=segments)
        pictures = [
            plot.overlay(large[i], image, target)
            for i, image in enumerate(_enlarged(images, factor))
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
                stacklevel=4,
            )


class _Hook:
    """Logs at every ``every``-th of its calls, the first included.

    A library's epochs and steps, which ``every`` might never divide, are not what it counts.
    """

    def __init__(self, logger: ExplanationLogger):
        super().__init__()
        self.logger = logger
        self.calls = 0

    def _called(self, model: Model, step: int) -> None:
        self.calls += 1
        if (self.calls - 1) % self.logger.every == 0:
            self.logger.log(model, step)


def ignite_handler(logger: ExplanationLogger, model: Model) -> Callable[[Any], None]:
    """A handler of events of PyTorch-Ignite's trainer.

    ``trainer.add_event_handler(Events.EPOCH_COMPLETED, ignite_handler(logger, model))``

    Convention:
        ``every`` counts its calls, from the first; it logs at the trainer's iteration.
    """
    hook = _Hook(logger)
    return lambda engine: hook._called(model, engine.state.iteration)


class _Lightning(_Hook):
    """A Lightning Callback that logs after validation, the sanity check excepted.

    The module is called as it is: its ``forward`` takes images and returns scores.

    Convention:
        ``every`` counts validations, from the first; it logs at the trainer's global step.
    """

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log, if it is time."""
        if not trainer.sanity_checking:
            self._called(pl_module, trainer.global_step)


class _Transformers(_Hook):
    """A transformers TrainerCallback that logs after evaluation.

    Convention:
        ``every`` counts evaluations, from the first; it logs at the trainer's global step.
    """

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log, if it is time."""
        self._called(kwargs["model"], state.global_step)


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
        return partial(_to_folder, Path(sink))
    if hasattr(sink, "add_image") and hasattr(sink, "add_scalar"):
        return partial(_to_summary, sink, name)
    if callable(getattr(sink, "log", None)):
        return partial(_to_run, sink, name)
    if callable(sink):
        return sink
    raise TypeError(
        "sink must be a folder, a callable (step, picture, numbers), or an object with add_image "
        f"and add_scalar or with log, got {type(sink).__name__}"
    )


def _to_folder(path: Path, step: int, picture: Tensor, numbers: dict[str, float]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    plot.save_png(picture, path / f"{step:08}.png")
    file = path / "numbers.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    steps = {json.loads(line)["step"]: line for line in lines}
    finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    steps[step] = json.dumps({"step": step, **finite})
    with whole_file(file) as new:
        new.write("".join(f"{steps[each]}\n" for each in sorted(steps)).encode())


def _to_summary(
    writer: Any, name: str, step: int, picture: Tensor, numbers: dict[str, float]
) -> None:
    writer.add_image(f"{name}/overlay", picture, step)
    for key, value in numbers.items():
        writer.add_scalar(f"{name}/{key}", value, step)


def _to_run(run: Any, name: str, step: int, picture: Tensor, numbers: dict[str, float]) -> None:
    entries = {"overlay": _image(picture), "step": step, **numbers}
    axis: dict[str, int] = {"step": step}
    if hasattr(run, "define_metric"):  # W&B drops what lies before the run's step, ours or others'
        run.define_metric(f"{name}/*", step_metric=f"{name}/step")
        axis = {}
    run.log({f"{name}/{key}": value for key, value in entries.items()}, **axis)


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
    modules = (module for network in networks_of(model) for module in network.modules())
    return any(isinstance(module, sharded) for module in modules)
