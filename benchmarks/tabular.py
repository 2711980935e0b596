"""Tables and texts: the drop-in beside lime with the same draws, and torchlime's own way."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.memory import peak_memory
from benchmarks.settings import Row, Settings
from benchmarks.tables import digits, markdown, mebibytes
from torchlime import Background, Explanation, explain_table, explain_text, explain_tokens
from torchlime.compat import lime_tabular, lime_text
from torchlime.surrogates import Ridge

LIME, OURS = "lime", "torchlime.compat"
CAPTION = (
    "Rows of scikit-learn's breast-cancer table (30 columns, quartiles) and texts of 200 words,"
    " one class each, in one thread. The models are a forest of 100 trees and logistic"
    " regressions, with TF-IDF for texts. torchlime.compat draws lime's samples from lime's seed,"
    " and takes all rows in one call. With up to six features, lime uses forward selection."
    " explain_table and explain_text fit all features to samples of their own, which all rows"
    " share. explain_tokens hides ids where lime makes strings. Ratios are lime's time over that"
    " of the row. *Apart* is the largest difference of a weight. Memory is above what was held"
    " before the call. For each row, the masks alone would take 0.14 MiB, and lime's samples 1.1"
    " MiB."
)
Explain = Callable[[], Any]  # explanations


def run(settings: Settings) -> list[Row]:
    rows = []
    with one_thread():
        for (what, features), sides in cases(settings.quick).items():
            settings.say(f"tabular: {what}, {features} features")
            readings = settings.timer()(sides)
            found = {side: explain() for side, explain in sides.items()}
            rows += [
                {
                    "model": what,
                    "features": features,
                    "implementation": side,
                    "explanations": len(found[side]),
                    "dtype": "float64",
                    "seconds": readings[side].record(),
                    "lime_over": readings[LIME].over(readings[side]).record(),
                    "apart": apart(found[LIME], found[side]),
                }
                for side in sides
            ]
    return rows + of_memory(settings)


def of_memory(settings: Settings) -> list[Row]:
    """Peak memory of calls of more and more rows, each in a process of its own."""
    samples, counts = (50, (2, 4)) if settings.quick else (5000, (25, 100, 400))
    found = []
    for count in counts:
        settings.say(f"tabular: memory of {count} rows")
        prepare = partial(explain_some, count, samples)
        taken = peak_memory(torch.device("cpu"), prepare)
        found.append(
            {"model": "memory", "explanations": count, "dtype": "float64", "peak_bytes": taken}
        )
    return found


def explain_some(count: int, samples: int) -> tuple[Explain, Explain]:
    """(warm up, explain so many rows)."""
    from sklearn import datasets

    table = datasets.load_breast_cancer().data
    background, x = Background.of(table), torch.from_numpy(table)

    def explain(rows: Tensor) -> Any:
        return explain_table(lambda z: z.log1p().sum(1), rows, background, num_samples=samples)

    return partial(explain, x[:2]), partial(explain, x[:count])


def one_thread() -> Any:
    """As many threads as lime has: one."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def cases(quick: bool) -> dict[tuple[str, int], dict[str, Explain]]:
    """{(what, features): {implementation: explain}}."""
    from sklearn import datasets, ensemble, linear_model, pipeline, preprocessing

    table, labels = datasets.load_breast_cancer(return_X_y=True)
    logistic = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression()
    ).fit(table, labels)
    trees = ensemble.RandomForestClassifier(10 if quick else 100, random_state=0)
    forest = trees.fit(table, labels)
    some, few, samples = (2, 2, 50) if quick else (100, 20, 5000)
    texts, words = documents(2 if quick else 4), 40 if quick else 5000
    of_texts = classifier_of_texts()
    return {
        ("logistic regression", 10): of_table(table, some, logistic.predict_proba, 10, samples)
        | native(table, some, logistic, samples),
        ("random forest", 10): of_table(table, some, forest.predict_proba, 10, samples)
        | native(table, some, forest, samples),
        ("logistic regression", 5): of_table(table, few, logistic.predict_proba, 5, samples),
        ("text, TF-IDF", 10): of_documents(texts, of_texts, 10, words)
        | {"explain_text": lambda: explain_text(of_texts, texts, 1, num_samples=words)},
        ("text, TF-IDF", 6): of_documents(texts, of_texts, 6, words),
        ("text, embeddings", 10): of_ids(texts, 10, words),
    }


