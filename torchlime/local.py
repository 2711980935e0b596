"""The one pipeline: from features of any kind to an explanation.

features → design → rows → predictions → scores → weights → coefficients → explanation

No other module composes the stages. It reads nothing back to the host, except for rounds that may
stop early.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from torchlime._by_need import picked
from torchlime._hash import numbers
from torchlime._kinds import Kind, check_through_input
from torchlime._problems import Problem, broken, flag, of_the_fit
from torchlime._provenance import in_words, said_by
from torchlime._returns import check_fit, check_rounds, variance_factor
from torchlime._shared_predictions import SharedPredictions
from torchlime._taking import by_need, check_resume, stops_of, together
from torchlime._undisturbed import undisturbed
from torchlime.black_box import BlackBox, Forward, Model
from torchlime.explanation import Explanation
from torchlime.fit import Fit
from torchlime.predictions import Predictions
from torchlime.rounds import Once
from torchlime.strategies import (
    Block,
    EndlessSampler,
    Features,
    Kernel,
    Reference,
    Rounds,
    Sampler,
    Scores,
    Surrogate,
)
from torchlime.targets import Classes


def local_fit(
    model: Model,
    features: Features,
    scores: Scores = Classes(),
    *,
    sampler: Sampler,
    num_samples: int,
    kernel: Kernel,
    surrogate: Surrogate,
    rounds: Rounds = Once(),
    forward: Forward = Forward(),
    seed: int | Tensor = 0,
    keep_samples: bool = False,
    resume: Explanation | None = None,
) -> Explanation:
    """Explain a model's scores by the features of its inputs.

    Args:
        model: any callable; :class:`torchlime.black_box.BlackBox` says what it is called with.
        features: the features of the inputs, see :class:`torchlime.strategies.Features`.
        scores: which scores of the model are explained, see :mod:`torchlime.targets`.
        sampler, kernel, surrogate: see :mod:`torchlime.strategies`.
        num_samples: N, the most rows of the design for each input; with ``resume`` so many more. If
            the sampler or the kind has the input beside the design, the model gets a row more.
        rounds: when the samples are enough.
        forward: how rows pass through the model.
        seed: an int for one draw that all inputs share, or an int64 tensor [B].
        keep_samples: keep what the surrogate was fitted to, for :meth:`Explanation.refit`.
        resume: an explanation of the same inputs with its samples, to go on from.

    Raises:
        TypeError, ValueError: a strategy or the model returned another type or shape.
        torch.OutOfMemoryError: not even a single row fits into a forward pass.
    """
    kind, count = features.kind.drawn_by(sampler), features.count
    sampling = Sampling(model, features, kind, scores, kernel, forward, keep_samples)

    def draw(size: int, first: int) -> Tensor:
        return drawn(sampler, features, size, seed, first)

    def fit_of(design: Tensor, scored: Tensor, weights: Tensor, of: Tensor) -> Fit:
        with torch.set_grad_enabled(forward.differentiable):
            found = kind.fit(surrogate, design, scored, weights, of)
        return check_fit(found, scored, features.bound)

    def factor_of(rows: int) -> float:
        return variance_factor(sampler, features.bound, rows)

    check_through_input(surrogate, kind)
    stops = stops_of(rounds, sampler, surrogate, features.bound, kind)
    with undisturbed(count.device):
        if resume is not None:
            check_resume(resume, rounds, sampler, seed, count, draw)
        if stops or resume is not None:
            samples, fit, used, factor = by_need(
                sampling, draw, rounds, num_samples, stops, surrogate, fit_of, factor_of, resume
            )  # fmt: skip
        else:
            sizes = check_rounds(rounds.sizes(num_samples), sampler)
            samples, fit, used, factor = together(
                sampling, draw, rounds, sizes, fit_of, factor_of
            )  # fmt: skip
        with torch.set_grad_enabled(forward.differentiable):
            fields = fields_of(features, kind, fit, samples, surrogate, keep_samples)
    words = in_words(
        sampler=sampler, num_samples=num_samples, kernel=kernel, surrogate=surrogate, rounds=rounds,
        chunk_size=forward.chunk_size, autocast=forward.autocast, seed=seed,
    )  # fmt: skip
    return Explanation(
        samples_used=used, variance_factor=factor, settings=words, kind=kind, **fields,
        **said_of(model, scores),
    )  # fmt: skip


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
        beside: whether the inputs are beside the design; else row 0 of it is the input.
    """

    design: Tensor
    scores: Tensor
    weights: Tensor
    unmasked: Tensor
    targets: Tensor
    energy: Tensor | None
    problems: Tensor
    beside: bool = False


