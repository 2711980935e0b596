"""Texts against known answers, literal definitions and lime."""

import functools
import itertools
import re
import unicodedata
from html import unescape

import numpy as np
import pytest
import torch
from lime.lime_text import LimeTextExplainer
from sklearn import feature_extraction, linear_model, pipeline

from torchlime import Explanation, TextLime, explain_text, explain_vector, plot
from torchlime.masks import Bernoulli, Exhaustive, RandomSize
from torchlime.surrogates import LeastSquares
from torchlime.texts import by_tokenizer, characters, words
from torchlime.weights import Uniform

TEXT = "The good, the bad and the ugly. The end!"
EXACT = {"sampler": Exhaustive(), "surrogate": LeastSquares(), "kernel": Uniform()}


def spelled(text, split=words):
    return [text[begin:end] for begin, end in split(text)]


def counting(**values):
    """A model that adds up values of words, and sees strings."""

    def model(texts):
        assert all(isinstance(text, str) for text in texts)
        return np.array(
            [sum(values.get(w.lower(), 0) for w in spelled(text)) for text in texts], dtype=float
        )

    return model


# ---- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't panic!", ["Don't", "panic"]),
        ("rock 'n' roll", ["rock", "n", "roll"]),
        ("l’été à Paris", ["l’été", "à", "Paris"]),
        (unicodedata.normalize("NFD", "été été"), [unicodedata.normalize("NFD", "été")] * 2),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("你好，世界", ["你", "好", "世", "界"]),
        ("3.14 x_1 👍 ok", ["3", "14", "x_1", "ok"]),
    ],
)
def test_words(text, expected):
    assert spelled(text) == expected


def test_characters():
    assert spelled("a b\tc", characters) == ["a", "b", "c"]


# ---- known answers -------------------------------------------------------------------------------


def test_values_of_words_are_found_exactly():
    e = explain_text(
        counting(good=3, bad=-2, the=1), "good bad the ugly end", num_samples=32, **EXACT
    ).check()
    assert dict(e.as_list()) == pytest.approx(
        {"good": 3, "bad": -2, "the": 1, "ugly": 0, "end": 0}, abs=1e-9
    )
    assert e.scores.item() == 2


def test_occurrences_of_a_word_are_one_feature_or_each_its_own():
    model = counting(the=1)
    together = explain_text(model, "the cat the dog", num_samples=8, **EXACT)
    assert together.names() == [["the", "cat", "dog"]]
    assert dict(together.as_list())["the"] == pytest.approx(2)
    apart = explain_text(model, "the cat the dog", together=False, num_samples=16, **EXACT)
    assert apart.names() == [["the", "cat", "the", "dog"]]
    assert apart.coefficients[0, 0].tolist() == pytest.approx([1, 0, 1, 0], abs=1e-9)


@pytest.mark.parametrize(("together", "hide"), itertools.product([True, False], ["", "[MASK]"]))
def test_the_model_gets_the_texts_that_the_masks_say(together, hide):
    seen = []

    def model(texts):
        seen.extend(texts)
        return torch.zeros(len(texts))

    e = explain_text(
        model, [TEXT, "a b a"], together=together, hide=hide, num_samples=40, chunk_size=7,
        keep_samples=True,
    )  # fmt: skip
    assert len(seen) == 80
    order = [(0, 0), (1, 0)] + [(b, i) for b in range(2) for i in range(1, 40)]
    for (b, i), string in zip(order, seen, strict=True):
        text, expected, end = [TEXT, "a b a"][b], "", 0
        names = e.names()[b]
        for number, (begin, stop) in enumerate(words(text)):
            feature = names.index(text[begin:stop]) if together else number
            expected += text[end:begin]
            expected += text[begin:stop] if e.masks[b, i, feature] else hide
            end = stop
        assert string == expected + text[end:]
    assert seen[0] == TEXT


def test_sizes_of_what_is_hidden_are_uniform():
    masks = RandomSize()(torch.tensor([5, 3]), 5, 20_001, seed=1)
    assert masks[:, 0].tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    for row, count in enumerate([5, 3]):
        hidden = count - masks[row, 1:, :count].sum(1)
        shares = torch.bincount(hidden, minlength=count + 1) / 20_000
        assert shares[0] == 0
        assert shares[1:].allclose(torch.tensor(1 / count), atol=0.015)
        kept = masks[row, 1:, :count].float().mean(0)
        assert kept.allclose(torch.tensor((count - 1) / 2 / count), atol=0.02)
    further = RandomSize()(torch.tensor([5, 3]), 5, 50, seed=1, first=100)
    assert torch.equal(further, masks[:, 100:150])


# ---- beside lime ---------------------------------------------------------------------------------

TEXTS = ["good film and a good cast", "bad film", "a good day", "the worst bad film", "fine cast"]


def test_the_mean_over_seeds_is_that_of_lime():
    model = pipeline.make_pipeline(
        feature_extraction.text.TfidfVectorizer(token_pattern=r"\w+"),
        linear_model.LogisticRegression(),
    ).fit(TEXTS, [1, 0, 1, 0, 1])
    ours, theirs = [], []
    for seed in range(20):
        e = explain_text(model, TEXTS[0], 1, num_samples=200, seed=seed)
        ours.append(e.coefficients[0, 0].numpy())
        lime = LimeTextExplainer(random_state=seed)
        found = lime.explain_instance(TEXTS[0], model.predict_proba, num_samples=200)
        theirs.append([value for _, value in sorted(found.local_exp[1])])
    ours, theirs = np.array(ours), np.array(theirs)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / 20)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
    assert e.names() == [["good", "film", "and", "a", "cast"]]
    assert e.unit == "probability"


