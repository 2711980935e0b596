"""The pages and charts of an explanation: static, escaped, complete, and the same each time."""

import html.parser
import re

import numpy as np
import pytest
from lime import lime_tabular as lime

from tests.compat.tables import BOTH, OURS, Model, Words, quietly, state_of
from torchlime.compat.explanation import DomainMapper, Explanation, id_generator
from torchlime.compat.lime_tabular import LimeTabularExplainer
from torchlime.compat.lime_text import LimeTextExplainer

EVIL = "</script><img src=x onerror=alert(1)>&amp;\"'http://x.example"
DATA = np.random.RandomState(0).normal(size=(80, 4))


class Parser(html.parser.HTMLParser):
    """Counts what opens and closes, and keeps the text."""

    VOID = ("meta",)
    OPEN = ("tr", "td", "th", "html")  # whose end tag HTML does without

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.stack = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID + self.OPEN:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.OPEN:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("style", "title"):
            self.text.append(data)


def parsed(page):
    parser = Parser()
    parser.feed(page)
    assert parser.stack == []
    assert {tag for tag, _ in parser.tags} <= {
        "html", "meta", "title", "style", "div", "section", "h2", "span", "table", "tr", "td",
        "th", "i", "b", "small", "pre", "mark",
    }  # fmt: skip
    assert not any(
        key.startswith("on") or key in ("src", "href") for _, a in parser.tags for key in a
    )
    assert len(page.encode()) < 20_000
    assert not re.search(r"<script|url\(|@import", page)
    return parser


def row_explanation(classes=3, names=True, one=None, **init):
    given = {"feature_names": [f"{EVIL} {j}" for j in range(4)]} if names else {}
    if init.get("mode") != "regression" and names:
        given["class_names"] = [f"{EVIL} class {j}" for j in range(classes)]
    explainer = LimeTabularExplainer(DATA, random_state=0, **given, **init)
    one = one or Model(4, classes=classes, regression=init.get("mode") == "regression")
    return explainer, explainer.explain_instance(DATA[0], one, labels=(0, 1), num_samples=100)


CASES = {
    "bins": {},
    "two classes": {"classes": 2},
    "nine classes": {"classes": 9},
    "plain": {"discretize_continuous": False},
    "regression": {"mode": "regression"},
}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("show_all", [True, False])
def test_a_row(case, show_all):
    explainer, explanation = row_explanation(**CASES[case])
    before = state_of(explainer)
    page = explanation.as_html(show_all=show_all)
    assert page == explanation.as_html(show_all=show_all)
    assert state_of(explainer) == before  # T9
    text = "".join(parsed(page).text)
    assert all(f"{EVIL} {j}" in text for j in range(4))
    for label in explanation.local_exp if case != "regression" else [1]:
        for name, _ in explanation.as_list(label):
            assert name in text
        if case != "regression":
            assert f"{EVIL} class {label}" in text
    assert all(value in text for value in explanation.domain_mapper.feature_values)
    if case == "nine classes":
        assert "Other" in text
        assert text.count("class") >= 4
    parsed(explanation.as_html(predict_proba=False, show_predicted_value=False, show_table=False))


def texts():
    explainer = LimeTextExplainer(random_state=0, class_names=[EVIL, "b"])
    text = f"😀 good <b>bad</b> good\n{EVIL} ends"
    return (
        explainer,
        explainer.explain_instance(text, Words(2), num_samples=100, top_labels=2),
        text,
    )


@pytest.mark.parametrize("opacity", [True, False])
def test_a_text(opacity):
    explainer, explanation, text = texts()
    before = state_of(explainer)
    page = explanation.as_html(opacity=opacity)
    parser = parsed(page)
    assert state_of(explainer) == before
    assert text in "".join(parser.text)
    label = explanation.available_labels()[0]
    marked = re.findall(r"<mark[^>]*>([^<]*)</mark>", page)
    words = [n for n, _ in explanation.as_list(label)]
    assert set(marked) == set(words)
    assert marked.count("good") == (2 if "good" in words else 0)
    shades = {a["style"].split(",")[-1] for tag, a in parser.tags if tag == "mark"}
    assert (len(shades) == 1) is not opacity
    assert "<mark" not in explanation.as_html(text=False)


def test_characters_and_occurrences():
    for settings in ({"char_level": True}, {"bow": False}, {"char_level": True, "bow": False}):
        explainer = LimeTextExplainer(random_state=0, **settings)
        explanation = explainer.explain_instance("a < b & a\0\ud800", Words(2), num_samples=50)
        assert "a &lt; " in re.sub(r"</?mark[^>]*>", "", explanation.as_html())
        parsed(explanation.as_html()).close()


