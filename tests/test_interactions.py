"""Interactions against games of known terms, Banzhaf interaction indices and a literal ridge."""

import itertools

import numpy as np
import pytest
import torch

from tests import oracles
from torchlime import explain, explain_text, explain_vector
from torchlime.fills import Constant
from torchlime.interactions import neighbours
from torchlime.masks import Bernoulli, Exhaustive, Orthogonal
from torchlime.segments import Grid
from torchlime.surrogates import (
    Lasso,
    LeastSquares,
    MarginalContributions,
    MarginalMean,
    MeanDrop,
    Ridge,
    SignEntropy,
)
from torchlime.weights import Exponential, Uniform

S = 6  # the segments of Grid(2, 3) on an image of 2 × 3 pixels
EVERY = list(itertools.combinations(range(S), 2))
SETTINGS = {"segmenter": Grid(2, 3), "fill": Constant(0.0), "keep_samples": True}
EXACT = {"sampler": Exhaustive(), "num_samples": 2**S, "kernel": Uniform()}


def explained(game, number=1, **settings):
    """An explanation of images of ones, so that the pixels are the mask: game [n,S] → [n,T]."""
    image = torch.ones(number, 1, 2, 3, dtype=torch.float64)
    targets = torch.arange(game(torch.ones(1, S).double()).shape[1])
    return explain(lambda x: game(x.flatten(1)), image, targets.expand(number, -1),
                   **SETTINGS | settings)  # fmt: skip


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def second_order(linear, pairs):
    """A game of two targets with known terms: linear [S,2], pairs [15,2]."""

    def game(z):
        both = torch.stack([z[:, i] * z[:, j] for i, j in EVERY], dim=1)
        return 0.5 + z @ linear + both @ pairs

    return game


def high_order(z):
    """Two targets with terms up to all players."""
    steps = torch.arange(1.0, S + 1, dtype=z.dtype)
    return torch.stack(
        [(z @ steps / 5).sin() + z[:, 0] * z[:, 1] * z[:, 4], z.prod(1) + z[:, 2]], 1
    )


def banzhaf_interaction(game, i, j):
    """[T], by the definition: the mean over coalitions of the others of the joint surplus."""
    others = [k for k in range(S) if k not in (i, j)]
    total = 0
    for coalition in itertools.product((0.0, 1.0), repeat=S - 2):
        values = []
        for own in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)):
            z = torch.zeros(1, S).double()
            z[0, others] = torch.tensor(coalition).double()
            z[0, i], z[0, j] = own
            values.append(game(z)[0])
        total = total + values[0] - values[1] - values[2] + values[3]
    return total / 2 ** (S - 2)