# ---- many texts, models --------------------------------------------------------------------------


def test_a_text_in_a_batch_is_as_alone():
    model = counting(good=1, bad=-1, film=0.5)
    many = explain_text(model, TEXTS, num_samples=150)
    for number, text in enumerate(TEXTS):
        one = explain_text(model, text, num_samples=150, seed=0, sampler=Bernoulli())
        assert one.names()[0] == many.names()[number]
    fixed = explain_text(model, TEXTS, num_samples=150, sampler=Bernoulli())
    assert fixed[1].coefficients.shape == (1, 1, 5)
    assert fixed[1].coefficients[0, 0, 2:].eq(0).all()
    assert len(fixed[1].as_list()) == 2


def test_a_pipeline_of_hugging_face():
    transformers = pytest.importorskip("transformers")
    vocabulary = {w: n for n, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
                                              "a", "good", "film", "bad"])}  # fmt: skip
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary)
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.BertForSequenceClassification(config).eval()
    classifier = transformers.pipeline("text-classification", model=network, tokenizer=tokenizer)
    e = explain_text(
        classifier, "a good film", "all", split=by_tokenizer(tokenizer), num_samples=20
    )
    assert e.names() == [["a", "good", "film"]]
    assert e.targets.tolist() == [[0, 1, 2]]
    assert repr(e).splitlines()[0].endswith("scores are probabilities")
    assert e.category(1) == "LABEL_1"
    logits = network(**tokenizer("a good film", return_tensors="pt")).logits
    assert e.scores[0].allclose(logits.softmax(1)[0].double(), atol=1e-6)
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(TypeError, match="use a fast tokenizer"):
        by_tokenizer(slow)


def test_results_are_saved_with_their_words(tmp_path):
    e = explain_text(counting(good=1), TEXTS[:2], num_samples=50)
    e.save(tmp_path / "text.npz")
    loaded = Explanation.load(tmp_path / "text.npz")
    assert loaded.names() == e.names()
    assert loaded[1].as_list() == e[1].as_list()
    assert loaded.named.texts == tuple(TEXTS[:2])
    assert loaded.named == e.named
    assert e.kind.part == "word"


# ---- pictures ------------------------------------------------------------------------------------


def test_words_are_marked_where_they_stand():
    text = "<b>good</b> & bad 👍 good"
    e = explain_text(counting(good=2, bad=-1), text, num_samples=200)
    html = plot.highlighted(e)
    plain = re.sub("<[^>]*>", "", html)
    assert unescape(plain) == text
    marked = re.findall(r'rgba\((\d+),.*?title="([-+])[^>]*>(.*?)</mark>', html)
    assert [(sign, word) for _, sign, word in marked if word in ("good", "bad")] == [
        ("+", "good"), ("-", "bad"), ("+", "good")
    ]  # fmt: skip
    assert "<b>" not in html
    assert plot.highlighted(e, top=1).count("<mark") == 2
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        plot.highlighted(e, top=0)
    assert html in e._repr_html_()
    assert "good: +" in repr(e)


def test_only_texts_are_highlighted():
    e = explain_vector(lambda z: z.sum(1), torch.ones(1, 3), num_samples=20)
    with pytest.raises(ValueError, match="shows texts"):
        plot.highlighted(e)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ("", {}, "has no words"),
        (["fine", "..."], {}, "'...' has no words"),
        ([], {}, "list of strings"),
        ([b"bytes"], {}, "got bytes"),
        (3, {}, "list of strings"),
        ("a b", {"split": lambda text: ["x"]}, "'x' is not in 'a b'"),
        ("a b", {"split": lambda text: [""]}, "'' is not in"),
        ("a b", {"split": lambda text: [(0, 9)]}, "spans in the order"),
        ("a b", {"split": lambda text: [(2, 3), (0, 1)]}, "spans in the order"),
        ("a b", {"split": lambda text: [1]}, "words or spans"),
        ("a b", {"split": r"\W+"}, "split must be callable"),
        ("a b", {"hide": None}, "hide must be a str"),
        ("a b", {"num_sample": 3}, "did you mean 'num_samples'"),
    ],
)
def test_bad_input_has_a_sentence(texts, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        explain_text(counting(a=1), texts, **settings)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda texts: ["a"] * len(texts), "must return numbers"),
        (lambda texts: np.zeros(3), "must return a float tensor"),
        (object(), "must be callable"),
    ],
)
def test_bad_models_have_a_sentence(model, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TextLime(num_samples=20).explain(model, "a b")


# ---- what is said of an explanation --------------------------------------------------------------


def halves(text, at=2):
    return [(0, len(text) // at), (len(text) // at, len(text))]


def test_a_split_is_named_without_its_address():
    named = {words: "torchlime._words.words", halves: f"{__name__}.halves"}
    for split, name in named.items():
        settings = explain_text(counting(a=1), "a b c", num_samples=20, split=split).settings
        assert settings["split"] == name
    third = functools.partial(halves, at=3)
    settings = explain_text(counting(a=1), "a b c", num_samples=20, split=third).settings
    assert settings["split"] == f"partial of {__name__}.halves with [], {{'at': 3}}"


def test_one_word_is_not_told_to_be_fewer():
    """Only samples without it are drawn, and the kernel hardly counts these: see the ridge."""
    one, two = (explain_text(counting(a=1), text, num_samples=2) for text in ("a", "a b"))
    assert "raise num_samples, or use a wider kernel" in one.reasons()[0][0]
    assert "raise num_samples, take fewer words, or use a wider kernel" in two.reasons()[0][0]
    known = explain_text(counting(a=1), "a", num_samples=2, **EXACT)
    assert known.coefficients.item() == pytest.approx(1)
