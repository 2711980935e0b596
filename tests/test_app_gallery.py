"""The page's folder: a gallery of a class, each photo of which opens its explanation."""

import os
from pathlib import Path

import pytest
import torch

import torchlime
from tests.app_page import FEW, last, picture, press, texts
from tests.jobs.folder import good, run
from torchlime import jobs, models
from torchlime.app import gallery
from torchlime.app.explained import png
from torchlime.app.gallery import Gallery
from torchlime.app.words import plain
from torchlime.jobs.explanations import Explanations

LIMITS = models.Limits()


def opened(at, name):
    """Press a photo of the gallery."""
    return next(b for b in at.button if b.label == plain(name)).click().run()


def names(at):
    return [button.label for button in at.button if button.key.startswith("open ")]


def test_a_photo_of_the_gallery_opens_its_explanation(page):
    at = page(page.folder)
    assert [tab.label for tab in at.tabs] == ["Photo", "Folder"]
    assert next(s for s in at.selectbox if s.label == "Class").options == [
        "green (2)",
        "rotten (1)",
    ]
    assert names(at) == ["0\\.png", "1\\.png"]
    assert len(at.get("image")) == 2
    assert "torchlime job" in at.code[0].value
    opened(at, "0.png")
    assert [h.value.partition(",")[0] for h in at.subheader] == ["0\\.png", "green"]
    first = last(at, "folder")
    assert first.explanation.targets.tolist() == [[1]]  # the class of its folder
    press(at, "Next", "folder")
    assert at.subheader[0].value == "1\\.png"
    assert last(at, "folder") is not first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchlime.Lime, "explain", None)  # what was explained is kept
        press(at, "Previous", "folder")
    assert at.subheader[1].value.startswith("green")
    press(at, "All of green", "folder")
    assert len(names(at)) == 2


def test_an_open_photo_is_explained_once_without_a_press(page):
    at = opened(page(page.folder), "0.png")
    del at.session_state["folder explained"]  # as after a Stop
    at.run()
    assert [h.value for h in at.subheader] == ["0\\.png"]
    press(at, "Explain", "folder")
    assert last(at, "folder").explainer.num_samples == FEW["samples"]


def test_a_class_that_the_model_lacks(page):
    at = page(page.folder)
    at.selectbox[1].select_index(1).run()
    opened(at, "0.png")
    assert any(text.startswith("The model has no class of that name") for text in texts(at))
    assert at.subheader[1].value.startswith("Red")
    press(at, "All of rotten", "folder")
    assert at.selectbox[1].value == 1  # the class is the same after a photo was open


def test_photos_beside_folders_and_names_that_are_no_unicode(page, tmp_path):
    picture("#0000ff").save(tmp_path / "beside.png")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    hostile = ["<img src=x onerror=alert(1)>.png", "[x](javascript:alert`1`) :smile:.png"]
    for name in (os.fsdecode(b"\xe9.png"), *hostile):
        picture("#00ff00").save(odd / name)
    at = page(page.folder)
    assert at.selectbox[1].options == ["caf\\udce9 (3)", "green (2)", "rotten (1)", "no class (1)"]
    assert sorted(names(at)) == sorted(plain(one) for one in (r"\udce9.png", *hostile))
    for name in hostile:
        opened(at, name)
        assert at.subheader[0].value == plain(name)
        press(at, next(b.label for b in at.button if b.label.startswith("All of")), "folder")
    at.selectbox[1].select_index(3).run()
    assert names(at) == ["beside\\.png"]
    assert not at.error


def test_a_folder_without_photos_or_with_one_that_cannot_be_read(page, tmp_path):
    empty = tmp_path / "green" / "empty"
    empty.mkdir()
    assert "no photo in empty" in page(f"--folder={empty}").error[0].value
    flat = tmp_path / "rotten"
    (flat / "broken.png").write_bytes(b"hello")
    at = page(f"--folder={flat}")
    assert [s.label for s in at.selectbox] == ["Model"]  # no class to choose
    assert any(caption.value == "cannot be read" for caption in at.caption)
    assert "not an image" in opened(at, "broken.png").error[0].value


def test_many_photos_are_shown_in_parts(page, tmp_path):
    for number in range(30):
        picture().save(tmp_path / "rotten" / f"{number:02}.png")
    at = page(f"--folder={tmp_path / 'rotten'}")
    assert len(names(at)) == 24
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gallery, "thumb", None)  # what was shown is kept
        assert len(names(at.run())) == 24
    at.number_input(key="part of None").set_value(2).run()
    assert names(at)[-1] == "29\\.png"


