"""What a folder holds, whatever its names."""

import os
from pathlib import Path

import pytest

from torchlime.folders import PhotoFile, class_names, id_of, meant_by, path_of, photos_in


def touch(root, *names):
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_photos_by_class_in_one_order(tmp_path):
    names = ["b/2.JPG", "b/1.png", "b/deep/er/0.webp", "a b/9.jpeg", "a/1.gif", "flat.bmp"]
    touch(tmp_path, *names, "notes.txt", "b/labels.csv", ".hidden.jpg", "b/._1.png", ".git/x.jpg")
    found = photos_in(tmp_path)
    assert [(photo.id, photo.class_name) for photo in found] == [
        ("a%20b/9.jpeg", "a b"),
        ("a/1.gif", "a"),
        ("b/1.png", "b"),
        ("b/2.JPG", "b"),
        ("b/deep/er/0.webp", "b"),
        ("flat.bmp", None),
    ]
    assert class_names(found) == ["a b", "a", "b"]
    assert class_names(photos_in(tmp_path / "a")) == []
    assert all(path_of(tmp_path, photo.id) == photo.path for photo in found)


@pytest.mark.parametrize("name", [b"new\nline.jpg", b"\xff\xfe.jpg", b"%41 \"'&<b>.jpg", b"-x.jpg"])
def test_odd_names_are_kept_byte_for_byte(tmp_path, name):
    try:
        os.mkdir(folder := os.path.join(os.fsencode(tmp_path), name[:-4]))
        open(os.path.join(folder, name), "xb").close()
    except OSError:
        pytest.skip("this file system does not take such a name")
    (found,) = photos_in(tmp_path)
    assert found.id.isascii()
    assert found.id.isprintable()
    assert path_of(tmp_path, found.id) == found.path
    assert found.path.exists()
    assert os.fsencode(found.path.name) == name
    assert os.fsencode(found.class_name) == name[:-4]


def test_links_are_followed_but_never_round(tmp_path):
    touch(tmp_path, "root/cats/1.jpg", "elsewhere/2.jpg")
    root = tmp_path / "root"
    (root / "dogs").symlink_to(tmp_path / "elsewhere")
    (root / "cats/again").symlink_to(root)
    (tmp_path / "elsewhere/cats").symlink_to(root / "cats")
    (root / "broken.jpg").symlink_to("nowhere")
    found = {photo.id for photo in photos_in(root)}
    assert {"cats/1.jpg", "dogs/2.jpg", "dogs/cats/1.jpg", "broken.jpg"} <= found
    assert max(photo_id.count("/") for photo_id in found) < 5


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        photos_in(tmp_path / "missing")
    touch(tmp_path, "file.jpg")
    with pytest.raises(NotADirectoryError):
        photos_in(tmp_path / "file.jpg")
    assert photos_in(tmp_path) == [PhotoFile(tmp_path / "file.jpg", "file.jpg", None)]


def test_ids_know_no_machine():
    assert id_of(Path("a/ü.jpg")) == "a/%C3%BC.jpg"


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("cat", ["Cat", "dog", "cat"], [0, 2]),
        (" Tabby_Cat ", ["dog", "tabby  cat"], [1]),
        ("german-shepherd", ["dog", "German shepherd"], [1]),
        ("jack-o'-lantern", ["jack o' lantern", "jack-o'-lantern"], [0, 1]),
        ("tabby cat", ["tabby, tabby cat", "dog"], [0]),
        ("tabby, tabby cat", ["tiger cat", "tabby"], [1]),
        ("crane", ["crane, machine", "crane"], [1]),
        ("machine", ["crane, machine", "machine, crane"], [0, 1]),
        ("cat", ["tabby cat", "catfish"], []),
        ("", ["cat", "dog,"], []),
        ("dog,", ["cat,"], []),
    ],
)
def test_what_a_name_means(name, known, found):
    assert meant_by(name, known) == found


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path):
    touch(tmp_path, "cats/1.jpg")
    (tmp_path / "cats/loop.jpg").symlink_to("loop.jpg")
    assert [photo.id for photo in photos_in(tmp_path)] == ["cats/1.jpg", "cats/loop.jpg"]
