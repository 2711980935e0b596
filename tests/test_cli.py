import os
import subprocess
import sys

import pytest
import torch

import torchlime
from tests.pictures import read_png
from torchlime import cli


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """The real program with fewer samples: 512 take their time on two cores."""
    original = torchlime.explain
    monkeypatch.setattr(
        torchlime, "explain", lambda *a, **k: original(*a, **{"num_samples": 128, **k})
    )


def test_the_default_photo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain"]) == 0
    captured = capsys.readouterr()
    assert "tiger cat" in captured.out.splitlines()[0]
    assert "segment" in captured.out
    assert "wrote explanation.png" in captured.out
    assert os.listdir(tmp_path) == ["explanation.png"]
    picture = read_png("explanation.png")
    assert picture.shape == (3, 224, 4 * 224 + 3 * 8)
    assert picture[:, :, :224].float().std() > 30  # a photo, not a blank


def test_another_photo(tmp_path, capsys):
    from skimage import data, io

    io.imsave(tmp_path / "cup.jpg", data.coffee())
    out = tmp_path / "cup.png"
    assert cli.main(["explain", str(tmp_path / "cup.jpg"), "--out", str(out)]) == 0
    assert "espresso" in capsys.readouterr().out
    assert read_png(out).shape[1] == 224


@pytest.mark.parametrize("name", ["missing", "empty", "truncated", "text", "folder"])
def test_a_bad_photo_is_one_sentence_and_leaves_nothing(tmp_path, capsys, name):
    from skimage import data, io

    photo = tmp_path / f"{name}.png"
    if name == "empty":
        photo.touch()
    elif name == "truncated":
        io.imsave(photo, data.coffee())
        photo.write_bytes(photo.read_bytes()[:20000])
    elif name == "text":
        photo.write_text("not a photo")
    elif name == "folder":
        photo.mkdir()
    before = set(os.listdir(tmp_path))
    assert cli.main(["explain", str(photo), "--out", str(tmp_path / "out.png")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("torchlime: ")
    assert photo.name in captured.err
    assert set(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("where", ["missing/out.png", "."])
def test_an_output_that_cannot_be_written_is_said_before_the_work(tmp_path, capsys, where):
    assert cli.main(["explain", "--out", str(tmp_path / where)]) == 2
    assert capsys.readouterr().err.startswith("torchlime: cannot write")
    assert os.listdir(tmp_path) == []


def test_an_output_that_fails_while_it_is_written(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert cli.main(["explain", "--out", str(tmp_path / "out.png")]) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "out.png" in error
    assert os.listdir(tmp_path) == []


def test_an_untrustworthy_explanation_is_an_error(tmp_path, capsys, monkeypatch):
    original = torchlime.explain
    monkeypatch.setattr(torchlime, "explain", lambda model, x, **k: original(
        lambda x: torch.full((len(x), 1000), torch.nan), x, **k))  # fmt: skip
    assert cli.main(["explain", "--out", str(tmp_path / "out.png")]) == 2
    assert "the model returned NaN" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_without_the_demo_packages(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert cli.main(["explain"]) == 2
    assert "pip install 'torchlime[demo]'" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(OSError, match="cannot write"):
        cli.main(["explain", "--debug", "--out", str(tmp_path)])


def test_usage_errors_and_the_module(tmp_path):
    for arguments, code in ((["--version"], 0), ([], 2), (["explode"], 2), (["explain", "-x"], 2)):
        command = [sys.executable, "-m", "torchlime", *arguments]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == code, run.stderr
        assert "Traceback" not in run.stderr
    assert torchlime.__version__ in subprocess.run(
        [sys.executable, "-m", "torchlime", "--version"], capture_output=True, text=True
    ).stdout  # fmt: skip
