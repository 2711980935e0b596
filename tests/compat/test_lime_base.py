"""LimeBase against the installed one, on data of any kind."""

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lime.lime_base import LimeBase as Theirs
from sklearn.linear_model import Lasso, LinearRegression, Ridge

from tests.compat.side_by_side import assert_same_weights
from torchlime.compat.lime_base import LimeBase, check_random_state
from torchlime.compat.regressors import CyclicLasso, native_surrogate
from torchlime.surrogates import LeastSquares
from torchlime.surrogates import Ridge as NativeRidge


def kernel(d):
    return np.sqrt(np.exp(-(d**2) / 0.8**2))


def neighbourhood(kind, samples, features, seed):
    rng = np.random.RandomState(seed)
    if kind == "bits":
        data = rng.randint(0, 2, (samples, features))
        data[0] = 1
    else:
        data = rng.randn(samples, features) * rng.uniform(0.1, 3, features)
    scores = np.tanh(data @ rng.randn(features, 3) / features + rng.randn(samples, 3) * 0.1)
    return data, scores, rng.uniform(0, 1, samples)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["bits", "numbers"]),
    features=st.integers(1, 9),
    num_features=st.sampled_from([1, 2, 5, 6, 7, 100]),
    method=st.sampled_from(["auto", "none", "highest_weights", "forward_selection", "lasso_path"]),
    regressor=st.sampled_from([None, Ridge(2), LinearRegression(), Lasso(0.01)]),
    label=st.integers(-3, 2),
    seed=st.integers(0, 1000),
)
def test_explanations_of_data(kind, features, num_features, method, regressor, label, seed):
    data, scores, distances = neighbourhood(kind, 60, features, seed)
    arguments = (data, scores, distances, label, num_features, method, regressor)
    theirs = Theirs(kernel).explain_instance_with_data(*arguments)
    mine = LimeBase(kernel).explain_instance_with_data(*arguments)
    assert_same_weights(theirs[1], mine[1], 1e-7 if regressor is not None else 1e-9)
    np.testing.assert_allclose(mine[0], theirs[0], 0, 1e-9)
    np.testing.assert_allclose(mine[2], theirs[2], 0, 1e-9)
    np.testing.assert_allclose(mine[3], theirs[3], 0, 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["bits", "numbers"]),
    num_features=st.integers(1, 12),
    method=st.sampled_from(["auto", "none", "highest_weights", "forward_selection", "lasso_path"]),
    seed=st.integers(0, 1000),
)
def test_selected_features_and_their_order(kind, num_features, method, seed):
    data, scores, distances = neighbourhood(kind, 70, 8, seed)
    arguments = (data, scores[:, 0], kernel(distances), num_features, method)
    theirs = Theirs(kernel).feature_selection(*arguments)
    mine = LimeBase(kernel).feature_selection(*arguments)
    assert theirs.tolist() == mine.tolist()
    assert theirs.dtype == mine.dtype