def fields_of(
    features: Features,
    kind: Kind,
    fit: Fit,
    samples: Samples,
    surrogate: Surrogate,
    keep_samples: bool,
) -> dict[str, Any]:
    """The fields of an Explanation that lie on the device."""
    count, carried = features.count, features.fields()
    fields: dict[str, Any] = carried | kind.fields(
        fit, samples.design, samples.weights, count, **carried
    )
    fields["problems"] = of_the_fit(fields["problems"], surrogate) | samples.problems
    fields |= {"targets": samples.targets, "scores": samples.unmasked, "segment_count": count}
    if keep_samples:
        fields |= {"masks": samples.design, "sample_scores": samples.scores}
        fields |= {"weights": samples.weights, "energy": samples.energy}
    return fields


def said_of(model: Model, scores: Scores) -> dict[str, Any]:
    """The fields of an Explanation that say what its scores are."""
    return said_by(model) if isinstance(scores, Classes) else {"explained": scores}


def local_samples(
    model: Model,
    features: Features,
    scores: Scores = Classes(),
    *,
    sampler: Sampler,
    num_samples: int,
    kernel: Kernel,
    forward: Forward = Forward(),
    seed: int | Tensor = 0,
) -> Samples:
    """What :func:`local_fit` would fit in one round; arguments and errors are its."""
    kind = features.kind.drawn_by(sampler)
    sampling = Sampling(model, features, kind, scores, kernel, forward)
    with undisturbed(features.count.device):
        return sampling.add(drawn(sampler, features, num_samples, seed))


