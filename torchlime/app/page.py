"""The page, as Streamlit runs it: from top to bottom, anew whenever somebody touches a control."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import streamlit as st

from torchlime import Lime
from torchlime._errors import sentence_of
from torchlime.app import classifiers, explaining, photos
from torchlime.app.classifiers import Models
from torchlime.app.explained import STRONGEST, Explained, png
from torchlime.app.photos import Photo
from torchlime.app.words import distinct, plain, spelled
from torchlime.cli.options import OPTIONS, SAMPLERS, SURROGATES
from torchlime.cli.serving import add_options, allowed_models
from torchlime.folders import class_names, photos_in

FILLS = {"mean": "its mean colour", "colour": "one colour", "blur": "a blur"}
PAGES = 32  # of a folder that a session keeps


def show(allowed: dict[str, str | None], folder: str | None) -> None:
    """The whole page."""
    st.set_page_config(page_title="torchlime", layout="wide")
    st.header("torchlime", anchor=False)
    st.caption("Which parts of a photo made the network say that?")
    known = _models(tuple(allowed.items()))
    model = st.selectbox("Model", known.names, format_func=spelled)
    if folder is None:
        _photo(known, model)
        return
    one, many = st.tabs(["Photo", "Folder"])
    with one:
        _photo(known, model)
    with many:
        _folder(known, model, folder)


@st.cache_resource(show_spinner=False)
def _models(allowed: tuple[tuple[str, str | None], ...]) -> Models:
    """One for all who look at the page."""
    return Models(dict(allowed), OPTIONS["device"].read("auto"))


# ---- A photo -------------------------------------------------------------------------------------


def _photo(known: Models, model: str) -> None:
    suffixes = [suffix for one in photos.FORMATS.values() for suffix in one]
    uploaded = st.file_uploader("Photo", type=suffixes)
    if uploaded is None and not st.checkbox("Take the sample, a cat"):
        return

    def photo() -> Photo:
        if uploaded is None:
            return photos.sample()
        return photos.sent(uploaded.getvalue(), uploaded.name)

    with _said():
        asked = (model, "sample" if uploaded is None else uploaded.file_id)
        with st.spinner("Looking at the photo …"):
            ready = _kept("ready", asked, lambda: classifiers.prepared(known, model, photo()))
            answers = _kept("answers", asked, lambda: classifiers.answers(known, model, ready, 10))
        st.markdown(
            "The model sees "
            + ", ".join(f"**{plain(one.category)}** {plain(one.score)}" for one in answers[:5])
            + "."
        )
        words = distinct([f"{answer.category}, {answer.score}" for answer in answers])
        with st.form("photo"):
            chosen = st.multiselect(
                "Explain a class, or two beside each other",
                range(len(answers)),
                [0],
                format_func=words.__getitem__,
                max_selections=2,
            )
            choices = _controls("photo")
            if st.form_submit_button("Explain", type="primary"):
                if not chosen:
                    raise ValueError("choose a class to explain")
                explainer = explaining.explainer_with(choices)
                targets = [answers[place].index for place in chosen]
                with _progress() as progress:
                    explained = explaining.explain(
                        known, model, ready, targets, explainer, progress
                    )
                st.session_state["explained"] = asked, explained
        before, explained = st.session_state.get("explained", (None, None))
        if before == asked:
            _view(known, explained, "photo")


# ---- A folder ------------------------------------------------------------------------------------


def _folder(known: Models, model: str, folder: str) -> None:
    with _said():
        found = _kept("photos", folder, lambda: photos_in(folder))
        if not found:
            raise ValueError(f"there is no photo in {Path(folder).name}")
        labels: list[str | None] = [*class_names(found)]
        if labels and any(photo.class_name is None for photo in found):
            labels.append(None)
        names = ["none, beside the folders" if one is None else spelled(one) for one in labels]
        with st.form("folder"):
            place = st.selectbox(
                "Label", range(len(labels)), format_func=names.__getitem__, key="folder label"
            ) if labels else None  # fmt: skip
            label = None if place is None else labels[place]
            choices = _controls("folder")
            if st.form_submit_button("Explain its photos", type="primary"):
                explainer = explaining.explainer_with(choices)
                target = None if label is None else classifiers.target_of(known, model, label)
                st.session_state["walk"] = model, label, target, explainer
                st.session_state["pages"] = {}
        if st.session_state.get("walk", (None,))[0] != model:
            return
        _, label, target, explainer = st.session_state["walk"]
        chosen = [photo for photo in found if photo.class_name == label]
        place = st.number_input(
            f"Photo (of {len(chosen)})", 1, len(chosen), key=f"page of {spelled(str(label))}"
        )
        path = chosen[place - 1].path
        if label is not None and target is None:
            st.info(
                "The model has no class of that name: what it takes the photo for is explained."
            )
        st.markdown(plain(path.name))
        pages = st.session_state["pages"]
        if path not in pages:
            if len(pages) == PAGES:
                del pages[next(iter(pages))]
            pages[path] = _page(known, model, path, target, explainer)
        if isinstance(pages[path], str):
            st.error(plain(pages[path]))
        else:
            _view(known, pages[path], "folder")


def _page(
    known: Models, model: str, path: Path, target: int | None, explainer: Lime
) -> Explained | str:
    """A photo's explanation, or why there is none, which is kept too."""
    targets = None if target is None else [target]
    try:
        photo = classifiers.prepared(known, model, photos.in_folder(path))
        with _progress() as progress:
            return explaining.explain(known, model, photo, targets, explainer, progress)
    except (Exception, SystemExit) as error:
        return sentence_of(error)


