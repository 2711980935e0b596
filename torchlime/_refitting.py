"""The same samples, fitted by another kernel or surrogate."""

import dataclasses
from typing import Any

from torch import Tensor

from torchlime._by_need import Data, fit_taken, picked
from torchlime._checks import check_callables
from torchlime._kinds import check_through_input
from torchlime._problems import OF_THE_FIT, of_the_fit
from torchlime._provenance import in_words
from torchlime._returns import has_errors
from torchlime._undisturbed import undisturbed
from torchlime.fit import Fit
from torchlime.rounds import Once, Until
from torchlime.strategies import Kernel, Surrogate


def refitted(explanation: Any, kernel: Kernel | None, surrogate: Surrogate | None) -> Any:
    """What :meth:`torchlime.Explanation.refit` returns; with the same arguments and errors."""
    masks, weights, kind = explanation.masks, explanation.weights, explanation.kind
    if masks is None or explanation.sample_scores is None or weights is None:
        raise ValueError("refit needs the samples: explain(..., keep_samples=True)")
    used = surrogate or getattr(explanation.explainer, "surrogate", None)
    if used is None:
        raise ValueError(
            "an explanation without its explainer, such as one that was loaded from a file, "
            "needs refit(surrogate=...)"
        )
    check_callables(surrogate=used, **({} if kernel is None else {"kernel": kernel}))
    check_through_input(used, kind)
    with undisturbed(masks.device):
        fit, weights = _fit_again(explanation, kernel, used)
        fit = fit.scaled(explanation.variance_factor)
        units: dict[str, Any] = {"vectors": explanation.vectors, "scale": explanation.scale}
        changes = kind.fields(fit, masks, weights, explanation.segment_count, **units)
    problems = of_the_fit(changes["problems"], used)
    changes["problems"] = problems | (explanation.problems & ~OF_THE_FIT)
    changes |= _made_by(explanation, kernel, used)
    return dataclasses.replace(explanation, **changes, weights=weights)


def _fit_again(explanation: Any, kernel: Kernel | None, surrogate: Surrogate) -> tuple[Fit, Tensor]:
    """The fit of each input to the rows that it took, and its weights [B,N], 0 beyond."""
    kind, before = explanation.kind, explanation.weights
    kept = (explanation.masks, explanation.sample_scores, before)

    def some(index: Tensor | None, rows: int) -> Data:
        counted = (*(values[:, :rows] for values in kept), explanation.segment_count)
        design, scores, weights, count = (picked(values, index) for values in counted)
        if kernel is not None:
            energy = None if explanation.energy is None else picked(explanation.energy, index)
            weights = kind.weights(kernel, design, count, energy).to(before.dtype)
        return design, scores, weights, count

    def fit(*data: Tensor) -> Fit:
        return kind.fit(surrogate, *data)

    return fit_taken(explanation, some, fit)


def _made_by(explanation: Any, kernel: Kernel | None, surrogate: Surrogate) -> dict[str, Any]:
    """The provenance of a refit."""
    strategies = {"surrogate": surrogate} | ({} if kernel is None else {"kernel": kernel})
    made: dict[str, Any] = {"settings": {**explanation.settings, **in_words(**strategies)}}
    if explanation.explainer is not None:
        made["explainer"] = dataclasses.replace(
            explanation.explainer, **strategies, **_rounds_for(explanation, surrogate)
        )
    return made


def _rounds_for(explanation: Any, surrogate: Surrogate) -> dict[str, Any]:
    """A fixed number of samples in place of a rule, if the surrogate lacks the errors it needs."""
    rule = isinstance(getattr(explanation.explainer, "rounds", None), Until)
    if not rule or has_errors(surrogate):
        return {}
    return {"rounds": Once(), "num_samples": int(explanation.samples_used.max())}  # read back
