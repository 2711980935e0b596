"""RISE: the mean score over soft random masks that show a pixel, at full resolution."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Never

import torch
from torch import Tensor

from torchlime._checks import (
    check_callables,
    check_count,
    check_fraction,
    check_made,
    check_spatial,
    is_integer,
)
from torchlime._inputs import Array, Images, as_images
from torchlime._labelmap import Segments, as_segments, segment_sizes, segment_sums
from torchlime._precision import solve_dtype
from torchlime._problems import OF_THE_FIT
from torchlime._resuming import made_by
from torchlime._row_blocks import row_blocks
from torchlime._settings import Settings, check_keywords
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model, Progress
from torchlime.explanation import Explanation
from torchlime.features import ShiftedGrids
from torchlime.fills import Constant, SegmentMean
from torchlime.local import local_fit
from torchlime.masks import Bernoulli
from torchlime.strategies import Fill, Segmenter
from torchlime.surrogates import LeastSquares
from torchlime.targets import Targets, scores_for, words_of_scores
from torchlime.weights import Uniform


@dataclass(frozen=True, kw_only=True, eq=False)
class Rise(Settings):
    """The settings of RISE (Petsiuk, Das & Saenko 2018); :meth:`explain` runs it.

    A sample is image · M. The mask M is a coarse grid of random cells, upsampled bilinearly and
    shifted by a random part of a cell. The saliency of a pixel λ is the mean of the scores,
    weighted by how much of the pixel each mask shows:

        S(λ) = 1/(N·p) · Σₙ score(image · Mₙ) · Mₙ(λ)

    It is a mean of scores and not a change of the score: if all scores are positive, the saliency
    of every pixel is positive. Only differences between pixels are evidence. Masks, shifts and mean
    are those of the authors' code; the random numbers are this package's.

    Convention:
        In the Explanation every pixel is a segment of its own, in raster order, and S(λ) is its
        coefficient; with a segmenter, a segment has the mean of its pixels. Standard errors are
        those of the mean over samples. A saliency predicts no score, so ``fidelity`` is NaN, and
        ``intercepts`` and ``local_predictions`` are those of a linear surrogate of the cells.

        With ``difference``, a coefficient is Σ f·M/Σ M − Σ f·(1−M)/Σ (1−M), where f are the scores:
        by how much the score is higher if the pixel is shown. If every mask shows or hides a pixel
        fully, its limit is (S(λ) − mean score)/(1 − p), so it ranks pixels as S does. It is 0 for
        pixels without effect, so pictures have two colours.

        Rise has no ``keep_samples``, ``resume``, ``refit``, ``interactions``, ``rounds`` or
        ``capture``: its masks are shifted by parts of a cell, and no surrogate is fitted to them.

    Source: Petsiuk, Das & Saenko 2018, *RISE: Randomized Input Sampling for Explanation of
    Black-box Models*.

    Args:
        grid: cells along each axis.
        keep: p, the probability that a cell is shown.
        num_samples: N; the model gets one more row, the image as it is. The paper takes 4000 to
            8000 samples.
        normalised: divide by Σ Mₙ(λ) and not by its expectation N·p. The limit is the same, without
            the noise that all scores have in common.
        difference: subtract the mean of the scores where the pixel is hidden; see the convention.
        segmenter: images → Segments; the saliency is averaged over each segment. None = every pixel
            is a segment.
        fill: what hidden parts show. The paper's fill is 0 in the inputs of the model.
        chunk_size: the most images of one forward pass; None = as for :class:`torchlime.Lime`.
        exact_chunks: give every forward pass exactly ``chunk_size`` rows.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None keeps the caller's
            setting.
        seed: of masks and shifts; an int.

    Raises:
        TypeError, ValueError: a setting is unknown, of the wrong type or out of range.

    Example:
        >>> image = torch.zeros(1, 1, 32, 32)
        >>> image[..., :8, :8] = 1
        >>> def model(x):
        ...     return x.mean((2, 3))
        >>> explanation = Rise(grid=(4, 4), num_samples=500).explain(model, image)
        >>> heatmap = explanation.heatmap()[0, 0]
        >>> heatmap.shape, bool(heatmap[:8, :8].mean() > heatmap[8:, 8:].mean())
        (torch.Size([32, 32]), True)
    """

    grid: tuple[int, ...] = (7, 7)
    keep: float = 0.5
    num_samples: int = 4000
    normalised: bool = False
    difference: bool = False
    segmenter: Segmenter | None = None
    fill: Fill | Tensor = Constant(0.0)
    chunk_size: int | None = None
    exact_chunks: bool = False
    autocast: torch.dtype | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.grid, tuple) or not self.grid:
            raise TypeError(f"grid must be a tuple of ints, such as (7, 7), got {self.grid!r}")
        for cells in self.grid:
            check_count(cells, "each number of grid")
        check_fraction(self.keep, "keep")
        check_count(self.num_samples, "num_samples", 2)
        Forward.of(self)
        if not is_integer(self.seed):
            raise TypeError(
                f"seed must be an int, got {type(self.seed).__name__}; "
                "seeds for each image go to explain(seed=)"
            )
        if self.segmenter is not None:
            check_callables(segmenter=self.segmenter)
        check_made(self.fill, "fill")
        if not callable(self.fill) and not isinstance(self.fill, Tensor):
            raise TypeError(f"fill must be callable or a tensor, got {self.fill!r}")

    @property
    def sampler(self) -> "Cells":
        """The sampler of the cells."""
        return Cells(self.keep)

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
        progress: Progress | None = None,
        **others: Never,
    ) -> Explanation:
        """The saliency of each of ``images`` [B,C,*axes] for ``targets``.

        Arguments, guarantees and errors are those of :meth:`torchlime.Lime.explain`, without
        ``keep_samples``, ``resume``, ``differentiable`` and ``extra``; ``segments`` replace those
        of the segmenter. For the means, the masks of an image are made again, a few
        samples at a time, so the memory does not grow with ``num_samples``.
        """
        _refuse_others(others)
        forward = Forward.of(self, progress=progress)
        inputs = as_images(images, model)
        check_spatial(inputs)
        seed = self.seed if seed is None else seed
        scores = scores_for(inputs, targets, top)
        with undisturbed(inputs.device):
            found = self._segments(inputs, segments, max_segments)
            grids = ShiftedGrids(inputs, self.fill, self.grid, seed, found)
        cells = local_fit(
            model, grids, scores, sampler=self.sampler, num_samples=int(self.num_samples),
            kernel=Uniform(), surrogate=LeastSquares(), forward=forward, seed=seed,
            keep_samples=True,
        )  # fmt: skip
        with undisturbed(inputs.device):
            values, errors = self._saliency(grids, found, cells)
        explanation = dataclasses.replace(
            cells, coefficients=values, standard_errors=errors, **_fields(inputs, found),
            fidelity=torch.full_like(cells.fidelity, torch.nan),
            problems=cells.problems & ~OF_THE_FIT, masks=None, sample_scores=None, weights=None,
        )  # fmt: skip
        words: dict[str, Any] = {"sampler": self.sampler, **words_of_scores(scores)}
        if segments is not None:
            words["segmenter"] = "given by the caller"
        return made_by(explanation, self, seed, None, **words)

    def capture(self, *_: object, **__: object) -> Never:
        """Raise a TypeError: only :meth:`torchlime.Lime.capture` captures."""
        raise TypeError(f"Rise has no capture(): {_WHY}; call explain() for each batch")

    def samples(self, *_: object, **__: object) -> Never:
        """Raise a TypeError: only :meth:`torchlime.Lime.samples` gives samples."""
        raise TypeError(f"Rise has no samples(): {_WHY}; take Lime() for samples to fit again")

    def _segments(self, images: Tensor, given: Any, max_segments: int | None) -> Segments | None:
        if given is None and max_segments is not None:
            raise ValueError("max_segments goes with segments=; a segmenter has its bound")
        if given is not None:
            return as_segments(given, images, max_segments)
        if self.segmenter is not None:
            return as_segments(self.segmenter(images), images)
        if isinstance(self.fill, SegmentMean):
            raise ValueError("SegmentMean needs a segmenter or segments=; take Constant or Blur")
        return None

    def _saliency(
        self, grids: ShiftedGrids, segments: Segments | None, cells: Explanation
    ) -> tuple[Tensor, Tensor]:
        """The saliencies and their standard errors: [B,T,P] of pixels, or [B,T,S] of segments."""
        drawn, scores = cells.masks, cells.sample_scores
        assert drawn is not None
        assert scores is not None
        drawn = drawn[:1] if drawn.stride(0) == 0 else drawn
        pixels = math.prod(grids.axes)
        width = pixels * len(drawn if segments is None else scores)
        sums = _Sums()
        for rows in row_blocks(scores.shape[1], width, scores.device):
            shown = _shown(grids.masks(drawn[:, rows], rows.start), segments, len(scores))
            sums.add(scores[:, rows].to(shown.dtype), shown)
        if self.difference:
            return sums.differences()
        return sums.weighted_means() if self.normalised else sums.means(self.keep)


# Why Rise lacks what Lime has.
_WHY = "a saliency is not fitted, but is a mean over masks that are shifted by parts of a cell"


def _refuse_others(others: Mapping[str, object]) -> None:
    """Raise a TypeError where :meth:`Rise.explain` is given what it does not take."""
    for name in others:
        if name in ("keep_samples", "resume"):
            raise TypeError(
                f"Rise has no {name}: {_WHY}, so there are no samples to fit again or to extend; "
                "take a larger num_samples, or Lime()"
            )
        if name in ("differentiable", "extra"):
            raise TypeError(f"Rise has no {name}; Lime() has it")
        check_keywords(others, _TAKEN, "Rise.explain()")


_TAKEN = ("targets", "top", "segments", "max_segments", "seed", "progress")


@dataclass(frozen=True)
class Cells:
    """Each cell of a grid is shown independently with probability ``keep``, also in row 0.

    The rows are those of :class:`torchlime.masks.Bernoulli` from row 1 on. If ``seed`` is an int,
    all images share one draw, as an expanded view.

    Example:
        >>> masks = Cells(0.5)(torch.tensor([4]), 4, 5, seed=0)
        >>> torch.equal(masks[:, :4], Bernoulli(0.5)(torch.tensor([4]), 4, 5, seed=0)[:, 1:])
        True
    """

    beside: ClassVar[bool] = True

    keep: float = 0.5

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """Draw masks [B,N,S] bool for grids of S cells."""
        own = count if isinstance(seed, Tensor) else count[:1]
        drawn = Bernoulli(self.keep)(own, bound, num_samples, seed=seed, first=first + 1)
        return drawn if isinstance(seed, Tensor) else drawn.expand(len(count), -1, -1)


class _Sums:
    """Sums over samples of the scores f [B,n,T] and of what the masks show, M [B or 1,n,P]."""

    def __init__(self) -> None:
        self.samples = 0
        # Of f·M, f²·M², f·M², f²·M [B,T,P], of M, M² [B or 1,1,P], and of f, f² [B,T,1].
        self.sums: list[Tensor] = []

    def add(self, scores: Tensor, shown: Tensor) -> None:
        squares = shown.square()
        more = [
            scores.mT @ shown,
            scores.square().mT @ squares,
            scores.mT @ squares,
            scores.square().mT @ shown,
            shown.sum(dim=1, keepdim=True),
            squares.sum(dim=1, keepdim=True),
            scores.sum(dim=1)[..., None],
            scores.square().sum(dim=1)[..., None],
        ]
        self.sums = [a + b for a, b in zip(self.sums, more, strict=True)] if self.sums else more
        self.samples += scores.shape[1]

    def means(self, keep: float) -> tuple[Tensor, Tensor]:
        """Σ f·M/(N·p), and its standard error."""
        n, (total, squares, *_) = self.samples, self.sums
        spread = squares - total.square() / n
        return total / (n * keep), (spread.clamp(min=0) / (n * (n - 1))).sqrt() / keep

    def weighted_means(self) -> tuple[Tensor, Tensor]:
        """Σ f·M/Σ M, and the standard error of this ratio; 0 and NaN where nothing is shown."""
        n, (total, squares, cross, _, shown, mass_squares, *_) = self.samples, self.sums
        mass = torch.where(shown > 0, shown, 1.0)
        mean = total / mass
        spread = squares - 2 * mean * cross + mean.square() * mass_squares
        errors = (spread.clamp(min=0) * n / (n - 1)).sqrt() / mass
        return mean, errors.masked_fill(shown <= 0, torch.nan)

    def differences(self) -> tuple[Tensor, Tensor]:
        """Σ f·M/Σ M − Σ f·(1−M)/Σ (1−M), and the standard error of this difference.

        The two are 0 and NaN where all samples show the same.
        """
        n, (fm, f2m2, fm2, f2m, m, m2, f, f2) = self.samples, self.sums
        same = (m <= 0) | (m >= n)
        mass, rest = torch.where(same, 1.0, m), torch.where(same, 1.0, n - m)
        a, b = fm / mass, (f - fm) / rest
        # The squares of (f − a)·M/Σ M − (f − b)·(1 − M)/Σ (1 − M), added up.
        shown = f2m2 - 2 * a * fm2 + a.square() * m2
        hidden = (f2 - 2 * f2m + f2m2) - 2 * b * (f - 2 * fm + fm2)
        hidden = hidden + b.square() * (n - 2 * m + m2)
        both = (f2m - f2m2) - (a + b) * (fm - fm2) + a * b * (m - m2)
        spread = shown / mass.square() + hidden / rest.square() - 2 * both / (mass * rest)
        errors = (spread.clamp(min=0) * n / (n - 1)).sqrt()
        return (a - b).masked_fill(same, 0.0), errors.masked_fill(same, torch.nan)


def _shown(masks: Tensor, segments: Segments | None, batch: int) -> Tensor:
    """How much masks [b,n,*axes] show of each pixel [b,n,P], or of each segment [B,n,S]."""
    if segments is None:
        return masks.flatten(2).to(solve_dtype(masks.device))
    sizes = segment_sizes(segments).clamp(min=1)[:, None]
    return segment_sums(masks.expand(batch, *masks.shape[1:]), segments) / sizes


def _fields(images: Tensor, segments: Segments | None) -> dict[str, Any]:
    """The fields of an Explanation for these segments; without segments, for every pixel."""
    if segments is not None:
        labels = segments.labels.expand(len(images), *images.shape[2:])
        return {"segments": labels, "segment_count": segments.count, "ids": segments.ids}
    axes = images.shape[2:]
    labels = torch.arange(math.prod(axes), device=images.device).view(axes)
    count = torch.full((1,), math.prod(axes), device=images.device).expand(len(images))
    return {"segments": labels.expand(len(images), *axes), "segment_count": count}
