"""The explainer of texts beside lime's: draws, texts, numbers, names, states."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lime import lime_text as lime
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from tests.compat.tables import (
    BOTH,
    LIME,
    Words,
    assert_same_explanation,
    quietly,
    state_of,
)
from torchlime.compat import lime_text

TEXT = "This is a good movie, a really good one. It isn't long; it is GOOD (and a bit sad)."


def explain_both(text, init=None, one=None, **arguments):
    """(lime's explanation, ours), after the same texts and with the same state left."""
    sides = []
    for module in BOTH:
        np.random.seed(3)  # noqa: NPY002
        explainer = module.text.LimeTextExplainer(**{"random_state": 7} | (init or {}))
        asked = one or Words(3)
        asked.seen = []
        explained = quietly(explainer.explain_instance, text, asked, **arguments)
        sides.append((explained, asked.seen, state_of(explainer)))
    (theirs, saw, state), (mine, own, own_state) = sides
    assert saw == own
    assert state == own_state
    for positions in (False, True):
        for label in theirs.local_exp:
            names = [dict(e.as_list(label, positions=positions)) for e in (theirs, mine)]
            whole = {re.sub(r"_0\.0$", "_0", name) for name in names[0]}  # T13
            assert whole == set(names[1])
    assert_same_explanation(theirs, mine)
    return theirs, mine


@pytest.mark.parametrize("bow", [True, False])
@pytest.mark.parametrize("char_level", [True, False])
@pytest.mark.parametrize("mask_string", [None, "…"])
def test_words_and_characters(bow, char_level, mask_string):
    init = {"bow": bow, "char_level": char_level, "mask_string": mask_string}
    explain_both(TEXT, init, num_samples=200)


@pytest.mark.parametrize(
    "arguments",
    [
        {"top_labels": 2},
        {"labels": (2, 0)},
        {"num_features": 3},
        {"num_features": 1000},
        {"num_samples": 1},
        {"num_samples": 30},
        {"distance_metric": "euclidean"},
        {"distance_metric": "cityblock"},
        {"model_regressor": LinearRegression()},
        {"model_regressor": Ridge(3)},
    ],
    ids=str,
)
def test_arguments(arguments):
    init = {"kernel_width": 500} if "distance_metric" in arguments else {}
    if arguments.get("num_samples") == 1:
        init["feature_selection"] = "none"
    explain_both(TEXT, init, **{"num_samples": 150} | arguments)


@pytest.mark.parametrize("method", ["auto", "none", "highest_weights", "forward_selection",
                                    "lasso_path"])  # fmt: skip
def test_selections(method):
    for count in (2, 5, 9):
        explain_both(TEXT, {"feature_selection": method}, num_features=count, num_samples=150)


def words_of(text):
    return re.findall(r"\w+", text)


@pytest.mark.parametrize(
    "split", [r"\W+", r"\s+", " ", r"(?:,|\.)\s*", words_of, str.split, lambda text: []]
)
@pytest.mark.parametrize("bow", [True, False])
def test_splits(split, bow):
    for text in (TEXT, "a", "  spaced   out  ", "été, naïve…\n\tœuvre", "😀 and 😀"):
        a, b = (m.text.IndexedString(text, split, bow=bow) for m in BOTH)
        assert "".join(b.as_list) == text
        assert list(a.as_list) == b.as_list == b.as_np.tolist()
        assert a.string_start.tolist() == b.string_start.tolist()
        assert a.inverse_vocab == b.inverse_vocab
        positions = [[np.ravel(p).tolist() for p in one.positions] for one in (a, b)]
        assert positions[0] == positions[1]
        assert (a.num_words(), a.raw_string()) == (b.num_words(), b.raw_string())
        for id_ in range(a.num_words()):
            assert a.word(id_) == b.word(id_)
            assert np.ravel(a.string_position(id_)).tolist() == b.string_position(id_).tolist()
            removed = np.arange(id_ + 1)
            assert a.inverse_removing(removed) == b.inverse_removing(removed)
        assert b.inverse_removing([]) == text
    if callable(split) and not split(TEXT):
        return
    explain_both(TEXT, {"split_expression": split, "bow": bow}, num_samples=80)


def test_several_texts_are_lime_in_a_loop():
    texts, found = [TEXT, "two words", "one"], []
    for module in BOTH:
        explainer, one = module.text.LimeTextExplainer(random_state=0), Words()
        ask = lambda text, e=explainer, one=one: e.explain_instance(  # noqa: E731
            text, one, num_samples=60
        )
        explained = [ask(text) for text in texts] if module is LIME else ask(texts)
        found.append((explained, one.seen, state_of(explainer)))
    assert found[0][1:] == found[1][1:]
    for theirs, mine in zip(found[0][0], found[1][0], strict=True):
        assert_same_explanation(theirs, mine)


def newsgroup_like():
    """Texts of two topics with a few words that tell them apart, and their labels."""
    rng = np.random.RandomState(0)
    common = [f"word{i}" for i in range(60)]
    topics = [["church", "faith", "sunday"], ["orbit", "launch", "moon"]]
    labels = np.arange(80) % 2
    return [
        " ".join(rng.permutation([*rng.choice(common, 30), *rng.choice(topics[k], 3)]))
        for k in labels
    ], labels


def test_a_pipeline_of_scikit_learn():
    texts, labels = newsgroup_like()
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)

    class Recorded:
        seen = ()

        def __call__(self, texts):
            self.seen.append(list(texts))
            return pipeline.predict_proba(texts)

    theirs, mine = explain_both(
        texts[1], {"class_names": ["faith", "space"]}, Recorded(), num_features=3, num_samples=500
    )
    assert {word for word, _ in mine.as_list()[:2]} <= {"orbit", "launch", "moon"}
    assert [word for word, _ in mine.as_list()] == [word for word, _ in theirs.as_list()]


