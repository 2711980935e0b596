"""Explanations on the host: one input of them, the names of their classes, and all in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import check_count
from torchlime._hash import numbers
from torchlime._several import is_several, names_of

Categories = Mapping[int, str] | Sequence[str]

_INPUTS, _TARGETS, _PARTS = 4, 3, 5  # are told one by one
_SCORES = {"probability": "probabilities", "logit": "logits"}


def row_of(explanation: Any, target: int | None) -> int:
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


def label_maps_of(explanation: Any) -> Any:
    """The label map of an explanation; a tuple or dict of them for several inputs.

    Raises:
        ValueError: the explanation is of vectors.
    """
    if explanation.segments is None:
        raise ValueError(
            f"an explanation of {explanation.kind.input}s has no pixels and no segments; "
            "top(), as_list() and plot.bars() show it"
        )
    return explanation.segments


def label_map_of(explanation: Any) -> Tensor:
    """The label map [B,*axes] of an explanation of one input.

    Raises:
        ValueError: the explanation is of vectors, or of several inputs.
    """
    maps = label_maps_of(explanation)
    if is_several(maps):
        raise ValueError(
            "an explanation of several inputs has a label map for each, and here one is needed; "
            f"{names_of(maps, 'explanation.segments')[0]} is the first; plot.bars() shows them"
        )
    result: Tensor = maps
    return result


def strongest_columns(explanation: Any, k: int) -> tuple[Tensor, Tensor]:
    """As :meth:`Explanation.top`, with the columns of the coefficients in place of ids."""
    check_count(k, "k")
    coefficients = explanation.coefficients
    exists = numbers(coefficients.shape[2], coefficients) < explanation.segment_count[:, None, None]
    strength = torch.where(exists, coefficients.abs(), -1.0)
    order = strength.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    found = exists.expand_as(strength).gather(-1, order)
    values = torch.where(found, coefficients.gather(-1, order), 0.0)
    padding = (0, k - order.shape[-1])
    return (
        torch.nn.functional.pad(torch.where(found, order, -1), padding, value=-1),
        torch.nn.functional.pad(values, padding),
    )


def category_of(categories: Categories | None, index: int) -> str:
    """The name of a class; "class 7" where it has none.

    >>> category_of(["tench", "crane"], 1), category_of({7: "ant"}, 7), category_of(None, 7)
    ('crane', 'ant', 'class 7')
    """
    if isinstance(categories, Mapping):
        return categories.get(index, f"class {index}")
    names = categories or ()
    return names[index] if 0 <= index < len(names) else f"class {index}"


def first_name(category: str) -> str:
    """The first synonym of a category, short enough for a line.

    >>> first_name("tabby, tabby cat")
    'tabby'
    """
    return category.partition(",")[0]


def told(explanation: Any) -> str:
    """An explanation in a few lines: kind, shapes, strongest features, fidelity, problems."""
    lines = [headline(explanation)]
    for number in range(min(len(explanation), _INPUTS)):
        lines += _of_input(explanation, number)
    if len(explanation) > _INPUTS:
        last = f"{_INPUTS} to {len(explanation) - 1}"
        lines.append(f"  {explanation.kind.input}s {last} are in explanation[{_INPUTS}:]")
    return "\n".join(lines)


def headline(explanation: Any) -> str:
    """What was explained, in a line."""
    inputs, shape = len(explanation), ",".join(map(str, explanation.coefficients.shape))
    return (
        f"Explanation of {inputs} {explanation.kind.input}{'s' * (inputs > 1)}: "
        f"coefficients [{shape}], {scores_in_words(explanation)}"
    )


def target_in_words(one: Any, place: int) -> str:
    """A target of one input, its score and its fidelity: "tiger cat (282): probability 0.39, …"."""
    target = int(one.targets[0, place])
    score, fidelity = one.scores[0, place].item(), one.fidelity[0, place].item()
    named = one.category(target)
    index = "" if named == f"class {target}" else f" ({target})"
    return f"{first_name(named)}{index}: {one.unit} {score:.4g}, fidelity {fidelity:.2f}"


def problems_in_words(one: Any) -> list[str]:
    """What is wrong with the explanation of one input."""
    return [f"not to be trusted: {reason}" for reason in one.reasons()[0]]


def scores_in_words(explanation: Any) -> str:
    """What the scores are: probabilities, logits, or what the model or a function gives."""
    if explanation.explained is not None or "scores" in explanation.settings:
        return "scores by the caller's function"
    known = _SCORES.get(explanation.unit)
    return f"scores are {known}" if known else "scores as the model gives them"


def _of_input(explanation: Any, number: int) -> Iterator[str]:
    one, part = explanation[number], explanation.kind.part
    count, targets = int(one.segment_count[0]), one.targets[0].tolist()
    if len(explanation) > 1:
        yield f"  {one.kind.input} {number}, {count} {part}s"
    ids, coefficients = (found[0].tolist() for found in one.top(min(_PARTS, count)))
    names = one.names()
    named = dict(enumerate(names[0])) if names else {}
    for place in range(min(len(targets), _TARGETS)):
        pairs = zip(ids[place], coefficients[place], strict=True)
        strongest = ", ".join(f"{named.get(i, i)} {value:+.3g}" for i, value in pairs)
        yield f"    {target_in_words(one, place)}, strongest {part}s {strongest}"
    if len(targets) > _TARGETS:
        rest = " ..." * (len(targets) > 2 * _TARGETS)
        yield f"    and targets {', '.join(map(str, targets[_TARGETS : 2 * _TARGETS]))}{rest}"
    yield from (f"    {sentence}" for sentence in problems_in_words(one))
