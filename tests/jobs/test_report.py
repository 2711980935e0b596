"""The page of a job: what is on it, and what names and reasons cannot do to it."""

import base64
import dataclasses
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests import tiny
from tests.jobs.folder import SETTINGS, good, photo, run
from torchlime import cli, explain_vector, jobs, methods, models
from torchlime.jobs import report
from torchlime.plot.html_bars import html_of
from torchlime.surrogates import LeastSquares

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
    assert len(page.pictures) == 2 * 8  # each class has its own
    sizes = {picture.size for picture in page.pictures}
    assert sizes == {(30, 20), (90, 40)}
    text = "".join(page.text)
    order = ["no class", "flat.png", "blue/002.png", "green/001.png", "red/000.png",
             "Could not be explained", "red/bad.png is not"]  # fmt: skip
    places = [text.rindex(name) for name in order]
    assert places == sorted(places)
    assert "8 photos explained, 1 could not be, by bright, with 32 samples." in text
    assert "explained: Red, crimson (fidelity " in text
    assert "red/bad.png is not an image that Pillow can read" in text


def test_no_fidelity_is_told_where_no_line_predicts_the_scores(root):
    run(root, "out", explainer=methods.leave_one_out(segmenter=SETTINGS.segmenter))
    report.write("out", "page.html")
    text = "".join(Page("page.html").text)
    assert text.count("explained: ") == 7
    assert not re.search("fidelity|nan", text)
    assert all(e.fidelity.isnan().all() for e in jobs.read("out").values())


def test_a_photo_has_the_bars_of_its_classes_and_can_be_enlarged(root):
    run(root, "out", targets=(0, 2))
    report.write("out", "page.html")
    page = Page("page.html")
    found = jobs.read("out")
    text = "".join(page.text)
    for explanation in found.values():
        for place in range(2):
            value = explanation.top(1)[1][0, place, 0].item()
            assert f"{value:+.3g} ± " in text
    figures = [attributes["id"] for tag, attributes in page.tags if tag == "figure"
               and "id" in attributes]  # fmt: skip
    links = [attributes.get("href") for tag, attributes in page.tags if tag == "a"]
    places = [attributes["id"] for tag, attributes in page.tags if tag == "div"
              and "id" in attributes]  # fmt: skip
    assert len(figures) == len(set(figures)) == 7
    assert all(f"#{name}" in links for name in figures)
    closing = [attributes["href"] for tag, attributes in page.tags
               if tag == "a" and attributes.get("class") == "close"]  # fmt: skip
    assert [link[1:] for link in closing] == places == [f"at-{name}" for name in figures]
    assert text.count("bars and other classes") == 1 + 7
    for row in (found.row(photo_id) for photo_id in found):
        for name, score in zip(row["target_names"], row["scores"], strict=True):
            assert f"{name}: probability {score:.1%}" in text


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([1.0, 0.5], ["left: 0.0%; width: 100.0%", "left: 0.0%; width: 50.0%"]),
        ([-1.0, -0.5], ["left: 0.0%; width: 100.0%", "left: 50.0%; width: 50.0%"]),
        ([1.0, -0.5], ["left: 50.0%; width: 50.0%", "left: 25.0%; width: 25.0%"]),
        ([0.0, 0.0], []),
    ],
)
def test_bars_begin_at_zero(values, bars):
    e = explain_vector(lambda z: z @ z.new_tensor(values), torch.ones(1, 2).double(),
                       num_samples=20, surrogate=LeastSquares())  # fmt: skip
    exact = torch.tensor([[values]], dtype=torch.float64)
    e = dataclasses.replace(e, coefficients=exact, standard_errors=exact * torch.nan)
    html = html_of(e, 0)
    assert re.findall(r"left: [\d.]+%; width: [\d.]+%", html) == bars
    assert "±" not in html
    assert ("No feature changes this score" in html) == (not bars)


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
             "figure", "img", "figcaption", "table", "tr", "th", "td", "i"}  # fmt: skip
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
    html = Path("page.html").read_text()
    assert "predicted: class 0<" in html
    assert "<b>class 0</b>: score " in html
    assert "probability" not in html


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
