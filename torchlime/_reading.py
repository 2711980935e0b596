"""Explanations in words: the names of their classes, and all in a few lines."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Categories = Mapping[int, str] | Sequence[str]

_INPUTS, _TARGETS, _PARTS = 4, 3, 5  # are told one by one
_OWN = "scores by the caller's function"
_SCORES = {"probability": "probabilities", "logit": "logits"}


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
    given = str(explanation.settings.get("scores", ""))
    if explanation.explained is not None or given:
        kind = given.partition("(")[0]
        return f"scores by {kind}" if kind.isidentifier() and kind != "Computed" else _OWN
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