def test_the_bars_are_scaled_by_the_strongest():
    _, explanation = row_explanation(names=False)
    explanation.local_exp = {0: [(0, 1e-6), (1, -5e-7)]}
    page = explanation.as_html(show_table=False, predict_proba=False)
    assert "http:" not in page
    assert "https:" not in page
    assert re.findall(r'<i style="width:([\d.]+)%', page) == ["50.0", "50.0", "25.0", "25.0"]
    assert "1.0e-06" in page


def test_t10_more_names_than_classes_and_fewer():
    for names in (["a"], list("abcdef")):
        explainer = LimeTabularExplainer(DATA, class_names=names, random_state=0)
        explanation = explainer.explain_instance(DATA[0], Model(4, classes=3), num_samples=50)
        parsed(explanation.as_html())


def test_t9_limes_page_draws_its_id():
    for module in BOTH:
        explainer = module.text.LimeTextExplainer(random_state=0)
        explanation = explainer.explain_instance("a b c", Words(), num_samples=30)
        before = state_of(explainer)
        page = explanation.as_html()
        assert (state_of(explainer) == before) is (module is OURS)
        assert (len(page) > 10**6 and "<script" in page) is not (module is OURS)
        explainer = module.tabular.LimeTabularExplainer(DATA, random_state=0)
        explanation = explainer.explain_instance(DATA[0], Model(4), num_samples=30)
        before = state_of(explainer)
        explanation.as_html()
        assert (state_of(explainer) == before) is (module is OURS)


def test_t10_limes_page_lets_names_out_of_their_script():
    explainer = lime.LimeTabularExplainer(DATA, random_state=0, class_names=[EVIL, "b", "c"])
    page = quietly(explainer.explain_instance, DATA[0], Model(4), num_samples=30).as_html()
    assert EVIL[:20] in page


def test_a_file_holds_the_page(tmp_path):
    _, explanation = row_explanation()
    explanation.save_to_file(tmp_path / "page.html", labels=[1])
    saved = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert saved == explanation.as_html(labels=[1])


def test_a_notebook_shows_the_page(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    _, explanation = row_explanation()
    explanation.show_in_notebook(labels=[0], show_all=True)
    assert shown[0].data == explanation.as_html(labels=[0], show_all=True)


@pytest.mark.parametrize("case", ["bins", "regression"])
def test_the_chart_is_limes(case):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    drawn = []
    for module in BOTH:
        settings = {k: v for k, v in CASES[case].items() if k != "classes"}
        explainer = module.tabular.LimeTabularExplainer(
            DATA, random_state=0, class_names=["no", "yes", "maybe"], **settings
        )
        one = Model(4, regression=case == "regression")
        explanation = explainer.explain_instance(DATA[0], one, num_samples=100)
        figure = explanation.as_pyplot_figure(label=1)
        (axes,) = figure.axes
        drawn.append((
            axes.get_title(), [t.get_text() for t in axes.get_yticklabels()],
            [bar.get_facecolor() for bar in axes.patches],
            np.round([bar.get_width() for bar in axes.patches], 9).tolist(),
        ))  # fmt: skip
        plt.close(figure)
    assert drawn[0] == drawn[1]
    figure = explanation.as_pyplot_figure(figsize=(4, 4))  # as lime's repository has it
    assert figure.get_size_inches().tolist() == [4, 4]
    plt.close(figure)


def test_a_mapper_of_ones_own():
    class Mapper(DomainMapper):
        def map_exp_ids(self, exp, upper=False):
            return [("xyz"[j].upper() if upper else "xyz"[j], w) for j, w in exp]

    explanation = Explanation(Mapper(), class_names=["a", "b"])
    explanation.local_exp, explanation.predict_proba = {1: [(2, 0.5)]}, np.array([0.1, 0.9])
    assert explanation.as_list(upper=True) == [("Z", 0.5)]
    assert "z" in "".join(parsed(explanation.as_html()).text)
    assert Explanation(DomainMapper(), "regression").class_names == ["negative", "positive"]
    with pytest.raises(NotImplementedError, match="Not supported for regression"):
        Explanation(DomainMapper(), "regression").available_labels()


def test_ids_are_limes():
    from lime.explanation import id_generator as theirs

    a, b = np.random.RandomState(0), np.random.RandomState(0)
    assert theirs(9, a) == id_generator(9, b)
