"""The page. Streamlit runs it from top to bottom, and again whenever somebody uses a control."""

import argparse

import streamlit as st

from torchlime.app import browsing, panels, photos
from torchlime.app.asking import Asked, ask
from torchlime.app.classifiers import Models
from torchlime.app.photos import Photo
from torchlime.app.words import spelled
from torchlime.cli.options import OPTIONS
from torchlime.cli.serving import add_options, allowed_models, limits_of
from torchlime.models import Limits

# Streamlit leaves 6rem of empty space above a page, and 10rem below.
_STYLE = f"""<style>
.stMainBlockContainer {{ padding-top: 1.5rem; padding-bottom: 2rem; }}
{browsing.STYLE}</style>"""


def show(allowed: dict[str, str | None], folder: str | None, limits: Limits) -> None:
    """The whole page."""
    st.set_page_config(page_title="torchlime", layout="wide")
    st.html(_STYLE)
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    with left:
        st.header("torchlime", anchor=False)
        st.caption("Which parts of a photo made the network say that?")
    known = _models(tuple(allowed.items()), limits)
    model = right.selectbox("Model", known.names, format_func=spelled)
    if folder is None:
        _photo(known, model)
        return
    one, many = st.tabs(["Photo", "Folder"])
    with one:
        _photo(known, model)
    with many:
        browsing.browse(known, model, folder)


@st.cache_resource(show_spinner=False)
def _models(allowed: tuple[tuple[str, str | None], ...], limits: Limits) -> Models:
    """One for all who look at the page."""
    return Models(dict(allowed), OPTIONS["device"].read("auto"), limits)


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
        ask(known, Asked(model, "sample" if uploaded is None else uploaded.file_id), photo, "photo")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_options(parser)
    arguments = parser.parse_args()
    show(allowed_models(arguments.model), arguments.folder, limits_of(arguments))
