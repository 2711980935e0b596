"""LIME of images: image → segments → masks → perturbed images → explanation.

What follows from the perturbed images on is :mod:`torchlime.pipeline`'s. Nothing in it reads a
tensor back to the host.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import (
    check_count,
    check_images,
    check_same_device,
    check_targets,
    is_integer,
)
from torchlime._precision import solve_dtype
from torchlime._undisturbed import undisturbed
from torchlime.explanation import Explanation, Problem, flag
from torchlime.fills import SegmentMean
from torchlime.labelmap import Segments, check_segments, segment_sums, segments_from_labels
from torchlime.masks import Orthogonal
from torchlime.networks import networks_of
from torchlime.perturbed import Perturbed
from torchlime.pipeline import Model as Model
from torchlime.pipeline import Progress as Progress
from torchlime.pipeline import (
    autocast_dtype,
    check_call,
    check_forward_settings,
    check_strategies,
    explained,
    input_dtype,
    predicted,
    recorded,
    unwrapped,
)
from torchlime.predictions import Predictions, Targets, default_chunk_size
from torchlime.segments import Slic
from torchlime.surrogates import Fit, Ridge
from torchlime.weights import Exponential

Fill = Callable[[Tensor, Segments], Tensor]


@dataclass(frozen=True)
class Lime:
    """The settings of an explanation; :meth:`explain` runs it.

    Every strategy is a small frozen dataclass, or any callable with the same signature.

    Args:
        segmenter: images → Segments.
        sampler: segment_count → masks; its first row keeps all.
        num_samples: N, perturbed images per image (the unmasked one included).
        fill: images, segments → what a hidden segment shows; or a tensor that broadcasts
            to the images.
        kernel: masks → proximity weights.
        surrogate: masks, scores, weights → Fit.
        chunk_size: images of one forward pass at most; None = 256 of 224×224 pixels, or on a CPU
            6 or 3 a thread; fewer of larger ones, and on a CPU more of smaller ones.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None leaves the caller's.
        seed: of the masks; an int.

    Example:
        >>> from torchlime.segments import Grid
        >>> explainer = Lime(segmenter=Grid(2, 2), num_samples=16)
        >>> image = torch.linspace(0, 1, 16).view(1, 1, 4, 4)
        >>> explanation = explainer.explain(lambda x: x.mean(dim=(2, 3)), image)
        >>> explanation.coefficients.shape
        torch.Size([1, 1, 4])
    """

    segmenter: Callable[[Tensor], Segments | Tensor] = Slic(num_segments=50)
    sampler: Callable[..., Tensor] = Orthogonal()
    num_samples: int = 512
    fill: Fill | Tensor = SegmentMean()
    kernel: Callable[..., Tensor] = Exponential(width=0.25)
    surrogate: Callable[..., Fit] = Ridge(alpha=1.0)
    chunk_size: int | None = None
    autocast: torch.dtype | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self.num_samples, "num_samples", 2)
        check_forward_settings(self.chunk_size, self.autocast)
        if not is_integer(self.seed):
            raise TypeError(
                f"seed must be an int, got {type(self.seed).__name__}; "
                "seeds for each image go to explain(seed=)"
            )
        check_strategies(
            segmenter=self.segmenter,
            sampler=self.sampler,
            kernel=self.kernel,
            surrogate=self.surrogate,
        )
        if not (callable(self.fill) or isinstance(self.fill, Tensor)):
            raise TypeError(f"fill must be callable or a tensor, got {self.fill!r}")

    def explain(
        self,
        model: Model,
        images: Tensor,
        targets: int | Tensor | None = None,
        *,
        top: int = 1,
        segments: Segments | Tensor | None = None,
        max_segments: int | None = None,
        seed: int | Tensor | None = None,
        differentiable: bool = False,
        keep_samples: bool = False,
        progress: Progress | None = None,
    ) -> Explanation:
        """Explain what ``model`` sees in each of ``images``.

        The model runs in eval mode and without gradients; its modes and the global RNG come back
        as they were (of a function, those of the networks that its code names). Nothing is read
        back to the host, so the call returns before a GPU is done. It forwards B·N rows, whatever
        the number of targets.

        Of a model wrapped by DistributedDataParallel the inner network is called, so one rank may
        explain alone. A model sharded by FSDP needs every rank to make the same call.

        Args:
            model: any callable [n,C,H,W] → [n,classes], or [n] (one target), or an object with such
                ``.logits``. Its outputs are explained as they are.
            images: [B,C,H,W] float, as the model takes them.
            targets: None = the ``top`` best classes of each image, an int for all, or an int64
                tensor [B] or [B,T] on the images' device.
            top: how many classes where ``targets`` is None.
            segments: instead of the segmenter's: a Segments, or a label map [H,W] or [B,H,W] of any
                integers.
            max_segments: the static bound S for a label map. Without it, one on a GPU is read
                back once, before the pipeline.
            seed: instead of the explainer's; an int64 tensor [B] gives each image its own.
            differentiable: let gradients flow from scores, coefficients, intercepts and fidelity to
                the model's parameters; masks and segments are fixed. The model still runs in eval
                mode. Memory stays at one chunk's graph, at the price of a second forward pass
                in backward, so leave the weights as they are until then. Draw new masks every
                training step: ``seed=step``.
            keep_samples: keep masks, sample scores and weights, for :meth:`Explanation.refit`.
            progress: called with (rows forwarded, rows in all) after each chunk; the model is then
                in eval mode, and to be left so.

        Returns:
            Explanation: on the images' device. Problems that only the device knows are in
            ``problems``; ``explanation.check()`` raises them.

        Raises:
            TypeError, ValueError, IndexError: an argument, or the model's output, is of the wrong
                type, shape, device or range.
            torch.OutOfMemoryError: not even a single image fits into a forward pass.
        """
        check_images(images)
        check_targets(targets, images)
        check_call(model, top=top, progress=progress, differentiable=differentiable)
        autocast = autocast_dtype(images.device, self.autocast)
        with undisturbed(images.device):
            images = images.detach()
            settings = self._settings(segments, seed)
            segments = self._segments(images, segments, max_segments)
            masks = self._masks(segments, self.seed if seed is None else seed)
            fill = _filled(self.fill, images, segments)
            predictions = _predict(
                model, images, segments, fill, masks, targets, top=top,
                chunk_size=self.chunk_size, autocast=autocast, differentiable=differentiable,
                progress=progress,
            )  # fmt: skip
            energy = None
            if keep_samples or getattr(self.kernel, "needs_energy", False):
                energy = _energy(images, fill, segments)
            return explained(
                predictions, masks, segments.count,
                kernel=self.kernel, surrogate=self.surrogate, energy=energy,
                differentiable=differentiable, keep_samples=keep_samples,
                problems=_problems(images, segments, masks), settings=settings,
                segments=segments.labels,
            )  # fmt: skip

    def _segments(
        self, images: Tensor, given: Segments | Tensor | None, max_segments: int | None
    ) -> Segments:
        if given is None:
            if max_segments is not None:
                raise ValueError("max_segments goes with segments=; a segmenter has its own bound")
            given = self.segmenter(images)
            max_segments = None
        return _as_segments(given, images, max_segments)

    def _masks(self, segments: Segments, seed: int | Tensor) -> Tensor:
        masks = self.sampler(segments.count, segments.bound, int(self.num_samples), seed=seed)
        return _check_masks(masks, segments)

    def _settings(
        self, segments: Segments | Tensor | None, seed: int | Tensor | None
    ) -> dict[str, Any]:
        changes: dict[str, Any] = {} if seed is None else {"seed": seed}
        if segments is not None:
            changes["segmenter"] = "given by the caller"
        return recorded(vars(self), **changes)


def explain(
    model: Model,
    images: Tensor,
    targets: int | Tensor | None = None,
    *,
    top: int = 1,
    segments: Segments | Tensor | None = None,
    max_segments: int | None = None,
    seed: int | Tensor | None = None,
    differentiable: bool = False,
    keep_samples: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Explanation:
    """``Lime(**settings).explain(model, images, targets, …)`` in one call.

    Example:
        >>> image = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
        >>> from torchlime.fills import Constant
        >>> from torchlime.segments import Grid
        >>> settings = {"segmenter": Grid(2, 2), "fill": Constant(0.0)}
        >>> brightness = explain(lambda x: x.mean(dim=(2, 3)), image, **settings)
        >>> brightness.top(1)[0].tolist()  # the brightest corner
        [[[3]]]
    """
    return Lime(**settings).explain(
        model, images, targets, top=top, segments=segments, max_segments=max_segments, seed=seed,
        differentiable=differentiable, keep_samples=keep_samples, progress=progress,
    )  # fmt: skip


def score_masks(
    model: Model,
    images: Tensor,
    segments: Segments | Tensor,
    fill: Fill | Tensor,
    masks: Tensor,
    targets: Targets = None,
    *,
    top: int = 1,
    max_segments: int | None = None,
    chunk_size: int | None = None,
    autocast: torch.dtype | None = None,
    pad_last: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """The model's scores [B,N,T] of images under given masks.

    Args:
        masks: [B,N,S] or [N,S] (for all images) bool, True = kept.
        targets: as for :meth:`Lime.explain`; None = the ``top`` best classes of each first row;
            "all" = every class in its order.
        pad_last: give the last chunk the shape of the others, so that compiled models do not
            recompile; False where the model must see the true rows only.

    The other arguments, the guarantees and the errors are those of :meth:`Lime.explain`.

    Example:
        >>> from torchlime.fills import Constant
        >>> image, halves = torch.ones(1, 1, 2, 2), torch.tensor([[0, 0], [1, 1]])
        >>> masks = torch.tensor([[True, True], [False, True], [False, False]])
        >>> score_masks(lambda x: x.mean((2, 3)), image, halves, Constant(0.0), masks).tolist()
        [[[1.0], [0.5], [0.0]]]
    """
    check_images(images)
    if not (isinstance(targets, str) and targets == "all"):
        check_targets(targets, images)
    check_call(model, top=top, progress=progress)
    check_forward_settings(chunk_size, autocast)
    autocast = autocast_dtype(images.device, autocast)
    with undisturbed(images.device):
        images = images.detach()
        segments = _as_segments(segments, images, max_segments)
        if isinstance(masks, Tensor) and masks.dim() == 2:
            masks = masks.expand(len(images), -1, -1)
        masks = _check_masks(masks, segments)
        predictions = _predict(
            model, images, segments, _filled(fill, images, segments), masks, targets,
            top=top, chunk_size=chunk_size, autocast=autocast, pad_last=pad_last, progress=progress,
        )  # fmt: skip
        return predictions.scores


def _predict(
    model: Model,
    images: Tensor,
    segments: Segments,
    fill: Tensor,
    masks: Tensor,
    targets: Targets,
    *,
    chunk_size: int | None,
    differentiable: bool = False,
    **settings: Any,
) -> Predictions:
    model = unwrapped(model)
    perturbed = Perturbed(
        images, fill, segments, masks, dtype=input_dtype(model, images),
        channels_last=_wants_channels_last(model, images.device), reuse=not differentiable,
    )  # fmt: skip
    shape = (masks.shape[0], masks.shape[1])
    return predicted(
        model, perturbed, shape, images.device, targets,
        chunk_size=chunk_size or default_chunk_size(images.device, images[0, 0].numel()),
        differentiable=differentiable, **settings,
    )  # fmt: skip


def _wants_channels_last(model: Model, device: torch.device) -> bool:
    """Whether the convolutions behind the model run faster on channels-last images.

    Measured on a CPU: a channels-last input alone is 1.3 (float32) to 2 times (bfloat16) as fast,
    whatever the layout of the weights. Elsewhere the weights' own layout decides.
    """
    modules = (module for network in networks_of(model) for module in network.modules())
    convolutions = [module for module in modules if isinstance(module, torch.nn.Conv2d)]
    if device.type == "cpu":
        return bool(convolutions)
    # The parameters, since .weight may be computed anew, as by spectral_norm.
    kernels = (p for module in convolutions for p in module.parameters() if p.dim() == 4)
    return any(
        kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
        for kernel in kernels
    )


def _as_segments(segments: Segments | Tensor, images: Tensor, max_segments: int | None) -> Segments:
    if isinstance(segments, Segments):
        if max_segments is not None:
            raise ValueError("max_segments goes with a label map; a Segments has its own bound")
        check_segments(segments, images)
        return segments
    if isinstance(segments, Tensor):
        check_same_device(segments, images, "segments")
    height, width = images.shape[2:]
    return segments_from_labels(segments, len(images), (height, width), max_segments)


def _check_masks(masks: Tensor, segments: Segments) -> Tensor:
    expected = f"bool [B,N,S] with B, S = {len(segments.labels)}, {segments.bound} and N > 0"
    if not isinstance(masks, Tensor):
        raise TypeError(f"masks must be {expected}, got {type(masks).__name__}")
    shape = (len(segments.labels), segments.bound)
    if (
        masks.dtype != torch.bool
        or masks.dim() != 3
        or masks.shape[::2] != shape
        or 0 in masks.shape
    ):
        raise ValueError(f"masks must be {expected}, got {masks.dtype} {list(masks.shape)}")
    check_same_device(masks, segments.labels, "masks")
    return masks


def _filled(fill: Fill | Tensor, images: Tensor, segments: Segments) -> Tensor:
    filled = fill if isinstance(fill, Tensor) else fill(images, segments)
    check_same_device(filled, images, "fill")
    try:
        return filled.to(images.dtype).expand_as(images)
    except RuntimeError:
        raise ValueError(
            f"fill must broadcast to the images' {list(images.shape)}, got {list(filled.shape)}"
        ) from None


def _energy(images: Tensor, fill: Tensor, segments: Segments) -> Tensor:
    """[B,S]: Σ over the segment of (x − fill)²."""
    dtype = solve_dtype(images.device)
    squares = (images.to(dtype) - fill.to(dtype)).square().sum(dim=1, keepdim=True)
    return segment_sums(squares, segments)[:, 0]


def _problems(images: Tensor, segments: Segments, masks: Tensor) -> Tensor:
    """What only the device knows of the images: [B] int64."""
    finite = images.isfinite().flatten(1).all(dim=1)
    return (
        flag(~finite, Problem.NON_FINITE_IMAGE)
        | flag(~segments.ok, Problem.SEGMENTS_NOT_CONVERGED)
        | flag(masks[:, 0].sum(dim=1) != segments.count, Problem.FIRST_ROW_MASKED)
    )
