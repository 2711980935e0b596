"""``torchlime explain-text``: lines, pages and files of texts, and a sentence for what is wrong."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from tests import estimators
from torchlime import Explanation, cli, explain_text

LINES = "A good film\n\nbad & <script>alert(1)</script> dull\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimators.write_all()
    Path("t.txt").write_text("A good & cheap film")
    Path("lines.txt").write_text(LINES)
    return tmp_path


def run(*arguments, model="texts.skops"):
    arguments = [*map(str, arguments), "--samples", "100"]
    return cli.main(["explain-text", *arguments, "--model", model])


def refused(capsys, *arguments, **settings):
    assert run(*arguments, **settings) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert not Path("explanations").exists()
    return line.removeprefix("torchlime: ")


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.text = [], {}, ""
        self.feed(Path(path).read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.text += data


def test_a_text_its_page_and_its_numbers(capsys):
    assert run("t.txt", "--out", "found", "--target", 1, "--seed", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"t.txt: \d\d\.\d% class 1: good \+0\.\d+, ", lines[0])
    assert lines[1] == "wrote found/t.html"
    assert sorted(os.listdir("found")) == ["t.html", "t.json", "t.npz"]
    record = json.loads(Path("found/t.json").read_text())
    assert record["features"] == ["A", "good", "cheap", "film"]
    expected = explain_text(
        estimators.of_texts(), "A good & cheap film", 1, num_samples=100, seed=3
    )
    (target,) = record["targets"]
    np.testing.assert_allclose(target["coefficients"], expected.coefficients[0, 0], atol=1e-12)
    assert Explanation.load("found/t.npz").names() == expected.names()


def test_a_text_in_a_line(capsys):
    assert run("lines.txt", "--lines") == 0
    pages = {path.name for path in Path("explanations").glob("*.html")}
    assert pages == {"lines-line-1.html", "lines-line-3.html"}
    assert "lines.txt, line 3: " in capsys.readouterr().out
    whole, line = (
        json.loads(Path(f"explanations/lines-line-{n}.json").read_text()) for n in (1, 3)
    )
    assert whole["text"] == "lines.txt, line 1"
    assert line["features"] == ["bad", "script", "alert", "1", "dull"]


def test_a_line_is_explained_as_it_would_be_alone(capsys):
    assert run("lines.txt", "--lines", "--json") == 0
    both = json.loads(capsys.readouterr().out)["texts"]
    Path("one.txt").write_text(LINES.splitlines()[2])
    assert run("one.txt", "--json") == 0
    (alone,) = json.loads(capsys.readouterr().out)["texts"]
    np.testing.assert_allclose(
        both[1]["targets"][0]["coefficients"], alone["targets"][0]["coefficients"], atol=1e-12
    )


def test_the_page_has_no_script_and_no_foreign_host(capsys):
    os.rename("lines.txt", "<b>&.txt")
    assert run("<b>&.txt", "--target", 1, "--target", 0, "--hide", "<img src=//x>") == 0
    path = "explanations/<b>&.html"
    page, source = Page(path), Path(path).read_text()
    assert not {"script", "img", "b", "link", "iframe"} & set(page.tags)
    assert not {"src", "href", "onload", "onclick"} & set(page.attributes)
    assert "http:" not in source
    assert "https:" not in source
    assert len(source) < 20_000
    assert LINES.strip() in page.text
    assert "<b>&.txt" in page.text
    assert page.tags.count("section") == 2
    assert (
        page.tags.count("mark") == 2 * len({"A", "good", "film", "bad", "alert", "1", "dull"}) + 4
    )
    assert run("<b>&.txt", "--target", 1, "--target", 0, "--hide", "<img src=//x>") == 0
    assert Path(path).read_text() == source


def test_files_of_one_name(capsys):
    os.mkdir("other")
    Path("other/t.txt").write_text("good fun")
    assert run("t.txt", "--top", 2, "other/t.txt") == 0
    assert {path.name for path in Path("explanations").glob("*.html")} == {"t.html", "t-2.html"}
    assert capsys.readouterr().out.count("class") == 4


def test_words_occurrences_and_characters(capsys):
    Path("t.txt").write_text("good, bad good")

    def features(*flags):
        assert run("t.txt", "--json", *flags, model="tests.estimators:good") == 0
        return json.loads(capsys.readouterr().out)["texts"][0]["features"]

    assert features() == ["good", "bad"]
    assert features("--apart") == ["good", "bad", "good"]
    assert features("--split", "characters") == ["g", "o", "d", ",", "b", "a"]


def test_a_byte_order_mark_is_no_word(capsys):
    Path("t.txt").write_bytes(b"\xef\xbb\xbfgood film")
    assert run("t.txt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["texts"][0]["features"] == ["good", "film"]


def test_a_folder_of_hugging_face(capsys):
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film"]
    tokenizer = transformers.BertTokenizerFast(vocab={w: n for n, w in enumerate(words)})
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained("bert")
    tokenizer.save_pretrained("bert")
    assert run("t.txt", "--target", "positive", "--device", "cpu", model="hf:bert") == 0
    assert re.match(r"t.txt: \d\d\.\d% POSITIVE: ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "name a file with a text"),
        (["none.txt"], "there is no text none.txt"),
        (["."], ". is a folder, not a text"),
        (["latin.txt"], "latin.txt is not a text in UTF-8 (its byte 1 is not)"),
        (["blank.txt", "--lines"], "there is no line with a text in blank.txt"),
        (["t.txt", "--target", "good"], "--target: there is no class 'good'"),
        (["t.txt", "--split", "letters"], "--split: 'letters' is none of words, characters"),
        (["t.txt", "--out", "t.txt"], "--out: t.txt is a file"),
    ],
)
def test_a_sentence_each(arguments, expected, capsys):
    Path("latin.txt").write_bytes("für".encode("latin-1"))
    Path("blank.txt").write_text(" \n\n")
    assert expected in refused(capsys, *arguments)


def test_a_text_without_words_fails_alone(capsys):
    Path("lines.txt").write_text("good film\n...\nbad film\n")
    assert run("lines.txt", "--lines") == 1
    captured = capsys.readouterr()
    assert captured.err == "torchlime: lines.txt, line 2: the text '...' has no words to hide\n"
    assert captured.out.count("wrote") == 2


def test_no_pickle_is_loaded_without_trust(capsys):
    joblib.dump(estimators.of_texts(), "t.joblib")
    assert "can run any code" in refused(capsys, "t.txt", model="t.joblib")
    assert run("t.txt", "--trust", model="t.joblib") == 0


def test_a_folder_without_a_model(capsys):
    os.mkdir("nothing")
    assert "has no config.json" in refused(capsys, "t.txt", model="hf:nothing")


def small_bert(folder):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.BertConfig(vocab_size=7, intermediate_size=8, **sizes)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)


def test_a_folder_without_a_tokenizer(capsys):
    """Transformers would make one that knows no word, so that no word would count."""
    small_bert("bert")
    capsys.readouterr()  # what transformers says of the weights that it wrote
    assert "the folder has no tokenizer" in refused(capsys, "t.txt", model="hf:bert")


def test_a_folder_whose_weights_run_code(capsys):
    small_bert("bert")
    capsys.readouterr()  # what transformers says of the weights that it wrote
    os.remove("bert/model.safetensors")
    Path("bert/vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ngood\n")
    torch.save({"weight": estimators.Evil()}, "bert/pytorch_model.bin")
    said = refused(capsys, "t.txt", model="hf:bert")
    assert "its weights were not loaded, since they hold more than tensors" in said
    assert not Path("evil").exists()


def test_a_model_of_texts_without_probabilities(capsys):
    said = refused(capsys, "t.txt", model="tests.estimators:nothing")
    assert "returned a int, which is no model" in said