@settings(max_examples=40, derandomize=True, deadline=None, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(
    st.text("ab cé,.-_\n'😀'", min_size=1, max_size=40).filter(lambda t: re.search(r"\w", t)),
    st.booleans(), st.booleans(), st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 6, 7, 30]),
    st.sampled_from([None, 1, 2]),
)  # fmt: skip
def test_the_drop_in_gives_limes_numbers(text, bow, char_level, seed, num_features, top_labels):
    init = {"bow": bow, "char_level": char_level, "random_state": seed}
    explain_both(text, init, num_features=num_features, top_labels=top_labels, num_samples=90)


def test_the_arguments_of_the_constructor():
    kernel = lambda d, kernel_width: 1 / (1 + d / kernel_width)  # noqa: E731
    explain_both(TEXT, {"kernel": kernel, "kernel_width": 10}, num_samples=90)
    explain_both(TEXT, {"class_names": ["a", "b", "c"], "random_state": None}, num_samples=90)


def test_calls_of_few_texts_give_the_same():
    found = []
    for size in (None, 7):
        one = Words()
        explainer = lime_text.LimeTextExplainer(random_state=0)
        explained = explainer.explain_instance(TEXT, one, num_samples=50, batch_size=size)
        found.append((explained.as_list(), [t for call in one.seen for t in call], len(one.seen)))
    assert found[0][:2] == found[1][:2]
    assert [found[0][2], found[1][2]] == [1, 8]


# The traps of lime's, each of it and of us.


def test_t11_words_of_other_scripts_are_split_as_lime_splits_them():
    for text, words in {"我喜欢这部电影": 1, "नमस्ते": 2, "cafe\u0301 noir": 2}.items():
        assert [m.text.IndexedString(text).num_words() for m in BOTH] == [words, words]


def test_t13_a_capturing_group_doubles_separators():
    assert "".join(lime.IndexedString("a b", r"(\s)").as_list) == "a  b"
    with pytest.raises(ValueError, match=r"1 capturing group, .* write \(\?:…\)"):
        lime_text.IndexedString("a b", r"(\s)")


def test_t13_one_word_has_a_position_that_is_whole():
    a, b = (m.text.TextDomainMapper(m.text.IndexedString("word")) for m in BOTH)
    assert a.map_exp_ids([(0, 1.0)], positions=True) == [("word_0.0", 1.0)]
    assert b.map_exp_ids([(0, 1.0)], positions=True) == [("word_0", 1.0)]


