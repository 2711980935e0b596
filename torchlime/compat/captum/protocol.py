"""Captum's protocol for a caller's own functions: one perturbed input after the other."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from torchlime._warn import warn
from torchlime.compat.captum.arguments import repeated
from torchlime.compat.captum.calling import ForwardFunc, as_scores, run, wrong_number
from torchlime.compat.captum.room import Room, same_alone
from torchlime.compat.captum.scoring import Advance
from torchlime.compat.captum.targets import Targets

Pairs = Iterator[tuple[Tensor, Any]]


def perturbed_pairs(lime: Any, inputs: Any, kwargs: dict[str, Any]) -> Pairs:
    """(interpretable [1,F], perturbed input) without end, by the functions of a LimeBase."""
    if inspect.isgeneratorfunction(lime.perturb_func):
        samples = lime.perturb_func(inputs, **kwargs)
    else:
        samples = iter(lambda: lime.perturb_func(inputs, **kwargs), object())
    for sample in samples:
        if lime.perturb_interpretable_space:
            yield sample, lime.from_interp_rep_transform(sample, inputs, **kwargs)
        else:
            yield lime.to_interp_rep_transform(sample, inputs, **kwargs), sample


def fit_by_protocol(
    lime: Any,
    inputs: Any,
    target: Any,
    further: Any,
    n_samples: int,
    perturbations_per_eval: int,
    kwargs: dict[str, Any],
    advance: Advance,
) -> Any:
    """Draw, score and weigh samples as Captum's LimeBase does; the model's representation.

    A forward pass takes more than ``perturbations_per_eval`` samples where the function allows it:
    the rules are those of :class:`torchlime.compat.captum.room.Room`.

    Args:
        lime: a LimeBase.
        inputs, target, further: those of a single sample.
        n_samples: N.
        perturbations_per_eval: k.
        kwargs: passed on to the functions.
        advance: called with the samples done.

    Raises:
        AssertionError: there is not one score for each sample.
        ValueError: there is no sample.
    """
    device = (inputs if isinstance(inputs, Tensor) else inputs[0]).device
    batches = _Batches(lime.forward_func, target, further, perturbations_per_eval, device, advance)
    designs, weights = [], []
    with torch.no_grad():
        pairs = perturbed_pairs(lime, inputs, kwargs)
        for _ in range(n_samples):
            pair = next(pairs, None)
            if pair is None:
                warn("Generator completed prior to given n_samples iterations!")
                break
            designs.append(pair[0])
            weight = lime.similarity_func(inputs, pair[1], pair[0], **kwargs)
            weights.append(weight)
            batches.add(pair[1])
        if not designs:
            raise ValueError("perturb_func gave no sample, so there is nothing to fit")
        data = torch.cat(designs).float(), batches.scores().float(), _joined(weights, device)
    return fitted(lime.interpretable_model, TensorDataset(*data))


@torch.no_grad()
def fitted(model: Any, data: TensorDataset) -> Any:
    """The representation of a model after its ``fit``; both run without gradients, as in Captum.

    A model that trains by gradients turns them on itself (``torch.enable_grad``).
    """
    model.fit(DataLoader(data, batch_size=len(data)))
    return model.representation()


def _joined(weights: list[Any], device: torch.device) -> Tensor:
    """Weights, each a number or a tensor of one, as float32 [n]."""
    if all(not isinstance(weight, Tensor) for weight in weights):
        return torch.tensor(weights, device=device).float()
    parts = [
        w.flatten() if isinstance(w, Tensor) else torch.tensor([w], device=device) for w in weights
    ]
    return torch.cat(parts).float()


class _Batches:
    """Scores perturbed inputs, some at a time."""

    def __init__(
        self,
        function: ForwardFunc,
        target: Any,
        further: Any,
        least: int,
        device: torch.device,
        advance: Advance,
    ):
        self.function = function
        self.target = target
        self.further = (
            further if isinstance(further, tuple) else () if further is None else (further,)
        )
        self.least = least
        self.device = device
        self.advance = advance
        self.room: Room | None = None  # set by the first input
        self.waiting: list[Any] = []
        self.found: list[Tensor] = []
        self.done = 0

    def add(self, perturbed: Any) -> None:
        """Score it now or later."""
        if self.room is None:
            tensors = perturbed if isinstance(perturbed, tuple | list) else (perturbed,)
            self.room = Room(self.least, tuple(tensors), self.device)
        self.waiting.append(perturbed)
        if len(self.waiting) >= self.room.size:
            self._flush(self.room)

    def scores(self) -> Tensor:
        """All scores [n]."""
        if self.room is not None:
            self._flush(self.room)
        return torch.cat(self.found)

    def _flush(self, room: Room) -> None:
        while self.waiting:
            size = min(room.size, len(self.waiting))
            unproven = not self.found and room.is_unproven and room.holds_more(size)
            try:
                found = self._scored(self.waiting[:size])
                if unproven and not same_alone(lambda i: self._scored([self.waiting[i]]), found):
                    room.fall_back()
                    continue
            except Exception as error:
                room.shrink(error, size)
                continue
            del self.waiting[:size]
            self.found.append(found)
            self.done += size
            self.advance(self.done)

    def _scored(self, inputs: list[Any]) -> Tensor:
        number = len(inputs)
        chunk = joined_inputs(inputs)
        further = tuple(repeated(value, number) for value in self.further)
        outputs = run(self.function, chunk if isinstance(chunk, tuple) else (chunk,), further)
        targets = Targets(_expanded(self.target, number), self.device, number)
        explained = targets(outputs, None)
        if isinstance(explained, Tensor) and explained.numel() != number:
            raise AssertionError(wrong_number(explained, number))
        return as_scores(explained, number, self.device).flatten()


def joined_inputs(inputs: list[Any]) -> Any:
    """Several inputs as one: tensors are joined on axis 0, tuples and lists place by place."""
    first = inputs[0]
    if isinstance(first, Tensor):
        return torch.cat([one.to(first.device) for one in inputs]) if len(inputs) > 1 else first
    if isinstance(first, tuple | list):
        return tuple(joined_inputs([one[i] for one in inputs]) for i in range(len(first)))
    raise AssertionError(
        "a perturbed input must be a tensor, or a tuple or list of tensors, got "
        f"{type(first).__name__}"
    )


def _expanded(target: Any, times: int) -> Any:
    if times > 1 and isinstance(target, list):
        return target * times
    if times > 1 and isinstance(target, Tensor) and target.numel() > 1:
        return torch.cat([target] * times)
    return target
