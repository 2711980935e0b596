"""The samples of a call, collected round by round: design, scores, weights."""

from typing import NamedTuple, cast

import torch
from torch import Tensor

from torchlime._by_need import picked
from torchlime._hash import numbers
from torchlime._kinds import Kind
from torchlime._problems import Problem, broken, flag
from torchlime._shared_predictions import SharedPredictions
from torchlime.black_box import BlackBox, Forward, Model
from torchlime.explanation import Explanation
from torchlime.predictions import Predictions
from torchlime.strategies import EndlessSampler, Features, Kernel, Reference, Sampler, Scores
from torchlime.targets import Classes


class Samples(NamedTuple):
    """What a surrogate is fitted to.

    Attributes:
        design: [B,N,S], masks bool (True = kept), or noise.
        scores: [B,N,T], in the solve's dtype.
        weights: [B,N].
        unmasked: [B,T], the scores of the inputs as they are.
        targets: [B,T] int64.
        energy: [B,S], or None.
        problems: [B] int64, bits of Problem.
        beside: whether the inputs are beside the design; if not, row 0 of the design is the input.
    """

    design: Tensor
    scores: Tensor
    weights: Tensor
    unmasked: Tensor
    targets: Tensor
    energy: Tensor | None
    problems: Tensor
    beside: bool = False


