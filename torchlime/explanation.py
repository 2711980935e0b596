"""The frozen result of an explanation: values, diagnostics and provenance."""

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from torchlime import _saved
from torchlime._checks import check_count
from torchlime._kinds import IMAGES, Kind, words_of
from torchlime._problems import OF_THE_FIT, reasons_of
from torchlime._problems import Problem as Problem
from torchlime._provenance import Words, in_words
from torchlime._undisturbed import undisturbed
from torchlime.masks import present

if TYPE_CHECKING:
    from torchlime.strategies import Kernel, Surrogate

Sign = Literal["positive", "negative", "both"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which features of each input spoke for and against each target.

    The features of an image are its segments; those of a vector are its entries.

    Convention:
        There are B inputs, T targets and N samples; S is the bound of the feature count. All that
        the fit gives is in the solve's dtype (float64). A positive coefficient speaks for the
        target: hiding the segment lowers the target's score by about that much. For vectors, S is
        F, features are in the order of the flattened vector, and a coefficient is the change of
        the score per unit of the feature.

    Attributes:
        coefficients: [B,T,S], the surrogate's slope of each feature; 0 beyond the count.
        standard_errors: [B,T,S], heteroscedastic (HC3; antithetic pairs count as one sample); 0
            beyond the count, NaN where undefined.
        intercepts: [B,T], the surrogate where all segments are hidden, or all numbers are 0.
        fidelity: [B,T], weighted R² of the surrogate over the samples.
        targets: [B,T] int64, the explained classes.
        scores: [B,T], the model on the input as it is.
        local_predictions: [B,T], the surrogate on the input as it is.
        segment_count: [B] int64, how many features each input has.
        effective_samples: [B], (Σw)²/Σw²; effective antithetic pairs are half as many.
        problems: [B] int64, bits of :class:`Problem`; 0 means that none was found.
        settings: how it was made, in words: settings as text and numbers, strategies as their repr,
            the seed and versions.
        kind: the kind of the design, and what features and inputs are called.
        segments: [B,H,W] int64, ids 0…count−1, for images; else None.
        vectors, scale: [B,F], for vectors; else None.
        masks, sample_scores, weights, energy: [B,N,S] bool (for vectors the noise, float32),
            [B,N,T], [B,N], [B,S] (for images) with ``keep_samples=True``, else None.
        explainer: the Lime or VectorLime that made it; None if it comes from a file, say.
        explained: the function or Scores whose values are explained; None for classes.
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
    segments: Tensor | None = None
    vectors: Tensor | None = None
    scale: Tensor | None = None
    masks: Tensor | None = None
    sample_scores: Tensor | None = None
    weights: Tensor | None = None
    energy: Tensor | None = None
    explainer: Any = field(default=None, repr=False)
    explained: Any = field(default=None, repr=False)

    @property
    def ok(self) -> Tensor:
        """[B] bool: no problem was found. It stays on the device."""
        return self.problems == 0

    def reasons(self) -> list[list[str]]:
        """What is wrong with each input's explanation, in sentences; an empty list if nothing is.

        It reads ``problems`` on the host.
        """
        words, problems = words_of(self.kind), self.problems.tolist()  # read back: the caller asks
        return [reasons_of(bits, words) for bits in problems]

    def check(self) -> "Explanation":
        """Return self, or raise if the explanation is unreliable. Reads ``problems`` on the host.

        Raises:
            RuntimeError: with the :meth:`reasons` of each input.
        """
        bad = [
            (f"{self.kind.input} {number}: " if len(self) > 1 else "") + "; ".join(reasons)
            for number, reasons in enumerate(self.reasons())
            if reasons
        ]
        if bad:
            raise RuntimeError("the explanation is not to be trusted. " + ". ".join(bad))
        return self

    def heatmap(self, channels: int | None = None) -> Tensor:
        """Each pixel's coefficient: [B,T,H,W] float32.

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
        return pixels[:, :, None].expand(-1, -1, channels, -1, -1)

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """The strongest features: (ids [B,T,k] int64, coefficients [B,T,k]).

        They are in order of decreasing absolute coefficient, then of id, padded with -1 and 0.
        """
        check_count(k, "k")
        exists = present(self.segment_count, self.coefficients.shape[2])
        strength = torch.where(exists, self.coefficients.abs(), -1.0)
        ids = strength.sort(dim=-1, descending=True, stable=True).indices[..., :k]
        found = exists.expand_as(strength).gather(-1, ids)
        values = torch.where(found, self.coefficients.gather(-1, ids), 0.0)
        padding = (0, k - ids.shape[-1])
        return (
            torch.nn.functional.pad(torch.where(found, ids, -1), padding, value=-1),
            torch.nn.functional.pad(values, padding),
        )

    def as_list(
        self, feature_names: Iterable[str] | None = None, target: int | None = None
    ) -> list[tuple[str, float]]:
        """(name, coefficient) of every feature of one vector, or segment of one image.

        The order is that of :meth:`top`. It reads the coefficients on the host.

        Args:
            feature_names: in the order of the coefficients; None = their numbers.
            target: one of ``targets``; None is the first.

        Raises:
            TypeError: ``feature_names`` is one str.
            ValueError: there are several inputs (index first: ``explanation[i]``), the number of
                names is wrong, or the target was not explained.
        """
        row, count = row_of(self, target), int(self.segment_count[0])  # read back: the caller asks
        if isinstance(feature_names, str):
            raise TypeError(f"feature_names must be {count} names, got the str {feature_names!r}")
        names = list(range(count) if feature_names is None else feature_names)
        if len(names) != count:
            raise ValueError(f"feature_names must be {count} names, got {len(names)}")
        strongest = (found[0, row] for found in self.top(count))
        ids, values = (found.tolist() for found in strongest)  # read back: a list is on the host
        return [(str(names[i]), value) for i, value in zip(ids, values, strict=True)]

    def mask(self, top: int = 5, sign: Sign = "positive") -> Tensor:
        """The pixels of the ``top`` strongest segments of that sign: [B,T,H,W] bool.

        A coefficient of 0 has no sign and is never among them.

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

    def refit(
        self, *, kernel: "Kernel | None" = None, surrogate: "Surrogate | None" = None
    ) -> "Explanation":
        """Fit the same samples by another kernel or surrogate, without new forward passes.

        Raises:
            ValueError: the samples were not kept (``keep_samples=True``); or the explanation has no
                explainer, and ``surrogate`` is not given.
        """
        masks, scores, weights = self.masks, self.sample_scores, self.weights
        if masks is None or scores is None or weights is None:
            raise ValueError("refit needs the samples: explain(..., keep_samples=True)")
        used = surrogate or getattr(self.explainer, "surrogate", None)
        if used is None:
            raise ValueError(
                "an explanation without its explainer, such as one that was loaded from a file, "
                "needs refit(surrogate=...)"
            )
        count, kind = self.segment_count, self.kind
        with undisturbed(masks.device):
            if kernel is not None:
                weights = kind.weights(kernel, masks, count, self.energy).to(weights.dtype)
            fit = kind.fit(used, masks, scores, weights, count)
            units: dict[str, Any] = {"vectors": self.vectors, "scale": self.scale}
            changes: dict[str, Any] = kind.fields(fit, masks, weights, count, **units)
        changes["problems"] = changes["problems"] | (self.problems & ~OF_THE_FIT)
        return dataclasses.replace(self, **changes, weights=weights, **self._made_by(kernel, used))

    def _made_by(self, kernel: "Kernel | None", surrogate: "Surrogate") -> dict[str, Any]:
        """The provenance of a refit."""
        strategies = {"surrogate": surrogate} | ({} if kernel is None else {"kernel": kernel})
        made: dict[str, Any] = {"settings": {**self.settings, **in_words(**strategies)}}
        if self.explainer is not None:
            made["explainer"] = dataclasses.replace(self.explainer, **strategies)
        return made

    def to(self, device: torch.device | str) -> "Explanation":
        """A copy whose tensors lie on ``device``."""
        return self._map(lambda tensor: tensor.to(device))

    def __len__(self) -> int:
        return self.coefficients.shape[0]

    def __getitem__(self, index: int | slice) -> "Explanation":
        """Some of the inputs; an int keeps the batch axis."""
        if not isinstance(index, slice):
            position = range(len(self))[index]  # IndexError, and negative numbers from the end
            index = slice(position, position + 1)
        return self._map(lambda tensor: tensor[index])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed .npz: arrays and a JSON record, no pickle.

        Wholly or not at all; an OSError says why. What is live is kept in words alone.
        """
        _saved.save(self.tensors(), self.kind, self.settings, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], max_bytes: int = 2**30) -> "Explanation":
        """Read what :meth:`save` wrote, onto the CPU.

        Nothing is inflated that would take more than ``max_bytes``.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no explanation, or a field is not what it should be; it is named.
        """
        tensors, kind, settings = _saved.load(path, max_bytes)
        return cls(**tensors, kind=kind, settings=settings)

    def _on_pixels(self, values: Tensor) -> Tensor:
        """[B,T,S] → [B,T,H,W]."""
        segments = label_map_of(self)
        index = segments.flatten(1)[:, None].expand(-1, values.shape[1], -1)
        return values.gather(2, index).unflatten(2, segments.shape[1:])

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, by the names of their fields."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if isinstance(value, Tensor)}

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Explanation":
        changed: dict[str, Any] = {name: function(t) for name, t in self.tensors().items()}
        return dataclasses.replace(self, **changed)


def row_of(explanation: Explanation, target: int | None) -> int:
    """The place of ``target`` among the targets of one input, read on the host; None is the first.

    Raises:
        ValueError: there are several inputs, or the target was not explained.
    """
    inputs = len(explanation.coefficients)
    if inputs != 1:
        raise ValueError(
            f"the explanation holds {inputs} {explanation.kind.input}s; index one first: "
            "explanation[i]"
        )
    explained = explanation.targets[0].tolist()  # read back: for a list or a picture
    if target is None:
        return 0
    if target not in explained:
        raise ValueError(f"target {target!r} was not explained; the explained ones are {explained}")
    return explained.index(target)


def label_map_of(explanation: Explanation) -> Tensor:
    """The label map [B,H,W] of an explanation of images.

    Raises:
        ValueError: the explanation is of vectors.
    """
    if explanation.segments is None:
        raise ValueError(
            f"an explanation of {explanation.kind.input}s has no pixels and no segments; "
            "top(), as_list() and plot.bars() show it"
        )
    return explanation.segments
