"""The cases of lime's tutorials through lime and torchlime.compat: only the import differs."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.settings import Row, Settings
from benchmarks.tables import markdown
from benchmarks.tabular import LIME, OURS, cell, one_thread

CAPTION = (
    "The cases of lime's tutorials, with data that scikit-learn has or that is made here, in one"
    " thread. The two sides differ in the import, and in `literal_bins=True`, which makes"
    " torchlime.compat repeat lime's treatment of bins with one value. *Apart* is the largest"
    " difference of a weight, an intercept or a score. *Alike* says whether names, their order and"
    " the explained classes are the same in all explanations. *Ratio* is lime's time over"
    " torchlime's."
)
FOREST = {"n_estimators": 20, "random_state": 0}
Explain = Callable[[], list[Any]]


class Case(NamedTuple):
    """A tutorial.

    Attributes:
        what: the data.
        model: what is explained.
        explain: module of explainers, further keywords of an explainer of rows → explanations.
    """

    what: str
    model: str
    explain: Callable[..., list[Any]]


def iris(samples: int) -> Case:
    """Numbers, three classes, the best one explained."""
    from sklearn import datasets, ensemble

    data = datasets.load_iris()
    forest = ensemble.RandomForestClassifier(**FOREST).fit(data.data, data.target)
    init = {"feature_names": data.feature_names, "class_names": data.target_names}
    call = {"num_features": 2, "top_labels": 1, "num_samples": samples}
    explain = partial(of_rows, data.data, forest.predict_proba, init, call)
    return Case("iris", "random forest", explain)


def mushrooms(samples: int) -> Case:
    """Nothing but categories, numbered for lime and one-hot for the forest."""
    from sklearn import compose, ensemble, pipeline, preprocessing

    rng = np.random.RandomState(0)
    data = rng.randint(0, [6, 2, 9, 4, 3], (300, 5)).astype(float)
    poisonous = (data[:, 2] > 5) | (data[:, 1] * data[:, 4] == 2)
    words = {j: [f"{'abcde'[j]}{k}" for k in range(9)] for j in range(5)}
    encode = compose.ColumnTransformer([("words", preprocessing.OneHotEncoder(), list(range(5)))])
    forest = ensemble.RandomForestClassifier(**FOREST)
    model = pipeline.make_pipeline(encode, forest).fit(data, poisonous)
    init = {
        "class_names": ["edible", "poisonous"], "categorical_features": list(range(5)),
        "feature_names": ["odor", "bruises", "color", "gill", "ring"], "categorical_names": words,
    }  # fmt: skip
    call = {"num_features": 5, "num_samples": samples}
    explain = partial(of_rows, data, model.predict_proba, init, call)
    return Case("categories like those of mushrooms", "one-hot, random forest", explain)


def diabetes(samples: int) -> Case:
    """A regression of numbers and a category."""
    from sklearn import datasets, ensemble

    data = datasets.load_diabetes(scaled=False)
    forest = ensemble.RandomForestRegressor(**FOREST).fit(data.data, data.target)
    init = {
        "mode": "regression", "feature_names": data.feature_names, "categorical_features": [1],
        "categorical_names": {1: ["", "female", "male"]},
    }  # fmt: skip
    call = {"num_features": 5, "num_samples": samples}
    explain = partial(of_rows, data.data, forest.predict, init, call)
    return Case("regression, diabetes", "random forest", explain)


def newsgroups(samples: int) -> Case:
    """Posts with headers, three groups; the two best classes by six words each."""
    from sklearn import naive_bayes, pipeline
    from sklearn.feature_extraction import text

    posts, groups = posts_of_groups()
    words = text.TfidfVectorizer(lowercase=False)
    model = pipeline.make_pipeline(words, naive_bayes.MultinomialNB(alpha=0.01)).fit(posts, groups)

    def explain(modules: Any, **_: Any) -> list[Any]:
        explainer = modules.text.LimeTextExplainer(class_names=GROUPS, random_state=1)
        return [
            explainer.explain_instance(
                post, model.predict_proba, num_features=6, top_labels=2, num_samples=samples
            )
            for post in posts[:3]
        ]

    return Case("posts like those of newsgroups", "TF-IDF, naive Bayes", explain)


def series(samples: int) -> Case:
    """Series of two features, by an LSTM."""
    network = Recurrent()
    data = np.random.RandomState(0).normal(size=(80, 5, 2)).cumsum(axis=1)

    def predict(rows: Any) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(np.ascontiguousarray(rows))).numpy()

    def explain(modules: Any, **_: Any) -> list[Any]:
        explainer = modules.tabular.RecurrentTabularExplainer(
            data, feature_names=["price", "volume"], class_names=["down", "up"], random_state=0
        )
        return [
            explainer.explain_instance(row, predict, num_samples=samples, num_features=4)
            for row in data[:3]
        ]

    return Case("series", "LSTM", explain)


CASES = {case.__name__: case for case in (iris, mushrooms, diabetes, newsgroups, series)}
GROUPS = ["atheism", "christian", "graphics"]
_WORDS = {
    "atheism": "argument evidence belief claim moral reason Caltech objective",
    "christian": "God church faith Rutgers scripture Christ prayer belief",
    "graphics": "image file format pixel GIF program screen colour",
}
_COMMON = "the of and to that is not in it for this have be with on as you what"


def posts_of_groups(count: int = 90, length: int = 60) -> tuple[list[str], list[int]]:
    """Posts with headers, whose words are common ones and those of their group, and the groups."""
    rng = np.random.default_rng(0)
    posts, groups = [], [number % len(GROUPS) for number in range(count)]
    for number, group in enumerate(groups):
        own, common = _WORDS[GROUPS[group]].split(), _COMMON.split()
        words = [str(rng.choice(own if rng.random() < 0.2 else common)) for _ in range(length)]
        lines = [" ".join(words[at : at + 12]) for at in range(0, length, 12)]
        head = f"From: user{number}@host{group}.edu\nSubject: Re: {own[number % 8]}?\n\n"
        posts.append(head + "\n".join(f"{line}." for line in lines))
    return posts, groups


class Recurrent(nn.Module):
    """Which way a series of two features goes, by an untrained LSTM."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(2, 6, batch_first=True, dtype=torch.float64)
        self.out = nn.Linear(6, 2, dtype=torch.float64)

    def forward(self, series: Tensor) -> Tensor:
        """Series [B,T,2] → probabilities [B,2]."""
        scores: Tensor = self.out(self.lstm(series)[0][:, -1])
        return scores.softmax(-1)