def test_t13_nul_characters_stay():
    text = "a\0 b"
    a, b = (m.text.IndexedString(text, " ") for m in BOTH)
    assert a.inverse_vocab[0] == "a"
    assert b.inverse_vocab[0] == "a\0"
    assert b.inverse_removing([1]) == "a\0 "


def test_t13_empty_words_of_a_tokenizer_are_warned_of():
    split = lambda text: re.split(r"\W+", text)  # noqa: E731
    assert "" in lime.IndexedString("a b.", split).inverse_vocab
    with pytest.warns(UserWarning, match="empty words"):
        assert "" in lime_text.IndexedString("a b.", split).inverse_vocab


def test_t13_a_long_word_costs_no_array():
    indexed = lime_text.IndexedString("x" * 20_000 + " y" * 2000)
    assert "as_np" not in vars(indexed)
    assert lime.IndexedString("x" * 20_000 + " y" * 200).as_np.nbytes > 10**7


def test_t16_t18_an_explainer_pickles_and_forgets_its_models_classes():
    theirs, mine = (m.text.LimeTextExplainer(random_state=0) for m in BOTH)
    for explainer in (theirs, mine):
        explainer.explain_instance("a b", Words(2), num_samples=20)
    with pytest.raises(Exception, match="pickle"):
        pickle.dumps(theirs)
    assert theirs.class_names == ["0", "1"]
    assert mine.class_names is None
    again = pickle.loads(pickle.dumps(mine))
    three = again.explain_instance("a b", Words(3), num_samples=20)
    assert three.class_names == ["0", "1", "2"]


@pytest.mark.parametrize("text", ["", "  ", "..."])
def test_a_text_without_words(text):
    with pytest.raises(ValueError, match="low >= high"):
        lime.LimeTextExplainer().explain_instance(text, Words())
    with pytest.raises(ValueError, match="no words to leave out"):
        lime_text.LimeTextExplainer().explain_instance(text, Words())


def test_a_tokenizer_of_other_words():
    for module in BOTH:
        with pytest.raises(ValueError, match="Tokenization produced tokens that do not belong"):
            module.text.IndexedString("A cat", lambda text: text.lower().split())
    with pytest.raises(ValueError, match="'cat' does not follow 'A ca'"):
        lime_text.IndexedString("A cat", lambda text: text.lower().split())


def test_a_model_without_probabilities():
    with pytest.raises(IndexError, match="tuple index out of range"):
        lime.LimeTextExplainer().explain_instance("a b", lambda t: np.zeros(len(t)))
    explainer = lime_text.LimeTextExplainer()
    with pytest.raises(NotImplementedError, match="without probability scores"):
        explainer.explain_instance("a b", lambda t: np.zeros(len(t)))
    with pytest.raises(IndexError, match="there is no label 1: classifier_fn has one output"):
        explainer.explain_instance("a b", lambda t: np.zeros((len(t), 1)))
    with pytest.raises(ValueError, match="one output for each of the 10 rows"):
        explainer.explain_instance("a b", lambda t: np.zeros((3, 2)), num_samples=10)
    with pytest.raises(TypeError, match="must be a function, got Words2; pass its predict_proba"):
        explainer.explain_instance("a b", type("Words2", (), {"predict_proba": None})())
    with pytest.raises(TypeError, match="must be a str, got bytes"):
        explainer.explain_instance(b"a b", Words())


def test_metrics_that_lime_cannot_take():
    for metric in ("jaccard", "hamming"):
        with pytest.raises(TypeError):
            quietly(lime.LimeTextExplainer().explain_instance, "a b c", Words(), num_samples=20,
                    distance_metric=metric)  # fmt: skip
        explainer = lime_text.LimeTextExplainer(random_state=0, kernel_width=1000)
        found = explainer.explain_instance("a b c", Words(), num_samples=40,
                                           distance_metric=metric)  # fmt: skip
        assert len(found.as_list()) == 3
