"""LIME of images: the settings, and one call."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Never, TypedDict, Unpack

import torch
from torch import Tensor

from torchlime._checks import check_callables, check_count, check_made, is_integer
from torchlime._inputs import Array, Extra, Inputs, as_inputs
from torchlime._labelmap import Segments, warn_of_one_segment
from torchlime._resuming import check_settings, made_by
from torchlime._settings import Settings, check_keywords
from torchlime._several import is_several, leaves_of
from torchlime._taking import check_rounds_setting
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model, Progress
from torchlime.capture import Captured, refuse_others, static_features
from torchlime.explanation import Explanation
from torchlime.features import Entries, Pixels
from torchlime.features.given import features_of, segmented_features
from torchlime.fills import SegmentMean
from torchlime.local import Samples, local_fit, local_samples
from torchlime.masks import Orthogonal
from torchlime.rounds import Once
from torchlime.segments import Slic
from torchlime.strategies import Fill, Kernel, Rounds, Sampler, Segmenter, Surrogate
from torchlime.surrogates import Ridge
from torchlime.targets import Targets, scores_for, words_of_scores
from torchlime.weights import Exponential

AnyFill = Fill | Tensor | tuple[Fill | Tensor | None, ...] | Mapping[str, Fill | Tensor | None]
OneMap = Segments | Tensor | Array
AnyMap = OneMap | tuple[OneMap | None, ...] | Mapping[str, OneMap | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lime(Settings):
    """The settings of an explanation of images; :meth:`explain` runs it.

    Every strategy is a small frozen dataclass, or any callable with the same signature:
    :mod:`torchlime.strategies` has them all.

    Args:
        segmenter: images → Segments.
        sampler: count → masks.
        num_samples: N, masks for each image. The model gets N rows for each image; with samplers
            that have the image ``beside`` the design, such as Orthogonal, it gets N + 1.
        fill: images, segments → what a hidden segment shows; or a tensor that broadcasts to the
            images. For several inputs: one fill for all, or a tuple or dict of fills.
        kernel: masks → proximity weights.
        surrogate: masks, scores, weights → Fit.
        rounds: ``Once()``, or ``Until(error=0.25)``: see :mod:`torchlime.rounds`.
        chunk_size: the largest number of images of one forward pass. None = 256 images of 224×224
            pixels; on a CPU 6 images, or 3 per thread if that is more. For larger images it is
            fewer, and on a CPU it is more for smaller ones.
        exact_chunks: give every forward pass exactly ``chunk_size`` rows, for engines of a fixed
            batch, such as TensorRT, ONNX and exported programs. With an image beside the design, N
            = k·chunk_size − 1 samples of one image fill exactly k passes.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None keeps the caller's
            setting.
        seed: the seed of the masks; an int.

    Raises:
        TypeError, ValueError: a setting is unknown, of the wrong type or out of range.

    Example:
        >>> from torchlime.segments import Grid
        >>> explainer = Lime(segmenter=Grid(2, 2), num_samples=16)
        >>> image = torch.linspace(0, 1, 16).view(1, 1, 4, 4)
        >>> explanation = explainer.explain(lambda x: x.mean(dim=(2, 3)), image)
        >>> explanation.coefficients.shape
        torch.Size([1, 1, 4])
    """

    segmenter: Segmenter = Slic(num_segments=50)
    sampler: Sampler = Orthogonal()
    num_samples: int = 512
    fill: AnyFill = SegmentMean()
    kernel: Kernel = Exponential(width=0.25)
    surrogate: Surrogate = Ridge(alpha=1.0)
    rounds: Rounds = Once()
    chunk_size: int | None = None
    exact_chunks: bool = False
    autocast: torch.dtype | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(self.num_samples, "num_samples", 2)
        Forward.of(self)
        if not is_integer(self.seed):
            raise TypeError(
                f"seed must be an int, got {type(self.seed).__name__}; "
                "seeds for each image go to explain(seed=)"
            )
        check_rounds_setting(self.rounds, self.surrogate, self.sampler)
        check_callables(
            segmenter=self.segmenter,
            sampler=self.sampler,
            kernel=self.kernel,
            surrogate=self.surrogate,
        )
        for fill in leaves_of(self.fill):
            check_made(fill, "fill")
            passed_on = fill is None and is_several(self.fill)
            if not (callable(fill) or isinstance(fill, Tensor) or passed_on):
                raise TypeError(f"fill must be callable or a tensor, got {fill!r}")

    def explain(
        self,
        model: Model,
        images: Inputs,
        targets: Targets = None,
        *,
        top: int = 1,
        segments: AnyMap | None = None,
        max_segments: int | None = None,
        extra: Extra = None,
        seed: int | Tensor | None = None,
        differentiable: bool = False,
        keep_samples: bool = False,
        resume: Explanation | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        """Explain what ``model`` sees in each of ``images``.

        The model runs in eval mode and without gradients. Afterwards its modes and the global
        random states are as before. (If the model is a function, this holds for the networks that
        its code names.) Nothing is read back to the host, so the call returns before a GPU has
        finished. The model gets B·N rows, or B·(N + 1), for any number of targets.

        If DistributedDataParallel wraps the model, the inner network is called, so one rank may
        explain alone. A model sharded by FSDP needs every rank to make the same call.

        Args:
            model: any callable [n,C,H,W] → [n,classes], or [n] (one target), or an object with such
                ``.logits``. Its outputs are explained as they are.
            images: [B,C,H,W] float, as the model takes them; or numpy arrays [B,H,W,C], PIL images
                or a list of these, whose bytes become floats in [0,1]. A tensor may be of any rank:
                series [B,C,L], volumes or videos [B,C,D,H,W], vectors [B,F], or integer ids [B,L].
                A tuple of inputs is called ``model(a, b)``, a dict ``model(**inputs)``.
            targets: None = the ``top`` best classes of each image; an int = one class for all
                images; an int64 tensor [B] or [B,T] on the images' device, or a list; a function
                ``(outputs, rows) → [n,T]``, where rows [n] holds the number of each row's image; or
                an object as :mod:`torchlime.targets` describes.
            top: how many classes where ``targets`` is None.
            segments: used instead of the segmenter's: a Segments, or a label map of any integers.
                For inputs of rank r, a map of rank r − 2, such as [H,W], is for all inputs; with
                rank r − 1 each input has a map; with rank r, [B or 1,C or 1,H,W], each channel has
                a map. For vectors it is [F] or [B or 1,F]. An axis of size 1 stands for all of its
                entries. Pixels with the id −1 are always shown, and are not a segment. For several
                inputs it is a tuple or dict of maps; an id in two inputs is one segment, and an
                input whose map is None is only passed on. Without ``segments``, the segmenter
                segments each input. Floats in [0,1] are soft masks [S,H,W] or [B or 1,S,H,W], which
                may overlap, as :class:`torchlime.segments.SoftSegments` says.
            max_segments: the static bound S for a label map. Without it, the count of a label map
                on a GPU is read back once, before the pipeline.
            extra: inputs that are only passed on: a tensor [B,…] or a tuple of tensors, which come
                after ``images``, or a dict, which is passed by name. Every row gets the values of
                its own image. Floats get the dtype of the model, as the images do.
            seed: used instead of the explainer's seed; an int64 tensor [B] gives each image its own
                seed.
            differentiable: let gradients flow from scores, coefficients, intercepts and fidelity to
                the model's parameters; masks and segments are fixed. The model still runs in eval
                mode. Memory stays at one chunk's graph. Backward runs a second forward pass, so
                leave the weights as they are until then. Draw new masks in every training step:
                ``seed=step``.
            keep_samples: keep masks, sample scores and weights, for :meth:`Explanation.refit`.
            resume: an explanation of the same images that kept its samples. This call adds
                ``num_samples`` rows to them, or as many as ``rounds`` asks for. The numbers are
                those of one longer call. So everything that changes a sample must be the same:
                sampler, seed, segments, fill, autocast. Kernel and surrogate may differ. It is an
                error with ``differentiable``, and where a longer design has another beginning, as
                for Orthogonal with less than 3/4 of a block. The unmasked images are scored again,
                and a warning says if their scores have changed. If the model draws random numbers,
                it draws those of the earlier call again, unless you set another random seed before.
                The earlier masks are read on the host.
            progress: called with (rows forwarded, rows in all) after each chunk. The model is in
                eval mode then, and the function must leave it so.

        Returns:
            Explanation: on the images' device. Problems that only the device knows are in
            ``problems``; ``explanation.check()`` raises them.

        Raises:
            TypeError, ValueError, IndexError: an argument, or the model's output, is of the wrong
                type, shape, device or range.
            torch.OutOfMemoryError: not even a single image fits into a forward pass.
        """
        check_settings(resume, self)
        forward = Forward.of(self, differentiable=differentiable, progress=progress)
        inputs = as_inputs(images, model)
        features = self._features(inputs, segments, max_segments, extra)
        scores = scores_for(inputs, targets, top)
        seed = self.seed if seed is None else seed
        explanation = local_fit(
            model, features, scores, sampler=self.sampler,
            num_samples=int(self.num_samples), kernel=self.kernel, surrogate=self.surrogate,
            forward=forward, seed=seed, keep_samples=keep_samples, rounds=self.rounds,
            resume=resume,
        )  # fmt: skip
        words: dict[str, Any] = words_of_scores(scores)
        if segments is not None:
            words["segmenter"] = "given by the caller"
        return made_by(explanation, self, seed, resume, **words)

    def capture(
        self,
        model: Model,
        images: Tensor | tuple[Tensor, ...] | Mapping[str, Tensor],
        targets: Targets = None,
        *,
        top: int = 1,
        keep_samples: bool = False,
        model_too: bool = False,
        **others: Never,
    ) -> Captured:
        """:meth:`explain` for images of one shape; on a GPU, all except the model is CUDA graphs.

        The result is a function: ``fast(images, seed=…)`` explains other images of the same shape,
        on the same device. Its numbers are those of ``explain`` with a tensor of seeds; ``seed``
        may be an int.

        Args:
            model, targets, top, keep_samples: as for :meth:`explain`.
            images: examples, which fix shapes, dtypes and device.
            model_too: capture the forward passes too, where the model allows it. Then a call uses
                the current weights, if they stay where they are, but does not run the model's
                Python code again. If the explainer sets no autocast, the caller's autocast is
                fixed too.

        For your own label maps, let the segmenter return their Segments.

        Raises:
            TypeError, ValueError: this cannot be captured; the message says why.
            RuntimeError: CUDA refused a capture; the message says which part it refused.

        Example:
            >>> from torchlime.segments import Grid
            >>> images = torch.ones(1, 1, 2, 2)
            >>> explainer = Lime(segmenter=Grid(1, 2), num_samples=4)
            >>> fast = explainer.capture(lambda x: x.sum((2, 3)), images)
            >>> fast(images, seed=3).coefficients.shape
            torch.Size([1, 1, 2])
        """
        refuse_others(others)
        for leaf in leaves_of(images):
            if not isinstance(leaf, Tensor):
                raise TypeError(
                    "images must be tensors on the device, where a capture keeps their places, got "
                    f"{type(leaf).__name__}; convert them first"
                )
        inputs = as_inputs(images, model)
        scores = scores_for(inputs, targets, top)
        return Captured(
            model, inputs, partial(static_features, segmenter=self.segmenter, fill=self.fill),
            scores, sampler=self.sampler, num_samples=int(self.num_samples), kernel=self.kernel,
            surrogate=self.surrogate, rounds=self.rounds, forward=Forward.of(self), seed=self.seed,
            keep_samples=keep_samples, model_too=model_too,
            finish=lambda made, seed: made_by(made, self, seed, None, **words_of_scores(scores)),
        )  # fmt: skip

    def samples(
        self,
        model: Model,
        images: Inputs,
        targets: Targets = None,
        *,
        top: int = 1,
        segments: AnyMap | None = None,
        max_segments: int | None = None,
        extra: Extra = None,
        seed: int | Tensor | None = None,
        progress: Progress | None = None,
    ) -> Samples:
        """The samples that :meth:`explain` would fit: masks, scores and weights.

        There are ``num_samples`` of them; ``rounds`` is not used. Arguments, guarantees and errors
        are those of :meth:`explain`.

        Example:
            >>> from torchlime.segments import Grid
            >>> explainer = Lime(segmenter=Grid(1, 2), num_samples=4)
            >>> samples = explainer.samples(lambda x: x.sum((2, 3)), torch.ones(1, 1, 2, 2))
            >>> samples.design.shape, samples.scores.shape, samples.weights.shape
            (torch.Size([1, 4, 2]), torch.Size([1, 4, 1]), torch.Size([1, 4]))
        """
        forward = Forward.of(self, progress=progress)
        inputs = as_inputs(images, model)
        features = self._features(inputs, segments, max_segments, extra)
        return local_samples(
            model, features, scores_for(inputs, targets, top), sampler=self.sampler,
            num_samples=int(self.num_samples), kernel=self.kernel, forward=forward,
            seed=self.seed if seed is None else seed,
        )  # fmt: skip

    def _features(
        self, inputs: Any, given: AnyMap | None, max_segments: int | None, extra: Extra
    ) -> Pixels | Entries:
        with undisturbed(leaves_of(inputs)[0].device):
            if given is not None:
                features = features_of(inputs, given, self.fill, max_segments, extra)
            elif max_segments is not None:
                raise ValueError("max_segments goes with segments=; a segmenter has its bound")
            else:
                features = segmented_features(inputs, self.segmenter, self.fill, extra)
            warn_of_one_segment(features.count, features.bound)
            return features


class LimeSettings(TypedDict, total=False):
    """The fields of :class:`Lime`."""

    segmenter: Segmenter
    sampler: Sampler
    num_samples: int
    fill: AnyFill
    kernel: Kernel
    surrogate: Surrogate
    rounds: Rounds
    chunk_size: int | None
    exact_chunks: bool
    autocast: torch.dtype | None


class ExplainSettings(LimeSettings, total=False):
    """The keywords of :func:`explain`: fields of :class:`Lime`, and those of its ``explain``."""

    top: int
    segments: AnyMap | None
    max_segments: int | None
    extra: Extra
    seed: int | Tensor | None
    differentiable: bool
    keep_samples: bool
    resume: Explanation | None
    progress: Progress | None


def explain(
    model: Model, images: Inputs, targets: Targets = None, **settings: Unpack[ExplainSettings]
) -> Explanation:
    """``Lime(**fields).explain(model, images, targets, …)`` in one call.

    The keywords are the fields of :class:`Lime` and the arguments of :meth:`Lime.explain`.

    Example:
        >>> image = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
        >>> from torchlime.fills import Constant
        >>> from torchlime.segments import Grid
        >>> brightness = explain(
        ...     lambda x: x.mean(dim=(2, 3)), image, segmenter=Grid(2, 2), fill=Constant(0.0))
        >>> brightness.top(1)[0].tolist()  # the brightest corner
        [[[3]]]
    """
    check_keywords(settings, ExplainSettings.__annotations__, "explain()")
    own = {name: value for name, value in settings.items() if name in LimeSettings.__annotations__}
    call = {name: value for name, value in settings.items() if name not in own}
    return Lime(**own).explain(model, images, targets, **call)  # type: ignore[arg-type]