def of_rows(
    data: Any, predict: Callable[..., Any], init: Any, call: Any, modules: Any, **more: Any
) -> list[Any]:
    """Three rows of a table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bins with one value
        explainer = modules.tabular.LimeTabularExplainer(data, random_state=1, **init, **more)
    return [explainer.explain_instance(row, predict, **call) for row in data[[0, 70, 140]]]


def run(settings: Settings) -> list[Row]:
    rows = []
    with one_thread():
        for make in CASES.values():
            case = make(60 if settings.quick else 5000)
            settings.say(f"tutorials: {case.what}")
            sides: dict[str, Explain] = {LIME: partial(case.explain, lime()), OURS: ours(case)}
            readings = settings.timer()(sides)
            theirs, mine = (explain() for explain in sides.values())
            rows.append(
                {
                    "data": case.what,
                    "model": case.model,
                    "dtype": "float64",
                    "explanations": len(mine),
                    "apart": max(map(apart, theirs, mine)),
                    "alike": all(map(alike, theirs, mine)),
                    "lime_over": readings[LIME].over(readings[OURS]).record(),
                }
            )
    return rows


def lime() -> Any:
    """lime's modules of explainers."""
    from types import SimpleNamespace

    from lime import lime_tabular, lime_text

    return SimpleNamespace(tabular=lime_tabular, text=lime_text)


def ours(case: Case) -> Explain:
    """A case by torchlime."""
    from types import SimpleNamespace

    from torchlime.compat import lime_tabular, lime_text

    modules = SimpleNamespace(tabular=lime_tabular, text=lime_text)
    return partial(case.explain, modules, literal_bins=True)


def apart(theirs: Any, mine: Any) -> float:
    """The largest difference of any number of two explanations."""
    pairs = [(theirs.score, mine.score), (theirs.local_pred[0], mine.local_pred[0])]
    pairs += [(theirs.intercept[label], mine.intercept[label]) for label in theirs.intercept]
    for label, weights in theirs.local_exp.items():
        found = dict(mine.local_exp[label])
        pairs += [(weight, found.get(feature, np.inf)) for feature, weight in weights]
    return max(abs(float(a) - float(b)) for a, b in pairs)


def alike(theirs: Any, mine: Any) -> bool:
    """Whether names, order and classes are the same."""
    return list(theirs.local_exp) == list(mine.local_exp) and all(
        [name for name, _ in theirs.as_list(label)] == [name for name, _ in mine.as_list(label)]
        for label in theirs.local_exp
    )


def table(rows: list[Row]) -> str:
    return markdown(
        ["data", "model", "explanations", "apart", "alike", "lime / torchlime.compat"],
        [
            [
                row["data"],
                row["model"],
                row["explanations"],
                f"{row['apart']:.1g}",
                "yes" if row["alike"] else "no",
                cell(row["lime_over"]),
            ]
            for row in rows
        ],
    )
