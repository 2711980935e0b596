"""The traps of lime's tables (T1…T18 of its bug reports), each of it and of us; and bad input."""

import warnings

import numpy as np
import pandas
import pytest
import torch
from lime import lime_tabular as lime
from lime.exceptions import LimeError as TheirLimeError
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from tests.compat.tables import BOTH, LIME, Model, assert_same_explanation, quietly
from torchlime.compat import lime_tabular
from torchlime.compat.exceptions import LimeError


def normals(rows=100, columns=3, seed=0):
    return np.random.RandomState(seed).normal(size=(rows, columns))


def explained(module, data, row=None, one=None, init=None, **arguments):
    explainer = module.LimeTabularExplainer(data, **{"random_state": 0} | (init or {}))
    one = one or Model(data.shape[1])
    row = data[0] if row is None else row
    return explainer.explain_instance(row, one, **{"num_samples": 200} | arguments)


def seen(module, data, **init):
    one = Model(data.shape[1])
    quietly(explained, module, data, one=one, init=init)
    return one.seen[0]


# T1: a constant column, or a bin of one value


@pytest.mark.parametrize("column", ["constant", "most"])
def test_t1_the_model_sees_the_value_of_a_flat_bin(column):
    data = normals()
    data[:, 1] = (
        5.0 if column == "constant" else np.where(np.arange(100) < 60, 5.0, data[:, 1] + 10)
    )
    at = data[:, 1] == 5.0
    theirs = seen(lime, data)[1:, 1]
    assert not (theirs == 5.0).any()
    assert (np.abs(theirs) < 1e-3).mean() > 0.3
    with pytest.warns(UserWarning, match=r"bins of a single value: '1' \(5\).*literal_bins=True"):
        explained(lime_tabular, data)
    mine = seen(lime_tabular, data)[1:, 1]
    assert (mine == 5.0).mean() == pytest.approx(at.mean(), abs=0.15)
    literal = seen(lime_tabular, data, literal_bins=True)[1:, 1]
    np.testing.assert_allclose(literal, theirs, 0, 1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explained(lime_tabular, data, init={"literal_bins": True})
        zeros = data * (data != 5)  # which lime shows as they are
        explained(lime_tabular, zeros)
    np.testing.assert_allclose(seen(lime_tabular, zeros), seen(lime, zeros), 0, 1e-9)


# T2: a column of 0 and 1 that is split into bins


def test_t2_switches_become_fractions():
    data = normals()
    data[:, 1] = np.arange(100) % 4 > 0
    for module in (lime, lime_tabular):
        rows = seen(module, data)[1:, 1]
        assert not np.isin(rows, (0, 1)).all()
    with pytest.warns(UserWarning, match="'1': only two whole numbers each, .*categorical_feat"):
        explained(lime_tabular, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explained(lime_tabular, data, init={"categorical_features": [1]})
    listed = seen(lime_tabular, data, categorical_features=[1])
    assert np.isin(listed[:, 1], (0, 1)).all()


# T3: NaN


def test_t3_nan_is_refused_where_it_has_no_bin():
    data = normals()
    data[3, 1] = np.nan
    with pytest.raises(ValueError, match="Domain error|cannot convert"):
        quietly(explained, lime, data)
    with pytest.raises(ValueError, match="training data holds NaN in 'b', .* fill it in"):
        explained(lime_tabular, data, init={"feature_names": list("abc")})
    plain = {"discretize_continuous": False}
    assert_same_explanation(*(explained(m, data, init=plain) for m in (lime, lime_tabular)))


def test_t3_nan_in_a_row_is_in_the_last_bin():
    row = np.array([0.1, np.nan, 0.2])
    one = lambda rows: Model(3)(np.nan_to_num(rows))  # noqa: E731
    both = [explained(m, normals(), row, one) for m in (lime, lime_tabular)]
    assert_same_explanation(*both)
    plain = {"discretize_continuous": False}
    with pytest.raises(ValueError, match="contains NaN"):
        explained(lime, normals(), row, one, plain)
    with pytest.raises(ValueError, match="data_row is not finite in '1', so no sample has"):
        explained(lime_tabular, normals(), row, one, plain)


# T4: frames


def test_t4_frames_and_series_are_taken():
    data = normals()
    frame = pandas.DataFrame(data, columns=["x", "y", "z"])
    with pytest.raises(Exception):  # noqa: B017  # pandas.errors.InvalidIndexError
        explained(lime, frame, data[0])
    expected = explained(lime_tabular, data, init={"feature_names": ["x", "y", "z"]})
    for row in (data[0], frame.iloc[0], frame.iloc[0][["z", "x", "y"]], list(data[0])):
        assert explained(lime_tabular, frame, row).as_list() == expected.as_list()
    both = explained(lime_tabular, frame, frame.iloc[:2])
    assert [both[0].as_list(), len(both)] == [expected.as_list(), 2]
    with pytest.raises(KeyError):
        explained(lime, data, frame.iloc[0])
    assert explained(lime_tabular, data, frame.iloc[0]).as_map() == expected.as_map()


def test_t4_the_function_may_want_frames():
    frame, got = pandas.DataFrame(normals(), columns=["x", "y", "z"]), []

    def predict(rows):
        got.append(rows)
        return Model(3)(rows.to_numpy())

    explained(lime_tabular, frame, frame.iloc[0], predict, {"as_frame": True})
    assert list(got[0].columns) == ["x", "y", "z"]
    with pytest.raises(ValueError, match="as_frame=True needs training_data as a DataFrame"):
        explained(lime_tabular, frame.to_numpy(), None, predict, {"as_frame": True})


def test_t4_a_frame_of_other_columns():
    frame = pandas.DataFrame(normals(), columns=["x", "y", "z"])
    other = frame.rename(columns={"y": "w"})
    sentence = r"must have the columns of the training data, but lacks \['y'\] and has \['w'\]"
    for row in (other.iloc[0], other):
        with pytest.raises(ValueError, match=sentence):
            explained(lime_tabular, frame, row)
    with pytest.raises(ValueError, match=r"but lacks \['z'\]$"):
        explained(lime_tabular, frame, frame[["x", "y"]])


# T5: categories


def test_t5_text_is_refused_with_what_to_do():
    data = np.array([[1, "male"], [2, "female"]] * 5, dtype=object)
    with pytest.raises(ValueError, match="could not convert string to float"):
        quietly(explained, lime, data, init={"categorical_features": [1]})
    with pytest.raises(ValueError, match="got 'male' in column 1; number the categories"):
        explained(lime_tabular, data)
    frame = pandas.DataFrame(data, columns=["age", "sex"])
    with pytest.raises(ValueError, match="got 'male' in column 'sex'"):
        explained(lime_tabular, frame)


def categories(rows=60):
    data = normals(rows)
    data[:, 2] = np.arange(rows) % 3
    return data


def test_t5_a_category_that_was_not_seen_is_never_met():
    data = categories()
    row = np.array([0.1, 0.2, 7.0])
    init = {"categorical_features": [2]}
    theirs = explained(lime, data, row, init=init)
    assert not (seen(lime, data, **init)[1:, 2] == 7).any()
    with pytest.warns(UserWarning, match="no row of the training data has 7 in '2'"):
        mine = explained(lime_tabular, data, row, init=init)
    assert_same_explanation(theirs, mine)


def test_t5_names_in_a_list_have_no_effect():
    data = categories()
    init = {"categorical_features": [2], "categorical_names": [[], [], ["a", "b", "c"]]}
    assert any("2=0" in name for name, _ in explained(lime, data, init=init).as_list())
    with pytest.warns(UserWarning, match="categorical_names has no effect as a list; pass a dict"):
        mine = explained(lime_tabular, data, init=init)
    assert any("2=0" in name for name, _ in mine.as_list())


def test_t5_fractions_are_no_categories():
    data = categories() + np.array([0, 0, 0.5])
    init = {"categorical_features": [2]}
    assert any("2=0" in name for name, _ in explained(lime, data, init=init).as_list())
    with pytest.raises(ValueError, match="'2' must hold whole numbers, got 0.5"):
        explained(lime_tabular, data, init=init)
    with pytest.raises(ValueError, match="'2' must hold whole numbers, got 4.5"):
        explained(lime_tabular, categories(), np.array([0, 0, 4.5]), init=init)
    with pytest.raises(ValueError, match="data_row holds nan in the categorical column '2'"):
        explained(lime_tabular, categories(), np.array([0, 0, np.nan]), init=init)


def test_t5_too_few_names():
    init = {"categorical_features": [2], "categorical_names": {2: ["a"]}}
    with pytest.raises(IndexError):
        explained(lime, categories(), categories()[1], init=init)
    with pytest.raises(ValueError, match=r"categorical_names\[2\] has no name for 1"):
        explained(lime_tabular, categories(), categories()[1], init=init)


# T6, T7, T8, T14, T17, T18


def test_t6_a_label_that_was_not_explained():
    row = normals()[0]
    one = lambda rows: np.tile([0.7, 0.2, 0.1], (len(rows), 1))  # noqa: E731
    with pytest.raises(KeyError, match="1"):
        explained(lime, normals(), row, one, top_labels=1).as_list()
    found = explained(lime_tabular, normals(), row, one, top_labels=1)
    with pytest.raises(KeyError, match="label 1 was not explained; these were: 0"):
        found.as_list()
    with pytest.raises(KeyError, match="label 1 was not explained"):
        found.as_html(labels=[1])


def test_t7_every_label_has_its_score():
    both = [explained(m, normals(), labels=(0, 1, 2)) for m in (lime, lime_tabular)]
    assert both[0].score == pytest.approx(both[1].score, abs=1e-12)
    for label in (0, 1, 2):
        alone = explained(lime, normals(), labels=(label,))
        assert both[1].scores[label] == pytest.approx(alone.score, abs=1e-12)
        assert both[1].local_preds[label] == pytest.approx(alone.local_pred, abs=1e-12)


def test_t8_two_calls_differ_under_one_seed():
    for module in (lime, lime_tabular):
        explainer = module.LimeTabularExplainer(normals(), random_state=0)
        a, b = (explainer.explain_instance(normals()[0], Model(3)) for _ in range(2))
        assert a.as_list() != b.as_list()


def test_t14_names_of_two_decimals_can_be_the_same():
    data = normals() * 1e-4
    for module in (lime, lime_tabular):
        explainer = module.LimeTabularExplainer(data)
        assert explainer.discretizer.names[0][1:3] == ["-0.00 < 0 <= 0.00", "0.00 < 0 <= 0.00"]


def test_t18_classes_are_those_of_each_model():
    explainers = [m.LimeTabularExplainer(normals()) for m in (lime, lime_tabular)]
    for explainer in explainers:
        explainer.explain_instance(normals()[0], Model(3, classes=2), num_samples=30)
    assert explainers[0].class_names == ["0", "1"]
    assert explainers[1].class_names is None
    found = explainers[1].explain_instance(normals()[0], Model(3, classes=4), num_samples=30)
    assert found.class_names == list("0123")


# T12: sparse rows


def test_t12_sparse_rows_are_multiplied_by_the_scale():
    data = sparse.csr_matrix(np.random.RandomState(0).poisson(1, (60, 4)) * [1.0, 1, 1, 100])
    row = data[int(np.argmax((data != 0).sum(axis=1)))]
    one = lambda rows: np.tanh(rows.toarray() / [1, 1, 1, 100])  # noqa: E731
    arguments = {"labels": (3,), "num_features": 10}
    theirs = quietly(explained, lime, data, row, one, **arguments)
    literal = explained(lime_tabular, data, row, one, {"literal_scale": True}, **arguments)
    assert dict(theirs.as_list(3))["3"] == pytest.approx(dict(literal.as_list(3))["3"], abs=1e-4)
    with pytest.warns(UserWarning, match="for one standard deviation.*literal_scale=True"):
        mine = explained(lime_tabular, data, row, one, **arguments)
    assert abs(dict(mine.as_list(3))["3"]) > 1000 * abs(dict(theirs.as_list(3))["3"])


def test_t12_what_lime_cannot_do_with_sparse_rows():
    data = sparse.csr_matrix(np.random.RandomState(0).poisson(1, (60, 4)) + 0.0)
    one = lambda rows: np.tanh(rows.toarray())  # noqa: E731
    with pytest.raises(TypeError):
        quietly(lime.LimeTabularExplainer, data, categorical_features=[1])
    with pytest.raises(ValueError, match="sparse training_data cannot have categorical_features"):
        lime_tabular.LimeTabularExplainer(data, categorical_features=[1])
    array = sparse.csr_array(data)
    with pytest.raises(IndexError):
        quietly(explained, lime, array, array[0], one)
    assert len(quietly(explained, lime_tabular, array, array[0], one).as_list()) == 4
    lasso = {"feature_selection": "lasso_path"}
    with pytest.raises(np.exceptions.AxisError):
        quietly(explained, lime, data, data[0], one, lasso)
    assert quietly(explained, lime_tabular, data, data[0], one, lasso).as_list()
    names = [f for f, _ in quietly(explained, lime, data, data[0], one, num_features=9).as_list()]
    assert names.count("0") > 1
    found = quietly(explained, lime_tabular, data, data[0], one, num_features=9).as_list()
    assert sorted(f for f, _ in found) == list("0123")
    nothing = sparse.csr_matrix((1, 4))
    found = quietly(explained, lime_tabular, data, nothing, one, num_features=9).as_list()
    assert [w for _, w in found] == [0, 0, 0, 0]
    several = quietly(explained, lime_tabular, data, data[:2], one)
    assert len(several) == 2


# What lime refuses, and how


def constant(*shape):
    return lambda rows: np.full((len(rows), *shape), 0.5)


def test_outputs_of_a_classifier():
    data = normals()
    for module in (lime, lime_tabular):
        with pytest.raises(NotImplementedError, match="classifier models without probability sco"):
            explained(module, data, one=constant())
        with pytest.raises(ValueError, match="Your model outputs arrays with 3 dimensions"):
            explained(module, data, one=constant(2, 2))
        with pytest.warns(UserWarning, match="do not sum to 1"):
            explained(module, data, one=constant(3))
    with pytest.raises(IndexError, match="out of bounds"):
        quietly(explained, lime, data, one=constant(1))
    with pytest.raises(IndexError, match=r"one output, label 0; pass labels=\(0,\)"):
        quietly(explained, lime_tabular, data, one=constant(1))
    with pytest.raises(TypeError, match="must be a function, got LogisticRegression; pass its"):
        explained(lime_tabular, data, one=LogisticRegression())
    with pytest.raises(ValueError, match="one output for each of the 200 rows, got"):
        explained(lime_tabular, data, one=lambda rows: np.zeros((2, 2)))


def test_outputs_of_a_regressor():
    data, regression = normals(), {"mode": "regression"}
    for module in (lime, lime_tabular):
        with pytest.raises(ValueError, match="Your model needs to output single-dimensional"):
            explained(module, data, one=constant(2, 2), init=regression)
    three = lambda rows: rows * 1.0  # noqa: E731
    theirs = explained(lime, data, one=three, init=regression)
    with pytest.warns(UserWarning, match="returns 3 outputs for a row, and only the first"):
        mine = explained(lime_tabular, data, one=three, init=regression)
    assert_same_explanation(theirs, mine)


def test_outputs_that_lime_cannot_take():
    data, one = normals(), Model(3)
    expected = explained(lime_tabular, data, one=one).as_list()
    for form in (list, pandas.DataFrame):
        with pytest.raises((AttributeError, KeyError)):
            explained(lime, data, one=lambda rows, form=form: form(one(rows)))
    for form in (list, pandas.DataFrame, torch.tensor):
        found = explained(lime_tabular, data, one=lambda rows, form=form: form(one(rows)))
        assert found.as_list() == expected


@pytest.mark.parametrize(
    ("init", "error", "sentence"),
    [
        ({"discretizer": "tertile"}, ValueError, "Discretizer must be 'quartile', 'decile', 'ent"),
        ({"discretizer": "entropy"}, ValueError, "Labels must be not None when using"),
        ({"training_data_stats": {"means": {}}}, Exception, "Missing keys in training_data_stats"),
    ],
)
def test_settings_that_both_refuse(init, error, sentence):
    for module in BOTH:
        with pytest.raises(error, match=sentence):
            module.tabular.LimeTabularExplainer(normals(), **init)


def test_a_mode_that_is_none():
    one = constant()
    with pytest.raises(TheirLimeError, match='Invalid explanation mode "x"'):
        explained(lime, normals(), one=one, init={"mode": "x"})
    with pytest.raises(LimeError, match='Invalid explanation mode "x"'):
        lime_tabular.LimeTabularExplainer(normals(), mode="x")


@pytest.mark.parametrize(
    ("data", "init", "sentence"),
    [
        (normals()[0], {}, r"training_data must be a table \[rows,columns\], got \[3\]"),
        (normals(), {"feature_names": ["a"]}, "feature_names must name the 3 columns"),
        (normals(), {"categorical_features": [3]}, r"columns of training_data, 0…2, got \[3\]"),
        (normals(), {"categorical_features": ["x"]}, r"must be numbers of columns, got \['x'\]"),
        (normals(), {"categorical_features": [-1]}, r"columns of training_data, 0…2, got \[-1\]"),
    ],
)
def test_training_data_that_cannot_be(data, init, sentence):
    with pytest.raises(ValueError, match=sentence):
        lime_tabular.LimeTabularExplainer(data, **init)


@pytest.mark.parametrize(
    ("row", "arguments", "sentence"),
    [
        (np.zeros(4), {}, "training data's 3 columns, got 4"),
        (np.zeros((1, 1, 3)), {}, r"must be a row \[F\] or rows \[B,F\]"),
        (np.zeros(3), {"num_samples": 0}, "num_samples must be a whole number of at least 1"),
        (np.zeros(3), {"num_features": 0}, "num_features must be at least 1, got 0"),
        (np.zeros(3), {"batch_size": 0}, "batch_size must be None or a whole number"),
        (["a", 1, 2], {}, "data_row must hold numbers, got 'a' in column 0"),
    ],
)
def test_rows_that_cannot_be(row, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        explained(lime_tabular, normals(), row, **arguments)


def test_statistics_that_cannot_be():
    known = lime_tabular.LimeTabularExplainer(normals(), random_state=0)
    names = ("means", "stds", "mins", "maxs")
    stats = {name: getattr(known.discretizer, name) for name in names} | {
        "feature_values": known.feature_values, "feature_frequencies": known.feature_frequencies,
    }  # fmt: skip
    shape = np.zeros((2, 3))
    with pytest.warns(UserWarning, match="has no 'bins', so no column is discretised"):
        lime_tabular.LimeTabularExplainer(shape, training_data_stats=stats)
    edges = {j: known.discretizer.maxs[j][:-1] for j in range(3)}
    with pytest.raises(ValueError, match=r"it lacks those of \[1\]"):
        lime_tabular.LimeTabularExplainer(
            shape, training_data_stats=stats | {"bins": {0: edges[0], 2: edges[2]}}
        )
    wrong = stats | {"bins": edges, "feature_values": known.feature_values | {1: [0, 1]}}
    with pytest.raises(ValueError, match="2 feature_values of column 1, and 4"):
        lime_tabular.LimeTabularExplainer(shape, training_data_stats=wrong)
    swapped = stats | {"bins": edges, "mins": stats["maxs"], "maxs": stats["mins"]}
    with pytest.raises(ValueError, match="column 0 fit no distribution"):
        lime_tabular.LimeTabularExplainer(shape, training_data_stats=swapped)


def test_a_kernel_that_is_too_narrow():
    for width in (0.02, 0.001):
        init = {"kernel_width": width}
        data = normals(columns=12)  # so that no sample is the row's equal
        theirs = explained(lime, data, init=init)
        assert all(abs(w) < 1e-9 for _, w in theirs.as_list())
        with pytest.warns(UserWarning, match="kernel is too narrow for them; pass a larger"):
            assert_same_explanation(theirs, explained(lime_tabular, data, init=init))


def test_series_that_cannot_be():
    data = np.random.RandomState(0).normal(size=(20, 3, 2))
    with pytest.raises(TypeError):
        lime.RecurrentTabularExplainer(data)  # without names
    explainer = lime_tabular.RecurrentTabularExplainer(data)
    assert explainer.feature_names == ["0_t-2", "0_t-1", "0_t-0", "1_t-2", "1_t-1", "1_t-0"]
    with pytest.raises(ValueError, match=r"must be series \[rows,steps,features\]"):
        lime_tabular.RecurrentTabularExplainer(data[0])
    with pytest.raises(ValueError, match=r"must be a series \[3,2\]"):
        explainer.explain_instance(data[0].T, constant(2))
    with pytest.raises(TypeError, match="classifier_fn must be a function, got list"):
        explainer.explain_instance(data[0], [])
    with pytest.warns(UserWarning, match="are flattened columns, as in lime"):
        lime_tabular.RecurrentTabularExplainer(np.round(data), categorical_features=[1])


def test_lime_is_what_it_was():
    assert LIME.tabular is lime
