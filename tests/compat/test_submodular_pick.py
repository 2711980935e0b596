"""The choice of representative explanations beside lime's."""

import numpy as np
import pytest
from lime import submodular_pick as lime

from tests.compat.tables import BOTH, LIME, Model, Words, quietly
from torchlime.compat import submodular_pick
from torchlime.compat.submodular_pick import greedy_cover

DATA = np.random.RandomState(0).normal(size=(24, 5))


def picked(module, data=DATA, one=None, kind="tabular", init=None, **settings):
    np.random.seed(4)  # noqa: NPY002
    if kind == "text":
        made = module.text.LimeTextExplainer(random_state=0)
    else:
        made = module.tabular.LimeTabularExplainer(data, random_state=0, **(init or {}))
    one = one or (Words() if kind == "text" else Model(data.shape[1]))
    arguments = {"num_samples": 80, "num_features": 3} | settings
    pick = quietly(module.pick.SubmodularPick, made, data, one, **arguments)
    return pick, np.random.mtrand._rand.get_state()[1].tolist()


def same(theirs, mine):
    assert theirs.V == mine.V
    assert len(theirs.explanations) == len(mine.explanations)
    for a, b in zip(theirs.sp_explanations, mine.sp_explanations, strict=True):
        label = a.available_labels()[0] if a.mode == "classification" else 1
        assert [n for n, _ in a.as_list(label)] == [n for n, _ in b.as_list(label)]


@pytest.mark.parametrize(
    "settings",
    [{}, {"method": "full"}, {"sample_size": 12}, {"num_exps_desired": 9}, {"num_features": 5},
     {"num_exps_desired": "3", "sample_size": 7}, {"top_labels": 1}],
    ids=str,
)  # fmt: skip
def test_it_picks_what_lime_picks(settings):
    (theirs, state), (mine, own) = (picked(module, **settings) for module in BOTH)
    same(theirs, mine)
    assert state == own


def test_regression_and_text():
    regression = {"init": {"mode": "regression"}, "one": Model(5, regression=True)}
    same(*(picked(module, **regression)[0] for module in BOTH))
    texts = ["a good film", "a bad film", "good", "bad and long", "no film at all"]
    same(*(picked(module, texts, kind="text", num_exps_desired=3)[0] for module in BOTH))


def test_the_greedy_cover_is_limes():
    """Its loop, literally; with equal rows, whose order decides."""
    rng = np.random.RandomState(0)
    for _ in range(60):
        rows = rng.normal(size=(rng.randint(1, 8), 6)) * (rng.uniform(size=6) < 0.5)
        weights = rows[rng.randint(0, len(rows), rng.randint(1, 14))]
        count = rng.randint(0, len(weights) + 1)
        importance = np.sum(abs(weights), axis=0) ** 0.5
        left, expected = set(range(len(weights))), []
        for _ in range(count):
            best, best_ind = 0, None
            for i in left:
                current = np.dot((np.sum(abs(weights)[[*expected, i]], axis=0) > 0), importance)
                if current >= best:
                    best, best_ind = current, i
            expected.append(best_ind)
            left -= {best_ind}
        assert greedy_cover(weights, count) == expected


def test_the_rows_of_the_data_are_known():
    pick, _ = picked(BOTH[1], sample_size=6)
    assert len(pick.indices) == 6
    for index, explanation in zip(pick.indices, pick.explanations, strict=True):
        np.testing.assert_allclose(
            [float(v) for v in explanation.domain_mapper.feature_values], DATA[index], 0, 0.0051
        )


def test_t15_the_rows_may_come_from_a_state_of_ones_own():
    before = np.random.mtrand._rand.get_state()[1].tolist()
    explainer = BOTH[1].tabular.LimeTabularExplainer(DATA, random_state=0)
    chosen = [
        submodular_pick.SubmodularPick(
            explainer, DATA, Model(5), sample_size=5, num_samples=30, random_state=seed
        ).indices.tolist()
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert np.random.mtrand._rand.get_state()[1].tolist() == before


def test_t15_two_labels_of_two_classes_cancel_in_lime():
    two = {"one": Model(5, classes=2), "top_labels": 2}
    theirs, _ = picked(LIME, **two)
    total = sum(dict(e.as_list(0))[n] + w for e in theirs.explanations for n, w in e.as_list(1))
    assert abs(total) < 1e-10
    literal, _ = picked(BOTH[1], **two, literal=True)
    assert len(literal.V) == 5
    explainer = BOTH[1].tabular.LimeTabularExplainer(DATA, random_state=0)
    with pytest.warns(UserWarning, match="by their absolute values.*literal=True"):
        submodular_pick.SubmodularPick(
            explainer, DATA, two["one"], top_labels=2, num_samples=80, sample_size=8
        )


def test_t14_bins_of_one_name_are_merged_in_lime():
    data = np.abs(DATA) * 1e-5  # "0.00 < 0 <= 0.00" is the name of two bins of each column
    settings = {"data": data, "one": Model(5, scale=1e-5), "method": "full", "num_features": 5}
    theirs, _ = picked(LIME, **settings)
    names = {n for e in theirs.explanations for n, _ in e.as_list(e.top_labels[0])}
    assert len(names) == 15  # of 20 bins
    assert picked(BOTH[1], **settings, literal=True)[0].V == theirs.V
    explainer = BOTH[1].tabular.LimeTabularExplainer(data, random_state=0)
    with pytest.warns(UserWarning, match="bins of the same name stay apart.*literal=True"):
        submodular_pick.SubmodularPick(
            explainer, data, settings["one"], method="full", num_samples=80
        )


def test_what_cannot_be():
    explainer = BOTH[1].tabular.LimeTabularExplainer(DATA, random_state=0)
    for module in (lime, submodular_pick):
        with pytest.raises(ValueError, match="Method must be 'sample' or 'full'"):
            module.SubmodularPick(explainer, DATA, Model(5), method="some")
    with pytest.raises(TypeError, match="should return None"):
        quietly(lime.SubmodularPick, explainer, DATA[:2], Model(5), num_exps_desired=None)
    with pytest.raises(ValueError, match="num_exps_desired must be a whole number, got None"):
        submodular_pick.SubmodularPick(explainer, DATA[:2], Model(5), num_exps_desired=None)
    with pytest.warns(UserWarning, match="Requested sample size larger than size of input data"):
        submodular_pick.SubmodularPick(explainer, DATA[:2], Model(5), num_exps_desired=1)
    with pytest.warns(UserWarning, match="num_exps_desired=9 is more than the 2 explanations"):
        submodular_pick.SubmodularPick(
            explainer, DATA[:2], Model(5), num_exps_desired=9, sample_size=2
        )