def native(table: Any, count: int, model: Any, samples: int) -> dict[str, Explain]:
    background, rows = Background.of(table), table[:count]

    def explain(surrogate: Ridge) -> Any:
        return explain_table(
            model, rows, background, 1, num_samples=samples, surrogate=surrogate
        ).check()

    return {
        "explain_table": partial(explain, Ridge()),
        "explain_table, without errors": partial(explain, Ridge(errors=False)),
    }


def of_ids(texts: list[str], features: int, samples: int) -> dict[str, Explain]:
    """A network of token ids; lime's strings are split and looked up again."""
    vocabulary: dict[str, int] = {}
    ids = torch.tensor(
        [[vocabulary.setdefault(w, len(vocabulary) + 1) for w in text.split()] for text in texts]
    )
    torch.manual_seed(0)
    network = nn.EmbeddingBag(len(vocabulary) + 1, 2, mode="sum", padding_idx=0)

    def of_ids(tokens: Tensor) -> Tensor:
        return network(tokens).softmax(1)

    def of_strings(strings: list[str]) -> Any:
        found = [[vocabulary.get(w, 0) for w in s.split()] for s in strings]
        longest = max(map(len, found))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in found])
        with torch.no_grad():
            return of_ids(padded).numpy()

    def tokens() -> Any:
        return explain_tokens(of_ids, ids, 1, hide=0, num_samples=samples)

    return of_documents(texts, of_strings, features, samples, bow=False) | {
        "explain_tokens": tokens
    }


def of_table(
    table: Any, count: int, predict: Callable[..., Any], features: int, samples: int
) -> dict[str, Explain]:
    from lime import lime_tabular as lime

    settings: dict[str, Any] = {"num_features": features, "num_samples": samples}

    def theirs() -> list[Any]:
        explainer = lime.LimeTabularExplainer(table, random_state=0)
        return [explainer.explain_instance(row, predict, **settings) for row in table[:count]]

    def ours() -> list[Any]:
        explainer = lime_tabular.LimeTabularExplainer(table, random_state=0)
        return explainer.explain_instance(table[:count], predict, **settings)

    return {LIME: theirs, OURS: ours}


def of_documents(
    texts: list[str], predict: Callable[..., Any], features: int, samples: int, bow: bool = True
) -> dict[str, Explain]:
    from lime import lime_text as lime

    def explain(module: Any) -> list[Any]:
        explainer = module.LimeTextExplainer(random_state=0, bow=bow)
        return [
            explainer.explain_instance(text, predict, num_features=features, num_samples=samples)
            for text in texts
        ]

    return {LIME: partial(explain, lime), OURS: partial(explain, lime_text)}


def documents(count: int, words: int = 200, seed: int = 0) -> list[str]:
    """Texts of so many words, common ones more often."""
    rng = np.random.default_rng(seed)
    return [" ".join(f"word{min(w, 999)}" for w in rng.zipf(1.3, words)) for _ in range(count)]


def classifier_of_texts() -> Callable[..., Any]:
    from sklearn import linear_model, pipeline
    from sklearn.feature_extraction import text

    model = pipeline.make_pipeline(text.TfidfVectorizer(), linear_model.LogisticRegression())
    return model.fit(documents(100, seed=1), np.arange(100) % 2).predict_proba


def apart(theirs: list[Any], mine: Any) -> float | None:
    """The largest difference of a weight of class 1; None where the draws are others."""
    if isinstance(mine, Explanation):
        return None
    return max(
        abs(weight - dict(b.local_exp[1])[feature])
        for a, b in zip(theirs, mine, strict=True)
        for feature, weight in a.local_exp[1]
    )


def table(rows: list[Row]) -> str:
    timed = [row for row in rows if "seconds" in row]
    times = markdown(
        ["model", "features", "", "explanations", "ms each", "lime / this", "apart"],
        [
            [
                row["model"],
                row["features"],
                row["implementation"],
                row["explanations"],
                cell(row["seconds"], 1e3 / row["explanations"]),
                cell(row["lime_over"]),
                "" if row["apart"] is None else f"{row['apart']:.1g}",
            ]
            for row in timed
        ],
    )
    sizes = [[r["explanations"], mebibytes(r["peak_bytes"])] for r in rows if "peak_bytes" in r]
    if not sizes:
        return times
    return f"{times}\n\n" + markdown(["rows of one call of explain_table", "peak memory"], sizes)


def cell(reading: dict[str, Any], scale: float = 1) -> str:
    return f"{digits(reading['median'] * scale)} ± {digits(reading['spread'] * scale)}"
