"""The explainer of tables beside lime's: draws, rows, numbers, names, states."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from lime import lime_tabular as lime
from scipy import sparse
from scipy.stats import norm
from sklearn.linear_model import LinearRegression, Ridge
from torch import nn

from tests.compat.tables import (
    BOTH,
    LIME,
    OURS,
    Model,
    assert_same_explanation,
    assert_same_rows,
    explain_both,
    quietly,
    state_of,
)
from torchlime.compat import lime_tabular

COLUMNS = 6


def table(rows=150, seed=0):
    """Continuous columns of several scales, then two of categories."""
    rng = np.random.RandomState(seed)
    data = rng.normal(size=(rows, COLUMNS)) * [1, 10, 0.01, 3, 1, 1] + [0, 100, 0, -5, 0, 0]
    data[:, 4:] = rng.randint(0, 4, (rows, 2))
    return data


def model(**more):
    return Model(COLUMNS, scale=np.array([[1, 10, 0.01, 3, 1, 1]]).T * 4, **more)


CATEGORIES = {"categorical_features": [5, 4], "categorical_names": {5: list("abcd")}}


@pytest.mark.parametrize("discretizer", ["quartile", "decile", "entropy"])
@pytest.mark.parametrize("categories", [{}, CATEGORIES])
def test_bins(discretizer, categories):
    labels = np.arange(150) % 3
    init = {"discretizer": discretizer, "training_labels": labels, **categories}
    data = table()
    assert_same_explanation(*explain_both(data, data[3], model(), init, num_samples=400))


@pytest.mark.parametrize("around", [True, False])
@pytest.mark.parametrize("categories", [{}, CATEGORIES])
def test_without_bins_the_rows_are_limes_bit_for_bit(around, categories):
    init = {"discretize_continuous": False, "sample_around_instance": around, **categories}
    data = table()
    both = explain_both(data, data[3], model(), init, exact=True, num_samples=301)
    assert_same_explanation(*both)


@pytest.mark.parametrize(
    "arguments",
    [
        {"top_labels": 2},
        {"labels": (2, 0)},
        {"num_features": 3},
        {"num_features": 100},
        {"num_samples": 31},
        {"distance_metric": "cosine"},
        {"distance_metric": "jaccard"},
        {"distance_metric": "cityblock"},
        {"model_regressor": LinearRegression()},
        {"model_regressor": Ridge(3, solver="lsqr", tol=1e-12)},
    ],
    ids=str,
)
@pytest.mark.parametrize("discretize", [True, False])
def test_arguments(arguments, discretize):
    data = table(seed=1)
    init = {"discretize_continuous": discretize, "class_names": ["red", "green", "blue"]}
    arguments = {"num_samples": 300} | arguments
    assert_same_explanation(*explain_both(data, data[0], model(), init, **arguments))


@pytest.mark.parametrize("method", ["auto", "none", "highest_weights", "forward_selection",
                                    "lasso_path"])  # fmt: skip
@pytest.mark.parametrize("discretize", [True, False])
@pytest.mark.parametrize("count", [2, 4, 9])
def test_selections(method, discretize, count):
    data = table(seed=2)
    init = {"discretize_continuous": discretize, "feature_selection": method}
    both = explain_both(data, data[1], model(), init, num_features=count, num_samples=250)
    assert_same_explanation(*both)


@pytest.mark.parametrize("discretize", [True, False])
@pytest.mark.parametrize("method", ["none", "highest_weights", "forward_selection"])
def test_more_columns_than_samples(discretize, method):
    data = np.random.RandomState(0).normal(size=(50, 30))
    init = {"discretize_continuous": discretize, "feature_selection": method}
    one = Model(30, scale=8)
    arguments = {"num_features": 3 if method == "forward_selection" else 8}
    assert_same_explanation(*explain_both(data, data[0], one, init, num_samples=20, **arguments))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
@pytest.mark.parametrize("discretize", [True, False])
def test_numbers_of_other_kinds(dtype, discretize):
    data = np.random.RandomState(0).randint(0, 200, (90, 4)).astype(dtype)
    init = {"discretize_continuous": discretize, "categorical_features": []}
    both = explain_both(data, data[0], Model(4, scale=200), init, {"literal_bins": True},
                        exact=not discretize, num_samples=150)  # fmt: skip
    assert_same_explanation(*both)


@pytest.mark.parametrize("part", ["base", "explain_instance_with_data", "feature_selection"])
def test_what_the_caller_puts_in_the_place_of_lime_base_is_called(part):
    for module in BOTH:
        explainer, called = module.tabular.LimeTabularExplainer(table(), random_state=0), []
        base = explainer.base

        class Own(type(base)):
            def feature_selection(self, *arguments, called=called, **more):
                called.append(arguments)
                return super().feature_selection(*arguments, **more)

        if part == "base":
            explainer.base = Own(base.kernel_fn, random_state=0)
        else:
            method = getattr(base, part)
            setattr(base, part, lambda *a, m=method, c=called, **k: (c.append(a), m(*a, **k))[1])
        explainer.explain_instance(table()[0], model(), labels=(0, 2), num_samples=60)
        assert len(called) >= 2


def test_settings_of_the_kernel_and_the_state():
    data = table()
    kernel = lambda d, kernel_width: 1 / (1 + d / kernel_width)  # noqa: E731
    for init in ({"kernel": kernel, "kernel_width": 2}, {"kernel_width": 0.5},
                 {"random_state": None}, {"random_state": np.random.RandomState(4)}):  # fmt: skip
        fresh = {k: np.random.RandomState(4) if k == "random_state" and v is not None else v
                 for k, v in init.items()}  # fmt: skip
        both = explain_both(data, data[0], model(), init, fresh, num_samples=200)
        assert_same_explanation(*both)


def test_the_models_of_an_explainer_print_what_limes_do(capsys):
    data, printed = table(), []
    for module in BOTH:
        explainer = module.tabular.LimeTabularExplainer(data, verbose=True, random_state=0)
        explainer.explain_instance(data[0], model(), num_samples=200)
        printed.append(capsys.readouterr().out.split())
    assert [p for p in printed[0] if not p[-1].isdigit()][:2] == ["Intercept", "Prediction_local"]
    assert [word.strip("[]")[:9] for word in printed[0]] == [
        word.strip("[]")[:9] for word in printed[1]
    ]


@pytest.mark.parametrize("discretize", [True, False])
def test_regression(discretize):
    data = table()
    init = {"mode": "regression", "discretize_continuous": discretize}
    theirs, mine = explain_both(data, data[0], model(regression=True), init, num_samples=300)
    assert_same_explanation(theirs, mine)
    assert [(j, -w) for j, w in mine.local_exp[0]] == mine.local_exp[1]
    assert mine.intercept[0] == mine.intercept[1]
    assert mine.as_list() == mine.as_list(label=7)  # a regressor has no labels
    column = lambda rows: model(regression=True)(rows)[:, None]  # noqa: E731
    explainer = lime_tabular.LimeTabularExplainer(data, random_state=7, **init)
    again = explainer.explain_instance(data[0], column, num_samples=300)
    assert again.as_list() == mine.as_list()


def test_several_rows_are_lime_in_a_loop():
    data, saw, found, states = table(), [], [], []
    for module in BOTH:
        explainer, one = module.tabular.LimeTabularExplainer(data, random_state=3), model()
        if module is LIME:
            found.append([explainer.explain_instance(row, one, num_samples=200, top_labels=1)
                          for row in data[:5]])  # fmt: skip
        else:
            found.append(explainer.explain_instance(data[:5], one, num_samples=200, top_labels=1))
        saw.append([np.concatenate(one.seen)])
        states.append(state_of(explainer))
    assert states[0] == states[1]
    assert_same_rows(*saw, sd=data.std(axis=0))
    for theirs, mine in zip(*found, strict=True):
        assert_same_explanation(theirs, mine)


@pytest.mark.parametrize("discretize", [True, False])
def test_calls_of_few_samples_give_the_same(discretize):
    data, lengths, found = table(), [], []
    for size in (None, 64):
        one = model()
        explainer = lime_tabular.LimeTabularExplainer(
            data, random_state=3, discretize_continuous=discretize
        )
        found.append(explainer.explain_instance(data[:2], one, num_samples=100, batch_size=size))
        lengths.append([len(rows) for rows in one.seen])
    assert lengths == [[200], [64, 64, 64, 8]]
    for whole, parts in zip(*found, strict=True):
        assert_same_explanation(whole, parts, 1e-12)


def test_a_regressor_that_draws_keeps_limes_order():
    from sklearn.linear_model import Lasso

    data, states, found = table(), [], []
    for module in BOTH:
        np.random.seed(5)  # noqa: NPY002
        explainer = module.tabular.LimeTabularExplainer(data)
        ask = lambda row, e=explainer: e.explain_instance(  # noqa: E731
            row, model(), num_samples=200, model_regressor=Lasso(0.001)
        )
        found.append([ask(row) for row in data[:3]] if module is LIME else ask(data[:3]))
        states.append(state_of(explainer))
    assert states[0] == states[1]
    for theirs, mine in zip(*found, strict=True):
        assert_same_explanation(theirs, mine)


def stats_of(data, order):
    """What an explainer of ``data`` knows, its columns in some order."""
    known = lime.LimeTabularExplainer(data, random_state=0)
    binned = known.discretizer
    edges = {j: binned.maxs[j][:-1] for j in binned.to_discretize}
    stats = {name: {j: getattr(binned, name)[j] for j in order}
             for name in ("means", "stds", "mins", "maxs")}  # fmt: skip
    return stats | {"bins": edges, "feature_values": known.feature_values,
                    "feature_frequencies": known.feature_frequencies}  # fmt: skip


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 1, 0, 5, 4, 2]])
def test_statistics_and_their_order(order):
    data = table()
    init = {"training_data_stats": stats_of(data, order)}
    sides = []
    for module in BOTH:
        explainer = module.tabular.LimeTabularExplainer(
            np.zeros((2, COLUMNS)), random_state=1, **init
        )
        one = model()
        sides.append((explainer.explain_instance(data[0], one, num_samples=200), one.seen,
                      state_of(explainer)))  # fmt: skip
    (theirs, saw, state), (mine, own, own_state) = sides
    assert state == own_state
    assert_same_rows(saw, own, sd=data.std(axis=0))
    assert_same_explanation(theirs, mine)


@pytest.mark.parametrize("own_state", [None, 5])
def test_a_discretizer_of_the_callers_own(own_state):
    data, found = table(), []
    names = [f"c{j}" for j in range(COLUMNS)]
    for module in BOTH:

        class Thirds(module.discretize.BaseDiscretizer):
            def bins(self, data, labels):
                return [np.percentile(data[:, j], [100 / 3, 200 / 3]) for j in self.to_discretize]

        np.random.seed(2)  # noqa: NPY002
        binned = Thirds(data, [4, 5], names, random_state=own_state)
        explainer = module.tabular.LimeTabularExplainer(
            data, feature_names=names, categorical_features=[4, 5], discretizer=binned,
            random_state=8,
        )  # fmt: skip
        one = model()
        found.append((explainer.explain_instance(data[0], one, num_samples=150), one.seen,
                      state_of(explainer)))  # fmt: skip
    assert found[0][2] == found[1][2]
    assert_same_rows(found[0][1], found[1][1], sd=data.std(axis=0))
    assert_same_explanation(found[0][0], found[1][0])


def test_a_subclass_that_draws_its_own_values():
    data, saw = table(), []
    for module in BOTH:

        class Middle(module.discretize.QuartileDiscretizer):
            def get_undiscretize_values(self, feature, values):
                return np.array(self.means[feature])[values]

        binned = Middle(data, [], list("abcdef"))
        explainer = module.tabular.LimeTabularExplainer(data, discretizer=binned, random_state=8)
        one = model()
        explainer.explain_instance(data[0], one, num_samples=100)
        saw.append(one.seen)
    assert_same_rows(*saw)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("count", [2, 4, 7, 10])
def test_sparse_rows_as_lime_scales_them(kind, count):
    rng = np.random.RandomState(0)
    data = rng.poisson(0.5, (80, 8)) * rng.uniform(1, 2, (80, 8))
    row = kind(data[3:4])
    found = []
    for module, more in zip(BOTH, ({}, {"literal_scale": True}), strict=True):
        one = Model(8)
        explainer = module.tabular.LimeTabularExplainer(kind(data), random_state=0, **more)
        explained = explainer.explain_instance(row, one, num_features=count, num_samples=300)
        found.append((explained, one.seen, state_of(explainer)))
    assert found[0][2] == found[1][2]
    assert_same_rows(found[0][1], found[1][1])
    theirs, mine = found[0][0], found[1][0]
    expected = theirs.as_list()[:8]  # then lime repeats column 0
    assert [(f, pytest.approx(w, abs=1e-4)) for f, w in expected] == mine.as_list()
    assert mine.score == pytest.approx(theirs.score, abs=1e-4)


def test_sparse_weights_are_those_of_the_dense_row():
    """For one standard deviation each: the same samples, dense, give them."""
    rng = np.random.RandomState(1)
    data = rng.normal(size=(60, 5)) + 3
    found = []
    for convert in (np.asarray, sparse.csr_matrix):
        explainer = lime_tabular.LimeTabularExplainer(
            convert(data), random_state=0, discretize_continuous=False, mode="regression"
        )
        row = convert(data)[2] if convert is np.asarray else convert(data)[2:3]
        dense = lambda rows: np.asarray(rows @ np.arange(5.0)).ravel()  # noqa: E731
        found.append(quietly(explainer.explain_instance, row, dense, num_samples=500))
    assert found[0].as_list() == [(f, pytest.approx(w, rel=1e-9)) for f, w in found[1].as_list()]


def test_sparse_rows_are_sampled_around_themselves():
    data = sparse.csr_matrix(np.random.RandomState(1).poisson(1.0, (60, 5)) + 0.0)
    settings = {"sample_around_instance": True, "random_state": 0}
    with pytest.raises(ValueError, match="broadcast"):
        lime.LimeTabularExplainer(data, **settings).explain_instance(data[2], Model(5))
    one = Model(5)
    explainer = lime_tabular.LimeTabularExplainer(data, **settings, literal_scale=True)
    explainer.explain_instance(data[2], one, num_samples=4000)
    columns = data[2].indices
    mean = one.seen[0].toarray()[1:].mean(axis=0)
    np.testing.assert_allclose(mean[columns], data[2].data, 0, 0.1)
    assert not mean[np.setdiff1d(np.arange(5), columns)].any()


def series(rows=60, steps=4, features=2, seed=0):
    return np.random.RandomState(seed).normal(size=(rows, steps, features)).cumsum(axis=1)


@pytest.mark.parametrize("discretize", [True, False])
def test_series(discretize):
    data, found = series(), []
    for module in BOTH:
        saw = []

        def predict(rows, saw=saw):
            saw.append(rows.copy())
            up = 1 / (1 + np.exp(rows[:, 1, 0] - rows[:, 3, 1]))
            return np.stack([1 - up, up], axis=1)

        explainer = module.tabular.RecurrentTabularExplainer(
            data, feature_names=["a", "b"], random_state=0, discretize_continuous=discretize
        )
        explained = explainer.explain_instance(data[5], predict, num_samples=300, num_features=8)
        found.append((explained, saw, state_of(explainer), explainer.feature_names))
    (theirs, saw, state, names), (mine, own, own_state, own_names) = found
    assert state == own_state
    assert names == own_names == [f"{n}_t-{k}" for n in "ab" for k in (3, 2, 1, 0)]
    assert own[0].shape == (300, 4, 2)
    np.testing.assert_array_equal(own[0][0], data[5])
    np.testing.assert_allclose(own[0], saw[0], 0, 1e-10)
    assert_same_explanation(theirs, mine)


class Net(nn.Module):
    """Scores of rows or series, which dropout would change in training mode."""

    def __init__(self, columns, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(columns, 8), nn.Tanh(), nn.Dropout(0.9), nn.Linear(8, 3),
            nn.Softmax(-1),
        ).to(dtype)  # fmt: skip

    def forward(self, rows):
        return self.layers(rows)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_module_of_torch(dtype):
    def by_hand(rows):
        with torch.no_grad():
            return net.eval()(torch.from_numpy(rows).to(dtype)).numpy()

    for kind, data in (("Lime", table()), ("Recurrent", series())):
        net = Net(data[0].size, dtype).train()
        explainer = getattr(lime_tabular, f"{kind}TabularExplainer")
        mine = explainer(data, random_state=0).explain_instance(data[0], net, num_samples=100)
        assert net.training
        theirs = explainer(data, random_state=0).explain_instance(data[0], by_hand, num_samples=100)
        assert mine.as_list() == theirs.as_list()


def literal_lhs(state, samples, count):
    """pyDOE2's ``_lhsclassic``, and the normal quantile that lime's repository takes of it."""
    cut = np.linspace(0, 1, samples + 1)
    u = state.rand(samples, count)
    a, b = cut[:samples], cut[1 : samples + 1]
    points, square = np.zeros_like(u), np.zeros_like(u)
    for j in range(count):
        points[:, j] = u[:, j] * (b - a) + a
    for j in range(count):
        order = state.permutation(range(samples))
        square[:, j] = points[order, j]
    return norm.ppf(square)


def test_a_latin_hypercube_is_drawn_from_the_state():
    data, one = table(), model()
    explainer = lime_tabular.LimeTabularExplainer(data, random_state=5, discretize_continuous=False)
    explainer.explain_instance(data[0], one, num_samples=120, sampling_method="lhs")
    expected = literal_lhs(np.random.RandomState(5), 120, COLUMNS)
    expected = expected * data.std(axis=0) + data.mean(axis=0)
    np.testing.assert_allclose(one.seen[0][1:], expected[1:], 1e-9, 1e-9)
    ranks = one.seen[0][1:].argsort(axis=0).argsort(axis=0)
    assert (np.sort(ranks, axis=0) == np.arange(119)[:, None]).all()
    with pytest.warns(UserWarning, match="sampling_method must be 'gaussian' or 'lhs', got 'x'"):
        explainer.explain_instance(data[0], one, num_samples=20, sampling_method="x")


def test_coefficients_that_are_known():
    """f = Σ c_j·[the row's bin of j is met] is recovered by least squares, and plain f by β·sd."""
    data = np.random.RandomState(0).normal(size=(400, 5))
    truth = np.array([3.0, -2, 1, 0.5, 0])
    for module in BOTH:
        explainer = module.tabular.LimeTabularExplainer(data, mode="regression", random_state=0)
        own = explainer.discretizer.discretize(data[0])

        def met(rows, binned=explainer.discretizer, own=own):
            return (binned.discretize(rows) == own) @ truth

        found = explainer.explain_instance(data[0], met, model_regressor=LinearRegression())
        np.testing.assert_allclose([dict(found.local_exp[1])[j] for j in range(5)], truth, 0, 1e-12)
        explainer = module.tabular.LimeTabularExplainer(
            data, mode="regression", random_state=0, discretize_continuous=False
        )
        found = explainer.explain_instance(
            data[0], lambda rows: rows @ truth, model_regressor=LinearRegression()
        )
        expected = truth * data.std(axis=0)
        np.testing.assert_allclose(
            [dict(found.local_exp[1])[j] for j in range(5)], expected, 0, 1e-12
        )
        same = explainer.explain_instance(data[0], lambda rows: np.full(len(rows), 0.25))
        assert same.score == 1.0
        assert max(abs(w) for _, w in same.as_list()) < 1e-12


def test_the_signatures_are_limes():
    allowed = {"literal_bins", "literal_scale", "as_frame", "sampling_method", "batch_size",
               "figsize", "literal"}  # fmt: skip
    pairs = [
        (getattr(a, name), getattr(b, name))
        for part in ("tabular", "text", "discretize", "explanation", "pick")
        for a, b in [(getattr(LIME, part), getattr(OURS, part))]
        for name, value in vars(a).items()
        if inspect.isclass(value) and value.__module__ == a.__name__
    ]
    assert len(pairs) >= 14
    for theirs, mine in pairs:
        for name, function in vars(theirs).items():
            if not callable(function) or (name.startswith("_") and name != "__init__"):
                continue
            expected = inspect.signature(function).parameters
            found = inspect.signature(getattr(mine, name)).parameters
            found = {k: v for k, v in found.items() if k not in allowed}
            shared = [k for k in found if k in expected]
            assert shared == list(expected), (theirs, name)
            for key, parameter in expected.items():
                if parameter.default is not inspect.Parameter.empty:
                    assert found[key].default == parameter.default


def test_explainers_can_be_pickled():
    data = table()
    with pytest.raises(Exception, match="pickle"):  # T16
        pickle.dumps(lime.LimeTabularExplainer(data, random_state=0))
    explainer = lime_tabular.LimeTabularExplainer(data, random_state=0)
    again = pickle.loads(pickle.dumps(explainer))
    assert again.discretizer.random_state is again.random_state
    a, b = (e.explain_instance(data[0], model(), num_samples=100) for e in (explainer, again))
    assert pickle.loads(pickle.dumps(a)).as_list() == b.as_list()
