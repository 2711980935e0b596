"""From a call to its result: design, scores, weights, fit. Lime and KernelShap share it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from torchlime._undisturbed import undisturbed
from torchlime._warn import warn
from torchlime.compat.captum.arguments import Inputs
from torchlime.compat.captum.calling import Calls, as_scores
from torchlime.compat.captum.drawing import draw_first_weights
from torchlime.compat.captum.feature_masks import Columns
from torchlime.compat.captum.linear_models import LinearModel, keep_last, solved, solver_of
from torchlime.compat.captum.native import explanation_of
from torchlime.compat.captum.perturbed import Perturbed
from torchlime.compat.captum.protocol import fit_by_protocol, fitted
from torchlime.compat.captum.scoring import Advance, Scoring, progress
from torchlime.fit import Fit


@dataclass(frozen=True)
class Asked:
    """The arguments of ``attribute`` that say how much is computed, and what comes back.

    ``further`` is what the caller's own functions get beside that of :meth:`Method.kwargs_of`.
    """

    n_samples: int
    perturbations_per_eval: int
    return_input_shape: bool
    show_progress: bool
    return_explanation: bool
    further: Mapping[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """What Lime and KernelShap differ in."""

    forward_func: Any
    interpretable_model: Any
    rng: str | None

    def masks(self, columns: Columns, samples: int, batch: int, device: torch.device) -> Tensor:
        """The design [B,N,F]."""
        ...

    def weights(
        self, inputs: Inputs, columns: Columns, design: Tensor, whole: bool = False
    ) -> Tensor:
        """The weights [B,N] of a design."""
        ...

    def is_known(self) -> bool:
        """Whether design and weights run as tensors."""
        ...

    def kwargs_of(self, inputs: Inputs, columns: Columns) -> dict[str, Any]:
        """What the caller's own functions get beside a sample."""
        ...

    def get_name(self) -> str:
        """The name in a progress bar."""
        ...


class Samples(NamedTuple):
    """What a surrogate is fitted to: design [B,N,F] bool, scores [B,N,T] and weights [B,N]."""

    design: Tensor
    scores: Tensor
    weights: Tensor


class _Call(NamedTuple):
    """One call of ``attribute``; see :func:`explained`. ``whole``: one score for the batch."""

    method: Method
    calls: Calls
    columns: Columns
    counts: Tensor | None
    asked: Asked
    whole: bool

    def present(self, examples: int) -> Tensor:
        """How many columns each example has [B]."""
        if self.counts is not None:
            return self.counts
        return torch.full((examples,), self.columns.number, device=self.calls.inputs.device)

    def example(self, number: int) -> "_Call":
        """The call for one example."""
        calls, own = self.calls, slice(number, number + 1)
        alone = Calls(
            self.method.forward_func,
            calls.inputs.example(number),
            calls.targets.of_example(number),
            calls.further.of_example(number, 1),
        )
        counts = None if self.counts is None else self.counts[own]
        return self._replace(calls=alone, columns=self.columns.example(number), counts=counts)


def explained(
    method: Method, calls: Calls, columns: Columns, count: Tensor | None, asked: Asked
) -> Any:
    """The result of a call of ``attribute``.

    Args:
        method: Lime or KernelShap.
        calls: the forward function and its inputs.
        columns: the columns of the inputs' features.
        count: how many columns each example has [B]; None = all.
        asked: what comes back.

    Raises:
        AssertionError: the forward function gives another number of scores.
        ValueError: an Explanation is asked for, but the caller's own functions are used; or scores
            or weights are not finite (on a CPU; elsewhere the result is NaN).
    """
    batch = calls.inputs.batch
    unmasked = calls.whole() if batch > 1 or asked.return_explanation else None
    whole = batch > 1 and _is_one_score(unmasked, calls, asked)
    call = _Call(method, calls, columns, count, asked, whole)
    bars = 1 if whole else batch
    steps = bars * math.ceil(asked.n_samples / asked.perturbations_per_eval)
    with progress(asked.show_progress, method.get_name(), steps, bars * asked.n_samples) as advance:
        if not method.is_known():
            _check_no_explanation(asked, "similarity, perturbation and transform")
            return _result(_by_protocol(call, advance), call)
        solve = solver_of(method.interpretable_model)
        if solve is None:
            _check_no_explanation(asked, "interpretable model")
            return _result(_by_own_fits(call, advance), call)
        samples = _samples(call, advance)
    with undisturbed(calls.inputs.device):
        present = call.present(len(samples.design))
        fit = solved(solve, *samples, present)
        keep_last(method.interpretable_model, fit.coefficients[-1], fit.intercepts[-1])
        if asked.return_explanation:
            scores = as_scores(unmasked, len(fit.ok), calls.inputs.device)
            words = _words(method, asked)
            return explanation_of(calls, columns, present, samples, fit, scores, whole, words)
        return _result(_float(fit), call)


def _is_one_score(unmasked: Any, calls: Calls, asked: Asked) -> bool:
    """Whether the function gives one score for the whole batch, as Captum decides it."""
    batch, several = calls.inputs.batch, calls.targets.several or 1
    if not isinstance(unmasked, Tensor) or unmasked.numel() == 1:
        if asked.perturbations_per_eval != 1:
            raise AssertionError(
                "Perturbations per eval must be 1 when forward function returns single value per "
                f"batch, got perturbations_per_eval={asked.perturbations_per_eval}"
            )
        return True
    if unmasked.numel() != batch * several:
        raise AssertionError(
            "Invalid number of outputs, forward function should return a scalar per example or a "
            f"scalar per input batch; got {list(unmasked.shape)} for {batch} examples"
            + ("; pass target= to choose one" if calls.targets.given is None else "")
        )
    warn(
        "You are providing multiple inputs for Lime / Kernel SHAP attributions. This trains a "
        "separate interpretable model for each example, which can be time consuming. It is "
        "recommended to compute attributions for one example at a time."
    )
    return False


