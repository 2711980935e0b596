"""Browsing: the folder as a gallery, in which each photo opens its explanation, in Streamlit."""

import shlex
from pathlib import Path

import streamlit as st
from torch import Tensor

from torchlime.app import panels, photos
from torchlime.app.asking import Asked, ask
from torchlime.app.classifiers import Models
from torchlime.app.gallery import Gallery, Item
from torchlime.app.words import plain, spelled

PAGE = 24  # photos that are shown at once
KEPT = 240  # small pictures of a session
# Two to four pictures in a row. The whole card opens its photo: the button's area is the card's.
STYLE = """
.st-key-gallery { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)); align-items: start; }
@media (max-width: 640px) { .st-key-gallery { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
.st-key-gallery [class*="st-key-card-"] { position: relative; gap: .25rem; }
.st-key-gallery [class*="st-key-card-"] > div { position: static; }
.st-key-gallery .stButton button { position: static; text-align: left; }
.st-key-gallery .stButton button::after { content: ""; position: absolute; inset: 0; z-index: 1; }
.st-key-gallery img { aspect-ratio: 4 / 3; object-fit: contain; background: #8881; }
.st-key-gallery [data-testid="stElementToolbar"] { display: none; }
"""


def browse(known: Models, model: str, folder: str) -> None:
    """The folder's tab."""
    with panels.said():
        gallery = panels.kept("gallery", folder, lambda: Gallery(Path(folder)))
        opened = st.session_state.get("opened")
        if opened is None:
            _gallery(known, gallery, model)
        else:
            _photo(known, model, gallery, *opened)


def _gallery(known: Models, gallery: Gallery, model: str) -> None:
    labels = list(gallery.classes)
    label = labels[0]
    if len(labels) > 1 or label is not None:
        words = [f"{_class(one)} ({len(gallery.classes[one])})" for one in labels]
        # Streamlit forgets a control that is not shown, as while a photo is open.
        before = st.session_state.get("label", 0)
        place = st.selectbox(
            "Class", range(len(labels)), min(before, len(labels) - 1), words.__getitem__
        )
        st.session_state["label"] = place
        label = labels[place]
    items = gallery.classes[label]
    st.caption(_about(gallery))
    if gallery.job is None:
        _how_to_run_a_job(gallery, model)
    start = _start(label, len(items))
    with st.container(key="gallery"):
        for number in range(start, min(start + PAGE, len(items))):
            _card(known, gallery, label, number)


def _about(gallery: Gallery) -> str:
    if gallery.job is None:
        return "Press a photo to explain it."
    model = plain(gallery.job.settings.get("model", ""))
    return (
        f"A job explained these photos with {model}. Press one to see more. Blue speaks for the "
        "explained class, orange against it. The network did not see what is faded."
    )


def _how_to_run_a_job(gallery: Gallery, model: str) -> None:
    with st.expander("Explain all of them at once"):
        st.markdown("A job explains the whole folder, and this page then shows what it found:")
        name = spelled(gallery.folder.name)
        photos, out = shlex.quote(name), shlex.quote(f"{name}-explained")
        st.code(
            f"torchlime job {photos} --model {shlex.quote(spelled(model))} --out {out}\n"
            f"torchlime app --folder {out}",
            language=None,
        )


def _start(label: str | None, count: int) -> int:
    """The place of the first photo that is shown."""
    pages = -(-count // PAGE)
    if pages == 1:
        return 0
    before = st.session_state.get("part", {}).get(label, 1)
    part = st.number_input(
        f"Part (of {pages}, {PAGE} photos each)", 1, pages, min(before, pages),
        key=f"part of {spelled(str(label))}",
    )  # fmt: skip
    st.session_state.setdefault("part", {})[label] = part
    return (part - 1) * PAGE


def _card(known: Models, gallery: Gallery, label: str | None, number: int) -> None:
    item = gallery.classes[label][number]
    with st.container(key=f"card-{number}"):
        picture = _thumb(known, gallery, item)
        if picture is not None:
            panels.picture(picture)
        st.button(
            plain(item.name), key=f"open {number}", type="tertiary",
            on_click=_open, args=(label, number),
        )  # fmt: skip
        if item.error is not None:
            st.caption("could not be explained")
        elif picture is None:
            st.caption("cannot be read")
        elif item.said:
            st.caption(f"predicted: {plain(item.said)}")


def _thumb(known: Models, gallery: Gallery, item: Item) -> Tensor | None:
    """The photo's small picture, which this session keeps for a while; None if there is none."""
    thumbs = st.session_state.setdefault("thumbs", {})
    key = gallery.folder, item.id
    if key not in thumbs:
        try:
            made = gallery.thumb(item, known.limits)
        except (OSError, ValueError):
            made = None
        if len(thumbs) >= KEPT:
            del thumbs[next(iter(thumbs))]
        thumbs[key] = made
    found: Tensor | None = thumbs[key]
    return found


def _open(label: str | None, number: int | None) -> None:
    """Open a photo of a class, or the gallery again."""
    st.session_state["opened"] = None if number is None else (label, number)
    st.session_state["at once"] = number is not None


def _photo(known: Models, model: str, gallery: Gallery, label: str | None, number: int) -> None:
    """An open photo, with what a job found in it or with the form."""
    items = gallery.classes[label]
    item = items[number]
    _steps(label, number, len(items))
    st.subheader(plain(item.name), anchor=False)
    at_once = st.session_state.pop("at once", False)
    path = item.path
    if gallery.job is not None:
        _stored(known, gallery, item)
        if path is None or not path.is_file():
            st.info("The photo is no longer where it was, so the evidence alone is shown.")
            return
        again = "Explain it again, with another class, model or settings"
        if not st.toggle(again, key=f"anew {item.id}"):
            return
        at_once = False
    assert path is not None
    asked = Asked(model, item.id)
    ask(known, asked, lambda: photos.in_folder(path), "folder", label, at_once=at_once)


def _steps(label: str | None, number: int, count: int) -> None:
    """The ways on from an open photo."""
    ways = [
        (f"All of {plain(_class(label))}", None, False),
        ("Previous", number - 1, number == 0),
        ("Next", number + 1, number == count - 1),
    ]
    with st.container(horizontal=True):
        for words, place, disabled in ways:
            st.button(words, on_click=_open, args=(label, place), disabled=disabled)


def _stored(known: Models, gallery: Gallery, item: Item) -> None:
    assert gallery.job is not None
    model = plain(gallery.job.settings.get("model", ""))
    if item.error is not None:
        st.error(f"The job with {model} could not explain it: {plain(item.error)}")
        return
    st.caption(f"Explained by a job with {model}, which predicted: {plain(item.said)}")
    explained = panels.kept(
        "stored", (gallery.folder, item.id), lambda: gallery.explained(item, known.limits)
    )
    panels.view(known, explained, "stored")


def _class(name: str | None) -> str:
    return "no class" if name is None else spelled(name)