# ---- What a job found ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder of a job, one photo of which could not be explained."""
    pytest.importorskip("pyarrow", reason="pip install 'torchlime[jobs]'")
    root = tmp_path_factory.mktemp("job")
    good(root / "photos", 4)
    (root / "photos/red/broken.png").write_bytes(b"hello")
    run(root / "photos", root / "found", top=2)
    return root / "found"


def test_what_a_job_found_is_shown_and_not_computed_again(page, found, monkeypatch):
    monkeypatch.setattr(torchlime.Lime, "explain", None)
    monkeypatch.setattr(models, "load", None)
    at = page(f"--folder={found}")
    assert at.selectbox[1].options == ["blue (1)", "green (1)", "red (3)"]
    at.selectbox[1].select_index(2).run()
    assert not at.code  # no advice to run a job
    assert len(at.get("image")) == 2
    assert any(caption.value == "could not be explained" for caption in at.caption)
    opened(at, "000.png")
    assert [h.value.partition(",")[0] for h in at.subheader] == ["000\\.png", "Red\\", "green"]
    assert not [b for b in at.button if b.label == "Try the next seed"]
    _, stored = at.session_state["stored"]
    job = jobs.read(found)["red/000.png"]
    assert stored.explanation.coefficients.equal(job.coefficients)
    assert not at.error
    opened(at, "All of red")
    opened(at, "broken.png")
    assert "could not explain it" in at.error[0].value


def test_a_photo_of_a_job_can_be_explained_anew(page, found):
    at = opened(page(f"--folder={found}"), "002.png")
    at.toggle[0].set_value(True).run()
    assert any("The model sees" in text for text in texts(at))
    press(at, "Explain", "folder")
    assert last(at, "folder").explainer.num_samples == FEW["samples"]


def item_of(shown, photo_id):
    return next(i for items in shown.classes.values() for i in items if i.id == photo_id)


def test_the_python_of_a_jobs_photo_makes_the_same_picture(found, monkeypatch):
    shown = Gallery(found)
    stored = shown.explained(item_of(shown, "green/001.png"), LIMITS)
    monkeypatch.chdir(found.parent)
    exec(compile(stored.snippet(3, 0.45), "snippet.py", "exec"), {})
    overlays = [stored.overlay(answer.index, 3, 0.45) for answer in stored.answers]
    assert Path(stored.file_name(".png")).read_bytes() == png(overlays)


class Hostile(Explanations):
    """A job's folder may come from somebody else."""

    ids = ()

    def rows(self, *_):
        return ((one, "x", None, "<b>", 0.5) for one in self.ids)

    def row(self, _):
        return super().row("red/000.png")

    def __getitem__(self, _):
        return super().__getitem__("red/000.png")


def test_rows_that_name_other_files_open_none(found, monkeypatch, tmp_path):
    secret = tmp_path / "secret.png"
    picture("#ff00ff").save(secret)
    up = "..%2f" * 40
    monkeypatch.setattr(Hostile, "ids", (f"{up}{secret}", str(secret), "a%00.png"))
    monkeypatch.setattr(jobs, "read", Hostile)
    shown = Gallery(found)
    assert len(shown.classes["x"]) == 3
    for item in shown.classes["x"]:
        assert (shown.explained(item, LIMITS).photo.image == 255).all()  # no file was read
        assert shown.thumb(item, LIMITS).dtype == torch.uint8


def test_photos_that_are_gone_leave_their_evidence(page, found):
    photos = found.parent / "photos"
    photos.rename(found.parent / "moved")
    try:
        at = opened(page(f"--folder={found}"), "002.png")
        assert any("no longer where it was" in text for text in texts(at))
        assert len(at.get("image")) == 5  # two overlays, two charts, the segments
    finally:
        (found.parent / "moved").rename(photos)


def test_ids_stay_within_the_folder():
    root = Path("photos")
    assert gallery.within(root, "a%20b/c.PNG") == root / "a b/c.PNG"
    for one in ("../x.png", "a/../../x.png", "%2e%2e/x.png", "/x.png", "%2Fx.png", ".a/x.png",
                "x", "x.txt", "a%00.png", ""):  # fmt: skip
        assert gallery.within(root, one) is None
