"""From a call to its result: design, scores, weights, fit. Lime and KernelShap share it."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from torchlime._undisturbed import undisturbed
from torchlime._warn import warn
from torchlime.compat.captum.arguments import Inputs
from torchlime.compat.captum.calling import Calls, as_scores
from torchlime.compat.captum.drawing import draw_first_weights
from torchlime.compat.captum.feature_masks import Columns
from torchlime.compat.captum.linear_models import LinearModel, keep_last, solved, solver_of
from torchlime.compat.captum.native import explanation_of
from torchlime.compat.captum.perturbed import Perturbed
from torchlime.compat.captum.protocol import fit_by_protocol
from torchlime.compat.captum.scoring import Advance, Scoring, progress
from torchlime.fit import Fit


@dataclass(frozen=True)
class Asked:
    """The arguments of ``attribute`` that say how much is computed, and what comes back."""

    n_samples: int
    perturbations_per_eval: int
    return_input_shape: bool
    show_progress: bool
    return_explanation: bool


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
    bars = 1 if whole else batch
    steps = bars * math.ceil(asked.n_samples / asked.perturbations_per_eval)
    solve = solver_of(method.interpretable_model)
    shape = (method, calls, columns, asked)
    with progress(asked.show_progress, method.get_name(), steps, bars * asked.n_samples) as advance:
        if not method.is_known():
            _check_no_explanation(asked, "similarity, perturbation and transform")
            return _result(_by_protocol(*shape, whole, advance), calls, columns, asked, whole)
        if solve is None and method.rng == "captum" and not whole:
            samples = None  # the model's own fits draw from the stream, in between
        else:
            samples = _samples(*shape, count, whole, advance)
    if solve is None:
        _check_no_explanation(asked, "interpretable model")
        coefficients = (
            torch.cat([_one_by_one(*shape, count, example) for example in range(batch)])
            if samples is None
            else _own_fits(method, samples)
        )
        return _result(coefficients, calls, columns, asked, whole)
    assert samples is not None
    present = samples.design.new_full((len(samples.design),), columns.number, dtype=torch.int64)
    present = present if count is None else count
    with undisturbed(calls.inputs.device):
        fit = solved(solve, *samples, present)
        keep_last(method.interpretable_model, fit.coefficients[-1], fit.intercepts[-1])
        if asked.return_explanation:
            scores = as_scores(unmasked, len(fit.ok), calls.inputs.device)
            words = _words(method, asked)
            return explanation_of(calls, columns, present, samples, fit, scores, whole, words)
        return _result(_float(fit), calls, columns, asked, whole)


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


def _samples(
    method: Method,
    calls: Calls,
    columns: Columns,
    asked: Asked,
    count: Tensor | None,
    whole: bool,
    advance: Advance,
) -> Samples:
    inputs, number = calls.inputs, asked.n_samples
    device = inputs.device
    with torch.no_grad():
        design = method.masks(columns, number, 1 if whole else inputs.batch, device)
        if count is not None:  # a column that an example lacks is never shown
            design = design & (torch.arange(columns.number, device=device) < count[:, None, None])
    scoring = Scoring(calls, asked.perturbations_per_eval, advance=advance)
    if whole:
        every = design.expand(inputs.batch, -1, -1)
        scores = scoring.of_batch(lambda box: Perturbed(inputs, columns, every, box, True), number)
    else:
        scores = scoring(lambda box: Perturbed(inputs, columns, design, box), number)
    with undisturbed(device):
        weights = method.weights(inputs, columns, design, whole)
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


def _by_protocol(
    method: Any, calls: Calls, columns: Columns, asked: Asked, whole: bool, advance: Advance
) -> Tensor:
    """The coefficients [B,F], sample by sample; [1,F] of the whole batch."""
    counts = asked.n_samples, asked.perturbations_per_eval
    inputs, found = calls.inputs, []
    if whole or inputs.batch == 1:
        given = inputs.like(inputs.given)
        kwargs = method.kwargs_of(inputs, columns)
        further = calls.further.values
        found.append(
            fit_by_protocol(method, given, calls.targets.given, further, *counts, kwargs, advance)
        )
        _draw_as_captum(method, columns.number)
        return found[0].reshape(1, -1)
    for example in range(inputs.batch):
        before = example * asked.n_samples
        one, own = inputs.example(example), columns.example(example)
        coefficients = fit_by_protocol(
            method, one.like(one.tensors), calls.targets.of_example(example),
            calls.further.of_example(example, 1), *counts, method.kwargs_of(one, own),
            partial(lambda before, done: advance(before + done), before),
        )  # fmt: skip
        _draw_as_captum(method, columns.number)
        found.append(coefficients.reshape(1, -1))
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
            model.fit(DataLoader(data, batch_size=len(z)))
            _draw_as_captum(method, z.shape[1])
            rows.append(model.representation().reshape(-1))
    found = torch.stack(rows)
    targets = samples.scores.shape[2]
    return found if targets == 1 else found.unflatten(0, (-1, targets))


def _one_by_one(
    method: Method, calls: Calls, columns: Columns, asked: Asked, count: Tensor | None, example: int
) -> Tensor:
    """The coefficients [1,F] of an example whose design is drawn after the fits before it."""
    own = Calls(
        method.forward_func,
        calls.inputs.example(example),
        calls.targets.of_example(example),
        calls.further.of_example(example, 1),
    )
    mine = None if count is None else count[example : example + 1]
    samples = _samples(method, own, columns.example(example), asked, mine, False, lambda done: None)
    return _own_fits(method, samples)


def _float(fit: Fit) -> Tensor:
    """Coefficients [B,F] float32, [B,T,F] of several targets."""
    found = fit.coefficients.float()
    return found[:, 0] if found.shape[1] == 1 else found


def _result(coefficients: Tensor, calls: Calls, columns: Columns, asked: Asked, whole: bool) -> Any:
    if not asked.return_input_shape:
        return coefficients.cpu()  # read back, as Captum's models do
    columns = columns.example(0) if whole else columns
    return calls.inputs.like(columns.shaped(coefficients, calls.inputs))


def _check_no_explanation(asked: Asked, what: str) -> None:
    if asked.return_explanation:
        raise ValueError(
            f"return_explanation=True needs a {what} that torchlime knows: Captum's defaults, its "
            "scikit-learn models with alpha, or a surrogate of torchlime"
        )


def _words(method: Any, asked: Asked) -> dict[str, Any]:
    model, kernel = method.interpretable_model, method.similarity_func
    return {
        "method": method.get_name(), "num_samples": asked.n_samples,
        "kernel": getattr(kernel, "__name__", repr(kernel)), "surrogate": solver_of(model),
        "seed": method.rng or method.seed,
    }  # fmt: skip
