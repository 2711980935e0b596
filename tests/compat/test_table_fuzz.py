"""Random calls of lime's explainer of tables and of the drop-in, and their largest difference.

``python -m tests.compat.test_table_fuzz 500`` runs as many and prints it; the test runs a few.
"""

import argparse

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import BayesianRidge, Lasso, LinearRegression, Ridge

from tests.compat.tables import (
    Model,
    assert_same_explanation,
    explain_both,
    largest_difference,
)

CASES = 80
METHODS = ("auto", "none", "highest_weights", "forward_selection", "lasso_path")
METRICS = {"euclidean": 1, "cosine": 0.3, "cityblock": 4, "manhattan": 4, "hamming": 0.5}
REGRESSORS = (None, None, None, Ridge(0.1), Lasso(0.002), LinearRegression(), BayesianRidge())


def column(rng, rows):
    """Continuous in some way: normal, heavy-tailed, few values, skewed, whole."""
    kind = rng.randint(6)
    if kind == 0:
        return rng.normal(rng.uniform(-50, 50), rng.uniform(0.1, 30), rows)
    if kind == 1:
        return rng.standard_t(2, rows)
    if kind == 2:
        return rng.choice([-1.5, 0.25, 3.0, 8.0, 9.5], rows)
    if kind == 3:
        return rng.exponential(1, rows) * (rng.uniform(size=rows) > 0.4)
    if kind == 4:
        return rng.randint(0, 40, rows).astype(float)
    return rng.uniform(1e-6, 2e-6, rows)


def case(seed):
    """(training data, row, model, settings of the explainer, arguments) with a defined answer."""
    rng = np.random.RandomState(seed)
    choose = lambda *options: options[rng.randint(len(options))]  # noqa: E731
    rows, count, classes = rng.randint(20, 90), rng.randint(2, 9), rng.randint(2, 5)
    data = np.stack([column(rng, rows) for _ in range(count)], axis=1)
    categorical = [int(j) for j in rng.permutation(count)[: rng.randint(0, count)]]
    for j in categorical:
        data[:, j] = rng.randint(0, rng.randint(2, 5), rows)
    regression, discretize = rng.rand() < 0.3, rng.rand() < 0.65
    metric = choose("euclidean", "euclidean", *METRICS)
    init = {
        "mode": "regression" if regression else "classification",
        "random_state": rng.randint(2**31),
        "feature_selection": choose(*METHODS),
        "categorical_features": choose(categorical, np.array(categorical, dtype=int)),
        "discretize_continuous": discretize,
        "discretizer": choose("quartile", "decile", "entropy"),
        "training_labels": rng.randint(0, 2, rows),
        "sample_around_instance": choose(True, False),
        "kernel_width": choose(None, 1.0, 3) if metric == "euclidean" else METRICS[metric],
    }
    if categorical and rng.rand() < 0.5:
        init["categorical_names"] = {categorical[0]: ["a", "b", "c", "d", "e"]}
    if rng.rand() < 0.5:
        init["feature_names"] = [f"feature {j}" for j in range(count)]
    arguments = {
        "labels": tuple(rng.permutation(classes)[: rng.randint(1, classes + 1)]),
        "top_labels": choose(None, None, 1, 2),
        "num_features": choose(1, 3, 6, 7, count, 50),
        "num_samples": rng.randint(150, 400),
        "distance_metric": metric,
        "model_regressor": choose(*REGRESSORS),
    }
    model = Model(count, classes, seed, scale=data.std(axis=0).max() + 1e-9, regression=regression)
    return data, data[rng.randint(rows)] * 1.0, model, init, arguments


def difference(seed):
    """The largest difference of any number of the two explanations of a case."""
    data, row, model, init, arguments = case(seed)
    literal = {"literal_bins": True}
    exact = not init["discretize_continuous"]
    theirs, mine = explain_both(data, row, model, init, literal, exact, **arguments)
    assert_same_explanation(theirs, mine, 1e-9)
    return largest_difference(theirs, mine)


@settings(max_examples=CASES, derandomize=True, deadline=None, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(st.integers(0, 2**31 - 1))
def test_the_drop_in_gives_limes_numbers(seed):
    assert difference(seed) < 1e-9


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=CASES)
    parser.add_argument("--start", type=int, default=0)
    given_ = parser.parse_args()
    found = []
    for seed in range(given_.start, given_.start + given_.cases):
        try:
            found.append((difference(seed), seed))
        except Exception as error:
            print("case", seed, type(error).__name__, str(error)[:300].replace("\n", " "))
    print("largest difference {:.3g}, of case {}".format(*max(found)), len(found), "cases")
