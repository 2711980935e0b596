"""The cases of lime's tutorials, by changing the import: beside lime, with models of real kinds."""

import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from torch import nn

from tests.compat.tables import BOTH, assert_same_explanation, quietly

FOREST = {"n_estimators": 20, "random_state": 0}


def iris():
    data = load_iris()
    forest = RandomForestClassifier(**FOREST).fit(data.data, data.target)
    init = {"feature_names": data.feature_names, "class_names": data.target_names}
    return data.data, init, forest.predict_proba, {"num_features": 2, "top_labels": 1}


def mushrooms():
    """Nothing but categories, numbered for lime and one-hot for the forest."""
    rng = np.random.RandomState(0)
    data = rng.randint(0, [6, 2, 9, 4, 3], (300, 5)).astype(float)
    poisonous = (data[:, 2] > 5) | (data[:, 1] * data[:, 4] == 2)
    words = {j: [f"{'abcde'[j]}{k}" for k in range(9)] for j in range(5)}
    encode = ColumnTransformer([("words", OneHotEncoder(), list(range(5)))])
    model = make_pipeline(encode, RandomForestClassifier(**FOREST)).fit(data, poisonous)
    init = {
        "class_names": ["edible", "poisonous"], "categorical_features": list(range(5)),
        "feature_names": ["odor", "bruises", "color", "gill", "ring"], "categorical_names": words,
    }  # fmt: skip
    return data, init, model.predict_proba, {"num_features": 5}


def diabetes():
    data = load_diabetes(scaled=False)
    forest = RandomForestRegressor(**FOREST).fit(data.data, data.target)
    init = {
        "mode": "regression", "feature_names": data.feature_names, "categorical_features": [1],
        "categorical_names": {1: ["", "female", "male"]},
    }  # fmt: skip
    return data.data, init, forest.predict, {"num_features": 5}


@pytest.mark.parametrize("case", [iris, mushrooms, diabetes])
def test_tables(case):
    data, init, predict, arguments = case()
    found = []
    for module, more in zip(BOTH, ({}, {"literal_bins": True}), strict=True):
        explainer = quietly(
            module.tabular.LimeTabularExplainer, data, random_state=1, **init, **more
        )
        found.append([explainer.explain_instance(row, predict, num_samples=1000, **arguments)
                      for row in data[[0, 70, 140]]])  # fmt: skip
    for theirs, mine in zip(*found, strict=True):
        assert_same_explanation(theirs, mine)


class Recurrent(nn.Module):
    """Which way a series of two features goes, by an untrained LSTM."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(2, 6, batch_first=True, dtype=torch.float64)
        self.out = nn.Linear(6, 2, dtype=torch.float64)

    def forward(self, series):
        return self.out(self.lstm(series)[0][:, -1]).softmax(-1)


def test_an_lstm_of_series():
    net = Recurrent()
    series = np.random.RandomState(0).normal(size=(80, 5, 2)).cumsum(axis=1)

    def predict(rows):
        with torch.no_grad():
            return net(torch.from_numpy(np.ascontiguousarray(rows))).numpy()

    theirs, mine, module = (
        explainer.tabular.RecurrentTabularExplainer(
            series, feature_names=["price", "volume"], class_names=["down", "up"], random_state=0
        ).explain_instance(series[3], model, num_samples=500, num_features=4)
        for explainer, model in ((BOTH[0], predict), (BOTH[1], predict), (BOTH[1], net))
    )
    assert_same_explanation(theirs, mine)
    assert module.as_list() == [(name, pytest.approx(w, abs=1e-12)) for name, w in mine.as_list()]
    assert "volume_t-0" in " ".join(name for name, _ in mine.as_list())
