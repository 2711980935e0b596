"""Discretizers beside lime's: edges, names, statistics, draws."""

import numpy as np
import pytest
from scipy.stats import truncnorm

from tests.compat.tables import BOTH, LIME, OURS
from torchlime.compat.discretize import BaseDiscretizer, QuartileDiscretizer
from torchlime.compat.truncated import TruncatedNormals

NAMES = ["a", "b", "c", "d"]
CLASSES = ("QuartileDiscretizer", "DecileDiscretizer", "EntropyDiscretizer")


def table(seed=0, dtype=np.float64):
    rng = np.random.RandomState(seed)
    data = rng.standard_t(3, (120, 4)) * [1, 100, 1e-3, 1] + [0, 50, 0, 3]
    data[:, 3] = np.round(data[:, 3])
    return data.astype(dtype)


def both(kind, data, categorical=(), seed=0):
    labels = np.arange(len(data)) % 3
    return [
        getattr(m.discretize, kind)(data, list(categorical), NAMES, labels, random_state=seed)
        for m in BOTH
    ]


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("categorical", [(), (0, 2)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_statistics(kind, categorical, dtype):
    data = table(dtype=dtype)
    theirs, mine = both(kind, data, categorical)
    assert theirs.names == mine.names
    assert theirs.to_discretize == mine.to_discretize
    for name in ("means", "stds", "mins", "maxs"):
        expected, found = getattr(theirs, name), getattr(mine, name)
        assert list(expected) == list(found)
        for column in expected:
            assert np.array(expected[column]).tobytes() == np.array(found[column]).tobytes()
    expected, found = theirs.discretize(data), mine.discretize(data)
    np.testing.assert_array_equal(expected, found)
    np.testing.assert_array_equal(theirs.discretize(data[3]), mine.discretize(data[3]))
    for column, bins_of in theirs.lambdas.items():
        x = np.append(data[:, column], [np.nan, np.inf, -np.inf])
        np.testing.assert_array_equal(bins_of(x), mine.lambdas[column](x))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("categorical", [(), (0, 2)])
def test_values_that_are_drawn(kind, categorical):
    data = table()
    theirs, mine = both(kind, data, categorical)
    bins = theirs.discretize(data)
    expected, found = theirs.undiscretize(bins), mine.undiscretize(bins)
    assert (np.abs(expected - found) < 1e-10 * data.std(axis=0)).all()
    for column in mine.to_discretize:
        several = bins[:7, column].astype(int)
        a, b = (d.get_undiscretize_values(column, several) for d in (theirs, mine))
        np.testing.assert_allclose(a, b, 0, 1e-10 * data[:, column].std())
    a, b = (d.random_state.get_state() for d in (theirs, mine))
    assert (a[1] == b[1]).all()
    assert a[2:] == b[2:]
    np.testing.assert_array_equal(mine.discretize(found), bins)


def test_a_row_is_drawn_like_a_table():
    rows, one = both("QuartileDiscretizer", table())[1], both("QuartileDiscretizer", table())[1]
    bins = one.discretize(table())[:1]
    np.testing.assert_array_equal(rows.undiscretize(bins)[0], one.undiscretize(bins[0]))


def test_the_values_lie_in_their_bins_in_every_tail():
    """Limits far out, close together, or of one bin within another's rounding."""
    rng = np.random.RandomState(0)
    means = rng.normal(size=40)
    stds = 10 ** rng.uniform(-11, 2, 40)
    lower = rng.uniform(-40, 38, 40)
    upper = lower + 10 ** rng.uniform(-6, 1, 40)
    mins, maxs = means + lower * stds, means + upper * stds
    normals = TruncatedNormals.of([mins], [maxs], [means], [stds])
    bins = np.repeat(np.arange(40), 25)[None]
    uniform = rng.uniform(size=bins.shape)
    uniform[0, :10] = [0, 1e-300, 1e-16, 0.5, 1 - 2**-53, 0.99, 0.01, 0.98, 0.02, 0.999999]
    found = normals.values(bins, np.zeros(1, dtype=np.int64), uniform)
    z = truncnorm.ppf(uniform, normals.lower[bins], normals.upper[bins])
    expected = z * stds[bins] + means[bins]
    rounding = 4 * np.finfo(float).eps * np.abs(means)
    assert (np.abs(found - expected) <= (1e-9 * stds + rounding)[bins]).all()


def test_a_bin_that_is_none():
    for module in (LIME, OURS):
        binned = module.discretize.QuartileDiscretizer(table(), [], NAMES)
        with pytest.raises(IndexError):
            binned.get_undiscretize_values(0, np.array([4]))
    with pytest.raises(IndexError, match="column 0 has the bins 0…3, got 9"):
        QuartileDiscretizer(table(), [], NAMES).undiscretize(np.full((2, 4), 9))
    with pytest.raises(IndexError, match="column 0 has the bins 0…3, got -1"):
        QuartileDiscretizer(table(), [], NAMES).undiscretize(np.array([[-1] * 4, [1] * 4]))


def test_statistics_may_be_changed_afterwards():
    found = []
    for binned in both("QuartileDiscretizer", table()):
        bins = binned.discretize(table())
        binned.undiscretize(bins)
        binned.means[0][1] += 0.01
        binned.stds[2] = [2 * std for std in binned.stds[2]]
        found.append(binned.undiscretize(bins))
    np.testing.assert_allclose(*found, 0, 1e-8)


def test_a_base_has_no_bins():
    for module in BOTH:
        with pytest.raises(NotImplementedError, match=r"Must override bins\(\) method"):
            module.discretize.BaseDiscretizer(table(), [], NAMES)
    assert BaseDiscretizer.literal_bins is False
