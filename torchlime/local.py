"""The one pipeline: from features of any kind to an explanation.

features → design → rows → predictions → scores → weights → coefficients → explanation

No other module composes the stages. It reads nothing back to the host, except in rounds that may
stop early.
"""

from typing import Any

import torch
from torch import Tensor

from torchlime._kinds import Kind, check_through_input
from torchlime._problems import of_the_fit
from torchlime._provenance import in_words, said_by
from torchlime._resuming import check_resume
from torchlime._returns import check_fit, check_rounds, stopping_factor, variance_factor
from torchlime._sampling import Samples as Samples
from torchlime._sampling import Sampling, drawn
from torchlime._taking import by_need, stops_of, together
from torchlime._undisturbed import undisturbed
from torchlime.black_box import BlackBox, Forward, Model
from torchlime.explanation import Explanation
from torchlime.fit import Fit
from torchlime.predictions import Predictions
from torchlime.rounds import Once
from torchlime.strategies import (
    Block,
    Features,
    Kernel,
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
        scores: which scores of the model are explained; see :mod:`torchlime.targets`.
        sampler, kernel, surrogate: see :mod:`torchlime.strategies`.
        num_samples: N, the largest number of rows of the design for each input; with ``resume``,
            the number of further rows. If the sampler or the kind has the input beside the design,
            the model gets one more row.
        rounds: says when the samples are enough.
        forward: how rows pass through the model.
        seed: an int for one draw that all inputs share, or an int64 tensor [B].
        keep_samples: keep the samples, for :meth:`Explanation.refit`.
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

    def stopping_factor_of(rows: int) -> float:
        return stopping_factor(sampler, features.bound, rows)

    check_through_input(surrogate, kind)
    stops = stops_of(rounds, sampler, surrogate, features.bound, kind)
    with undisturbed(count.device):
        if resume is not None:
            check_resume(
                resume, rounds, sampler, seed, features, draw, num_samples, stops,
                forward.differentiable,
            )  # fmt: skip
        if stops or resume is not None:
            samples, fit, used, factor = by_need(
                sampling, draw, rounds, num_samples, stops, surrogate, fit_of, factor_of,
                stopping_factor_of, resume,
            )  # fmt: skip
        else:
            sizes = check_rounds(rounds.sizes(num_samples), sampler)
            samples, fit, used, factor = together(
                sampling, draw, rounds, sizes, fit_of, factor_of
            )  # fmt: skip
        with torch.set_grad_enabled(forward.differentiable):
            fields = fields_of(features, kind, surrogate, fit, samples, keep_samples)
    words = in_words(
        sampler=sampler, num_samples=num_samples, kernel=kernel, surrogate=surrogate, rounds=rounds,
        chunk_size=forward.chunk_size, autocast=forward.autocast, seed=seed,
    )  # fmt: skip
    return Explanation(
        samples_used=used, variance_factor=factor, settings=words, kind=kind, **fields,
        **said_of(model, scores),
    )  # fmt: skip


def fields_of(
    features: Features,
    kind: Kind,
    surrogate: Surrogate,
    fit: Fit,
    samples: Samples,
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
    """The samples that :func:`local_fit` would fit in one round; same arguments and errors."""
    kind = features.kind.drawn_by(sampler)
    sampling = Sampling(model, features, kind, scores, kernel, forward)
    with undisturbed(features.count.device):
        return sampling.add(drawn(sampler, features, num_samples, seed))


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
