"""The page of texts and rows: complete, escaped, without script or foreign host."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

from torchlime import Background, explain, explain_table, explain_text, explain_vector, plot
from torchlime.surrogates import MarginalMean, Ridge

UGLY = '<script>alert("1")</script> & \x07'
HALF = UGLY + "\udcff"  # of a character; no DataFrame has it


class Read(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def rows():
    draw = np.random.default_rng(0)
    data = pd.DataFrame({UGLY: draw.normal(size=90), "city": draw.choice(["Rome", "<Oslo>"], 90)})

    def model(frame):
        score = 1 / (1 + np.exp(-frame[UGLY] - (frame["city"] == "Rome")))
        return np.stack([1 - score, score], axis=1)

    background = Background.of(data)
    return explain_table(
        model, data.iloc[:3], background, top=2, num_samples=200, frames=True
    )  # fmt: skip


def texts():
    def model(strings):
        good = torch.tensor([float("good" in text) for text in strings])
        return torch.stack([1 - good, good], dim=1)

    return explain_text(model, [f"a good {HALF}", "two words"], "all", num_samples=60)


def test_no_fidelity_is_told_where_no_line_predicts_the_scores():
    def model(strings):
        return torch.tensor([float("good" in text) for text in strings])

    shown = [
        Read(plot.page(explain_text(model, "a good film", surrogate=s, num_samples=60))).text
        for s in (Ridge(), MarginalMean())
    ]
    assert ["fidelity" in text for text in shown] == [True, False]
    assert "nan" not in shown[1]


@pytest.mark.parametrize("explained", [rows, texts])
def test_everything_is_there_and_escaped(explained, tmp_path):
    explanation = explained()
    page = plot.page(explanation, title=HALF)
    read = Read(page)
    assert {"script", "img", "link", "iframe", "a"}.isdisjoint(read.tags)
    assert {"src", "href", "onload"}.isdisjoint(read.attributes)
    assert "http:" not in page
    assert "https:" not in page
    assert "default-src 'none'" in page
    noun, number = explanation.kind.input, len(explanation)
    assert read.tags.count("section") == 2 * number
    for place in range(number):
        assert f"{noun} {place}" in read.text
        for name, value in explanation[place].as_list()[:2]:
            shown = name.replace("\x07", "\\x07").replace("\udcff", "\\udcff")
            assert shown in read.text
            assert value == 0 or f"{value:+.3g}" in read.text
    assert page == plot.page(explanation, title=HALF)
    plot.save_page(explanation, tmp_path / "page.html", title=HALF)
    assert (tmp_path / "page.html").read_bytes() == page.encode()


def test_a_text_is_marked_where_its_words_are():
    read = Read(plot.page(texts()))
    assert f"a good {HALF}".replace("\x07", "\ufffd").replace("\udcff", "\ufffd") in read.text
    assert read.tags.count("mark") > 2


def test_no_more_bars_than_asked_for():
    explanation = rows()[0]
    assert plot.page(explanation, top=1).count("<i class=") == 2
    assert "<title>Explanation of 1 row</title>" in plot.page(explanation)
    with pytest.raises(ValueError, match="top must be at least 1"):
        plot.page(explanation, top=0)


def test_the_legend_says_what_a_bar_is():
    assert "Being in a bin" in plot.page(rows())
    assert "Hiding a word" in plot.page(texts())
    vectors = explain_vector(lambda x: x.sum(1), torch.ones(2, 3), num_samples=50)
    assert "per unit" in plot.page(vectors)


def test_what_is_wrong_is_said():
    explanation = explain_text(
        lambda strings: torch.full((len(strings),), torch.nan), "two words", num_samples=20
    )
    assert "not to be trusted" in plot.page(explanation)


def test_images_are_drawn_elsewhere():
    image = torch.rand(1, 3, 32, 32)
    halves = (torch.arange(32) // 16).expand(32, -1)
    explanation = explain(lambda x: x.mean((2, 3)), image, segments=halves, num_samples=20)
    with pytest.raises(ValueError, match=r"plot\.sheet\(\)"):
        plot.page(explanation)
