"""Panels: the parts of the page that its tabs share, in Streamlit."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import streamlit as st
from torch import Tensor

from torchlime import methods
from torchlime._errors import sentence_of
from torchlime.app import explaining
from torchlime.app.classifiers import Answer, Models
from torchlime.app.explained import STRONGEST, Explained, Made, png
from torchlime.app.photos import Prepared
from torchlime.app.words import plain
from torchlime.cli.meanings import SAMPLERS, SURROGATES
from torchlime.cli.options import FIXED
from torchlime.rounds import GOOD, Until

UNTIL = {
    "quick": Until(error=0.35),
    "good": GOOD,
    "certain": Until(error=0.15),
}
SURE = {
    name: f"{name}: until the error is at most {100 * (rule.error or 0):.0f} %"
    for name, rule in UNTIL.items()
} | {"fixed": "a fixed number of samples"}
FILLS = {"mean": "its mean colour", "colour": "one colour", "blur": "a blur"}
BEST = 5  # classes that are shown at once
OTHER = "The explanation below was made with other choices. Press the button to make a new one."


def seen(photo: Prepared, answers: Sequence[Answer]) -> None:
    """A photo beside its best classes as bars."""
    left, right = st.columns(2)
    with left:
        picture(photo.image)
    with right:
        st.markdown(f"The model sees **{plain(answers[0].category)}**:")
        for answer in answers[:BEST]:
            words = f"{plain(answer.category)} {plain(answer.score)}"
            if answer.share is None:
                st.markdown(words)
            else:
                st.progress(answer.share, words)


def controls(slot: str) -> dict[str, Any]:
    """The settings that are chosen, in the command line's words."""
    limits = explaining.RANGES
    with st.expander("Settings"):
        left, middle, right = st.columns(3)
        method = right.selectbox(
            "Method", explaining.METHODS, None, placeholder="the choices below",
            key=f"{slot} method",
            help="A published method instead of the sampler and the surrogate. What it fixes "
            "itself, such as the segments of a grid, cannot be chosen here. It hides with its own "
            "fill unless you choose a colour or a blur.",
        )  # fmt: skip
        fixed = explaining.fixed_in(None if method is None else methods.get(method))
        sampler = right.selectbox(
            "Sampler", SAMPLERS, key=f"{slot} sampler", help="How the hidden segments are drawn.",
            disabled="sampler" in fixed,
        )  # fmt: skip
        surrogate = right.selectbox(
            "Surrogate", SURROGATES, key=f"{slot} surrogate",
            help="The linear model that is fitted to the network's scores. Its coefficients are "
            "the evidence.",
            disabled="surrogate" in fixed,
        )  # fmt: skip
        segments = left.slider(
            "Segments, about", *limits["segments"], 50, key=f"{slot} segments",
            help="How many pieces the photo is cut into. Many small ones show finer evidence, and "
            "need more samples.",
            disabled="segments" in fixed,
        )  # fmt: skip
        fill = middle.selectbox(
            "A hidden segment shows", FILLS, format_func=FILLS.__getitem__, key=f"{slot} fill",
            help="What is shown in place of a hidden segment. The evidence is relative to it.",
            disabled="fill" in fixed,
        )  # fmt: skip
        colour = ""
        if fill == "colour":
            colour = middle.color_picker(
                "The colour", "#808080", key=f"{slot} colour", disabled="fill" in fixed
            )
        stops = explaining.stops(method, sampler, surrogate)
        grades = [grade for grade in SURE if grade in UNTIL or not stops or "samples" not in fixed]
        sure = left.selectbox(
            "How sure", grades, grades.index("good"), SURE.__getitem__, key=f"{slot} sure",
            help="The network looks at copies of the photo until the evidence is as sure as this: "
            "an easy photo takes fewer than a hard one. The error is that of all segments "
            "together, as a share of the evidence. A lasso and some methods cannot measure it, so "
            "they take a fixed number of samples; other methods stop by a rule of their own.",
            disabled=not stops,
        )  # fmt: skip
        rule = UNTIL.get(sure) if stops else None
        samples = left.select_slider(
            "Samples", [2**power for power in range(5, 12)], FIXED, key=f"{slot} samples",
            help="How many copies of the photo the network looks at, each with other segments "
            "hidden. More samples take longer and are more stable. There must be more samples than "
            "segments.",
            disabled=rule is not None or "samples" in fixed,
        )  # fmt: skip
        seed = middle.number_input(
            "Seed", *limits["seed"], 0, key=f"{slot} seed",
            help="Another seed draws other samples. The same one gives the same explanation.",
        )  # fmt: skip
        if method is not None:
            fixes = "samples" in fixed and not stops
            own = " The method has its own number of samples." if fixes else ""
            st.caption(plain(methods.describe(method)) + own)
    return {
        "method": method,
        "segments": segments,
        "samples": samples,
        "until": None if rule is None else rule.error,
        "most-samples": None if rule is None else rule.most,
        "fill": colour or fill,
        "sampler": sampler,
        "surrogate": surrogate,
        "seed": seed,
    }


