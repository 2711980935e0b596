"""The page of a job: what is on it, and what names and reasons cannot do to it."""

import base64
import io
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests import tiny
from tests.jobs.folder import SETTINGS, good, photo, run
from torchlime import cli, jobs, models
from torchlime.jobs import report

pytest.importorskip("pyarrow")


class Page(HTMLParser):
    """The tags, pictures and texts of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.pictures, self.text = [], [], []
        self.feed(Path(path).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "img":
            kind, data = dict(attributes)["src"].split(",")
            assert kind == "data:image/jpeg;base64"
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return good("photos", 7)


def test_the_page_of_a_job(root, capsys):
    photo(9, (90, 40)).save(root / "flat.png")
    (root / "red/bad.png").write_text("no image")
    run(root, "out", targets=(0, 2))
    assert cli.main(["report", "out", "--out", "all.html"]) == 0
    assert capsys.readouterr().out == "wrote all.html\n"
    page = Page("all.html")
    assert len(page.pictures) == 8
    sizes = {picture.size for picture in page.pictures}
    assert sizes == {(2 * 30 + 8, 20), (2 * 90 + 8, 40)}
    text = "".join(page.text)
    order = ["no class", "flat.png", "blue/002.png", "green/001.png", "red/000.png",
             "Could not be explained", "red/bad.png is not"]  # fmt: skip
    places = [text.rindex(name) for name in order]
    assert places == sorted(places)
    assert "8 photos explained, 1 could not be, by bright." in text
    assert "explained: Red, crimson (fidelity " in text
    assert "red/bad.png is not an image that Pillow can read" in text


def test_the_page_asks_nobody_for_anything(root):
    run(root, "out")
    report.write("out", "page.html")
    page = Page("page.html")
    asking = {"src", "srcset", "href", "action", "data", "poster"}
    asked = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in asking
    ]
    assert asked
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in asked)
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)
    assert "url(" not in Path("page.html").read_text()
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_names_are_text_and_nothing_else(root):
    folder = os.path.join(os.fsencode(root), b"<script>alert(1)<\n\xff")
    os.mkdir(folder)
    photo(1).save(root / "0.png")
    os.rename(root / "0.png", os.path.join(folder, b"\"><img src=x onerror='f()'>&amp;.png"))
    (root / "<b>bad<b>.png").write_text("no image")
    classifier = tiny.bright()
    classifier.categories = ["<i>red</i>", '" onload="', "\udcff\u202e"]
    settings = {"model": "<u>", "engine": jobs.Local(workers=0), "targets": (0, 1, 2)}
    jobs.run(root, "out", classifier, SETTINGS, **settings)
    report.write("out", "page.html")
    page = Page("page.html")
    known = {"html", "meta", "title", "style", "header", "h1", "h2", "p", "b", "span", "details",
             "summary", "main", "dl", "dt", "dd", "nav", "ul", "li", "a", "small", "section", "div",
             "figure", "img", "figcaption", "table", "tr", "th", "td"}  # fmt: skip
    assert {tag for tag, _ in page.tags} <= known
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    text = "".join(page.text)
    assert "<script>alert(1)<\\n\\udcff/\"><img src=x onerror='f()'>&amp;.png" in text
    assert "<b>bad<b>.png" in text
    assert "\u202e" not in text


def test_a_class_of_many_photos(root):
    run(root, "out")
    report.write("out", "page.html", most=2)
    page = Page("page.html")
    assert len(page.pictures) == 6
    assert "the first 2 of 3 photos" in "".join(page.text)


def test_photos_that_are_gone(root):
    run(root, "out")
    root.rename("elsewhere")
    report.write("out", "page.html")
    page = Page("page.html")
    assert "no longer where they were" in "".join(page.text)
    assert {picture.size for picture in page.pictures} == {(16, 16)}


def test_an_output_without_probabilities(root):
    classifier = models.Classifier(tiny.Bright(), tiny.SMALL, output="none")
    jobs.run(root, "out", classifier, SETTINGS, engine=jobs.Local(workers=0))
    report.write("out", "page.html")
    assert "predicted: class 0<" in Path("page.html").read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["gone", "--out", "p.html"], "gone does not hold a job's results (no _job.json)"),
        (["out", "--out", "no/p.html"], "cannot write the file: No such file or directory: 'no/p"),
        (["out", "--out", "p.html", "--most", "0"], "--most: '0' is not a whole number of at"),
        (["out"], "the following arguments are required: --out (torchlime report --help"),
    ],
)
def test_bad_commands(root, capsys, words, reason):
    run(root, "out")
    assert cli.main(["report", *words]) == 2
    captured = capsys.readouterr()
    assert reason in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not Path("p.html").exists()