class Sampling:
    """Collects the samples of a call, round by round.

    Args:
        model, features, scores, kernel, forward: as for :func:`torchlime.local.local_fit`.
        kind: the features' kind for the sampler.
        energy: compute the energy even if the kernel does not need it.

    Attributes:
        first: the number of the next row.
    """

    def __init__(
        self,
        model: Model,
        features: Features,
        kind: Kind,
        scores: Scores,
        kernel: Kernel,
        forward: Forward,
        energy: bool = False,
    ):
        self.features = features
        self.kind = kind
        self.scores = scores
        self.kernel = kernel
        self.forward = forward
        device, these = features.count.device, kind.these
        self.box = BlackBox(model, device, forward, these, features.call)
        self.first = 0
        self._wants_energy = energy or getattr(kernel, "needs_energy", False)
        self._designs: list[Tensor] = []
        self._scores: list[Tensor] = []
        self._whole: Tensor | None = None  # of a single round: those of the inputs, and the scores

    def add(self, design: Tensor, later: int = 0) -> Samples:
        """Score further rows [B,n,S] of the design; return all samples so far.

        ``later`` is how many rows may follow.
        """
        self.take(design, later)
        return self.samples()

    def take(self, design: Tensor, later: int = 0, inputs: list[int] | None = None) -> None:
        """Score further rows [B,n,S] of the design. Only later rounds may name some ``inputs``."""
        features, kind = self.features, self.kind
        beside = int(kind.beside and self.first == 0)
        rows = kind.rows(design, features.count) if beside else design
        number = design.shape[1] + beside
        if self.first == 0:
            self._begin(len(design) * (number + later))
        scores = self.score(features.rows(rows, self.box, self.first), number, inputs)
        if self.first == 0:
            self._problems = features.problems(None if beside else rows, self.box)
            self._energy = features.energy() if self._wants_energy else None
        self.first += design.shape[1]
        with torch.set_grad_enabled(self.forward.differentiable):
            self._whole = None if self._designs else scores
            if not self._designs:
                self._unmasked = scores[:, 0]
            self._scores = [_joined([*self._scores, scores[:, beside:]])]
        self._designs = [_joined([*self._designs, design])]

    def resume(self, kept: Explanation, rows: int, left: list[int]) -> tuple[Tensor, Tensor]:
        """Go on from the first ``rows`` rows of an explanation; each input may take ``left`` more.

        The unmasked inputs are scored again, since they fix what is explained. It returns the
        targets [B,T] and their scores [B,T].
        """
        masks, scores = kept.masks, kept.sample_scores
        assert masks is not None
        assert scores is not None
        masks, scores = masks[:, :rows], scores[:, :rows]
        self._begin(len(masks) * (1 + max(left)))
        design = self.kind.rows(masks, self.features.count)
        self._unmasked = self.score(self.features.rows(design[:, :1], self.box, 0), 1)[:, 0]
        self._problems = self.features.problems(None if self.kind.beside else design, self.box)
        self._energy = self.features.energy() if self._wants_energy else None
        self._designs, self._scores = [masks], [scores]
        self.first = masks.shape[1]
        self.score.expect(left)
        return self.score.reference["targets"], self._unmasked

    def fill_in(self, low: int, high: int, inputs: list[int]) -> None:
        """Score the known rows ``low`` … ``high`` − 1 for inputs that do not have them yet."""
        rows = self.features.rows(self._designs[0][:, low:high], self.box, low)
        found = self.score(rows, high - low, inputs)
        with torch.set_grad_enabled(self.forward.differentiable):
            every = self._scores[0].clone()
            for b in inputs:
                every[b, low:high] = found[b]
            self._scores, self._whole = [every], None

    def some(self, index: Tensor | None, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Design, scores, weights and count of the first ``rows`` rows of some inputs."""
        design, scores, count = (
            picked(values, index)
            for values in (
                self._designs[0][:, :rows],
                self._scores[0][:, :rows],
                self.features.count,
            )
        )
        energy = None if self._energy is None else picked(self._energy, index)
        weights = self.kind.weights(self.kernel, design, count, energy)
        return design, scores, weights.to(scores.dtype), count

    @property
    def scored(self) -> tuple[Tensor, Tensor, Reference]:
        """The scores [B,N,T] so far, the scores of the inputs [B,T], and what the inputs fixed."""
        return self._scores[0], self._unmasked, self.score.reference

    @scored.setter
    def scored(self, values: tuple[Tensor, Tensor, dict[str, Tensor]]) -> None:
        scores, self._unmasked, self.score.reference = values
        self._scores, self._whole = [scores], None

    def samples(self, used: Tensor | None = None, weights: Tensor | None = None) -> Samples:
        """All samples so far; or the first ``used`` [B] of each input, with these weights [B,N]."""
        kind, count = self.kind, self.features.count
        design, scores = self._designs[0], self._scores[0]
        if used is None or weights is None:
            weights = kind.weights(self.kernel, design, count, self._energy)
        else:
            taken = numbers(design.shape[1], used) < used[:, None]
            scores, self._whole = torch.where(taken[..., None], scores, 0.0), None
        return Samples(
            design, scores, weights.to(scores.dtype), self._unmasked,
            self.score.reference["targets"], self._energy, self._flags(scores),
            kind.beside,
        )  # fmt: skip

    def _begin(self, total: int) -> None:
        features, scores = self.features, self.scores
        settings = (len(features.count), self.forward, features.chunk_size, total)
        self.score: Predictions | SharedPredictions
        if features.shared and isinstance(scores, Classes):
            self.score = SharedPredictions(self.box, scores, *settings)
        else:
            self.score = Predictions(self.box, scores, *settings)

    def _flags(self, scores: Tensor) -> Tensor:
        if self._whole is not None:
            scores = self._whole
        elif self.kind.beside:
            scores = torch.cat([self._unmasked[:, None], scores], dim=1)
        problems = flag(broken(scores), Problem.NON_FINITE_SCORES, self._problems)
        in_range = self.score.reference.get("in_range")
        if in_range is None:
            return problems
        return flag(~in_range, Problem.TARGET_OUT_OF_RANGE, problems)


def drawn(
    sampler: Sampler, features: Features, num_samples: int, seed: int | Tensor, first: int = 0
) -> Tensor:
    """The rows of a sampler from row ``first`` on, checked."""
    count, bound = features.count, features.bound
    if first == 0:
        design = sampler(count, bound, num_samples, seed=seed)
    else:
        design = cast(EndlessSampler, sampler)(count, bound, num_samples, seed=seed, first=first)
    return features.kind.check(design, count, bound)


def _joined(parts: list[Tensor]) -> Tensor:
    """Parts [B,n,…] joined to [B,N,…]; a view if all parts are views of one draw for all inputs."""
    if len(parts) == 1:
        return parts[0]
    batch = len(parts[0])
    if batch > 1 and all(part.stride(0) == 0 for part in parts):
        return torch.cat([part[:1] for part in parts], dim=1).expand(batch, -1, -1)
    return torch.cat(parts, dim=1)
