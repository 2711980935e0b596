"""Explanations in words: the names of their classes, and all in a few lines."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torchlime._several import is_several, leaves_of, names_of

Categories = Mapping[int, str] | Sequence[str]

_INPUTS, _TARGETS, _PARTS = 4, 3, 5  # are told one by one
_LETTERS = 40  # of a name at most
_UNSURE = ", still less sure than asked"
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


def output_name(explanation: Any, index: int) -> str:
    """The name of a class; "output 7" where the model does not say that its scores are of classes.

    >>> from types import SimpleNamespace
    >>> output_name(SimpleNamespace(categories=None, unit="score"), 7)
    'output 7'
    """
    if explanation.categories is None and explanation.unit == "score":
        return f"output {index}"
    return category_of(explanation.categories, index)


def first_name(category: str) -> str:
    """The first synonym of a category, short enough for a line; a number says that it is a class.

    >>> first_name("tabby, tabby cat"), first_name("7")
    ('tabby', 'class 7')
    """
    name = category.partition(",")[0]
    return f"class {name}" if name.isdecimal() else name


def with_fidelity(text: str, share: float | None) -> str:
    """``text``, and behind it the fidelity where there is one.

    >>> with_fidelity("score 3", 0.634), with_fidelity("score 3", math.nan)
    ('score 3, fidelity 0.63', 'score 3')
    """
    return text if share is None or math.isnan(share) else f"{text}, fidelity {share:.2f}"


def told(explanation: Any) -> str:
    """An explanation in a few lines: kind, shapes, strongest features, fidelity, problems."""
    lines = [headline(explanation)]
    for number in range(min(len(explanation), _INPUTS)):
        lines += _of_input(explanation, number)
    if len(explanation) > _INPUTS:
        lines.append(f"  {others_in_words(explanation, _INPUTS)}")
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
    named = first_name(one.category(target))
    index = "" if named == f"class {target}" else f" ({target})"
    return with_fidelity(f"{named}{index}: {one.unit} {score:.4g}", fidelity)


def problems_in_words(one: Any) -> list[str]:
    """What is wrong with the explanation of one input."""
    return [f"not to be trusted: {reason}" for reason in one.reasons()[0]]


def samples_in_words(used: int, *, sure: bool) -> str:
    """How many samples an explanation took, and whether they were enough.

    >>> samples_in_words(416, sure=True), samples_in_words(2048, sure=False)
    ('416 samples', '2048 samples, still less sure than asked')
    """
    return f"{used} samples{'' if sure else _UNSURE}"


def mean_samples_in_words(used: Sequence[int]) -> str:
    """How many samples several explanations took.

    >>> mean_samples_in_words([512, 512]), mean_samples_in_words([128, 500])
    ('512 samples', 'on average 314 samples, at most 500')
    """
    most = max(used)
    if min(used) == most:
        return f"{most} samples"
    return f"on average {sum(used) / len(used):.0f} samples, at most {most}"


def scores_in_words(explanation: Any) -> str:
    """What the scores are: probabilities, logits, or what the model or a function gives."""
    given = str(explanation.settings.get("scores", ""))
    if explanation.explained is not None or given:
        kind = given.partition("(")[0]
        return f"scores by {kind}" if kind.isidentifier() and kind != "Computed" else _OWN
    known = _SCORES.get(explanation.unit)
    return f"scores are {known}" if known else "scores as the model gives them"


def part_names(one: Any) -> dict[int, str]:
    """What the features of one input are called, by their ids; empty where they have numbers only.

    Segments of several inputs of a model are called by their input: "3 of input[1]".
    """
    names = one.names()
    if names:
        return dict(enumerate(names[0]))
    if not is_several(one.segments):
        return {}
    count = int(one.segment_count[0])
    ids = list(range(count)) if one.ids is None else one.ids[0, :count].tolist()
    holders: dict[int, list[str]] = {}
    for called, labels in zip(
        names_of(one.segments, "input"), leaves_of(one.segments), strict=True
    ):
        if labels is not None and not labels.is_floating_point():
            for column in labels.unique().tolist():
                holders.setdefault(column, []).append(called)
    return {
        ids[column]: f"{ids[column]} of {' and '.join(found)}"
        for column, found in holders.items()
        if column >= 0
    }


def others_in_words(explanation: Any, told: int) -> str:
    """Where the inputs are that are not told."""
    last, noun = len(explanation) - 1, explanation.kind.input
    which = f"{noun} {last} is" if last == told else f"{noun}s {told} to {last} are"
    return f"{which} in explanation[{told}:]"


def _short(name: str) -> str:
    """A name in a line of its own letters, without its middle if it is long."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 13]}...{name[-10:]}"


def _of_input(explanation: Any, number: int) -> Iterator[str]:
    one, part = explanation[number], explanation.kind.part
    count, targets = int(one.segment_count[0]), one.targets[0].tolist()
    if len(explanation) > 1:
        yield f"  {one.kind.input} {number}, {count} {part}s"
    ids, coefficients = (found[0].tolist() for found in one.top(min(_PARTS, count)))
    named = part_names(one)
    for place in range(min(len(targets), _TARGETS)):
        pairs = zip(ids[place], coefficients[place], strict=True)
        strongest = ", ".join(f"{_short(named.get(i, str(i)))}: {value:+.3g}" for i, value in pairs)
        yield f"    {target_in_words(one, place)}"
        yield f"      strongest {part}s {strongest}"
    if len(targets) > _TARGETS:
        rest = " ..." * (len(targets) > 2 * _TARGETS)
        yield f"    and targets {', '.join(map(str, targets[_TARGETS : 2 * _TARGETS]))}{rest}"
    yield from (f"    {sentence}" for sentence in problems_in_words(one))