def test_known_terms_of_second_order_come_back():
    linear, pairs = drawn(S, 2), drawn(len(EVERY), 2, seed=1)
    e = explained(second_order(linear, pairs), **EXACT)
    found = e.interactions(EVERY, surrogate=LeastSquares())
    assert found.pairs.tolist() == [[list(pair) for pair in EVERY]]
    assert found.coefficients[0].allclose(pairs.T, rtol=0, atol=1e-9)
    assert found.linear[0].allclose(linear.T, rtol=0, atol=1e-9)
    assert found.intercepts.allclose(torch.tensor(0.5).double(), rtol=0, atol=1e-9)
    assert found.fidelity.allclose(torch.tensor(1.0).double(), rtol=0, atol=1e-9)
    assert found.standard_errors.max() < 1e-9
    assert found.ok.all()
    sampled = explained(second_order(linear, pairs), sampler=Bernoulli(), num_samples=200)
    again = sampled.interactions(EVERY, surrogate=LeastSquares())
    assert again.coefficients[0].allclose(pairs.T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pairs", [EVERY, None, [(0, 5)]], ids=["every", "neighbours", "one"])
def test_over_all_masks_they_are_banzhaf_interaction_indices(pairs):
    found = explained(high_order, **EXACT).interactions(pairs, surrogate=LeastSquares())
    assert len(found.pairs[0]) == {15: 15, 1: 1}.get(len(pairs or []), 7)
    for p, (i, j) in enumerate(found.pairs[0].tolist()):
        expected = banzhaf_interaction(high_order, i, j)
        assert found.coefficients[0, :, p].allclose(expected, rtol=0, atol=1e-9)


def test_slopes_with_half_of_the_partners_are_banzhaf_values():
    e = explained(high_order, surrogate=LeastSquares(), **EXACT)
    found = e.interactions(surrogate=LeastSquares())
    slopes = found.linear.clone()
    for p, pair in enumerate(found.pairs[0].tolist()):
        slopes[..., pair] += found.coefficients[..., p : p + 1] / 2
    assert slopes.allclose(e.coefficients, rtol=0, atol=1e-9)


def test_axioms():
    """A dummy interacts with nobody, equals interact equally, games that add up do not interact."""

    def game(z):
        alike = (z[:, 0] + z[:, 3]).square() * (1 + z[:, 1])  # 0 and 3; 2 and 5 are dummies
        return torch.stack([alike, z @ torch.arange(6.0).double()], dim=1)

    found = explained(game, **EXACT).interactions(EVERY, surrogate=LeastSquares())
    value = dict(zip(EVERY, found.coefficients[0, 0].tolist(), strict=True))
    assert all(abs(value[pair]) < 1e-9 for pair in EVERY if 2 in pair or 5 in pair)
    assert value[0, 1] == pytest.approx(value[1, 3], abs=1e-9)
    assert value[0, 3] == pytest.approx(3.0, abs=1e-9)
    assert found.coefficients[0, 1].abs().max() < 1e-9
    other = explained(high_order, **EXACT).interactions(EVERY, surrogate=LeastSquares())
    both = explained(lambda z: game(z) + high_order(z), **EXACT)
    total = both.interactions(EVERY, surrogate=LeastSquares()).coefficients
    assert total.allclose(found.coefficients + other.coefficients, rtol=0, atol=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 0.01])
def test_it_is_a_ridge_of_masks_and_their_products(alpha):
    e = explained(high_order, 2, sampler=Bernoulli(), num_samples=80, kernel=Exponential(),
                  seed=torch.tensor([1, 2]))  # fmt: skip
    pairs = torch.tensor([[0, 1], [4, 2], [3, 5]])
    found = e.interactions(pairs, surrogate=Ridge(alpha))
    assert torch.equal(found.pairs, pairs.expand(2, -1, -1))
    for b in range(2):
        z = e.masks[b].double().numpy()
        z = np.hstack([z, *(z[:, [i]] * z[:, [j]] for i, j in pairs.tolist())])
        y, w = e.sample_scores[b].numpy(), e.weights[b].numpy()
        centred, off = z - w @ z / w.sum(), y - w @ y / w.sum()
        gram = (centred * w[:, None]).T @ centred + alpha * np.eye(9)
        slopes = np.linalg.solve(gram, (centred * w[:, None]).T @ off)
        ours = torch.cat([found.linear, found.coefficients], dim=2)[b].numpy()
        np.testing.assert_allclose(ours, slopes.T, atol=1e-9)
        for t in range(2):
            intercept = (w @ y[:, t] - w @ z @ slopes[:, t]) / w.sum()
            assert found.intercepts[b, t].item() == pytest.approx(intercept, abs=1e-9)
            r2 = oracles.weighted_r2(y[:, t], intercept + z @ slopes[:, t], w)
            assert found.fidelity[b, t].item() == pytest.approx(r2, abs=1e-9)
            errors = oracles.hc3(z, y[:, t], w, intercept, slopes[:, t], alpha)[S:]
            np.testing.assert_allclose(found.standard_errors[b, t].numpy(), errors, rtol=1e-7)


