"""LIME of images: the settings, and one call."""

import dataclasses
from dataclasses import dataclass
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from torchlime._checks import check_callables, check_count, is_integer
from torchlime._inputs import Array, Images, as_images
from torchlime._labelmap import Segments, as_segments, warn_of_one_segment
from torchlime._provenance import in_words
from torchlime._settings import Settings, check_keywords
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model, Progress
from torchlime.explanation import Explanation
from torchlime.features import Pixels
from torchlime.fills import SegmentMean
from torchlime.local import Samples, local_fit, local_samples, local_scores
from torchlime.masks import Orthogonal
from torchlime.segments import Slic
from torchlime.strategies import Fill, Kernel, Sampler, Segmenter, Surrogate
from torchlime.surrogates import Ridge
from torchlime.targets import Targets, scores_of, words_of_scores
from torchlime.weights import Exponential


@dataclass(frozen=True, kw_only=True, eq=False)
class Lime(Settings):
    """The settings of an explanation of images; :meth:`explain` runs it.

    Every strategy is a small frozen dataclass, or any callable with the same signature:
    :mod:`torchlime.strategies` has them all.

    Args:
        segmenter: images → Segments.
        sampler: count → masks; its first row keeps all.
        num_samples: N, perturbed images per image (the unmasked one included).
        fill: images, segments → what a hidden segment shows; or a tensor that broadcasts
            to the images.
        kernel: masks → proximity weights.
        surrogate: masks, scores, weights → Fit.
        chunk_size: the most images of one forward pass. None = 256 images of 224×224 pixels; on a
            CPU 6, or 3 a thread if that is more. It is fewer for larger images, and on a CPU more
            for smaller ones.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None leaves the caller's.
        seed: of the masks; an int.

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
    fill: Fill | Tensor = SegmentMean()
    kernel: Kernel = Exponential(width=0.25)
    surrogate: Surrogate = Ridge(alpha=1.0)
    chunk_size: int | None = None
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
        check_callables(
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
        images: Images,
        targets: Targets = None,
        *,
        top: int = 1,
        segments: Segments | Tensor | Array | None = None,
        max_segments: int | None = None,
        seed: int | Tensor | None = None,
        differentiable: bool = False,
        keep_samples: bool = False,
        progress: Progress | None = None,
    ) -> Explanation:
        """Explain what ``model`` sees in each of ``images``.

        The model runs in eval mode and without gradients. Its modes and the global RNG are
        restored. (If the model is a function, this holds for the networks that its code names.)
        Nothing is read back to the host, so the call returns before a GPU is done. The model gets
        B·N rows, whatever the number of targets.

        If DistributedDataParallel wraps the model, the inner network is called, so one rank may
        explain alone. A model sharded by FSDP needs every rank to make the same call.

        Args:
            model: any callable [n,C,H,W] → [n,classes], or [n] (one target), or an object with such
                ``.logits``. Its outputs are explained as they are.
            images: [B,C,H,W] float, as the model takes them; or numpy arrays [B,H,W,C], PIL images
                or a list of these, whose bytes become floats in [0,1].
            targets: None = the ``top`` best classes of each image; an int for all; an int64 tensor
                [B] or [B,T] on the images' device, or a list; a function ``(outputs, rows) →
                [n,T]``, where rows [n] holds the number of each row's image; or an object as
                :mod:`torchlime.targets` describes.
            top: how many classes where ``targets`` is None.
            segments: used instead of the segmenter's: a Segments, or a label map [H,W] or [B,H,W]
                of any integers.
            max_segments: the static bound S for a label map. Without it, the count of a label map
                on a GPU is read back once, before the pipeline.
            seed: used instead of the explainer's; an int64 tensor [B] gives each image its own.
            differentiable: let gradients flow from scores, coefficients, intercepts and fidelity to
                the model's parameters; masks and segments are fixed. The model still runs in eval
                mode. Memory stays at one chunk's graph. Backward runs a second forward pass, so
                leave the weights as they are until then. Draw new masks in every training step:
                ``seed=step``.
            keep_samples: keep masks, sample scores and weights, for :meth:`Explanation.refit`.
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
        forward = Forward.of(self, differentiable=differentiable, progress=progress)
        images = as_images(images, model)
        scores = scores_of(targets, top, len(images), images.device, size=images.shape[2:])
        seed = self.seed if seed is None else seed
        explanation = local_fit(
            model, self._features(images, segments, max_segments), scores, sampler=self.sampler,
            num_samples=int(self.num_samples), kernel=self.kernel, surrogate=self.surrogate,
            forward=forward, seed=seed, keep_samples=keep_samples,
        )  # fmt: skip
        words = {**vars(self), "seed": seed, **words_of_scores(scores)}
        if segments is not None:
            words["segmenter"] = "given by the caller"
        used = dataclasses.replace(self, seed=int(seed)) if is_integer(seed) else self
        return dataclasses.replace(explanation, settings=in_words(**words), explainer=used)

    def samples(
        self,
        model: Model,
        images: Images,
        targets: Targets = None,
        *,
        top: int = 1,
        segments: Segments | Tensor | Array | None = None,
        max_segments: int | None = None,
        seed: int | Tensor | None = None,
        progress: Progress | None = None,
    ) -> Samples:
        """What :meth:`explain` would fit: masks, scores and weights, without a surrogate.

        Arguments, guarantees and errors are those of :meth:`explain`.

        Example:
            >>> from torchlime.segments import Grid
            >>> explainer = Lime(segmenter=Grid(1, 2), num_samples=4)
            >>> samples = explainer.samples(lambda x: x.sum((2, 3)), torch.ones(1, 1, 2, 2))
            >>> samples.design.shape, samples.scores.shape, samples.weights.shape
            (torch.Size([1, 4, 2]), torch.Size([1, 4, 1]), torch.Size([1, 4]))
        """
        forward = Forward.of(self, progress=progress)
        images = as_images(images, model)
        scores = scores_of(targets, top, len(images), images.device, size=images.shape[2:])
        return local_samples(
            model, self._features(images, segments, max_segments), scores, sampler=self.sampler,
            num_samples=int(self.num_samples), kernel=self.kernel, forward=forward,
            seed=self.seed if seed is None else seed,
        )  # fmt: skip

    def _features(
        self, images: Tensor, given: Segments | Tensor | Array | None, max_segments: int | None
    ) -> Pixels:
        with undisturbed(images.device):
            if given is None:
                if max_segments is not None:
                    raise ValueError("max_segments goes with segments=; a segmenter has its bound")
                given = self.segmenter(images)
            segments = as_segments(given, images, max_segments)
            warn_of_one_segment(segments)
            return Pixels(images, segments, self.fill)