def view(known: Models, explained: Explained, slot: str) -> None:
    """Show an explanation; its controls draw it again and compute nothing."""
    alone = len(explained.answers) == 1  # then its chart and controls are beside it
    above = None if alone else st.columns(2)  # on a telephone, both controls come first
    columns = st.columns(2)
    left, right = above or (columns[1], columns[1])
    opacity = left.slider("Opacity", 0.0, 1.0, 0.6, 0.05, key=f"{slot} opacity")
    top = right.slider("Segments shown", 1, STRONGEST, 5, key=f"{slot} top")
    overlays = [explained.overlay(answer.index, top, opacity) for answer in explained.answers]
    for place, answer in enumerate(explained.answers):
        with columns[place % 2]:
            st.subheader(f"{plain(answer.category)}, {plain(answer.score)}", anchor=False)
            st.caption(plain(explained.legend(place)))
            shown = st.container()
            st.markdown(" ".join(filter(None, (explained.fidelity(place), explained.samples))))
        with columns[1 if alone else place % 2]:
            segment = _bars(explained, place, slot)
        with shown:
            picture(explained.framed(overlays[place], segment))
    if isinstance(explained, Made):
        _second(known, explained, slot)
    with st.expander("All segments"):
        picture(explained.borders)
    files: list[tuple[str, str, str, str | bytes]] = [
        ("Picture", ".png", "image/png", png(overlays)),
        ("Explanation", ".npz", "application/zip", explained.archive),
        ("Python", ".py", "text/x-python", explained.snippet(top, opacity)),
    ]
    for column, (label, suffix, mime, data) in zip(st.columns(3), files, strict=True):
        column.download_button(
            f"{label} ({suffix})", data, explained.file_name(suffix), mime,
            key=f"{slot} {suffix}", on_click="ignore", width="stretch",
        )  # fmt: skip


def _bars(explained: Explained, place: int, slot: str) -> int | None:
    """The strongest segments as bars, and which of them is to be framed in the picture."""
    words = explained.strongest(place)
    segment = st.selectbox(
        "Frame a segment", words, None, words.__getitem__, placeholder="none",
        key=f"{slot} {place} {words}",
    )  # fmt: skip
    picture(explained.bars(place))
    st.caption(explained.meaning(place))
    return segment


def _second(known: Models, explained: Made, slot: str) -> None:
    """Show how stable the explanation is, if somebody asks."""
    if st.button("Try the next seed", key=f"{slot} second"):
        with progress(f"{slot} second") as step:
            sentences = explaining.stability(known, explained, step)
        st.session_state[f"{slot} stable"] = explained, sentences
    stopped(f"{slot} second")
    before, sentences = st.session_state.get(f"{slot} stable", (None, []))
    if before is explained:
        for answer, sentence in zip(explained.answers, sentences, strict=True):
            st.markdown(f"**{plain(answer.category)}** {plain(sentence)}")


def picture(pixels: Tensor) -> None:
    """A picture [3,H,W]."""
    st.image(pixels.permute(1, 2, 0).numpy(), width="stretch", output_format="PNG")


@contextlib.contextmanager
def progress(slot: str) -> Iterator[Callable[[int, int], object]]:
    """A bar that the engine moves, and a button that stops the engine at its next step.

    When somebody presses any control, Streamlit ends the run of the page at its next call, and
    runs the page again. So the button only has to record that it was pressed.
    """
    place = st.empty()
    with place.container():
        bar = st.progress(0.0, "Waiting for the model …")
        st.button("Stop", key=f"{slot} stop", on_click=_stop, args=(slot,))
    try:
        yield lambda done, total: bar.progress(done / total, f"{done} of {total} perturbed copies")
    finally:
        place.empty()


def _stop(slot: str) -> None:
    st.session_state["stopped"] = slot


def stopped(slot: str) -> None:
    """Say once that something was stopped, where its button was."""
    if st.session_state.get("stopped") == slot:
        del st.session_state["stopped"]
        st.info("Stopped. Nothing of it is kept.")


@contextlib.contextmanager
def said() -> Iterator[None]:
    """Show an error inside as one sentence."""
    try:
        yield
    except (Exception, SystemExit) as error:  # from models and files that we do not know
        st.error(plain(sentence_of(error)))


def kept(slot: str, key: Any, make: Callable[[], Any]) -> Any:
    """The value that this session keeps in a slot; another key makes a new one."""
    if st.session_state.get(slot, (None,))[0] != key:
        st.session_state[slot] = key, make()
    return st.session_state[slot][1]