# ---- Shared --------------------------------------------------------------------------------------


def _controls(slot: str) -> dict[str, Any]:
    """What can be set, in the command line's words."""
    limits = explaining.RANGES
    with st.expander("Settings"):
        left, middle, right = st.columns(3)
        segments = left.slider("Segments, about", *limits["segments"], 50, key=f"{slot} segments")
        samples = left.select_slider(
            "Samples", [2**power for power in range(5, 12)], 256, key=f"{slot} samples"
        )
        fill = middle.selectbox(
            "A hidden segment shows", FILLS, format_func=FILLS.__getitem__, key=f"{slot} fill"
        )
        colour = middle.color_picker("The colour, if one", "#808080", key=f"{slot} colour")
        sampler = right.selectbox("Sampler", SAMPLERS, key=f"{slot} sampler")
        surrogate = right.selectbox("Surrogate", SURROGATES, key=f"{slot} surrogate")
        seed = right.number_input("Seed", *limits["seed"], 0, key=f"{slot} seed")
    return {
        "segments": segments,
        "samples": samples,
        "fill": colour if fill == "colour" else fill,
        "sampler": sampler,
        "surrogate": surrogate,
        "seed": seed,
    }


def _view(known: Models, explained: Explained, slot: str) -> None:
    """An explanation; its controls draw it anew and compute nothing."""
    left, right = st.columns(2)
    opacity = left.slider("Opacity", 0.0, 1.0, 0.6, 0.05, key=f"{slot} opacity")
    top = right.slider("Segments shown", 1, STRONGEST, 5, key=f"{slot} top")
    overlays = [explained.overlay(answer.index, top, opacity) for answer in explained.answers]
    columns = st.columns(2)
    for place, answer in enumerate(explained.answers):
        with columns[place]:
            st.subheader(f"{plain(answer.category)}, {plain(answer.score)}", anchor=False)
            words = explained.strongest(place)
            segment = st.selectbox(
                "Frame a segment", words, None, words.__getitem__, placeholder="none",
                key=f"{slot} {place} {words}",
            )  # fmt: skip
            _picture(explained.framed(overlays[place], segment))
            st.caption("Blue speaks for the class, orange against it.")
            st.markdown(explained.fidelity(place))
        with columns[place if len(overlays) > 1 else 1]:
            _picture(explained.bars(answer.index))
            st.caption("Change of the score by each segment, with its 95 % interval.")
    if st.button("Try the next seed", key=f"{slot} second"):
        with _progress() as progress:
            sentences = explaining.stability(known, explained, progress)
        st.session_state[f"{slot} stable"] = explained, sentences
    before, sentences = st.session_state.get(f"{slot} stable", (None, []))
    if before is explained:
        for answer, sentence in zip(explained.answers, sentences, strict=True):
            st.markdown(f"**{plain(answer.category)}** {plain(sentence)}")
    with st.expander("All segments"):
        _picture(explained.borders)
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


def _picture(picture: Any) -> None:
    st.image(picture.permute(1, 2, 0).numpy(), width="stretch", output_format="PNG")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], object]]:
    """A bar that the engine moves; until then, others may be first."""
    bar = st.progress(0.0, "Waiting for the model …")
    try:
        yield lambda done, total: bar.progress(done / total, f"{done} of {total} perturbed copies")
    finally:
        bar.empty()


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """What goes wrong inside is said in a sentence."""
    try:
        yield
    except (Exception, SystemExit) as error:  # of models and files that we do not know
        st.error(plain(sentence_of(error)))


def _kept(slot: str, key: Any, make: Callable[[], Any]) -> Any:
    """What this person's session keeps in a slot, made anew for another key."""
    if st.session_state.get(slot, (None,))[0] != key:
        st.session_state[slot] = key, make()
    return st.session_state[slot][1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_options(parser)
    arguments = parser.parse_args()
    show(allowed_models(arguments.model), arguments.folder)