class LimeSettings(TypedDict, total=False):
    """The fields of :class:`Lime`."""

    segmenter: Segmenter
    sampler: Sampler
    num_samples: int
    fill: Fill | Tensor
    kernel: Kernel
    surrogate: Surrogate
    chunk_size: int | None
    autocast: torch.dtype | None


class ExplainSettings(LimeSettings, total=False):
    """The keywords of :func:`explain`: fields of :class:`Lime`, and those of its ``explain``."""

    top: int
    segments: Segments | Tensor | Array | None
    max_segments: int | None
    seed: int | Tensor | None
    differentiable: bool
    keep_samples: bool
    progress: Progress | None


def explain(
    model: Model, images: Images, targets: Targets = None, **settings: Unpack[ExplainSettings]
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


def score_masks(
    model: Model,
    images: Images,
    segments: Segments | Tensor | Array,
    fill: Fill | Tensor,
    masks: Tensor,
    targets: Targets = None,
    *,
    top: int = 1,
    max_segments: int | None = None,
    forward: Forward = Forward(),
) -> Tensor:
    """The model's scores [B,N,T] of images under given masks.

    Args:
        masks: [B,N,S] or [N,S] (for all images) bool, True = kept.
        targets: as for :meth:`Lime.explain`; None = the ``top`` best classes of the image's first
            row; "all" = every class in its order.
        forward: how rows pass through the model.

    The other arguments, the guarantees and the errors are those of :meth:`Lime.explain`.

    Example:
        >>> from torchlime.fills import Constant
        >>> image, halves = torch.ones(1, 1, 2, 2), torch.tensor([[0, 0], [1, 1]])
        >>> masks = torch.tensor([[True, True], [False, True], [False, False]])
        >>> score_masks(lambda x: x.mean((2, 3)), image, halves, Constant(0.0), masks).tolist()
        [[[1.0], [0.5], [0.0]]]
    """
    images = as_images(images, model)
    scores = scores_of(targets, top, len(images), images.device, size=images.shape[2:])
    with undisturbed(images.device):
        features = Pixels(images, as_segments(segments, images, max_segments), fill)
    if isinstance(masks, Tensor) and masks.dim() == 2:
        masks = masks.expand(len(images), -1, -1)
    return local_scores(model, features, scores, masks, forward)
