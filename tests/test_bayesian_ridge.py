"""BayesianRidge against scikit-learn's, the formula of the posterior, and the evidence itself."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model

from tests.test_surrogates import FULL_RANK, as_numpy, assert_close, noisy_problem, problem
from torchlime import _row_blocks, explain
from torchlime.masks import Bernoulli, FixedCount
from torchlime.rounds import Until
from torchlime.segments import Grid
from torchlime.surrogates import BayesianRidge, LeastSquares, Ridge

ALL_GIVEN = {"precision": 3.0, "noise_precision": 0.5}
MODES = [
    {}, {"precision": 3.0}, {"noise_precision": 0.5}, ALL_GIVEN,
    {"mean": torch.linspace(-1, 1, 9), "precision": 3.0},
]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "num_samples", "sampler"), [*FULL_RANK[1:4], (20, 100, FixedCount())]
)
@pytest.mark.parametrize("noise", [0.01, 10.0])
def test_it_is_scikit_learns(count, num_samples, sampler, noise):
    masks, scores, weights, number = problem(count, num_samples, sampler)
    more = torch.randn(scores.shape, generator=torch.Generator().manual_seed(9))
    data = (masks, scores + noise * more.double(), weights, number)
    fit = BayesianRidge()(*data)
    assert fit.ok.all()
    z, y, w = as_numpy(*data)
    none = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    for t in range(3):
        theirs = linear_model.BayesianRidge(max_iter=1000, tol=1e-12, **none)
        theirs.fit(z, y[:, t], sample_weight=w)
        assert_close(fit.coefficients[0, t], theirs.coef_, 1e-6)
        assert_close(fit.intercepts[0, t], theirs.intercept_, 1e-6)
        assert_close(fit.standard_errors[0, t], np.sqrt(np.diag(theirs.sigma_)), 1e-6)


def evidence(z, y, w, mean, precision, noise):
    """log p(y | λ, α) up to a constant, with explicit matrices; b₀ has a flat prior."""
    z, y = z - w @ z / w.sum(), y - w @ y / w.sum()
    y = y - z @ mean
    posterior = precision * np.eye(z.shape[1]) + noise * (z * w[:, None]).T @ z
    moved = np.linalg.solve(posterior, noise * (z * w[:, None]).T @ y)
    error = noise * w @ (y - z @ moved) ** 2 + precision * moved @ moved
    sizes = z.shape[1] * math.log(precision) + w.sum() * math.log(noise)
    return 0.5 * (sizes - error - np.linalg.slogdet(posterior)[1])


def precisions_of(fit, data, surrogate, target):
    """λ, α of a fit, from the variances: Σ is (λ + αG)⁻¹, so two coefficients suffice."""
    z, _, w = as_numpy(*data)
    centred = z - w @ z / w.sum()
    gram = (centred * w[:, None]).T @ centred
    wanted = fit.standard_errors[0, target].numpy() ** 2
    low, high = -30.0, 30.0
    scaled = wanted / wanted.max()
    for _ in range(200):  # the ratio by bisection, of the spread of the variances
        middle = (low + high) / 2
        found = np.diag(np.linalg.inv(gram + math.exp(middle) * np.eye(len(gram))))
        flat = (found / found.max()).min() > scaled.min()
        low, high = (low, middle) if flat else (middle, high)
    return math.exp(middle) * found.max() / wanted.max(), found.max() / wanted.max()


@pytest.mark.parametrize("given", MODES[:3] + MODES[4:], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_evidence_is_the_largest(given, seed):
    data = problem(9, 60, seed=seed)
    surrogate = BayesianRidge(**given)
    fit = surrogate(*data)
    z, y, w = as_numpy(*data)
    mean = np.asarray(given.get("mean", np.zeros(9)))
    for t in range(3):
        precision, noise = precisions_of(fit, data, surrogate, t)
        if "precision" in given:
            assert precision == pytest.approx(3.0, rel=1e-6)
        if "noise_precision" in given:
            assert noise == pytest.approx(0.5, rel=1e-6)
        best = evidence(z, y[:, t], w, mean, precision, noise)
        for turn in (0.99, 1.01, 0.5, 2.0):
            for own, other in ((turn, 1.0), (1.0, turn)):
                own = 1.0 if "precision" in given else own
                other = 1.0 if "noise_precision" in given else other
                off = evidence(z, y[:, t], w, mean, own * precision, other * noise)
                assert off <= best + 1e-9


@pytest.mark.parametrize("mean", [0.0, 0.7, "[S]", "[B,S]", "[B,T,S]", "[1,T,S]"])
def test_a_known_prior_is_the_formula(mean):
    g = torch.Generator().manual_seed(3)
    parts = [problem(7, 40, seed=seed, width=9) for seed in range(2)]
    data = [torch.cat(values) for values in zip(*parts, strict=True)]
    if isinstance(mean, str):
        sizes = {"B": 2, "T": 3, "S": 9, "1": 1}
        mean = torch.randn([sizes[axis] for axis in mean[1:-1].split(",")], generator=g).double()
    fit = BayesianRidge(mean=mean, **ALL_GIVEN)(*data)
    full = torch.as_tensor(mean, dtype=torch.float64)
    full = (full[:, None] if full.dim() == 2 else full).expand(2, 3, 9)
    for b in range(2):
        z, y, w = as_numpy(*[values[b : b + 1] for values in data])
        z = z[:, :7]
        z, y = z - w @ z / w.sum(), y - w @ y / w.sum()
        inside = np.linalg.inv(3.0 * np.eye(7) + 0.5 * (z * w[:, None]).T @ z)
        for t in range(3):
            m = full[b, t, :7].numpy()
            expected = inside @ (3.0 * m + 0.5 * (z * w[:, None]).T @ y[:, t])
            np.testing.assert_allclose(fit.coefficients[b, t, :7].numpy(), expected, atol=1e-12)
            errors = np.sqrt(np.diag(inside))
            np.testing.assert_allclose(fit.standard_errors[b, t, :7].numpy(), errors, rtol=1e-12)
    assert (fit.coefficients[..., 7:] == 0).all()
    assert (fit.standard_errors[..., 7:] == 0).all()


def test_a_flat_prior_is_least_squares_and_one_around_zero_is_ridge():
    data = problem(10, 64)
    ridge, known = Ridge(6.0)(*data), BayesianRidge(**ALL_GIVEN)(*data)
    for name in ("coefficients", "intercepts", "fidelity"):
        assert getattr(ridge, name).allclose(getattr(known, name), rtol=0, atol=1e-12)
    flat = BayesianRidge(mean=5.0, precision=1e-9, noise_precision=1.0)(*data)
    assert flat.coefficients.allclose(LeastSquares()(*data).coefficients, rtol=0, atol=1e-8)
    certain = BayesianRidge(mean=5.0, precision=1e12, noise_precision=1.0)(*data)
    assert certain.coefficients.allclose(torch.tensor(5.0).double(), rtol=1e-9)


def test_the_mean_moves_the_problem():
    """δ = β − m is the fit around 0 of the scores less what the mean says."""
    masks, scores, weights, count = problem(8, 50)
    mean = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(1)).double()
    fit = BayesianRidge(mean=mean)(masks, scores, weights, count)
    less = BayesianRidge()(masks, scores - masks.double() @ mean.mT, weights, count)
    assert fit.coefficients.allclose(less.coefficients + mean, rtol=0, atol=1e-10)
    assert fit.intercepts.allclose(less.intercepts, rtol=0, atol=1e-10)
    assert fit.standard_errors.allclose(less.standard_errors, rtol=1e-8)


def test_the_unit_of_the_scores_does_not_matter():
    masks, scores, weights, count = problem(8, 50)
    fit = BayesianRidge()(masks, scores, weights, count)
    small = BayesianRidge()(masks, 1e-6 * scores + 4, weights, count)
    for name in ("coefficients", "standard_errors"):
        assert (1e6 * getattr(small, name)).allclose(getattr(fit, name), rtol=1e-8, atol=0)


def test_scores_without_a_signal_have_coefficients_of_zero():
    """In the full design every column has its own sum of products; here they are 0."""
    masks = (torch.arange(16)[:, None] >> torch.arange(4) & 1).bool()[None]
    odd = masks.sum(2, keepdim=True).double() % 2  # no line says any of it
    fit = BayesianRidge(mean=0.25)(masks, odd + masks.sum(2, keepdim=True) / 4, torch.ones(1, 16),
                                   torch.tensor([4]))  # fmt: skip
    assert fit.ok.all()
    assert (fit.coefficients == 0.25).all()
    assert fit.standard_errors.isnan().all()  # else a rule that stops would be sure of nothing


@pytest.mark.parametrize("given", [{}, {"precision": 1.0}], ids=str)
def test_scores_that_are_a_line(given):
    masks, _, weights, count = problem(12, 80)
    slopes = torch.randn(12, 2, generator=torch.Generator().manual_seed(2)).double()
    fit = BayesianRidge(**given)(masks, masks.double() @ slopes + 3, weights, count)
    assert fit.ok.all()
    assert fit.coefficients.allclose(slopes.T, rtol=0, atol=1e-8)
    assert fit.standard_errors.max() < 1e-4
    assert fit.fidelity.allclose(torch.ones(1, 2).double())


def test_constant_scores_bad_numbers_and_no_weight():
    masks, scores, weights, count = problem(5, 40)
    for mode in MODES[:4]:
        which = BayesianRidge(**mode)
        constant = which(masks, torch.full((1, 40, 2), 0.3), weights, count)
        assert constant.ok.all()
        assert (constant.coefficients == 0).all()
        assert constant.intercepts.allclose(torch.tensor(0.3).double())
        still = which(torch.ones_like(masks), scores, weights, count)
        assert still.coefficients.abs().max() < 1e-15
        assert still.ok.all()
        bad = scores.clone()
        bad[0, 3, 1] = math.nan
        pairs = zip((masks, scores, weights, count), (masks, bad, weights, count), strict=True)
        both = which(*(torch.cat(pair) for pair in pairs))
        assert torch.equal(both.coefficients[0], which(masks, scores, weights, count)[0][0])
        assert both.coefficients[1, 1].isnan().all()
        assert not which(masks, scores, torch.zeros(1, 40), count).ok.any()


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    num_samples=st.integers(14, 60),
    mode=st.sampled_from(MODES),
)
def test_padding_batches_and_targets_change_nothing(counts, num_samples, mode):
    which = BayesianRidge(**mode)
    parts = [problem(c, num_samples, None, 2, seed=i, width=9) for i, c in enumerate(counts)]
    batch = which(*[torch.cat([part[k] for part in parts]) for k in range(4)])
    for b, (count, part) in enumerate(zip(counts, parts, strict=True)):
        mean = mode.get("mean")
        own = mode if mean is None else mode | {"mean": mean[:count]}
        tight = BayesianRidge(**own)(part[0][..., :count], *part[1:])
        assert batch.ok[b] == tight.ok[0]
        for t in range(2):
            alone = which(part[0], part[1][..., t : t + 1], *part[2:])
            for name in ("coefficients", "standard_errors"):
                values = getattr(batch, name)[b, t]
                assert (values[count:] == 0).all()
                size = 1 + tight.coefficients.abs().max()
                for fit in (getattr(tight, name)[0, t], getattr(alone, name)[0, 0, :count]):
                    assert values[:count].allclose(fit, rtol=0, atol=1e-8 * size, equal_nan=True)


@pytest.mark.parametrize("mode", MODES[:4], ids=str)
def test_blocks_and_shared_designs_change_nothing(mode, monkeypatch):
    which = BayesianRidge(**mode)
    noise, scores, *rest = noisy_problem(9, 80, batch=3)
    mean = torch.randn(3, 3, 9, generator=torch.Generator().manual_seed(1)).double()
    for which in (BayesianRidge(**mode), BayesianRidge(**mode | {"mean": mean})):
        whole = which(noise, scores, *rest)
        own = which.of_noise(*[values.clone() for values in (noise, scores, *rest)])
        with monkeypatch.context() as patch:
            patch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 150)
            blocks = which(noise, scores, *rest)
            few = which(*[values.clone() for values in (noise, scores, *rest)])
        for fit in (own, blocks, few):
            for ours, theirs in zip(fit, whole, strict=True):
                assert ours.shape == theirs.shape
                assert ours.double().allclose(theirs.double(), rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("mode", MODES[:4], ids=str)
def test_gradients_are_those_of_the_whole_fit(mode):
    masks, scores, weights, count = problem(4, 20, targets=1)
    scores.requires_grad_()
    which = BayesianRidge(**mode)
    assert torch.autograd.gradcheck(
        lambda y: which(masks, y, weights, count).coefficients, scores, atol=1e-5
    )


def test_gradients_are_finite_at_both_ends():
    masks, _, weights, count = problem(4, 20, targets=1)
    for scores in (masks.double()[..., :1], torch.full((1, 20, 1), 0.5).double()):
        scores = scores.clone().requires_grad_()
        BayesianRidge()(masks, scores, weights, count).coefficients.sum().backward()
        assert scores.grad.isfinite().all()


@pytest.mark.parametrize("mode", [*MODES[:4], {"noise_precision": 1e-3}], ids=str)
def test_float32_where_the_device_has_no_float64(mode, monkeypatch):
    which = BayesianRidge(**mode)
    expected = which(*problem(9, 64))
    monkeypatch.setattr("torchlime.fit.solve_dtype", lambda device: torch.float32)
    fit = which(*problem(9, 64))
    assert fit.ok.all()
    assert fit.coefficients.dtype == torch.float32
    assert (fit.coefficients - expected.coefficients).abs().max() < 1e-3


def test_what_has_not_converged_is_flagged(monkeypatch):
    monkeypatch.setattr("torchlime.surrogates.bayesian_ridge.STEPS", 1)
    assert not BayesianRidge()(*problem(9, 64)).ok
    assert BayesianRidge(**ALL_GIVEN)(*problem(9, 64)).ok


def test_intervals_cover_slopes_that_were_drawn_from_the_prior():
    number = 300
    count = torch.full((number,), 8)
    masks = Bernoulli()(count, 8, 60, seed=torch.arange(number))
    g = torch.Generator().manual_seed(0)
    slopes = torch.randn(number, 8, 1, generator=g).double()
    scores = masks.double() @ slopes + torch.randn(number, 60, 1, generator=g).double()
    fit = BayesianRidge()(masks, scores, torch.ones(number, 60), count)
    off = (fit.coefficients - slopes.mT).abs()
    coverage = (off <= 1.96 * fit.standard_errors).double().mean().item()
    assert 0.9 <= coverage <= 0.97, coverage


IMAGE = torch.linspace(0, 1, 64).view(1, 1, 8, 8)


def bright(x):
    return torch.stack([(20 * x).mean((1, 2, 3)).sin(), x[..., :4].mean((1, 2, 3))], dim=1)


def test_an_explanation_is_the_prior_of_another():
    first = explain(bright, IMAGE, top=2, segmenter=Grid(2, 3), seed=1, keep_samples=True)
    which = BayesianRidge(mean=first.coefficients, precision=1e9, noise_precision=1.0)
    again = first.refit(surrogate=which)
    assert again.coefficients.allclose(first.coefficients, rtol=0, atol=1e-6)
    assert "mean=a tensor [1, 2, 6]" in again.settings["surrogate"]


def test_it_grows_from_round_to_round():
    images = torch.cat([IMAGE, IMAGE.flip(2)])
    how = {"segmenter": Grid(2, 3), "sampler": Bernoulli(), "keep_samples": True}
    e = explain(bright, images, 0, surrogate=BayesianRidge(0.1), rounds=Until(error=0.2), **how)
    assert e.coefficients.allclose(e.refit().coefficients, rtol=0, atol=1e-9)


def test_a_mean_of_another_shape():
    own = BayesianRidge(mean=torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r"mean of BayesianRidge must be \[S\].* \[1, 3, 8\]"):
        own(*problem(8, 20))


def test_it_compares_and_prints():
    which = BayesianRidge(mean=torch.zeros(3), precision=2.0)
    assert which == pickle.loads(pickle.dumps(which))
    assert hash(which) == hash(BayesianRidge(mean=torch.zeros(3), precision=2.0))
    assert which != BayesianRidge(mean=torch.ones(3), precision=2.0)
    assert eval(repr(BayesianRidge(0.5, 2.0))) == BayesianRidge(0.5, 2.0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"mean": "0"}, TypeError, "mean must be a number, got str"),
        ({"mean": torch.zeros(3).long()}, ValueError, r"mean must be a float tensor \[S\]"),
        ({"precision": 0.0}, ValueError, "precision must be a finite number above 0"),
        ({"noise_precision": -1}, ValueError, "noise_precision must be a finite number above 0"),
        ({"precison": 1.0}, TypeError, "did you mean 'precision'"),
    ],
)
def test_bad_arguments(settings, error, message):
    with pytest.raises(error, match=message):
        BayesianRidge(**settings)
