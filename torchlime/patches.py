"""LIME of vision transformers: hidden patches are left out, not painted over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from torchlime._checks import check_callables, check_count, check_images, is_integer
from torchlime._inputs import Array, Images, as_images, as_label_map
from torchlime._labelmap import Segments, as_segments, warn_of_one_segment
from torchlime._resuming import check_settings, made_by
from torchlime._settings import Settings, check_keywords
from torchlime._taking import check_rounds_setting
from torchlime._undisturbed import undisturbed
from torchlime.black_box import BlackBox, Forward, Model, Progress
from torchlime.explanation import Explanation
from torchlime.features import Tokens
from torchlime.features._vits import vit_of
from torchlime.features.tokens import Kept, as_groups, pooled
from torchlime.local import Samples, local_fit, local_samples, local_scores
from torchlime.masks import Sizes
from torchlime.rounds import Once
from torchlime.segments import Grid
from torchlime.strategies import Kernel, Rounds, Sampler, Segmenter, Surrogate
from torchlime.surrogates import Ridge
from torchlime.targets import Targets, scores_of, words_of_scores
from torchlime.weights import Exponential


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchLime(Settings):
    """The settings of an explanation of a vision transformer; :meth:`explain` runs it.

    A vision transformer takes any number of tokens, so a hidden patch needs no fill: its token is
    removed after the embedding. The model never sees a painted image, for which it was not trained.
    A row that hides half of the patches costs about half. (The model was not trained on few tokens
    either, except with patch dropout.)

    These networks are found anywhere in the model, without a change to it: torchvision's
    VisionTransformer; timm's VisionTransformer (ViT, DeiT, CLIP, SigLIP, DINOv2) and Eva (EVA-02,
    rope ViT, DINOv3); transformers' ViT, DeiT, DINOv2 with or without registers, DINOv3, CLIP and
    SigLIP. For other plain transformers, ``at`` and ``prefix`` say where the tokens are.

    Sources: Jain et al. 2022, *Missingness bias in model debugging*; Covert, Kim & Lee 2023.

    Args:
        segmenter: images [B,C,rows,columns] with one pixel for each patch, its mean colour → groups
            of patches; None = every patch is a segment.
        sampler: count → masks. With :class:`torchlime.masks.Sizes` the host knows how many patches
            a row keeps, so nothing is read back; for other samplers see
            :class:`torchlime.features.Tokens`.
        num_samples: N, rows of the design for each image; the model gets one more row if the
            sampler has the image beside the design.
        at: the name of the first module of the model that is given the tokens [n,prefix+P,D], with
            their positions added, such as "blocks.0"; None = the network is one of the above.
        prefix: with ``at``, how many tokens come before the patches.
        kernel: masks → proximity weights.
        surrogate: masks, scores, weights → Fit.
        rounds: ``Once()``, or ``Until(error=0.25)``: see :mod:`torchlime.rounds`.
        chunk_size: the most rows of one forward pass; None = as for :class:`torchlime.Lime`.
        exact_chunks: give every forward pass exactly ``chunk_size`` rows, for engines of a fixed
            batch.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None keeps the caller's
            setting.
        seed: the seed of the masks; an int.

    Raises:
        TypeError, ValueError: a setting is unknown, of the wrong type or out of range.

    Example:
        >>> import torch, torchvision
        >>> vit = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3)
        >>> explanation = PatchLime(num_samples=100).explain(vit, torch.rand(1, 3, 32, 32))
        >>> explanation.coefficients.shape, explanation.heatmap().shape
        (torch.Size([1, 1, 16]), torch.Size([1, 1, 32, 32]))
    """

    segmenter: Segmenter | None = None
    sampler: Sampler = Sizes((1 / 3, 1 / 2))
    num_samples: int = 1000
    at: str | None = None
    prefix: int | None = None
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
        strategies: dict[str, Any] = {"sampler": self.sampler, "kernel": self.kernel}
        if self.segmenter is not None:
            strategies["segmenter"] = self.segmenter
        check_rounds_setting(self.rounds, self.surrogate, self.sampler)
        check_callables(**strategies, surrogate=self.surrogate)

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
        resume: Explanation | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        """Explain what ``model`` sees in each of ``images``.

        The model gets the images as they are, and runs once per chunk. All its guarantees are those
        of :meth:`torchlime.Lime.explain`; during the call its embedding has hooks, which act only
        in this thread and are removed afterwards. A model that was compiled by torch.compile runs
        uncompiled.

        Args:
            model: as for :meth:`torchlime.Lime.explain`; it runs one vision transformer, once.
            segments: used instead of the segmenter's: a label map of the patches, [rows,columns] or
                [B,rows,columns] of any integers.
            images, targets, top, max_segments, seed, differentiable, keep_samples, resume,
                progress: as for :meth:`torchlime.Lime.explain`.

        Returns:
            Explanation: of the groups of patches as segments at the size of the images.

        Raises:
            TypeError, ValueError, IndexError: the model holds no known vision transformer, or
                several, or does not run it exactly once; or as for :meth:`torchlime.Lime.explain`.
            torch.OutOfMemoryError: not even a single image fits into a forward pass.
        """
        check_settings(resume, self)
        forward = Forward.of(self, differentiable=differentiable, progress=progress)
        images = as_images(images, model)
        scores = scores_of(targets, top, len(images), images.device)
        seed = self.seed if seed is None else seed
        model = _eager(model)
        explanation = local_fit(
            model, self._features(model, images, segments, max_segments), scores,
            sampler=self.sampler, num_samples=int(self.num_samples), kernel=self.kernel,
            surrogate=self.surrogate, forward=forward, seed=seed, keep_samples=keep_samples,
            rounds=self.rounds, resume=resume,
        )  # fmt: skip
        words: dict[str, Any] = {"hidden": "left out", **words_of_scores(scores)}
        if segments is not None:
            words["segmenter"] = "given by the caller"
        return made_by(explanation, self, seed, resume, **words)

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
        """The samples that :meth:`explain` would fit: masks, scores and weights.

        Arguments, guarantees and errors are those of :meth:`explain`.
        """
        forward = Forward.of(self, progress=progress)
        images = as_images(images, model)
        scores = scores_of(targets, top, len(images), images.device)
        model = _eager(model)
        return local_samples(
            model, self._features(model, images, segments, max_segments), scores,
            sampler=self.sampler, num_samples=int(self.num_samples), kernel=self.kernel,
            forward=forward, seed=self.seed if seed is None else seed,
        )  # fmt: skip

    def scores(
        self,
        model: Model,
        images: Images,
        masks: Tensor,
        targets: Targets = None,
        *,
        top: int = 1,
        segments: Segments | Tensor | Array | None = None,
        max_segments: int | None = None,
    ) -> Tensor:
        """The model's scores [B,N,T] of images under given masks [B,N,S] or [N,S], True = kept.

        Where ``targets`` is None they are the best classes of each image's first row. Other
        arguments, guarantees and errors are those of :meth:`explain`.
        """
        images = as_images(images, model)
        scores = scores_of(targets, top, len(images), images.device)
        model = _eager(model)
        # The numbers that the sampler knows are not those of these masks.
        features = self._features(model, images, segments, max_segments, known=False)
        if isinstance(masks, Tensor) and masks.dim() == 2:
            masks = masks.expand(len(images), -1, -1)
        return local_scores(model, features, scores, masks, Forward.of(self))

    def _features(
        self, model: Model, images: Tensor, given: Any, max_segments: int | None, known: bool = True
    ) -> Tokens:
        if given is None and max_segments is not None:
            raise ValueError("max_segments goes with segments=; a segmenter has its bound")
        check_images(images)
        vit = vit_of(model, self.at, self.prefix)
        with undisturbed(images.device):
            box = BlackBox(model, images.device, Forward.of(self), "the images are")
            grid = vit.grid(box, images[:1])
            groups, size = None, None
            if given is not None:
                given = as_label_map(given, images.device)
                groups = as_groups(given, images, grid, max_segments)
            elif self.segmenter is not None:
                like = pooled(images, grid)
                groups = as_segments(self.segmenter(like), like)
                size = _size(self.segmenter, grid.rows, grid.columns)
            if groups is not None:
                warn_of_one_segment(groups.count, groups.bound)
            kept = _kept_by(self.sampler) if known else None
            return Tokens(images, vit, grid, groups, kept, size)


def _eager(model: Any) -> Any:
    """The network that torch.compile was given: hooks are not seen in compiled code."""
    return getattr(model, "_orig_mod", model)


def _kept_by(sampler: Any) -> Kept | None:
    """How many features each row that the model gets keeps, if the sampler says so."""
    kept = getattr(sampler, "kept", None)
    if kept is None or not getattr(sampler, "beside", False):
        return kept

    def with_input(count: int, number: int, first: int = 0) -> Sequence[int]:
        return kept(count, number, first) if first else (count, *kept(count, number - 1, 0))

    return with_input


def _size(segmenter: Any, rows: int, columns: int) -> int | None:
    """How many patches each group has, if the segmenter makes equal groups."""
    if not isinstance(segmenter, Grid) or len(segmenter.parts) != 2:
        return None
    down, across = segmenter.parts
    if rows % down or columns % across:
        return None
    return rows // down * (columns // across)


class PatchSettings(TypedDict, total=False):
    """The fields of :class:`PatchLime`."""

    segmenter: Segmenter | None
    sampler: Sampler
    num_samples: int
    at: str | None
    prefix: int | None
    kernel: Kernel
    surrogate: Surrogate
    rounds: Rounds
    chunk_size: int | None
    exact_chunks: bool
    autocast: torch.dtype | None


class ExplainPatchSettings(PatchSettings, total=False):
    """The keywords of :func:`explain_patches`."""

    top: int
    segments: Segments | Tensor | Array | None
    max_segments: int | None
    seed: int | Tensor | None
    differentiable: bool
    keep_samples: bool
    resume: Explanation | None
    progress: Progress | None


def explain_patches(
    model: Model, images: Images, targets: Targets = None, **settings: Unpack[ExplainPatchSettings]
) -> Explanation:
    """``PatchLime(**fields).explain(model, images, targets, …)`` in one call.

    The keywords are the fields of :class:`PatchLime` and the arguments of
    :meth:`PatchLime.explain`.

    Example:
        >>> import torch, torchvision
        >>> from torchlime.segments import Grid
        >>> vit = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3)
        >>> image = torch.rand(1, 3, 32, 32)
        >>> explain_patches(vit, image, segmenter=Grid(2, 2), num_samples=20).coefficients.shape
        torch.Size([1, 1, 4])
    """
    check_keywords(settings, ExplainPatchSettings.__annotations__, "explain_patches()")
    fields = PatchSettings.__annotations__
    own = {name: value for name, value in settings.items() if name in fields}
    call = {name: value for name, value in settings.items() if name not in own}
    return PatchLime(**own).explain(model, images, targets, **call)  # type: ignore[arg-type]
