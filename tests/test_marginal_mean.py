"""Marginal means against literal loops, Banzhaf values by definition, and RISE's saliency."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch

from tests import oracles
from tests.test_marginal_contributions import game
from tests.test_surrogates import problem
from torchlime import _row_blocks, explain
from torchlime.explanation import Problem
from torchlime.fills import Constant
from torchlime.masks import Bernoulli, Exhaustive, LeaveOneOut, Orthogonal
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares, MarginalMean, Ridge
from torchlime.weights import Uniform

MEAN, DIFFERENCE = MarginalMean(), MarginalMean(difference=True)


def every(players, targets=None):
    """All masks of some players, with the scores of the game, equal weights and the count."""
    masks = torch.from_numpy(oracles.all_masks(players).copy())[None]
    return masks, game(masks), torch.ones(masks.shape[:2]), torch.tensor([players])


def banzhaf(players):
    """[2,S], by the definition: the mean over all coalitions of the others of what one adds."""
    found = torch.zeros(2, players, dtype=torch.float64)
    for j in range(players):
        for others in itertools.product((0.0, 1.0), repeat=players - 1):
            without, joined = ([*others[:j], own, *others[j:]] for own in (0.0, 1.0))
            gain = game(torch.tensor([[joined]])) - game(torch.tensor([[without]]))
            found[:, j] += gain[0, 0] / 2 ** (players - 1)
    return found


def test_over_all_masks_the_difference_is_the_banzhaf_value():
    data = every(7)
    fit = DIFFERENCE(*data)
    torch.testing.assert_close(fit.coefficients[0], banzhaf(7), rtol=0, atol=1e-12)
    squares = LeastSquares()(*data)
    for name in ("coefficients", "intercepts", "fidelity"):
        torch.testing.assert_close(getattr(fit, name), getattr(squares, name), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["a table", "a network"])
def test_banzhaf_values_of_ten_players(kind):
    masks = torch.from_numpy(oracles.all_masks(10).copy())
    g = torch.Generator().manual_seed(4)
    scores = torch.randn(1024, 2, generator=g).double()
    if kind == "a network":
        hidden = torch.randn(10, 8, generator=g), torch.randn(8, 2, generator=g)
        scores = (masks.double() @ hidden[0].double()).tanh() @ hidden[1].double()
    value = {tuple(row): score for row, score in zip(masks.tolist(), scores, strict=True)}
    fit = DIFFERENCE(masks[None], scores[None], torch.ones(1, 1024), torch.tensor([10]))
    mean = MEAN(masks[None], scores[None], torch.ones(1, 1024), torch.tensor([10]))
    for j in range(10):
        without = [row for row in value if not row[j]]
        joined = [(*row[:j], True, *row[j + 1 :]) for row in without]
        gains = [value[a] - value[b] for a, b in zip(joined, without, strict=True)]
        expected = torch.stack(gains).mean(0)
        assert fit.coefficients[0, :, j].allclose(expected, rtol=0, atol=1e-9)
        expected = torch.stack([value[row] for row in joined]).mean(0)
        assert mean.coefficients[0, :, j].allclose(expected, rtol=0, atol=1e-9)


def test_axioms_of_banzhaf_values():
    """A player who adds nothing has 0, two who add the same are equal, and games add up."""
    masks, scores, weights, count = every(6)
    dummy = DIFFERENCE(masks, game(masks[..., :5]), weights, count)
    assert dummy.coefficients[..., 5].abs().max() < 1e-12
    z = masks.double()
    alike = (z[..., 0] + z[..., 3]).square() * (1 + z[..., 1])
    fit = DIFFERENCE(masks, alike[..., None], weights, count)
    assert fit.coefficients[..., 0].allclose(fit.coefficients[..., 3], rtol=0, atol=1e-12)
    both = DIFFERENCE(masks, scores + alike[..., None], weights, count)
    parts = DIFFERENCE(masks, scores, weights, count).coefficients + fit.coefficients
    assert both.coefficients.allclose(parts, rtol=0, atol=1e-12)


def literal(masks, scores, weights, difference, paired):
    """(coefficients, errors) [T,S] of one input, row by row."""
    samples, width = masks.shape
    found, errors = np.zeros((scores.shape[1], width)), np.zeros((scores.shape[1], width))
    for t, j in itertools.product(range(scores.shape[1]), range(width)):
        pulls = np.zeros(samples)
        for sign, kept in ((1, True), (-1, False)) if difference else ((1, True),):
            inside = [i for i in range(samples) if masks[i, j] == kept]
            total = sum(weights[i] for i in inside)
            mean = sum(weights[i] * scores[i, t] for i in inside) / total
            found[t, j] += sign * mean
            for i in inside:
                rest = total - weights[i]
                without = sum(weights[k] * scores[k, t] for k in inside if k != i) / rest
                pulls[i] = sign * (mean - without)  # what the row moved the mean by
        groups = np.arange(samples) // (2 if paired else 1)
        errors[t, j] = math.sqrt(sum(pulls[groups == g].sum() ** 2 for g in set(groups)))
    return found, errors


@pytest.mark.parametrize("which", [MEAN, DIFFERENCE], ids=repr)
@pytest.mark.parametrize("sampler", [Bernoulli(), Bernoulli(0.8), Orthogonal()], ids=repr)
@pytest.mark.parametrize("num_samples", [48, 49])
def test_means_and_errors_are_their_definition(which, sampler, num_samples):
    data = problem(6, num_samples, sampler, width=8)
    fit = which(*data)
    z, y, w = data[0][0, :, :6].numpy(), data[1][0].numpy(), data[2][0].numpy()
    found, errors = literal(z, y, w, which.difference, sampler == Orthogonal())
    np.testing.assert_allclose(fit.coefficients[0, :, :6].numpy(), found, atol=1e-12)
    np.testing.assert_allclose(fit.standard_errors[0, :, :6].numpy(), errors, rtol=1e-10)
    line = fit.intercepts[0].numpy() + z @ found.T
    np.testing.assert_allclose(w @ line, w @ y, atol=1e-10)  # it goes through the means
    for t in range(3):
        expected = oracles.weighted_r2(y[:, t], line[:, t], w) if which.difference else math.nan
        assert fit.fidelity[0, t].item() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert (fit.coefficients[..., 6:] == 0).all()
    assert (fit.standard_errors[..., 6:] == 0).all()
    assert fit.ok.all()


def test_errors_of_a_difference_are_hc3_of_one_column():
    data = problem(5, 60)
    fit = DIFFERENCE(*data)
    z, y, w = data[0][0].double().numpy(), data[1][0].numpy(), data[2][0].numpy()
    for j in range(5):
        intercept, slopes = oracles.weighted_least_squares(z[:, [j]], y[:, 0], w)
        assert fit.coefficients[0, 0, j].item() == pytest.approx(slopes[0], abs=1e-10)
        hc3 = oracles.hc3(z[:, [j]], y[:, 0], w, intercept, slopes, 0.0)
        assert fit.standard_errors[0, 0, j].item() == pytest.approx(hc3[0], rel=1e-8)


@pytest.mark.parametrize("which", [MEAN, DIFFERENCE], ids=repr)
@pytest.mark.parametrize("sampler", [Bernoulli(), Orthogonal()], ids=repr)
def test_intervals_cover_what_all_masks_give(which, sampler):
    number = 400
    count = torch.full((number,), 7)
    masks = sampler(count, 7, 400, seed=torch.arange(number))
    weights = torch.ones(number, 400)
    weights[:, 0] = float(sampler == Orthogonal())  # else row 0 keeps all, whatever the law
    fit = which(masks, game(masks), weights, count)
    truth = which(*every(7)).coefficients
    off = (fit.coefficients - truth)[:, 0].abs()  # the second game is 1 but for a few masks
    coverage = (off <= 1.96 * fit.standard_errors[:, 0] + 1e-12).double().mean().item()
    assert 0.93 <= coverage <= (0.97 if sampler == Bernoulli() else 1.0), coverage


def test_it_is_the_saliency_of_rise():
    """Σ f(x ⊙ M) M over Σ M, on the pixels."""
    image = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double()

    def model(x):
        return (3 * x).mean((2, 3)).sin()

    settings = {"segmenter": Grid(2, 3), "fill": Constant(0.0), "kernel": Uniform()}
    e = explain(model, image, 0, sampler=Bernoulli(), surrogate=MEAN, keep_samples=True, **settings)
    masks = e.masks[0].double() @ torch.nn.functional.one_hot(e.segments[0].flatten(), 6).double().T
    scores = model((image[0].flatten() * masks).view(-1, 1, 6, 6))
    saliency = (scores.T @ masks)[0] / masks.sum(0)
    assert e.heatmap()[0, 0].flatten().double().allclose(saliency, rtol=0, atol=1e-6)
    exact = explain(model, image, 0, sampler=Exhaustive(), surrogate=MEAN, **settings)
    assert (e.coefficients - exact.coefficients).abs().max() < 4 * e.standard_errors.max()


def test_leaving_one_out_is_the_difference_of_a_row():
    masks = LeaveOneOut()(torch.tensor([5]), 5, 10, seed=0)
    fit = DIFFERENCE(masks, game(masks), torch.ones(1, 6), torch.tensor([5]))
    assert fit.ok.all()
    assert fit.standard_errors.isnan().all()  # a feature is hidden in one row alone


def test_a_feature_that_is_always_kept_has_no_difference():
    masks, scores, weights, count = problem(4, 30)
    masks[..., 2] = True
    assert MEAN(masks, scores, weights, count).ok
    fit = DIFFERENCE(masks, scores, weights, count)
    assert not fit.ok
    assert fit.coefficients[..., 2].isnan().all()
    assert fit.coefficients[..., :2].isfinite().all()
    assert not MEAN(~masks, scores, weights, count).ok


@pytest.mark.parametrize("which", [MEAN, DIFFERENCE], ids=repr)
def test_constant_scores_bad_numbers_and_no_weight(which):
    good, bad = problem(5, 40), list(problem(5, 40, seed=1))
    bad[1] = bad[1].clone()
    bad[1][0, 3, 1] = math.nan
    fit = which(*[torch.cat(pair) for pair in zip(good, bad, strict=True)])
    assert torch.equal(fit.coefficients[0], which(*good).coefficients[0])
    assert fit.coefficients[1, 1].isnan().all()
    assert fit.coefficients[1, 0].isfinite().all()
    fit = which(good[0], torch.full((1, 40, 2), 0.3, dtype=torch.float64), *good[2:])
    assert (fit.coefficients - (0 if which.difference else 0.3)).abs().max() < 1e-15
    assert (fit.standard_errors == 0).all()
    assert not which(good[0], good[1], torch.zeros(1, 40), good[3]).ok.any()


@pytest.mark.parametrize("which", [MEAN, DIFFERENCE], ids=repr)
def test_blocks_change_nothing(which, monkeypatch):
    data = problem(6, 101, Orthogonal())
    whole = which(*data)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 60)
    for ours, theirs in zip(which(*data), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("which", [MEAN, DIFFERENCE], ids=repr)
def test_it_pickles_and_differentiates(which):
    masks, scores, weights, count = problem(4, 20, targets=2)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: which(masks, y, weights, count)[:3], scores)
    assert eval(repr(pickle.loads(pickle.dumps(which)))) == which


def test_noise_is_refused():
    with pytest.raises(TypeError, match="MarginalMean needs masks, got noise"):
        MEAN(torch.rand(1, 9, 3), torch.rand(1, 9, 1), torch.ones(1, 9), torch.tensor([3]))


def test_a_mean_needs_no_more_samples_than_features():
    images = torch.rand(1, 1, 4, 4, generator=torch.manual_seed(0))
    settings = {"segmenter": Grid(4, 4), "sampler": Bernoulli(), "num_samples": 12}
    for surrogate, few in ((MarginalMean(), 0), (Ridge(), Problem.TOO_FEW_EFFECTIVE_SAMPLES)):
        e = explain(lambda x: x.mean((2, 3)), images, 0, surrogate=surrogate, **settings)
        assert e.problems.item() & Problem.TOO_FEW_EFFECTIVE_SAMPLES == few
