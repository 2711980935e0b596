"""The frozen result of an explanation: values, diagnostics and provenance.

It is of images, by their segments, or of vectors, by their features; what a kernel and a surrogate
do for them is here, too, because :meth:`Explanation.refit` does it again.
"""

import dataclasses
import enum
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from torchlime._antithetic import in_pairs
from torchlime._atomic import whole_file
from torchlime._checks import check_count
from torchlime._undisturbed import undisturbed

FORMAT = 1  # of saved files
Sign = Literal["positive", "negative", "both"]


class Problem(enum.IntFlag):
    """What can be wrong with an explanation of one input; the bits of ``Explanation.problems``."""

    NON_FINITE_IMAGE = 1
    SEGMENTS_NOT_CONVERGED = 2
    NON_FINITE_SCORES = 4
    TARGET_OUT_OF_RANGE = 8
    SOLVE_FAILED = 16
    TOO_FEW_EFFECTIVE_SAMPLES = 32
    FIRST_ROW_MASKED = 64
    BAD_SCALE = 128


REASONS = {
    Problem.NON_FINITE_IMAGE: "the {input} holds NaN or infinite values",
    Problem.SEGMENTS_NOT_CONVERGED: (
        "the segmentation did not converge, or has more segments than max_segments"
    ),
    Problem.NON_FINITE_SCORES: "the model returned NaN or infinite scores",
    Problem.TARGET_OUT_OF_RANGE: "a target is not a class of the model",
    Problem.SOLVE_FAILED: "the surrogate could not be solved or did not converge",
    Problem.TOO_FEW_EFFECTIVE_SAMPLES: (
        "the effective {samples} are fewer than the {parts} plus one: "
        "raise num_samples, use fewer {parts} or a wider kernel"
    ),
    Problem.FIRST_ROW_MASKED: (
        "the sampler's first row hides a segment, so its scores are not those of the whole image"
    ),
    Problem.BAD_SCALE: (
        "the scale of a feature is not a finite number above 0, or so small beside the feature "
        "that the dtype of the model's input swallows it: use a wider dtype, or centre the features"
    ),
}


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which segments of each image spoke for and against each target; or features of a vector.

    Convention:
        B images, T targets, S the bound of the segment count, N samples. Coefficients and all that
        follows from the fit are in the solve's dtype (float64). A positive coefficient speaks for
        the target: hiding the segment lowers its score by about that much.
        Of vectors, B of them, features stand for segments, S is F, in the order of the flattened
        vector, and a coefficient is the change of the score per unit of the feature.

    Attributes:
        coefficients: [B,T,S], the surrogate's slope of each segment; 0 beyond the count.
        standard_errors: [B,T,S], heteroscedastic (HC3; of antithetic pairs as one); 0 beyond the
            count, NaN where undefined.
        intercepts: [B,T], the surrogate where everything is hidden; where every feature is 0.
        fidelity: [B,T], weighted R² of the surrogate over the samples.
        targets: [B,T] int64, the explained classes.
        scores: [B,T], the model on the unmasked image.
        local_predictions: [B,T], the surrogate on the unmasked image.
        segments: [B,H,W] int64, ids 0…count−1; [B,0,0] of vectors, which have none.
        segment_count: [B] int64.
        effective_samples: [B], (Σw)²/Σw²; half as many pairs.
        problems: [B] int64, bits of :class:`Problem`; 0 is well.
        settings: how it was made: the explainer's fields (strategies as objects; as their repr once
            loaded from a file), the seed and versions.
        masks, sample_scores, weights, energy: [B,N,S] bool (of vectors the noise, float32),
            [B,N,T], [B,N], [B,S] (not of vectors) with ``keep_samples=True``, else None.
        vectors, scale: [B,F], of vectors; else None.
    """

    coefficients: Tensor
    standard_errors: Tensor
    intercepts: Tensor
    fidelity: Tensor
    targets: Tensor
    scores: Tensor
    local_predictions: Tensor
    segments: Tensor
    segment_count: Tensor
    effective_samples: Tensor
    problems: Tensor
    settings: Mapping[str, Any]
    masks: Tensor | None = None
    sample_scores: Tensor | None = None
    weights: Tensor | None = None
    energy: Tensor | None = None
    vectors: Tensor | None = None
    scale: Tensor | None = None

    @property
    def ok(self) -> Tensor:
        """[B] bool: no problem was found. Stays on the device."""
        return self.problems == 0

    def check(self) -> "Explanation":
        """Return self, or raise RuntimeError with the reasons. Reads ``problems`` on the host."""
        words = {"input": "image", "parts": "segments", "samples": "samples"}
        if self.vectors is not None:
            words = {"input": "vector", "parts": "features"}
            words["samples"] = "samples (or antithetic pairs)"
        bad = [
            (f"{words['input']} {number}: " if len(self) > 1 else "")
            + "; ".join(REASONS[problem].format(**words) for problem in Problem(bits))
            for number, bits in enumerate(self.problems.tolist())  # read back: the caller asks
            if bits
        ]
        if bad:
            raise RuntimeError("the explanation is not to be trusted. " + ". ".join(bad))
        return self

    def heatmap(self) -> Tensor:
        """Each pixel's coefficient: [B,T,H,W] float32.

        Raises:
            ValueError: of vectors, as for :meth:`mask`.
        """
        return self._on_pixels(self.coefficients.float())

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """The strongest segments: (ids [B,T,k] int64, coefficients [B,T,k]).

        By decreasing absolute coefficient, ties to the lower id; padded with -1 and 0.
        """
        check_count(k, "k")
        present = self._present()
        strength = torch.where(present, self.coefficients.abs(), -1.0)
        ids = strength.sort(dim=-1, descending=True, stable=True).indices[..., :k]
        found = present.expand_as(strength).gather(-1, ids)
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

        In the order of :meth:`top`. Reads the coefficients on the host.

        Args:
            feature_names: in the order of the coefficients; None = their numbers.
            target: one of ``targets``; None is the first.

        Raises:
            TypeError: one str for the names.
            ValueError: several inputs (index first: ``explanation[i]``), another number of names,
                or a target that was not explained.
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
            ValueError: an argument out of range; or of vectors, which have no pixels.
        """
        check_count(top, "top")
        strengths = {
            "positive": self.coefficients,
            "negative": -self.coefficients,
            "both": self.coefficients.abs(),
        }
        if sign not in strengths:
            raise ValueError(f"sign must be one of {tuple(strengths)}, got {sign!r}")
        strength = strengths[sign].clamp(min=0)
        order = strength.sort(dim=-1, descending=True, stable=True).indices
        chosen = torch.zeros_like(strength, dtype=torch.bool)
        chosen = chosen.scatter(-1, order[..., :top], True) & (strength > 0)
        return self._on_pixels(chosen)

    def refit(
        self,
        *,
        kernel: Callable[..., Tensor] | None = None,
        surrogate: Callable[..., Any] | None = None,
    ) -> "Explanation":
        """The same samples under another kernel or surrogate, without new forward passes.

        Raises:
            ValueError: the samples were not kept (``keep_samples=True``), or the explanation comes
                from a file, which holds only the surrogate's repr, and ``surrogate`` is not given.
        """
        if self.masks is None or self.sample_scores is None or self.weights is None:
            raise ValueError("refit needs the samples: explain(..., keep_samples=True)")
        surrogate = surrogate or self.settings["surrogate"]
        if not callable(surrogate):
            raise ValueError("an explanation loaded from a file needs refit(surrogate=...)")
        with undisturbed(self.masks.device):
            weights = self.weights
            if kernel is not None:
                weights = weigh(kernel, self.masks, self.segment_count, self.energy)
                weights = weights.to(self.weights.dtype)
            fit = surrogate(self.masks, self.sample_scores, weights, self.segment_count)
            changes = fitted(fit, self.masks, weights, self.segment_count, self.vectors, self.scale)
        before = self.problems & ~(Problem.SOLVE_FAILED | Problem.TOO_FEW_EFFECTIVE_SAMPLES)
        changes["problems"] = changes["problems"] | before
        used = {"kernel": kernel or self.settings["kernel"], "surrogate": surrogate}
        return dataclasses.replace(
            self, **changes, weights=weights, settings={**self.settings, **used}
        )

    def to(self, device: torch.device | str) -> "Explanation":
        """A copy whose tensors lie on ``device``."""
        return self._map(lambda tensor: tensor.to(device))

    def __len__(self) -> int:
        return self.coefficients.shape[0]

    def __getitem__(self, index: int | slice) -> "Explanation":
        """Some of the images; an int keeps the batch axis."""
        if not isinstance(index, slice):
            position = range(len(self))[index]  # IndexError, and negative numbers from the end
            index = slice(position, position + 1)
        return self._map(lambda tensor: tensor[index])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed .npz: arrays and a JSON record, no pickle.

        Wholly or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        import numpy as np

        tensors = {name: tensor.detach() for name, tensor in self._tensors().items()}
        arrays = {name: t.cpu().numpy() for name, t in tensors.items()}  # read back: to a file
        settings = {
            name: value if isinstance(value, str | int | float | None) else repr(value)
            for name, value in self.settings.items()
        }
        record = json.dumps({"format": FORMAT, "settings": settings})
        with whole_file(path) as file:
            np.savez_compressed(file, allow_pickle=False, record=np.array(record), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Explanation":
        """Read what :meth:`save` wrote, onto the CPU.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no explanation, or of a newer format.
        """
        import numpy as np

        with open(path, "rb") as file:
            try:
                with np.load(file, allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
                record = json.loads(str(arrays.pop("record")))
                if record["format"] > FORMAT:
                    raise ValueError(f"its format {record['format']} is newer than {FORMAT}")
                tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
                return cls(settings=dict(record["settings"]), **tensors)._checked()
            except Exception as error:  # damaged bytes surface as errors of many kinds
                reason = f"{os.fspath(path)} is not a saved explanation: {error}"
                raise ValueError(reason) from error

    def _checked(self) -> "Explanation":
        """Return self, or raise ValueError where shapes do not fit together."""
        (batch, targets, width), (_, height, columns) = self.coefficients.shape, self.segments.shape
        expected = {
            "standard_errors": (batch, targets, width),
            "segments": (batch, height, columns),
            **dict.fromkeys(("segment_count", "effective_samples", "problems"), (batch,)),
            **dict.fromkeys(("intercepts", "fidelity", "targets", "scores"), (batch, targets)),
            "local_predictions": (batch, targets),
        }
        if self.vectors is not None:
            expected |= dict.fromkeys(("vectors", "scale"), (batch, width))
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is not of shape {list(shape)}")
        return self

    def _present(self) -> Tensor:
        """[B,1,S] bool: the entries that stand for a segment."""
        columns = torch.arange(self.coefficients.shape[2], device=self.coefficients.device)
        return columns < self.segment_count[:, None, None]

    def _on_pixels(self, values: Tensor) -> Tensor:
        """[B,T,S] → [B,T,H,W]."""
        check_pixels(self)
        index = self.segments.flatten(1)[:, None].expand(-1, values.shape[1], -1)
        return values.gather(2, index).unflatten(2, self.segments.shape[1:])

    def _tensors(self) -> dict[str, Tensor]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if isinstance(value, Tensor)}

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Explanation":
        changed: dict[str, Any] = {name: function(t) for name, t in self._tensors().items()}
        return dataclasses.replace(self, **changed)


def row_of(explanation: Explanation, target: int | None) -> int:
    """The place of ``target`` among the targets of one input; None is the first. On the host.

    Raises:
        ValueError: several inputs, or a target that was not explained.
    """
    inputs = len(explanation.coefficients)
    if inputs != 1:
        raise ValueError(
            f"the explanation holds {inputs} images or vectors; index one first: explanation[i]"
        )
    explained = explanation.targets[0].tolist()  # read back: for a list or a picture
    if target is None:
        return 0
    if target not in explained:
        raise ValueError(f"target {target!r} was not explained; the explained ones are {explained}")
    return explained.index(target)


def check_pixels(explanation: Explanation) -> None:
    """Raise where it is of vectors."""
    if not explanation.segments.numel():
        raise ValueError(
            "an explanation of vectors has no pixels and no segments; "
            "top(), as_list() and plot.bars() show it"
        )


def weigh(
    kernel: Callable[..., Tensor], masks: Tensor, segment_count: Tensor, energy: Tensor | None
) -> Tensor:
    """The kernel's weights [B,N] of masks or noise [B,N,S]: of one design for all, one for all."""
    if energy is None and masks.stride(0) == segment_count.stride(0) == 0:
        return kernel(masks[:1], segment_count[:1], None).expand(len(masks), -1)
    return kernel(masks, segment_count, energy)


def fitted(
    fit: Any,
    masks: Tensor,
    weights: Tensor,
    segment_count: Tensor,
    vectors: Tensor | None = None,
    scale: Tensor | None = None,
) -> dict[str, Tensor]:
    """The fields of an :class:`Explanation` that follow from a Fit to ``masks`` and the weights.

    A Fit to noise is in units of ``scale`` from ``vectors``; the fields are in units of these.
    """
    if vectors is None or scale is None:
        local_predictions = fit.intercepts + fit.coefficients.sum(dim=2)
    else:
        local_predictions = fit.intercepts
        slopes, errors = (v / scale[:, None] for v in (fit.coefficients, fit.standard_errors))
        intercepts = fit.intercepts - (slopes * vectors[:, None]).sum(dim=2)
        fit = fit._replace(coefficients=slopes, standard_errors=errors, intercepts=intercepts)
    effective = weights.sum(dim=1).square() / weights.square().sum(dim=1)
    directions = torch.where(in_pairs(masks), effective / 2, effective)
    too_few = ~(directions >= segment_count + 1 - 1e-9)  # NaN is too few
    problems = flag(~fit.ok, Problem.SOLVE_FAILED)
    problems = problems | flag(too_few, Problem.TOO_FEW_EFFECTIVE_SAMPLES)
    return {
        "coefficients": fit.coefficients,
        "standard_errors": fit.standard_errors,
        "intercepts": fit.intercepts,
        "fidelity": fit.fidelity,
        "local_predictions": local_predictions,
        "effective_samples": effective,
        "problems": problems,
    }


def flag(condition: Tensor, problem: Problem) -> Tensor:
    """``problem`` where ``condition`` [B] holds, else 0: [B] int64."""
    return condition.long() * int(problem)