@pytest.mark.filterwarnings("ignore:an image is one segment:UserWarning")
def test_inputs_with_other_numbers_of_segments_and_pairs():
    image = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    maps = torch.zeros(2, 4, 4).long()
    maps[0, 2:], maps[0, :, 2:] = 1, 7
    maps[1, :, 1:3], maps[1, :, 3] = 10, 20
    maps[1, 0] = -1  # the background

    def model(x):
        return (5 * x).mean((2, 3)).sin()

    together = explain(model, image, 0, segments=maps, keep_samples=True)
    found = together.interactions()
    assert found.pairs.tolist() == [[[0, 1], [0, 7], [1, 7]], [[0, 10], [10, 20], [-1, -1]]]
    assert found.coefficients[1, 0, 2] == 0
    assert found.standard_errors[1, 0, 2] == 0
    assert torch.equal(together.interactions(found.pairs).coefficients, found.coefficients)
    for b in range(2):
        alone = together[b].interactions()
        number = alone.coefficients.shape[2]
        assert found.coefficients[b, :, :number].allclose(alone.coefficients[0], rtol=0, atol=1e-10)
        assert found.linear[b].allclose(alone.linear[0], rtol=0, atol=1e-10)
        assert found.standard_errors[b, :, :number].allclose(alone.standard_errors[0], rtol=1e-7)
    pairs, values = found.top(3)
    assert pairs.shape == (2, 1, 3, 2)
    assert (values[0].abs().diff() <= 0).all()
    assert pairs[1, 0, 2].tolist() == [-1, -1]
    assert values[1, 0, 2] == 0
    assert found.top(5)[0].shape == (2, 1, 5, 2)
    one = explain(model, image, 0, segments=maps * 0, keep_samples=True, num_samples=4)
    assert one.interactions().coefficients.shape == (2, 1, 0)


@pytest.mark.parametrize("shape", [(9,), (7, 8), (3, 4, 5)])
def test_neighbours_are_their_definition(shape):
    labels = torch.randint(-1, 6, (3, *shape), generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(3, 6, 6, dtype=torch.bool)
    for b in range(3):
        for place in itertools.product(*map(range, shape)):
            for axis in range(len(shape)):
                beside = [k + (a == axis) for a, k in enumerate(place)]
                if beside[axis] < shape[axis]:
                    i, j = sorted(int(labels[b][tuple(at)]) for at in (place, beside))
                    if 0 <= i < j:
                        expected[b, i, j] = True
    assert torch.equal(neighbours(labels, 6), expected)


def test_words_have_all_pairs_and_numbers_have_none():
    e = explain_text(
        lambda texts: torch.tensor([[float("not" in t and "bad" in t)] for t in texts]),
        "not so bad", 0, keep_samples=True, sampler=Exhaustive(), num_samples=8,
    )  # fmt: skip
    found = e.interactions(surrogate=LeastSquares())
    assert found.pairs.tolist() == [[[0, 1], [0, 2], [1, 2]]]
    expected = torch.tensor([0.0, 1.0, 0.0]).double()
    assert found.coefficients[0, 0].allclose(expected, rtol=0, atol=1e-9)
    many = explain_text(lambda texts: torch.ones(len(texts), 1), "a b c d e f g h", 0,
                        keep_samples=True, num_samples=30)  # fmt: skip
    with pytest.raises(ValueError, match="there are 28 pairs of 8 words, too many for 30 samples"):
        many.interactions()
    assert many.interactions([(0, 1)]).coefficients.shape == (1, 1, 1)
    v = explain_vector(lambda x: x.sum(1, keepdim=True), torch.rand(1, 4), 0, keep_samples=True)
    with pytest.raises(ValueError, match="not of numbers"):
        v.interactions([(0, 1)])


def test_other_surrogates_and_what_was_not_kept():
    e = explained(high_order, **EXACT)
    assert e.interactions(surrogate=Lasso(fraction=0.3)).standard_errors.isnan().all()
    with pytest.raises(ValueError, match="keep_samples=True"):
        explained(high_order, keep_samples=False).interactions()
    with pytest.raises(TypeError, match="surrogate must be callable"):
        e.interactions(surrogate=3)


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([], ValueError, r"with P > 0, got \[0\]"),
        ([(0, 6)], ValueError, "names a feature that is not there"),
        ([(0, -1)], ValueError, "names a feature that is not there"),
        ([(2, 2)], ValueError, "is of one feature and itself"),
        ([(0, 1), (1, 0)], ValueError, "is there twice"),
        ([0, 1], ValueError, r"int tensor \[P,2\] or \[B,P,2\] with P > 0, got \[2\]"),
        (torch.zeros(3, 4, 2).long(), ValueError, r"with B = 1, got \[3, 4, 2\]"),
        ([(0.0, 1.0)], TypeError, "of ids, got torch.float32"),
    ],
)
def test_bad_pairs(pairs, error, message):
    with pytest.raises(error, match=message):
        explained(high_order, **EXACT).interactions(pairs)