def test_forward_selection_and_the_path_by_their_own_names():
    data, scores, distances = neighbourhood("numbers", 50, 6, 0)
    weights = kernel(distances)
    for count in (1, 3, 6, 9):
        theirs = Theirs(kernel).forward_selection(data, scores[:, 1], weights, count)
        mine = LimeBase(kernel).forward_selection(data, scores[:, 1], weights, count)
        assert theirs.tolist() == mine.tolist()
    for a, b in zip(
        Theirs.generate_lars_path(data, scores[:, 1]),
        LimeBase.generate_lars_path(data, scores[:, 1]),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_equal_columns_are_chosen_from_the_left():
    data, scores, distances = neighbourhood("numbers", 50, 3, 4)
    data = np.c_[data, data[:, ::-1]]
    for count in (1, 2):
        theirs = Theirs(kernel).forward_selection(data, scores[:, 0], kernel(distances), count)
        mine = LimeBase(kernel).forward_selection(data, scores[:, 0], kernel(distances), count)
        assert theirs.tolist() == mine.tolist()
    everything = LimeBase(kernel).forward_selection(data, scores[:, 0], kernel(distances), 6)
    assert sorted(everything) == list(range(6))


def test_weights_that_span_hundreds_of_orders_of_magnitude():
    """Least squares then hangs on what counts as zero, which scikit-learn decides."""
    rng = np.random.RandomState(0)
    data = rng.randint(0, 2, (200, 10))
    data[0] = 1
    scores = rng.rand(200, 1)
    distances = 1 - np.sqrt(data.mean(axis=1))
    for regressor in (LinearRegression(), Ridge(alpha=0)):
        for width in (0.05, 0.02):
            narrow = lambda d, width=width: np.exp(-(d**2) / (2 * width**2))  # noqa: E731
            arguments = (data, scores, distances, 0, 100, "none", regressor)
            theirs = Theirs(narrow).explain_instance_with_data(*arguments)
            mine = LimeBase(narrow).explain_instance_with_data(*arguments)
            assert_same_weights(theirs[1], mine[1], 1e-7)


def test_sparse_data_is_refused():
    data, scores, distances = neighbourhood("bits", 20, 4, 0)
    with pytest.raises(TypeError, match="toarray"):
        LimeBase(kernel).explain_instance_with_data(
            scipy.sparse.csr_matrix(data), scores, distances, 0, 4
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_and_weights_have_to_be_finite(bad):
    data, scores, distances = neighbourhood("bits", 20, 4, 0)
    broken = scores.copy()
    broken[3, 0] = bad
    for base in (Theirs, LimeBase):
        with pytest.raises(ValueError, match="Input y contains"):
            base(kernel).explain_instance_with_data(data, broken, distances, 0, 9)
        with pytest.raises(ValueError, match="Input sample_weight contains"):
            base(lambda d: d + bad).explain_instance_with_data(data, scores, distances, 0, 9)


def test_which_regressors_have_a_native_twin():
    class Own(Ridge):
        pass

    assert native_surrogate(None) == NativeRidge(1.0)
    assert native_surrogate(Ridge(2)) == NativeRidge(2.0)
    assert native_surrogate(Ridge(np.float64(2))) == NativeRidge(2.0)
    assert native_surrogate(Ridge(0)) == native_surrogate(LinearRegression()) == LeastSquares()
    assert native_surrogate(Lasso(0.1, tol=1e-6)) == CyclicLasso(0.1, 1e-6, 1000)
    for other in (
        Own(), Ridge(fit_intercept=False), Ridge(positive=True), Ridge(solver="sag"),
        Ridge(alpha=[1.0]), LinearRegression(positive=True), Lasso(positive=True),
        Lasso(warm_start=True), Lasso(selection="random"), Lasso(alpha=0), object(),
    ):  # fmt: skip
        assert native_surrogate(other) is None


def test_the_number_of_threads_comes_back():
    before = torch.get_num_threads()
    data, scores, distances = neighbourhood("bits", 20, 4, 0)
    try:
        torch.set_num_threads(2)
        LimeBase(kernel).explain_instance_with_data(data, scores, distances, 0, 9)
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="feature_selection must be one of"):
            LimeBase(kernel).explain_instance_with_data(data, scores, distances, 0, 9, "best")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_random_states():
    state = np.random.RandomState(3)
    assert check_random_state(state) is state
    assert check_random_state(None) is check_random_state(np.random)
    assert check_random_state(np.int64(3)).randint(1000) == np.random.RandomState(3).randint(1000)
    assert LimeBase(kernel).random_state is check_random_state(None)


def test_a_lasso_that_starts_within_its_tolerance_stays_there():
    rng = np.random.RandomState(0)
    data, labels = rng.normal(size=(200, 3)), rng.normal(size=(200, 1))
    pull = np.abs((data - data.mean(axis=0)).T @ (labels - labels.mean())).max() / 200
    for share in (0.9, 0.99, 0.999, 1.01):
        both = [
            kind(np.ones_like).explain_instance_with_data(
                data, labels, np.zeros(200), 0, 3, "none", Lasso(share * pull)
            )
            for kind in (Theirs, LimeBase)
        ]
        assert_same_weights(both[0][1], both[1][1])
    assert [weight for _, weight in both[1][1]] == [0, 0, 0]
