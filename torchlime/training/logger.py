"""The logger explains the same images every so often and hands the results to a sink."""

import dataclasses
import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchlime import metrics, plot
from torchlime._checks import (
    check_count,
    check_images,
    check_object,
    check_targets,
    device_of,
)
from torchlime._inputs import Array, Images, as_images, as_targets, as_vectors
from torchlime._networks import networks_of
from torchlime.black_box import Model
from torchlime.explanation import Explanation, Problem, label_map_of
from torchlime.lime import Lime
from torchlime.rounds import Until
from torchlime.training.sinks import writer
from torchlime.vectors import VectorLime

_COLUMNS = 8  # pictures in a row
_BARS = (360, 240)  # width and height of a vector's bars
_LEAST_HEIGHT = 112  # pixels of a picture: smaller images are enlarged by a whole factor


class ExplanationLogger:
    """Explains the same images every so often, and hands pictures and numbers to a sink.

    The explanations change no weights, modes, buffers, gradients or random states. All steps use
    one seed and one set of images, so that their pictures can be compared.

    Convention:
        A picture holds the overlay of every image and target (for vectors the bars), eight in a
        row. Images that are less than 112 pixels high are enlarged. Images with another number of
        channels than 1, 3 or 4 are shown as the mean of their channels. The number ``unwell`` is
        the share of images whose explanation has ``problems``. The other numbers are means over the
        other images and their targets: ``score`` (the model on the unmasked image), ``fidelity``
        (weighted R² of the surrogate) and, with ``objects``, ``inside`` (share of the positive
        evidence on the object). They are NaN where no image is left, and ``fidelity`` also where
        the surrogate has none. With ``rounds=Until(…)`` there are two more: ``samples``, the mean
        number of samples, and ``unsure``, the number of images that took the most samples and are
        not sure yet. These do not count as unwell.

        Under ``torch.distributed`` only rank 0 explains and writes. A model sharded by FSDP needs
        all its ranks in every forward pass: call ``step`` on each rank. Then all ranks explain, and
        rank 0 writes.

    Args:
        explainer: the settings, their seed included.
        images: [B,C,H,W] float, as the model takes them; with a VectorLime, vectors [B,F] or [B,…].
            They follow the model to its device.
        targets: as for :meth:`torchlime.Lime.explain`; None = the best class at that step.
        sink: an object with ``add_image`` and ``add_scalar`` (TensorBoard's SummaryWriter), an
            object with ``log`` (a W&B run), a folder (for each step it gets ``00000042.png`` and a
            line of ``numbers.jsonl``, which replace those of an earlier run of that step), or a
            callable (step, picture [3,h,w] uint8, numbers).
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
        explainer: Lime | VectorLime,
        images: Images,
        targets: int | Tensor | Array | Sequence[int] | None,
        sink: Any,
        *,
        every: int = 1,
        objects: Tensor | None = None,
        name: str = "explanations",
    ):
        if not isinstance(explainer, Lime | VectorLime):
            raise TypeError(f"explainer must be a Lime(...) or VectorLime(...), got {explainer!r}")
        images = (as_images if isinstance(explainer, Lime) else as_vectors)(images, None)
        if isinstance(explainer, Lime):
            check_images(images)  # its pictures are of photos
        targets = as_targets(targets, images.device)
        check_targets(targets, len(images), images.device, "the images are")
        check_count(every, "every")
        if objects is not None:
            check_object(objects, (len(images), *images.shape[-2:]), "objects")
            objects = objects.clone()
        self.explainer = explainer
        self.images = images.detach().clone()  # the caller may reuse the buffer
        self.targets = targets.clone() if isinstance(targets, Tensor) else targets
        self.objects = objects
        self.every = every
        self._write = writer(sink, name)
        self._reported = False

    def step(self, model: Model, step: int) -> Explanation | None:
        """Call :meth:`log` if ``every`` divides ``step``; else return None."""
        return None if operator.index(step) % self.every else self.log(model, step)

    def log(self, model: Model, step: int) -> Explanation | None:
        """Explain ``model`` and log the result for ``step``; None on a rank that is not needed.

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
        well = (explanation.problems & ~Problem.NOT_SURE) == 0
        numbers = {name: value[well].mean().item() for name, value in values.items()}
        if isinstance(self.explainer.rounds, Until) and explanation.samples_used is not None:
            numbers["samples"] = explanation.samples_used.double().mean().item()
            numbers["unsure"] = (~explanation.sure).sum().item()
        return numbers | {"unwell": (~well).double().mean().item()}

    def _picture(self, explanation: Explanation) -> Tensor:
        if explanation.segments is None:
            return _rows([
                plot.bars(explanation[i], target, size=_BARS)
                for i, targets in enumerate(explanation.targets.tolist())
                for target in targets
            ])  # fmt: skip
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
