"""The page. Streamlit runs it from top to bottom, and again whenever somebody uses a control."""

import argparse
from pathlib import Path
from typing import Any

import streamlit as st

from torchlime import Lime
from torchlime._errors import sentence_of
from torchlime.app import classifiers, explaining, panels, photos
from torchlime.app.classifiers import Models
from torchlime.app.explained import Explained
from torchlime.app.photos import Photo
from torchlime.app.words import distinct, plain, spelled
from torchlime.cli.options import OPTIONS
from torchlime.cli.serving import add_options, allowed_models, limits_of
from torchlime.folders import class_names, photos_in
from torchlime.models import Limits

PAGES = 32  # explanations of a folder that a session keeps
# Streamlit leaves 6rem of empty space above a page, and 10rem below.
_STYLE = "<style>.stMainBlockContainer { padding-top: 2rem; padding-bottom: 2rem; }</style>"


def show(allowed: dict[str, str | None], folder: str | None, limits: Limits) -> None:
    """The whole page."""
    st.set_page_config(page_title="torchlime", layout="wide")
    st.html(_STYLE)
    st.header("torchlime", anchor=False)
    st.caption("Which parts of a photo made the network say that?")
    known = _models(tuple(allowed.items()), limits)
    model = st.selectbox("Model", known.names, format_func=spelled)
    panels.stopped()
    if folder is None:
        _photo(known, model)
        return
    one, many = st.tabs(["Photo", "Folder"])
    with one:
        _photo(known, model)
    with many:
        _folder(known, model, folder)


@st.cache_resource(show_spinner=False)
def _models(allowed: tuple[tuple[str, str | None], ...], limits: Limits) -> Models:
    """One for all who look at the page."""
    return Models(dict(allowed), OPTIONS["device"].read("auto"), limits)


# ---- A photo -------------------------------------------------------------------------------------


def _photo(known: Models, model: str) -> None:
    suffixes = [suffix for one in photos.FORMATS.values() for suffix in one]
    uploaded = st.file_uploader("Photo", type=suffixes)
    if uploaded is None and not st.checkbox("Use the sample photo of a cat"):
        return

    def photo() -> Photo:
        if uploaded is None:
            return photos.sample()
        return photos.sent(uploaded.getvalue(), uploaded.name)

    with panels.said():
        asked = (model, "sample" if uploaded is None else uploaded.file_id)
        with st.spinner("Looking at the photo …"):
            ready = panels.kept("ready", asked, lambda: classifiers.prepared(known, model, photo()))
            answers = panels.kept(
                "answers", asked, lambda: classifiers.answers(known, model, ready)
            )
        panels.seen(ready, answers)
        words = distinct([f"{spelled(answer.category)}, {answer.score}" for answer in answers])
        chosen = st.multiselect(
            "Explain a class, or two beside each other",
            range(len(answers)),
            [0],
            format_func=words.__getitem__,
            max_selections=2,
            help="The best come first. Type a part of a name to find any class.",
        )
        wanted = chosen, panels.controls("photo")
        if st.button("Explain", type="primary"):
            targets = [answers[place].index for place in chosen]
            explained = _explained(known, model, ready, targets, wanted[1])
            st.session_state["explained"] = asked, wanted, explained
        before, made, explained = st.session_state.get("explained", (None, None, None))
        if before == asked:
            if made != wanted:
                st.info(panels.OTHER)
            panels.view(known, explained, "photo")


def _explained(
    known: Models, model: str, ready: photos.Prepared, targets: list[int], choices: dict[str, Any]
) -> Explained:
    if not targets:
        raise ValueError("choose a class to explain")
    explainer = explaining.explainer_with(choices)
    with panels.progress("photo") as step:
        return explaining.explain(known, model, ready, targets, explainer, step)


# ---- A folder ------------------------------------------------------------------------------------


def _folder(known: Models, model: str, folder: str) -> None:
    with panels.said():
        found = panels.kept("photos", folder, lambda: photos_in(folder))
        if not found:
            raise ValueError(f"there is no photo in {Path(folder).name}")
        labels: list[str | None] = [*class_names(found)]
        if labels and any(photo.class_name is None for photo in found):
            labels.append(None)
        names = ["none (not in a folder)" if one is None else spelled(one) for one in labels]
        place = st.selectbox(
            "Label", range(len(labels)), format_func=names.__getitem__, key="folder label"
        ) if labels else None  # fmt: skip
        wanted = None if place is None else labels[place], panels.controls("folder")
        if st.button("Explain its photos", type="primary"):
            explainer = explaining.explainer_with(wanted[1])
            target = wanted[0] and classifiers.target_of(known, model, wanted[0])
            st.session_state["walk"] = model, wanted, target, explainer
            st.session_state["pages"] = {}
        if st.session_state.get("walk", (None,))[0] != model:
            return
        _, made, target, explainer = st.session_state["walk"]
        if made != wanted:
            st.info(panels.OTHER)
        label = made[0]
        chosen = [photo.path for photo in found if photo.class_name == label]
        number = st.number_input(
            f"Photo (of {len(chosen)})", 1, len(chosen), key=f"page of {spelled(str(label))}"
        )
        if label is not None and target is None:
            st.info("The model has no class of that name, so the best class is explained.")
        _walked(known, model, chosen[number - 1], target, explainer)


def _walked(known: Models, model: str, path: Path, target: int | None, explainer: Lime) -> None:
    """A photo of the folder, whose explanation this session keeps for a while."""
    st.markdown(plain(path.name))
    pages = st.session_state["pages"]
    if path not in pages:
        if len(pages) == PAGES:
            del pages[next(iter(pages))]
        pages[path] = _page(known, model, path, target, explainer)
    if isinstance(pages[path], str):
        st.error(plain(pages[path]))
    else:
        panels.view(known, pages[path], "folder")


def _page(
    known: Models, model: str, path: Path, target: int | None, explainer: Lime
) -> Explained | str:
    """A photo's explanation, or why there is none; the session keeps either."""
    targets = None if target is None else [target]
    try:
        photo = classifiers.prepared(known, model, photos.in_folder(path))
        with panels.progress("folder") as step:
            return explaining.explain(known, model, photo, targets, explainer, step)
    except (Exception, SystemExit) as error:
        return sentence_of(error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_options(parser)
    arguments = parser.parse_args()
    show(allowed_models(arguments.model), arguments.folder, limits_of(arguments))
