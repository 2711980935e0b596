"""Text on pictures: its typeface, its lines, and that nothing but Pillow is needed for it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tests.test_plot import SIX, one
from torchlime import plot
from torchlime.plot import _text
from torchlime.plot._text import Face, face_of

ROOT = Path(__file__).parents[1]


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine without matplotlib and without any font file."""
    monkeypatch.setattr(_text, "_files", lambda: ["", "no such font.ttf"])
    for cached in (_text._face_of, _text._has, _text._unknown):
        cached.cache_clear()
    yield
    for cached in (_text._face_of, _text._has, _text._unknown):
        cached.cache_clear()


def test_ascii_is_written_by_pillows_own_font():
    assert face_of("tiger cat: 39.5 %", "± … °") == Face("")
    assert Face("").font(20).getname()[0] == "Aileron"


def test_other_scripts_are_written_by_a_font_that_has_them():
    pytest.importorskip("matplotlib")
    face = face_of("tiger cat", "кошка, crème brûlée")
    assert Path(face.file).name == "DejaVuSans.ttf"
    assert face.readable("кошка") == "кошка"


def test_without_any_font_accents_are_left_off_and_nothing_fails(no_fonts):
    face = face_of("crème brûlée 猫")
    assert face == Face("")
    assert face.readable("crème brûlée 猫") == "creme brulee 猫"
    plot.sheet(one([1.0] * 6, SIX), torch.zeros(3, 40, 60), caption="crème brûlée 猫")


def test_of_fonts_that_lack_letters_the_one_that_lacks_the_fewest_is_taken(monkeypatch):
    owned = {"": "", "a": "к", "b": "ко", "c": "кошка"}
    monkeypatch.setattr(_text, "_files", lambda: list(owned))
    monkeypatch.setattr(_text, "_has", lambda file, letter: letter in owned[file])
    _text._face_of.cache_clear()
    assert face_of("к") == Face("a")
    assert face_of("ко") == Face("b")
    assert face_of("кошка猫") == Face("c")
    assert face_of("猫") == Face("")
    _text._face_of.cache_clear()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\tand  a tab", "two lines and a tab"),
        ("caf\udce9", "caf?"),  # a file's name may be any bytes
        ("a\x00b\x07", "ab"),
        ("", ""),
    ],
)
def test_any_text_becomes_one_proper_line(text, line):
    assert face_of(text).readable(text) == line
    plot.sheet(one([1.0] * 6, SIX), torch.zeros(3, 40, 60), caption=text, name=text)


@settings(max_examples=60, deadline=None)
@given(st.text("abc é猫 ", max_size=60), st.integers(12, 20), st.integers(60, 200))
def test_lines_fit_and_lose_nothing(text, size, width):
    face = face_of(text)
    lines = face.lines(text, size, width, most=200)
    assert all(face.width(line, size) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == face.readable(text).replace(" ", "")


def test_lines_break_at_spaces_and_end_in_a_shortened_one():
    face, text = Face(), "one two three four five six seven"
    width = face.width("three four", 16)
    assert face.lines(text, 16, width, most=9) == ["one two", "three four", "five six", "seven"]
    last = face.lines(text, 16, width, most=2)[1]
    assert last.startswith("thr")
    assert "..." in last
    assert last.endswith("n")
    assert face.width(last, 16) <= width


def test_a_long_name_keeps_its_end():
    face = Face()
    short = face.shortened("mean concave points (standardised)", 16, 150)
    assert short.startswith("mean")
    assert short.endswith("d)")
    assert face.width(short, 16) <= 150
    assert face.shortened("short", 16, 150) == "short"


def test_a_digits_height_is_what_cap_says():
    image = Image.new("L", (60, 60))
    ImageDraw.Draw(image).text((5, 50), "0", 255, Face().font(30), anchor="ls")
    rows = [y for y in range(60) if image.crop((0, y, 60, y + 1)).getextrema()[1] > 127]
    assert rows[-1] - rows[0] + 1 == pytest.approx(Face().cap(30), abs=1)


def test_importing_plot_loads_neither_pillow_nor_matplotlib():
    code = "import sys, torchlime.plot; print(*(m in sys.modules for m in ('PIL', 'matplotlib')))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.split() == ["False", "False"]