class Sampling:
    """Collects the samples of a call, round by round.

    Args:
        model, features, scores, kernel, forward: as for :func:`local_fit`.
        kind: the features' kind for the sampler.
        energy: compute it even if the kernel does not need it.

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

    def add(self, design: Tensor, later: int = 0) -> Samples:
        """Score further rows [B,n,S] of the design; all samples so far.

        ``later`` is how many rows may follow.
        """
        self.take(design, later)
        return self.samples()

    def take(self, design: Tensor, later: int = 0, inputs: list[int] | None = None) -> None:
        """Score further rows [B,n,S] of the design; for some ``inputs`` only in later rounds."""
        features, kind = self.features, self.kind
        beside = int(kind.beside and self.first == 0)
        rows = kind.rows(design, features.count) if beside else design
        number = design.shape[1] + beside
        if self.first == 0:
            self._begin(len(design) * (number + later))
        scores = self.score(features.rows(rows, self.box, self.first), number, inputs)
        if self.first == 0:
            self._problems = features.problems(rows, self.box)
            self._energy = features.energy() if self._wants_energy else None
        self.first += design.shape[1]
        with torch.set_grad_enabled(self.forward.differentiable):
            if not self._designs:
                self._unmasked = scores[:, 0]
            self._scores = [_joined([*self._scores, scores[:, beside:]])]
        self._designs = [_joined([*self._designs, design])]

    def resume(self, kept: Explanation, rows: int, left: list[int]) -> Tensor:
        """Go on from the first ``rows`` of an explanation; ``left`` of each input may follow.

        The inputs as they are are scored again, since they fix what is explained. It returns the
        targets [B,T].
        """
        masks, scores = kept.masks, kept.sample_scores
        assert masks is not None
        assert scores is not None
        masks, scores = masks[:, :rows], scores[:, :rows]
        self._begin(len(masks))
        design = self.kind.rows(masks, self.features.count)
        self._unmasked = self.score(self.features.rows(design[:, :1], self.box, 0), 1)[:, 0]
        self._problems = self.features.problems(design, self.box)
        self._energy = self.features.energy() if self._wants_energy else None
        self._designs, self._scores = [masks], [scores]
        self.first = masks.shape[1]
        self.score.expect(left)
        return self.score.reference["targets"]

    def fill_in(self, low: int, high: int, inputs: list[int]) -> None:
        """Score the known rows ``low`` … ``high`` − 1 for inputs that do not have them yet."""
        rows = self.features.rows(self._designs[0][:, low:high], self.box, low)
        found = self.score(rows, high - low, inputs)
        with torch.set_grad_enabled(self.forward.differentiable):
            every = self._scores[0].clone()
            for b in inputs:
                every[b, low:high] = found[b]
            self._scores = [every]

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
        """The scores [B,N,T] so far, those of the inputs [B,T], and what these fixed."""
        return self._scores[0], self._unmasked, self.score.reference

    @scored.setter
    def scored(self, values: tuple[Tensor, Tensor, dict[str, Tensor]]) -> None:
        scores, self._unmasked, self.score.reference = values
        self._scores = [scores]

    def samples(self, used: Tensor | None = None) -> Samples:
        """All samples so far; with ``used`` [B] those beyond weigh 0."""
        kind, count = self.kind, self.features.count
        design, scores = self._designs[0], self._scores[0]
        if used is None:
            weights = kind.weights(self.kernel, design, count, self._energy)
        else:
            taken = numbers(design.shape[1], used) < used[:, None]
            seen = torch.where(taken[..., None], design, design[:, :1])  # a kernel may compare rows
            weights = kind.weights(self.kernel, seen, count, self._energy).where(taken, 0.0)
            scores = torch.where(taken[..., None], scores, 0.0)
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
        bad = broken(scores)
        if self.kind.beside:
            bad = bad | broken(self._unmasked)
        problems = self._problems | flag(bad, Problem.NON_FINITE_SCORES)
        in_range = self.score.reference.get("in_range")
        if in_range is None:
            return problems
        return problems | flag(~in_range, Problem.TARGET_OUT_OF_RANGE)


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


def local_scores(
    model: Model,
    features: Features,
    scores: Scores,
    design: Tensor,
    forward: Forward = Forward(),
) -> Tensor:
    """The scores [B,N,T] of the rows of a given design [B,N,S], in the solve's dtype."""
    count = features.count
    box = BlackBox(model, count.device, forward, features.kind.these, features.call)
    with undisturbed(count.device):
        design = features.kind.check(design, count, features.bound)
        total = len(count) * design.shape[1]
        score = Predictions(box, scores, len(count), forward, features.chunk_size, total)
        return score(features.rows(design, box, 0), design.shape[1])


def scores_of_inputs(model: Model, inputs: Tensor, forward: Forward = Forward()) -> Tensor:
    """The scores [B,K] of all classes for inputs [B,…] as they are, in the solve's dtype.

    If ``forward`` names no chunk size, one forward pass takes all inputs.
    """

    def rows(blocks: list[Block], size: int) -> Tensor:
        chunk = torch.cat([inputs[numbers] for numbers, _ in blocks])
        padding = chunk[-1:].expand(size - len(chunk), *chunk.shape[1:])
        return torch.cat([chunk, padding]).to(box.dtype or chunk.dtype)

    box = BlackBox(model, inputs.device, forward)
    with undisturbed(inputs.device):
        batch = len(inputs)
        return Predictions(box, Classes("all"), batch, forward, batch, batch)(rows, 1)[:, 0]


def _joined(parts: list[Tensor]) -> Tensor:
    """Parts [B,n,…] as one [B,N,…]; a view where all are views of one draw for all inputs."""
    if len(parts) == 1:
        return parts[0]
    batch = len(parts[0])
    if batch > 1 and all(part.stride(0) == 0 for part in parts):
        return torch.cat([part[:1] for part in parts], dim=1).expand(batch, -1, -1)
    return torch.cat(parts, dim=1)