def _samples(call: _Call, advance: Advance) -> Samples:
    inputs, columns, number = call.calls.inputs, call.columns, call.asked.n_samples
    device, whole = inputs.device, call.whole
    with torch.no_grad():
        design = call.method.masks(columns, number, 1 if whole else inputs.batch, device)
        if call.counts is not None:  # a column that an example lacks is never shown
            exists = torch.arange(columns.number, device=device) < call.counts[:, None, None]
            design = design & exists
    scoring = Scoring(call.calls, call.asked.perturbations_per_eval, advance=advance)
    if whole:
        every = design.expand(inputs.batch, -1, -1)
        scores = scoring.of_batch(lambda box: Perturbed(inputs, columns, every, box, True), number)
    else:
        scores = scoring(lambda box: Perturbed(inputs, columns, design, box), number)
    with undisturbed(device):
        weights = call.method.weights(inputs, columns, design, whole)
        if device.type == "cpu":
            _check_finite(scores, weights)
    return Samples(design, scores, weights)


def _check_finite(scores: Tensor, weights: Tensor) -> None:
    for what, values, remedy in (
        ("forward_func gave", scores, "check the model at the perturbed inputs"),
        ("similarity_func gave", weights, "check that inputs and baselines are finite"),
    ):
        if not bool(values.isfinite().all()):
            raise ValueError(f"{what} NaN or infinite values, so nothing can be fitted; {remedy}")


def _by_protocol(call: _Call, advance: Advance) -> Tensor:
    """The coefficients [B,F], sample by sample; [1,F] of the whole batch."""
    batch, number = call.calls.inputs.batch, call.asked.n_samples
    alone = call.whole or batch == 1
    found = []
    for example in range(1 if alone else batch):
        own = call if alone else call.example(example)
        inputs = own.calls.inputs
        coefficients = fit_by_protocol(
            call.method,
            inputs.like(inputs.given),
            own.calls.targets.given,
            own.calls.further.values,
            number,
            call.asked.perturbations_per_eval,
            {**call.method.kwargs_of(inputs, own.columns), **call.asked.further},
            partial(lambda before, done: advance(before + done), example * number),
        )
        _draw_as_captum(call.method, call.columns.number)
        found.append(coefficients.reshape(1, -1))
    return torch.cat(found)


def _by_own_fits(call: _Call, advance: Advance) -> Tensor:
    """The coefficients [B,F] by a model that fits itself.

    Such fits may draw from Captum's random stream. So each example's design is drawn after the fits
    of the examples before it.
    """
    batch = call.calls.inputs.batch
    if call.method.rng != "captum" or call.whole or batch == 1:
        return _own_fits(call.method, _samples(call, advance))
    found = []
    for example in range(batch):
        found.append(_own_fits(call.method, _samples(call.example(example), lambda done: None)))
        advance((example + 1) * call.asked.n_samples)
    return torch.cat(found)


def _draw_as_captum(method: Method, number: int) -> None:
    """Our models draw no first weights when they are fitted; Captum's do."""
    if method.rng == "captum" and isinstance(method.interpretable_model, LinearModel):
        draw_first_weights(number)


def _own_fits(method: Method, samples: Samples) -> Tensor:
    """The coefficients [B,F] ([B,T,F] of several targets) by the model's own ``fit``."""
    model, rows = method.interpretable_model, []
    for z, y, w in zip(*samples, strict=True):
        for t in range(y.shape[1]):
            data = TensorDataset(z.float(), y[:, t].float(), w.float())
            rows.append(fitted(model, data).detach().reshape(-1))
            _draw_as_captum(method, z.shape[1])
    found = torch.stack(rows)
    targets = samples.scores.shape[2]
    return found if targets == 1 else found.unflatten(0, (-1, targets))


def _float(fit: Fit) -> Tensor:
    """Coefficients [B,F] float32, [B,T,F] of several targets."""
    found = fit.coefficients.float()
    return found[:, 0] if found.shape[1] == 1 else found


def _result(coefficients: Tensor, call: _Call) -> Any:
    if not call.asked.return_input_shape:
        return coefficients.cpu()  # read back, as Captum's models do
    columns = call.columns.example(0) if call.whole else call.columns
    inputs = call.calls.inputs
    return inputs.like(columns.shaped(coefficients, inputs))


def _check_no_explanation(asked: Asked, what: str) -> None:
    if asked.return_explanation:
        raise ValueError(
            f"return_explanation=True needs a known {what}: Captum's own functions, its "
            "scikit-learn models with alpha, or a surrogate of torchlime"
        )


def _words(method: Any, asked: Asked) -> dict[str, Any]:
    model, kernel = method.interpretable_model, method.similarity_func
    return {
        "method": method.get_name(), "num_samples": asked.n_samples,
        "kernel": getattr(kernel, "__name__", repr(kernel)), "surrogate": solver_of(model),
        "seed": method.rng or method.seed,
    }  # fmt: skip
