"""The frozen result of an explanation: values, diagnostics and provenance."""

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from torchlime import _saved
from torchlime._checks import check_count, is_integer
from torchlime._explained import forecast_of, on_pixels
from torchlime._explained import label_map_of as label_map_of
from torchlime._explained import label_maps_of as label_maps_of
from torchlime._explained import row_of as row_of
from torchlime._explained import strongest_columns as strongest_columns
from torchlime._kinds import IMAGES, Kind, words_of
from torchlime._names import Names, record_of
from torchlime._problems import Problem as Problem
from torchlime._problems import reasons_of
from torchlime._provenance import Words
from torchlime._reading import Categories, category_of, told
from torchlime._refitting import refitted
from torchlime._several import mapped
from torchlime.interactions import Interactions, interactions_of

if TYPE_CHECKING:
    from torchlime.strategies import Kernel, Surrogate

Sign = Literal["positive", "negative", "both"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The evidence of each input's features for and against each target.

    The features of an image are its segments; those of a vector are its entries.

    Convention:
        There are B inputs, T targets and N samples; S is the bound of the feature count. All
        results of the fit are in the solve's dtype: float64, or float32 on devices without it. A
        positive coefficient is evidence for the target: hiding the segment lowers the target's
        score by about that much. For vectors, S is F, features are in the order of the flattened
        vector, and a coefficient is the change of the score per unit of the feature.

    Attributes:
        coefficients: [B,T,S], the surrogate's slope for each feature; 0 beyond the count.
        standard_errors: [B,T,S], heteroscedastic (HC3), times the square root of
            ``variance_factor``. A pair of complements or of antithetic noise counts as one sample.
            0 beyond the count; NaN where undefined, such as for a feature that no sample hides. For
            a model that draws random numbers, see :class:`torchlime.masks.Orthogonal`.
        intercepts: [B,T], the surrogate's value where all segments are hidden, or all numbers are
            0.
        fidelity: [B,T], weighted R² of the surrogate over the samples. NaN if the
            coefficients are not slopes of a line that predicts scores, as for occlusion and RISE.
        targets: [B,T] int64, the explained classes.
        scores: [B,T], the model's scores of the input as it is.
        local_predictions: [B,T], the surrogate's value for the input as it is.
        segment_count: [B] int64, how many features each input has.
        effective_samples: [B], (Σw)²/Σw². The number of effective antithetic pairs is half of it.
        problems: [B] int64, bits of :class:`Problem`; 0 means that none was found.
        settings: how the explanation was made: settings as text and numbers, strategies as their
            repr, the seed and the versions.
        kind: the kind of the design, and what features and inputs are called.
        segments: [B,*axes] int64, [B,H,W] for images, or [B,C or 1,*axes] where channels have maps
            of their own: the column of each pixel, 0…count−1, and −1 for the background. For
            several inputs it is a tuple or dict of such maps, with None for inputs that were only
            passed on. For soft segments it holds their shares, [B,S,*axes] float. None for vectors.
        ids: [B,S] int64, the caller's id of each column, −1 beyond the count; None if the ids are
            the columns.
        vectors, scale: [B,F], for vectors; else None.
        bins: [B,S] int64, for rows of tables: the bin of its column in which each feature is.
        named: the names of the features, for :meth:`names`; None if they have only numbers.
        masks, sample_scores, weights, energy: [B,N,S] bool (for vectors the noise, float32),
            [B,N,T], [B,N], [B,S] (for images) with ``keep_samples=True``, else None. If inputs took
            different numbers of samples, scores and weights beyond an input's own number are 0.
        samples_used: [B] int64, how many rows of the design were fitted for each input; None for an
            older explanation, or one that other code made.
        variance_factor: the factor of the variances of the coefficients that the design gives. The
            standard errors include it. [B] if inputs took different numbers of samples.
        explainer: the settings object that made it, such as a Lime; None if it comes from a file,
            for example.
        explained: the function or Scores whose values are explained; None for classes.
        unit: what a score is: "probability" or "logit" where the model says so, else "score".
        categories: the names of the classes, if the model has them.
    """

    coefficients: Tensor
    standard_errors: Tensor
    intercepts: Tensor
    fidelity: Tensor
    targets: Tensor
    scores: Tensor
    local_predictions: Tensor
    segment_count: Tensor
    effective_samples: Tensor
    problems: Tensor
    settings: Words
    kind: Kind = IMAGES
    segments: Any = None
    ids: Tensor | None = None
    vectors: Tensor | None = None
    scale: Tensor | None = None
    masks: Tensor | None = None
    sample_scores: Tensor | None = None
    weights: Tensor | None = None
    energy: Tensor | None = None
    bins: Tensor | None = None
    samples_used: Tensor | None = None
    named: Names | None = field(default=None, repr=False)
    explainer: Any = field(default=None, repr=False)
    explained: Any = field(default=None, repr=False)
    variance_factor: float | Tensor = 1.0
    unit: str = "score"
    categories: Categories | None = None

    @property
    def ok(self) -> Tensor:
        """[B] bool: no problem was found. It stays on the device."""
        return self.problems == 0

    @property
    def sure(self) -> Tensor:
        """[B] bool: the coefficients are as sure as ``rounds`` asks. It stays on the device."""
        return (self.problems & Problem.NOT_SURE) == 0

    def reasons(self) -> list[list[str]]:
        """What is wrong with each input's explanation, in sentences; an empty list if nothing is.

        It reads ``problems`` on the host, and also ``segment_count`` if there are problems.
        """
        words, problems = words_of(self.kind), self.problems.tolist()  # read back: the caller asks
        # Read back, too: a sentence says whether there is one part or several.
        counts = self.segment_count.tolist() if any(problems) else problems
        return [reasons_of(bits, words, n) for bits, n in zip(problems, counts, strict=True)]

    def check(self, *, sure: bool = True) -> "Explanation":
        """Return self, or raise if the explanation is unreliable. Reads ``problems`` on the host.

        Args:
            sure: also raise if an input took the most samples and its coefficients are still less
                sure than ``rounds`` asks. With False, the caller looks at ``explanation.sure``.

        Raises:
            RuntimeError: there are problems; the message has the :meth:`reasons` of each input.
        """
        bad = [
            (f"{self.kind.input} {number}: " if len(self) > 1 else "") + "; ".join(reasons)
            for number, reasons in enumerate(self._checked(sure).reasons())
            if reasons
        ]
        if bad:
            raise RuntimeError("the explanation is not to be trusted. " + ". ".join(bad))
        return self

    def _checked(self, sure: bool) -> "Explanation":
        kept = self.problems if sure else self.problems & ~Problem.NOT_SURE
        return dataclasses.replace(self, problems=kept)

    def category(self, target: int) -> str:
        """The name of a class; "class 7" where it has none."""
        return category_of(self.categories, target)

    def heatmap(self, channels: int | None = None) -> Any:
        """Each pixel's coefficient: [B,T,H,W] float32; 0 in the background.

        For soft segments it is the sum of their coefficients, weighted by their shares.
        The axes after T are those of ``segments``. For several inputs it is a tuple or dict of such
        maps, with None for inputs that were only passed on.

        Args:
            channels: C, for tools that ask for the shape of the images. It gives [B,T,C,H,W], an
                expanded view: every channel of a pixel has the pixel's coefficient. So
                ``heatmap(channels=3)[:, 0]`` [B,3,H,W] belongs to the first target.

        Raises:
            ValueError: the explanation is of vectors, which have no pixels.
        """
        pixels = self._on_pixels(self.coefficients.float())
        if channels is None:
            return pixels
        check_count(channels, "channels")
        return mapped(lambda one: one[:, :, None].expand(-1, -1, channels, *one.shape[2:]), pixels)

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """The strongest features: (ids [B,T,k] int64, coefficients [B,T,k]).

        They are sorted by decreasing absolute coefficient, then by id, and padded with -1 and 0.
        The ids are those of the caller's label map; without a map they are the columns of
        ``coefficients``.
        """
        columns, values = strongest_columns(self, k)
        if self.ids is None:
            return columns, values
        ids = self.ids[:, None].expand_as(self.coefficients).gather(-1, columns.clamp(min=0))
        return torch.where(columns < 0, -1, ids), values

    def names(self) -> list[list[str]] | None:
        """The names of the features of every input; None if they have only numbers.

        For rows of tables it reads their bins on the host.
        """
        return None if self.named is None else self.named.of(self.bins)

    def as_list(
        self, feature_names: Iterable[str] | None = None, target: int | None = None
    ) -> list[tuple[str, float]]:
        """(name, coefficient) of every feature of one vector, or segment of one image.

        The order is that of :meth:`top`. It reads the coefficients on the host.

        Args:
            feature_names: names in the order of the coefficients. None = the features' own names,
                or without names their ids as in :meth:`top`.
            target: one of ``targets``; None is the first.

        Raises:
            TypeError: ``feature_names`` is a single str.
            ValueError: there are several inputs (index first: ``explanation[i]``), the number of
                names is wrong, or the target was not explained.
        """
        row, count = row_of(self, target), int(self.segment_count[0])  # read back: the caller asks
        if isinstance(feature_names, str):
            raise TypeError(f"feature_names must be {count} names, got the str {feature_names!r}")
        own = self.names() if feature_names is None else None
        names: list[Any] = list(range(count) if feature_names is None else feature_names)
        if own is not None:
            names = list(own[0])
        elif feature_names is None and self.ids is not None:
            names = self.ids[0, :count].tolist()  # read back: a list is on the host
        if len(names) != count:
            raise ValueError(f"feature_names must be {count} names, got {len(names)}")
        found = (values[0, row] for values in strongest_columns(self, count))
        columns, strengths = (values.tolist() for values in found)  # read back: for a list
        return [(str(names[i]), value) for i, value in zip(columns, strengths, strict=True)]

    def mask(self, top: int = 5, sign: Sign = "positive") -> Any:
        """The pixels of the ``top`` strongest segments of that sign: [B,T,H,W] bool.

        For soft segments, these are the pixels in which they have a share of a half or more. The
        shape is that of :meth:`heatmap`. A coefficient of 0 has no sign, so its segment is never
        shown.

        Raises:
            ValueError: an argument is out of range; or the explanation is of vectors, which have
                no pixels.
        """
        check_count(top, "top")
        if sign not in get_args(Sign):
            raise ValueError(f"sign must be one of {get_args(Sign)}, got {sign!r}")
        signed = -self.coefficients if sign == "negative" else self.coefficients
        strength = (signed.abs() if sign == "both" else signed).clamp(min=0)
        order = strength.sort(dim=-1, descending=True, stable=True).indices
        chosen = torch.zeros_like(strength, dtype=torch.bool)
        chosen = chosen.scatter(-1, order[..., :top], True) & (strength > 0)
        return self._on_pixels(chosen)

    def forecast(self, error: float) -> Tensor:
        """How many rows in all ``rounds=Until(error=error)`` would take: [B] int64, on the device.

        It assumes that the squares of the standard errors fall as 1/N. If the explanation has its
        explainer, they are taken with the ``stopping_factor`` of its sampler, as in the rule; this
        reads ``samples_used`` on the host. The forecast is −1 where the errors are too large for
        one, or undefined. If the errors fall faster, as in the first cycle of
        :class:`torchlime.masks.Orthogonal`, fewer rows are needed.

        Raises:
            ValueError: ``error`` is not above 0, or the explanation has no ``samples_used``.

        Example:
            >>> from torchlime import explain
            >>> from torchlime.segments import Grid
            >>> image = torch.rand(1, 1, 8, 8, generator=torch.manual_seed(0))
            >>> e = explain(lambda x: (20 * x).mean((2, 3)).sin(), image, segmenter=Grid(2, 4))
            >>> bool(e.forecast(error=0.05) > e.forecast(error=0.1))
            True
        """
        return forecast_of(self, error)

    def refit(
        self, *, kernel: "Kernel | None" = None, surrogate: "Surrogate | None" = None
    ) -> "Explanation":
        """Fit the same samples with another kernel or surrogate, without new forward passes.

        Raises:
            ValueError: the samples were not kept (``keep_samples=True``); or the explanation has no
                explainer, and ``surrogate`` is not given; or the surrogate needs a row that the
                samples lack.
        """
        return refitted(self, kernel, surrogate)

    def interactions(
        self, pairs: Any = None, *, surrogate: "Surrogate | None" = None
    ) -> Interactions:
        """Fit terms for pairs of features to the same samples, without new forward passes.

        Args:
            pairs: [P,2] or [B,P,2] int, two features each, as ids of the caller's label map or,
                without a map, as columns. None = all pairs of segments that touch along an axis of
                the label map; without a map, all pairs.
            surrogate: None is ``Ridge()``.

        Convention:
            Draw the samples with :class:`torchlime.masks.Bernoulli`. In
            :class:`torchlime.masks.Orthogonal`, the two rows of a pair of complements say the same
            about a pair of features, and its blocks mix up the effects of different pairs. On a
            game of 49 segments with 84 neighbours and 60 other pairs, 512 rows left a squared error
            of .11 (Bernoulli: .03), and 95 % intervals covered the truth in .79 of the cases (.97).
            The call reads a number or a flag on the host.

        Raises:
            TypeError, ValueError: the samples were not kept (``keep_samples=True``); the features
                are numbers; the surrogate treats each feature by itself, as MeanDrop does; a pair
                names one feature twice, occurs twice, or names an unknown feature; or there are
                more pairs than the samples can tell apart.

        Example:
            >>> from torchlime import explain
            >>> from torchlime.segments import Grid
            >>> image, how = torch.rand(1, 1, 4, 4), {"segmenter": Grid(2, 2), "keep_samples": True}
            >>> e = explain(lambda x: x.amin((2, 3)), image, **how)
            >>> e.interactions().pairs.tolist()
            [[[0, 1], [0, 2], [1, 3], [2, 3]]]
        """
        return interactions_of(self, pairs, surrogate)

    def to(self, device: torch.device | str) -> "Explanation":
        """A copy whose tensors lie on ``device``."""
        return self._map(lambda tensor: tensor.to(device))

    def __repr__(self) -> str:
        """A few lines for people; they read the explanation on the host."""
        return told(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the lines of ``repr``, and below them pictures of the evidence."""
        from torchlime.plot.notebook import html_of  # late: an explanation needs no pictures

        return html_of(self)

    def __len__(self) -> int:
        return self.coefficients.shape[0]

    def __getitem__(self, index: int | slice) -> "Explanation":
        """Some of the inputs; an int keeps the batch axis, and counts from the end if negative."""
        if not isinstance(index, slice):
            if not is_integer(index):
                raise TypeError(f"index must be an int or a slice, got {type(index).__name__}")
            if not -len(self) <= index < len(self):
                raise IndexError(f"index {index} is out of range for {len(self)} inputs")
            position = int(index) % len(self)
            index = slice(position, position + 1)
        named = None if self.named is None else self.named[index]
        return dataclasses.replace(self._map(lambda tensor: tensor[index]), named=named)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed .npz: arrays and a JSON record, no pickle.

        If the file cannot be written, an OSError says why, and an old file is kept. Objects such as
        the explainer are saved only as text.
        """
        targets = set(self.targets.flatten().tolist())  # read back: to a file
        names = {target: self.category(target) for target in targets if self.categories}
        named = record_of(self.named, self.bins)
        factor = 1.0 if isinstance(self.variance_factor, Tensor) else self.variance_factor
        told = {"unit": self.unit, "variance_factor": factor, "named": named}
        _saved.save(self.tensors(), self.kind, self.settings, path, names, told)

    @classmethod
    def load(cls, path: str | os.PathLike[str], max_bytes: int = 2**30) -> "Explanation":
        """Read what :meth:`save` wrote, onto the CPU.

        If the arrays would take more than ``max_bytes`` of memory, they are not unpacked.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not an explanation, or a field is wrong; the message names it.
        """
        return cls(**_saved.load(path, max_bytes))

    def _on_pixels(self, values: Tensor) -> Any:
        """[B,T,S] → [B,T,H,W]."""
        return mapped(lambda segments: on_pixels(values, segments), label_maps_of(self))

    def tensors(self) -> dict[str, Any]:
        """The tensors, by the names of their fields; ``segments`` of several inputs as they are."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        own = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
        return own if self.segments is None else own | {"segments": self.segments}

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Explanation":
        changed = {name: mapped(function, values) for name, values in self.tensors().items()}
        return dataclasses.replace(self, **changed)
