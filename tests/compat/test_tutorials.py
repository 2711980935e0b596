"""The cases of lime's tutorials, by changing the import: beside lime, with models of real kinds."""

import numpy as np
import pytest
import torch

from benchmarks.tutorials import CASES, Recurrent
from tests.compat.tables import BOTH, OURS, assert_same_explanation


@pytest.mark.parametrize("name", CASES)
def test_lime_and_torchlime_say_the_same(name):
    case = CASES[name](800)
    theirs, mine = (
        case.explain(module, **more)
        for module, more in zip(BOTH, ({}, {"literal_bins": True}), strict=True)
    )
    assert len(theirs) == len(mine) == 3
    for expected, found in zip(theirs, mine, strict=True):
        assert_same_explanation(expected, found)
        assert any(weight for _, weight in found.as_list(next(iter(found.local_exp))))


def test_posts_are_explained_by_the_words_of_their_group():
    posts = CASES["newsgroups"](800).explain(OURS)
    words = {name for post in posts for name, _ in post.as_list(post.available_labels()[0])}
    assert words & {"argument", "evidence", "God", "church", "image", "file", "pixel", "host0"}


def test_an_lstm_is_taken_as_a_module():
    network = Recurrent()
    series = np.random.RandomState(0).normal(size=(80, 5, 2)).cumsum(axis=1)

    def predict(rows):
        with torch.no_grad():
            return network(torch.from_numpy(np.ascontiguousarray(rows))).numpy()

    function, module = (
        OURS.tabular.RecurrentTabularExplainer(
            series, feature_names=["price", "volume"], class_names=["down", "up"], random_state=0
        ).explain_instance(series[3], model, num_samples=500, num_features=4)
        for model in (predict, network)
    )
    expected = [(name, pytest.approx(weight, abs=1e-12)) for name, weight in function.as_list()]
    assert module.as_list() == expected
    assert "volume_t-0" in " ".join(name for name, _ in function.as_list())
