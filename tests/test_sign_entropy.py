"""SignEntropy against literal loops: resampled scikit-learn fits, their signs, and a last fit."""

import math

import numpy as np
import pytest
import torch
from sklearn import linear_model

from tests import oracles
from tests.test_surrogates import as_numpy, noisy_problem, problem
from torchlime import _row_blocks, explain
from torchlime.masks import Bernoulli, Orthogonal
from torchlime.noise import Gaussian
from torchlime.segments import Grid
from torchlime.surrogates import BayesianRidge, Lasso, LeastSquares, Ridge, SignEntropy


def noised(count, num_samples, sampler=None, noise=1.0, **more):
    """A problem where some slopes are sure and others are not."""
    masks, _, weights, number = problem(count, num_samples, sampler, **more)
    g = torch.Generator().manual_seed(5)
    slopes = torch.linspace(-1, 1, masks.shape[2])[:, None] * torch.tensor([1.0, 0.5, 0.0])
    scores = masks.double() @ slopes.double()
    return masks, scores + noise * torch.randn(scores.shape, generator=g), weights, number


def factor(seed, number, unit):
    return -math.log(((oracles.hash64(seed, number, unit) >> 11) + 0.5) / 2**53)


def literal(z, y, w, which, paired):
    """(entropies, slopes, intercept) of one target."""
    signs = []
    for r in range(which.resamples):
        drawn = [w[i] * factor(which.seed, r, i // 2 if paired else i) for i in range(len(w))]
        fit = linear_model.Ridge(which.surrogate.alpha, solver="svd").fit(z, y, sample_weight=drawn)
        signs.append(fit.coef_ > 0)
    shares = np.mean(signs, axis=0)
    entropy = [-sum(p * math.log2(p) for p in (s, 1 - s) if p > 0) for s in shares]
    kept = [j for j in range(z.shape[1]) if entropy[j] <= which.threshold]
    slopes, intercept = np.zeros(z.shape[1]), w @ y / w.sum()
    if kept:
        last = linear_model.Ridge(which.surrogate.alpha, solver="svd")
        last.fit(z[:, kept], y, sample_weight=w)
        slopes[kept], intercept = last.coef_, last.intercept_
    return entropy, slopes, intercept, kept


@pytest.mark.parametrize("sampler", [Bernoulli(), Orthogonal()], ids=repr)
@pytest.mark.parametrize("settings", [{}, {"threshold": 0.0, "seed": 7}, {"resamples": 9}], ids=str)
def test_it_is_its_definition(sampler, settings):
    data = noised(8, 64, sampler, width=10)
    which = SignEntropy(Ridge(0.5), **settings)
    fit, entropy = which(*data), which.entropy(*data)
    z, y, w = as_numpy(*data)
    dropped = 0
    for t in range(3):
        expected, slopes, intercept, kept = literal(
            z[:, :8], y[:, t], w, which, sampler != Bernoulli()
        )
        np.testing.assert_allclose(entropy[0, t, :8].numpy(), expected, atol=1e-12)
        np.testing.assert_allclose(fit.coefficients[0, t, :8].numpy(), slopes, atol=1e-10)
        assert fit.intercepts[0, t].item() == pytest.approx(intercept, abs=1e-10)
        found = fit.standard_errors[0, t, :8].numpy()
        assert ((found > 0) == (slopes != 0)).all() if kept else np.isnan(found).all()
        if kept and sampler == Bernoulli():
            errors = oracles.hc3(z[:, kept], y[:, t], w, intercept, slopes[kept], 0.5)
            np.testing.assert_allclose(found[kept], errors, rtol=1e-8)
        dropped += 8 - len(kept)
    assert 0 < dropped < 24
    assert (fit.coefficients[..., 8:] == 0).all()
    assert (fit.standard_errors[..., 8:] == 0).all()
    assert fit.ok.all()


@pytest.mark.parametrize(
    "surrogate", [Ridge(), LeastSquares(), Lasso(alpha=1e-4), BayesianRidge()], ids=repr
)
def test_a_threshold_of_one_drops_nothing(surrogate):
    data = noised(9, 80)
    fit, bare = SignEntropy(surrogate, 5, 1.0)(*data), surrogate(*data)
    for ours, theirs in zip(fit, bare, strict=True):
        assert ours.double().allclose(theirs.double(), rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("surrogate", [Ridge(0.0), LeastSquares()], ids=repr)
def test_scores_without_noise_keep_what_matters(surrogate):
    masks, _, weights, count = problem(12, 60)
    slopes = torch.zeros(12, 1).double()
    slopes[[2, 7], 0] = torch.tensor([1.0, -0.01]).double()
    shaken = 1e-6 * torch.randn(1, 60, 1, generator=torch.Generator().manual_seed(0))
    fit = SignEntropy(surrogate)(masks, masks.double() @ slopes + shaken, weights, count)
    assert fit.coefficients[0, 0, [2, 7]].allclose(slopes[[2, 7], 0], rtol=1e-3)
    assert (fit.coefficients[0, 0] != 0).sum() < 8
    assert fit.ok.all()


def test_where_nothing_is_sure_the_mean_is_left():
    masks, _, weights, count = problem(6, 400)
    scores = torch.randn(1, 400, 1, generator=torch.Generator().manual_seed(3)).double()
    fit = SignEntropy(LeastSquares(), 200, 0.0)(masks, scores, weights, count)
    assert (fit.coefficients == 0).all()
    w = weights.double()
    assert fit.intercepts.allclose((w[..., None] * scores).sum(1) / w.sum(1, keepdim=True))
    assert fit.fidelity.abs().max() < 1e-12
    assert fit.standard_errors.isnan().all()  # else a rule that stops would be sure of nothing
    assert fit.ok.all()
    constant = SignEntropy(LeastSquares(), 5)(masks, torch.ones(1, 400, 1), weights, count)
    assert (constant.coefficients == 0).all()
    assert (constant.standard_errors == 0).all()
    sparse = SignEntropy(Lasso(fraction=1.0), 5, 0.0)(masks, scores, weights, count)
    assert sparse.ok


def test_pairs_keep_together():
    """Only then is the even part of the scores, which pairs cancel, no reason to drop."""
    count = torch.tensor([6])
    masks = Orthogonal()(count, 6, 64, seed=0)
    z = masks.double()
    scores = (0.02 * z[..., :1] + (2 * z[..., 1:2] - 1) * (2 * z[..., 2:3] - 1)).expand(-1, -1, 1)
    data = (masks, scores, torch.ones(1, 64), count)
    fit = SignEntropy(LeastSquares())(*data)
    assert fit.coefficients[0, 0, 0].item() == pytest.approx(0.02)
    broken = masks.clone()
    broken[:, -1, 5] ^= True
    alone = SignEntropy(LeastSquares())(broken, *data[1:])
    assert alone.coefficients[0, 0, 0] == 0


@pytest.mark.parametrize("antithetic", [False, True])
def test_noise(antithetic):
    noise = Gaussian(antithetic)(torch.tensor([10]), 10, 100, seed=0)
    slopes = torch.linspace(-1, 1, 10).double()[:, None]
    scores = noise.double() @ slopes + torch.randn(
        1, 100, 1, generator=torch.Generator().manual_seed(0)
    )
    fit = SignEntropy(Ridge())(noise, scores, torch.ones(1, 100), torch.tensor([10]))
    kept = fit.coefficients[0, 0] != 0
    assert 4 <= kept.sum() < 10
    again = Ridge().of_noise(noise[..., kept], scores, torch.ones(1, 100), kept.sum()[None])
    assert fit.coefficients[..., kept].allclose(again.coefficients, rtol=0, atol=1e-10)
    assert fit.standard_errors[..., kept].allclose(again.standard_errors, rtol=1e-8)


def test_batches_targets_and_shared_designs_change_nothing():
    which = SignEntropy(Ridge(), 8)
    noise, scores, *rest = noisy_problem(12, 40, batch=3)
    shared = which(noise, scores, *rest)
    own = which(*[values.clone() for values in (noise, scores, *rest)])
    alone = [
        which(*[values[b : b + 1] for values in (noise, scores[..., 1:2], *rest)]) for b in range(3)
    ]
    for name in ("coefficients", "standard_errors", "intercepts", "fidelity"):
        values = getattr(shared, name)
        assert values.allclose(getattr(own, name), rtol=0, atol=1e-10, equal_nan=True)
        one_by_one = torch.cat([getattr(fit, name) for fit in alone])
        assert values[:, 1:2].allclose(one_by_one, rtol=0, atol=1e-10, equal_nan=True)


def test_bad_numbers_stay_and_failures_are_flagged():
    good, bad = noised(5, 40), list(noised(5, 40))
    bad[1] = bad[1].clone()
    bad[1][0, 3, 1] = math.nan
    which = SignEntropy(Ridge(), 5)
    fit = which(*[torch.cat(pair) for pair in zip(good, bad, strict=True)])
    assert torch.equal(fit.coefficients[0], which(*good).coefficients[0])
    assert fit.coefficients[1, 1].isnan().all()
    assert fit.coefficients[1, 0].isfinite().all()
    masks, *rest = good
    masks = masks.clone()
    masks[..., 1] = False
    assert not SignEntropy(Ridge(0.0), 3)(masks, *rest).ok
    assert not which(good[0], good[1], torch.zeros(1, 40), good[3]).ok


def test_blocks_of_resamples_change_nothing(monkeypatch):
    data = [torch.cat([values, values]) for values in noised(6, 40)]
    which = SignEntropy(Ridge(), 7)
    whole = which(*data)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 3 * 2 * 40 * 6)
    for ours, theirs in zip(which(*data), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_a_mean_for_each_feature_is_refused():
    which = SignEntropy(BayesianRidge(mean=torch.zeros(5)), 3)
    with pytest.raises(ValueError, match="give BayesianRidge a number as mean"):
        which(*noised(5, 40))
    assert SignEntropy(BayesianRidge(mean=0.5), 3)(*noised(5, 40)).ok


def test_gradients_pass_through_the_last_fit():
    masks, scores, weights, count = noised(5, 40)
    scores = scores.requires_grad_()
    SignEntropy(Ridge(), 4)(masks, scores, weights, count).coefficients.sum().backward()
    assert scores.grad.isfinite().all()
    assert (scores.grad != 0).any()


def test_an_explanation_with_it():
    image = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    e = explain(lambda x: (3 * x[..., :4, :4]).mean((2, 3)).sin(), image, 0, segmenter=Grid(4, 4),
                surrogate=SignEntropy(), num_samples=200)  # fmt: skip
    outside = e.coefficients[:, 0].view(2, 4, 4).clone()
    outside[:, :2, :2] = 0
    assert (outside == 0).sum() >= 28  # the segments that the model does not see
    assert "SignEntropy(surrogate=Ridge(alpha=1.0), resamples=40" in e.settings["surrogate"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"surrogate": 3}, TypeError, "surrogate must be callable, got 3"),
        ({"resamples": 1}, ValueError, "resamples must be at least 2, got 1"),
        ({"threshold": 1.5}, ValueError, r"threshold must lie in \[0, 1\], got 1.5"),
        ({"seed": 0.5}, TypeError, "seed must be an int, got float"),
    ],
)
def test_bad_arguments(settings, error, message):
    with pytest.raises(error, match=message):
        SignEntropy(**settings)