@pytest.mark.parametrize(
    ("sampler", "error", "covered"),
    [(Bernoulli(), (0.02, 0.05), (0.95, 0.99)), (Orthogonal(), (0.08, 0.15), (0.7, 0.85))],
    ids=repr,
)
def test_what_samplers_leave_of_a_game_of_many_pairs(sampler, error, covered):
    """The numbers in the text of ``Explanation.interactions``."""
    grid = Grid(7, 7)
    near = neighbours(torch.arange(49).view(1, 7, 7), 49)[0].nonzero()
    g = torch.Generator().manual_seed(0)
    strong = torch.randperm(len(near), generator=g)[:20]
    every = torch.combinations(torch.arange(49))
    far = every[torch.randperm(len(every), generator=g)[:60]]
    pairs = torch.cat([near[strong], far])
    values = torch.cat(
        [2 * torch.randn(20, generator=g), torch.randn(60, generator=g) / 2]
    ).double()
    linear = torch.randn(49, generator=g).double()

    def model(x):
        z = x.flatten(1)
        return (z @ linear + (z[:, pairs[:, 0]] * z[:, pairs[:, 1]]) @ values)[:, None]

    table = torch.zeros(49, 49).double().index_put_(tuple(pairs.T), values, accumulate=True)
    truth = table[near[:, 0], near[:, 1]]
    e = explain(model, torch.ones(10, 1, 7, 7).double(), torch.zeros(10, 1).long(), segmenter=grid,
                fill=Constant(0.0), kernel=Uniform(), sampler=sampler, num_samples=512,
                seed=torch.arange(10), keep_samples=True)  # fmt: skip
    found = e.interactions()
    off = found.coefficients[:, 0] - truth
    assert error[0] < off.square().mean() / truth.square().mean() < error[1]
    inside = (off.abs() <= 1.96 * found.standard_errors[:, 0]).double().mean()
    assert covered[0] < inside < covered[1]


def test_it_says_where_the_terms_are_not_to_be_trusted():
    """Ridge has an answer for fewer samples than terms, and NaN for NaN."""
    terms = S + len(EVERY[:7])  # and the intercept, which needs a sample of its own
    for samples in (terms, terms + 1):
        e = explained(high_order, num_samples=samples, sampler=Bernoulli())
        found = e.interactions(EVERY[:7])
        assert found.ok.tolist() == [samples > terms]
        assert found.coefficients.isfinite().all()
    e = explained(lambda z: high_order(z) * torch.nan, num_samples=64)
    assert not e.interactions().ok.any()
    e = explained(high_order, num_samples=64, kernel=lambda masks, *_: 1.0 * (masks.sum(2) == 5))
    assert not e.interactions(EVERY[:7]).ok.any()  # few samples have a weight


@pytest.mark.parametrize(
    "surrogate",
    [MeanDrop(), MarginalMean(), MarginalContributions(), SignEntropy(MeanDrop())],
    ids=repr,
)
def test_surrogates_of_single_features_have_no_terms_for_pairs(surrogate):
    """The mean drop of a pair would hold the effects of both features beside their interaction."""
    e = explained(high_order, **EXACT)
    with pytest.raises(ValueError, match="fits all terms together; .* treats each feature by"):
        e.interactions(surrogate=surrogate)
