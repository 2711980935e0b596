"""Asking: one photo with its best classes, the form, and the explanation, in Streamlit."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import streamlit as st

from torchlime.app import classifiers, explaining, panels
from torchlime.app.classifiers import Answer, Models
from torchlime.app.explained import Made
from torchlime.app.photos import Photo, Prepared
from torchlime.app.words import distinct, spelled

KEPT = 16  # explanations of a session
_HELP = (
    "The best come first. Type a part of a name, a synonym or a WordNet id to find any class of "
    "the model."
)


class Asked(NamedTuple):
    """A photo and its model; ``photo`` tells it from all others."""

    model: str
    photo: Hashable


def ask(
    known: Models,
    asked: Asked,
    photo: Callable[[], Photo],
    slot: str,
    label: str | None = None,
    *,
    at_once: bool = False,
) -> None:
    """Show a photo's best classes, ask what to explain, and show the explanation.

    Args:
        known: the models.
        asked: the photo and its model.
        photo: returns the photo.
        slot: a place of the page, which keeps its own choices and explanations.
        label: the class that is chosen at first; None = the best.
        at_once: explain the first choice before anybody presses the button.
    """
    with st.spinner("Looking at the photo …"):
        ready = panels.kept(
            f"{slot} ready", asked, lambda: classifiers.prepared(known, asked.model, photo())
        )
        answers = panels.kept(
            f"{slot} answers", asked, lambda: classifiers.answers(known, asked.model, ready)
        )
    panels.seen(ready, answers)
    places = _classes(known, asked, answers, slot, label)
    choices = panels.controls(slot)
    wanted = places, choices
    earlier = st.session_state.setdefault(f"{slot} explained", {})
    pressed = st.button("Explain", type="primary", key=f"{slot} explain")
    panels.stopped(slot)
    if pressed or (at_once and asked not in earlier):
        targets = [answers[place].index for place in places]
        made = _explained(known, asked.model, ready, targets, choices, slot)
        earlier.pop(asked, None)
        earlier[asked] = wanted, made
        if len(earlier) > KEPT:
            del earlier[next(iter(earlier))]
    if asked in earlier:
        before, made = earlier[asked]
        if before != wanted:
            st.info(panels.OTHER)
        panels.view(known, made, slot)


def _classes(
    known: Models, asked: Asked, answers: list[Answer], slot: str, label: str | None
) -> list[int]:
    """The places of the chosen classes among the answers."""
    first = 0
    if label is not None:
        target = classifiers.target_of(known, asked.model, label)
        if target is None:
            st.info("The model has no class of that name, so the best class is chosen.")
        else:
            first = [answer.index for answer in answers].index(target)
    also = classifiers.synonyms(known, asked.model)
    words = distinct([f"{spelled(one.category)}, {one.score}{_also(also, one)}" for one in answers])
    return st.multiselect(
        "Explain a class, or two beside each other",
        range(len(answers)),
        [first],
        format_func=words.__getitem__,
        max_selections=2,
        help=_HELP,
        key=f"{slot} classes of {asked}",
    )


def _also(also: list[str], answer: Answer) -> str:
    return spelled(also[answer.index]) if answer.index < len(also) else ""


def _explained(
    known: Models,
    model: str,
    ready: Prepared,
    targets: list[int],
    choices: dict[str, Any],
    slot: str,
) -> Made:
    if not targets:
        raise ValueError("choose a class to explain")
    explainer = explaining.explainer_with(choices)
    with panels.progress(slot) as step:
        return explaining.explain(known, model, ready, targets, explainer, step)
