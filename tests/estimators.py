"""Small models of tables and texts, and their files."""

import functools
import os
from pathlib import Path

import joblib
import numpy as np
import pandas
import skops.io
import torch
from sklearn import compose, ensemble, feature_extraction, linear_model, pipeline, preprocessing
from torch import nn

TEXTS = ["a good film", "a bad film", "good fun", "bad and dull"]


def people(rows=200, seed=0):
    """Numbers, words, missing values, and a label that follows from the age and the town."""
    draw = np.random.default_rng(seed)
    age = draw.integers(18, 90, rows)
    town = draw.choice(["Bern", "Graz", "Ulm"], rows)
    income = draw.normal(50, 10, rows).round(2)
    income[::17] = np.nan
    label = np.where((age > 50) & (town != "Ulm"), "yes", "no")
    return pandas.DataFrame({"age": age, "town": town, "income": income, "label": label})


@functools.cache
def of_people():
    table = people()
    columns = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(), ["town"]),
        (preprocessing.StandardScaler(), ["age"]),
    )
    model = pipeline.make_pipeline(columns, linear_model.LogisticRegression())
    return model.fit(table[["age", "town", "income"]], table["label"])


def of_numbers(kind=linear_model.LogisticRegression, **settings):
    """Fitted on an array: the first of two columns decides."""
    x = np.random.default_rng(0).normal(size=(100, 2))
    return kind(**settings).fit(x, (x[:, 0] > 0).astype(int))


@functools.cache
def of_texts():
    words = feature_extraction.text.TfidfVectorizer()
    return pipeline.make_pipeline(words, linear_model.LogisticRegression()).fit(TEXTS, [1, 0, 1, 0])


def forest():
    return of_numbers(ensemble.RandomForestClassifier, n_estimators=5, random_state=0)


def numbers_csv(name="numbers.csv"):
    x = np.random.default_rng(1).normal(size=(40, 2))
    pandas.DataFrame(x, columns=["first", "second"]).to_csv(name, index=False)
    return name


class Evil:
    """A pickle that makes a file where it is loaded."""

    def __reduce__(self):
        return (os.mkdir, ("evil",))


class Linear(nn.Module):
    def forward(self, x):
        return torch.stack([x[:, 0], x[:, 1]], dim=1).softmax(dim=1)


# What --model tests.estimators:NAME means


def network():
    return Linear()


def first_column(rows):
    """A function of tensors."""
    return rows[:, 0]


def older(frame):
    """A function of DataFrames."""
    return (frame["age"] > 50).to_numpy().astype(float)


def good(texts):
    return [[text.count("bad"), text.count("good")] for text in texts]


def ends(rows):
    raise SystemExit(3)


def nothing():
    return 7


fitted = of_numbers()


def write_all(folder="."):
    """people.csv, people.skops, people.joblib, texts.skops."""
    folder = Path(folder)
    people().to_csv(folder / "people.csv", index=False)
    skops.io.dump(of_people(), folder / "people.skops")
    joblib.dump(of_people(), folder / "people.joblib")
    skops.io.dump(of_texts(), folder / "texts.skops")
