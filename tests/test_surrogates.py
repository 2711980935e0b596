import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lime.lime_base import LimeBase
from sklearn import linear_model

from tests import oracles
from torchlime import _row_blocks
from torchlime._returns import variance_factor
from torchlime.masks import Bernoulli, FixedCount, Orthogonal, present
from torchlime.surrogates import Lasso, LeastSquares, Ridge
from torchlime.weights import Exponential, Uniform

SURROGATES = [Ridge(), LeastSquares(), Lasso(fraction=0.2)]


def problem(count, num_samples, sampler=None, targets=3, seed=0, width=None):
    """Random scores, partly linear in the masks, and uneven weights."""
    width = width or count
    sampler = sampler or Bernoulli()
    segment_count = torch.tensor([count])
    masks = sampler(segment_count, width, num_samples, seed=seed)
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(1, num_samples, targets, generator=g, dtype=torch.float64)
    slopes = torch.randn(width, targets, generator=g, dtype=torch.float64)
    weights = torch.randn(1, num_samples, generator=g, dtype=torch.float64).exp()
    return masks, scores + masks.double() @ slopes, weights, segment_count


def as_numpy(masks, scores, weights, _):
    return masks[0].double().numpy(), scores[0].numpy(), weights[0].numpy()


def assert_close(ours, theirs, tolerance):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


FULL_RANK = [
    (1, 8, None),
    (10, 64, None),
    (50, 53, None),
    (50, 512, Orthogonal()),
    (120, 600, None),
]
RANK_DEFICIENT = [(50, 30, None), (10, 4, None), (20, 100, FixedCount())]


@pytest.mark.parametrize(("count", "num_samples", "sampler"), FULL_RANK + RANK_DEFICIENT)
@pytest.mark.parametrize("alpha", [1.0, 0.01, 100.0])
def test_ridge_is_scikit_learns(count, num_samples, sampler, alpha):
    data = problem(count, num_samples, sampler)
    z, y, w = as_numpy(*data)
    theirs = linear_model.Ridge(alpha, solver="svd").fit(z, y, sample_weight=w)
    fit = Ridge(alpha)(*data)
    assert_close(fit.coefficients[0], theirs.coef_, 1e-10)
    assert_close(fit.intercepts[0], theirs.intercept_, 1e-10)
    r2 = [theirs_r2(theirs, z, y, w, t) for t in range(3)]
    assert fit.fidelity[0].tolist() == pytest.approx(r2, abs=1e-10)
    assert fit.ok.all()


def theirs_r2(model, z, y, w, t):
    unexplained = w @ (y - model.predict(z))[:, t] ** 2
    return 1 - unexplained / (w @ (y[:, t] - w @ y[:, t] / w.sum()) ** 2)


@pytest.mark.parametrize(("count", "num_samples", "sampler"), FULL_RANK + RANK_DEFICIENT)
def test_least_squares_is_scikit_learns(count, num_samples, sampler):
    data = problem(count, num_samples, sampler)
    if isinstance(sampler, FixedCount):  # without row 0 all rows have one sum: rank count − 1
        data = (*[tensor[:, 1:] for tensor in data[:3]], data[3])
    z, y, w = as_numpy(*data)
    theirs = linear_model.LinearRegression().fit(z, y, sample_weight=w)
    fit = LeastSquares()(*data)
    tolerance = 1e-10 if (count, num_samples, sampler) in FULL_RANK else 1e-8
    assert_close(fit.coefficients[0], theirs.coef_, tolerance)
    assert_close(fit.intercepts[0], theirs.intercept_, tolerance)
    assert_close(fit.coefficients[0, 0], oracles.weighted_least_squares(z, y[:, 0], w)[1], 1e-8)


@pytest.mark.parametrize(
    ("count", "num_samples", "sampler"), [*FULL_RANK, (50, 30, None), (49, 100, FixedCount())]
)
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.6, 1.0])
def test_lasso_is_scikit_learns(count, num_samples, sampler, fraction):
    data = problem(count, num_samples, sampler)
    z, y, w = as_numpy(*data)
    fit = Lasso(fraction=fraction)(*data)
    assert fit.ok.all()
    assert fit.standard_errors.isnan().all()
    for t in range(3):
        centred = w[:, None] * (z - w @ z / w.sum())
        alpha = fraction * np.abs(centred.T @ (y[:, t] - w @ y[:, t] / w.sum())).max() / w.sum()
        theirs = linear_model.Lasso(alpha, tol=1e-14, max_iter=10**6).fit(
            z, y[:, t], sample_weight=w
        )
        ours = fit.coefficients[0, t].numpy()
        np.testing.assert_allclose(ours, theirs.coef_, atol=1e-7)
        if fraction < 1:  # at alpha_max itself rounding decides
            np.testing.assert_array_equal(ours != 0, theirs.coef_ != 0)
        assert fit.intercepts[0, t].item() == pytest.approx(theirs.intercept_, abs=1e-7)
        again = Lasso(alpha=alpha)(data[0], data[1][..., t : t + 1], *data[2:])
        np.testing.assert_allclose(again.coefficients[0, 0].numpy(), ours, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_ridge_gives_the_coefficients_of_the_package_lime(seed):
    masks, scores, _, count = problem(30, 300, seed=seed)
    masks[:, 0] = True
    weights = Exponential()(masks, count)
    distances = np.array([oracles.distance("cosine", row.numpy()) for row in masks[0]])
    lime = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)), random_state=0)
    fit = Ridge(alpha=1.0)(masks, scores, weights, count)
    for label in range(3):
        intercept, ranked, score, local = lime.explain_instance_with_data(
            masks[0].numpy().astype(int), scores[0].numpy(), distances, label, 30,
            feature_selection="none",
        )  # fmt: skip
        theirs = np.array([value for _, value in sorted(ranked)])
        np.testing.assert_allclose(fit.coefficients[0, label].numpy(), theirs, atol=1e-9)
        assert fit.intercepts[0, label].item() == pytest.approx(intercept, abs=1e-9)
        assert fit.fidelity[0, label].item() == pytest.approx(score, abs=1e-9)
        prediction = fit.intercepts[0, label] + fit.coefficients[0, label].sum()
        assert prediction.item() == pytest.approx(local[0], abs=1e-9)


@pytest.mark.parametrize("surrogate", [Ridge(2.0), Ridge(1e-3), LeastSquares()], ids=repr)
@pytest.mark.parametrize("num_samples", [64, 127, 128])
@pytest.mark.parametrize("sampler", [Bernoulli(), Orthogonal()], ids=repr)
def test_standard_errors_are_hc3(surrogate, sampler, num_samples, monkeypatch):
    data = problem(12, num_samples, sampler)
    z, y, w = as_numpy(*data)
    fit = surrogate(*data)
    literal = oracles.hc3 if sampler == Bernoulli() else oracles.hc3_of_pairs
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 30 * 12)
    in_blocks = surrogate(*data)
    for one, two in zip(fit, in_blocks, strict=True):
        assert one.allclose(two, rtol=1e-9, atol=0)
    for t in range(3):
        intercept, slopes = fit.intercepts[0, t].item(), fit.coefficients[0, t].numpy()
        expected = literal(z, y[:, t], w, intercept, slopes, getattr(surrogate, "alpha", 0.0))
        np.testing.assert_allclose(fit.standard_errors[0, t].numpy(), expected, rtol=1e-8)


def test_only_inputs_whose_masks_are_pairs_have_errors_of_pairs():
    parts = [problem(12, 64, sampler) for sampler in (Orthogonal(), Bernoulli())]
    both = Ridge()(*(torch.cat(values) for values in zip(*parts, strict=True)))
    broken = parts[0][0].clone()
    broken[0, 7, 3] ^= True  # one entry, and there are no pairs
    parts.append((broken, *parts[0][1:]))
    for place, data in enumerate(parts):
        z, y, w = as_numpy(*data)
        fit = Ridge()(*data)
        values = fit.intercepts[0, 0].item(), fit.coefficients[0, 0].numpy(), 1.0
        literal = oracles.hc3 if place else oracles.hc3_of_pairs
        expected = literal(z, y[:, 0], w, *values)
        np.testing.assert_allclose(fit.standard_errors[0, 0].numpy(), expected, rtol=1e-8)
        if place < 2:
            assert fit.standard_errors[0].allclose(both.standard_errors[place], rtol=1e-9, atol=0)


@pytest.mark.parametrize("surrogate", [Ridge(), LeastSquares()], ids=repr)
def test_errors_of_pairs_need_more_pairs_than_segments(surrogate):
    for num_samples, defined in ((24, False), (25, False), (26, True)):
        fit = surrogate(*problem(12, num_samples, Complements(), width=15))
        assert fit.standard_errors[..., :12].isfinite().all() == defined
        assert fit.standard_errors[..., :12].isnan().all() != defined
        assert (fit.standard_errors[..., 12:] == 0).all()


class Complements:
    """Pairs of complements of random masks."""

    def __call__(self, count, bound, num_samples, *, seed):
        half = Bernoulli()(count, bound, num_samples // 2 + 2, seed=seed)[:, 1:]
        pairs = torch.stack([half, ~half & present(count, bound)], dim=2)
        return pairs.flatten(1, 2)[:, :num_samples]


def test_standard_errors_where_the_design_is_deficient():
    masks, scores, weights, count = problem(6, 64)
    masks[..., 5] = masks[..., 4]  # equal columns
    fit = LeastSquares()(masks, scores, weights, count)
    z, y, w = as_numpy(masks, scores, weights, count)
    expected = oracles.hc3(
        z, y[:, 0], w, fit.intercepts[0, 0].item(), fit.coefficients[0, 0].numpy(), 0.0
    )
    # The minimum norm splits the pair's slope in two, and so its error.
    np.testing.assert_allclose(fit.standard_errors[0, 0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("surrogate", [Ridge(), LeastSquares()], ids=repr)
def test_standard_errors_are_nan_without_spare_samples(surrogate):
    for num_samples, defined in ((13, False), (14, True)):
        fit = surrogate(*problem(12, num_samples, width=15))
        assert fit.standard_errors[..., :12].isnan().all() != defined
        assert (fit.standard_errors[..., 12:] == 0).all()


def test_a_row_with_leverage_one_contributes_nothing():
    masks, scores, _, count = problem(4, 32)
    masks[..., 3] = False
    masks[:, 7, 3] = True  # one row alone decides column 3
    fit = LeastSquares()(masks, scores, torch.ones(1, 32), count)
    assert fit.standard_errors.isfinite().all()
    assert (fit.standard_errors[..., :3] > 0).all()


def small_networks(number, seed=0):
    """Random tanh networks of 10 inputs: [number,n,10] → [number,n]."""
    g = torch.Generator().manual_seed(seed)
    first = torch.randn(number, 10, 8, generator=g, dtype=torch.float64)
    bias = torch.randn(number, 1, 8, generator=g, dtype=torch.float64)
    second = torch.randn(number, 8, 1, generator=g, dtype=torch.float64)
    return lambda z: ((z.double() - 0.5) @ first + bias).tanh().matmul(second)


@pytest.mark.parametrize("sampler", [Bernoulli(), Orthogonal()], ids=repr)
def test_intervals_cover_the_enumerated_truth(sampler):
    number = 600
    count = torch.full((number,), 10)
    network = small_networks(number)
    every = torch.from_numpy(oracles.all_masks(10).copy()).expand(number, -1, -1)
    truth = LeastSquares()(every, network(every), Exponential()(every, count), count)
    seeds = torch.arange(number)
    masks = sampler(count, 10, 256, seed=seeds)
    fit = LeastSquares()(masks, network(masks), Exponential()(masks, count), count)
    fit = fit.scaled(variance_factor(sampler, 10, 256))
    off = (fit.coefficients - truth.coefficients).abs()
    coverage = (off <= 1.96 * fit.standard_errors).double().mean().item()
    assert 0.93 <= coverage <= 0.99, coverage


@settings(max_examples=20, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    num_samples=st.integers(2, 40),
    targets=st.integers(1, 3),
    which=st.sampled_from(SURROGATES),
)
@example(counts=[3], num_samples=6, targets=3, which=LeastSquares())  # a column is constant
def test_padding_batches_and_targets_change_nothing(counts, num_samples, targets, which):
    parts = [problem(c, num_samples, None, targets, seed=i, width=9) for i, c in enumerate(counts)]
    batch = which(*[torch.cat([part[k] for part in parts]) for k in range(4)])
    for b, (count, part) in enumerate(zip(counts, parts, strict=True)):
        tight = which(part[0][..., :count], *part[1:])
        scale = 1 + tight.coefficients.abs().max().item()
        assert batch.ok[b] == tight.ok[0]
        assert (batch.coefficients[b, :, count:] == 0).all()
        assert (batch.standard_errors[b, :, count:] == 0).all()
        z = part[0][0, :, :count].double()
        if isinstance(which, Lasso) and torch.linalg.matrix_rank(z - z.mean(0)) < count:
            continue  # a Lasso of dependent columns is not unique
        for t in range(targets):
            alone = which(part[0], part[1][..., t : t + 1], *part[2:])
            for fit in (tight.coefficients[0, t], alone.coefficients[0, 0, :count]):
                ours = batch.coefficients[b, t, :count]
                assert ours.allclose(fit, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("which", [Ridge(), Ridge(errors=False), LeastSquares()], ids=repr)
@pytest.mark.parametrize("noise", [False, True])
def test_a_few_inputs_at_a_time_change_nothing(which, noise, monkeypatch):
    _, scores, weights, count = problem(12, 200, None, 2)
    design = torch.randn(5, 200, 12, generator=torch.Generator().manual_seed(1))
    design = design if noise else design > 0
    data = (design, scores.expand(5, -1, -1) + design.sum(2, keepdim=True), weights.expand(5, -1),
            count.expand(5))  # fmt: skip
    whole = which(*data)
    monkeypatch.setattr("torchlime._row_blocks.ELEMENTS_ON_CPU", 5000)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    sizes = []
    solved = which.of_equations
    monkeypatch.setattr(
        type(which), "of_equations", lambda self, e: sizes.append(e.inputs) or solved(e)
    )
    for mine, theirs in zip(which(*data), whole, strict=True):
        if isinstance(mine, torch.Tensor):
            assert mine.double().allclose(theirs.double(), rtol=0, atol=1e-12, equal_nan=True)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_blocks_change_nothing(surrogate, monkeypatch):
    data = problem(12, 200)
    whole = surrogate(*data)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 100)
    for ours, theirs in zip(surrogate(*data), whole, strict=True):
        assert ours.double().allclose(theirs.double(), rtol=1e-9, equal_nan=True)


def noisy_problem(features, num_samples, batch=2, targets=3):
    """A problem with one draw of noise for all, as an expanded view."""
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(1, num_samples, features, generator=g)
    scores = torch.randn(batch, num_samples, targets, generator=g, dtype=torch.float64)
    weights = torch.rand(1, num_samples, generator=g, dtype=torch.float64)
    count = torch.tensor([features])
    return noise.expand(batch, -1, -1), scores, weights.expand(batch, -1), count.expand(batch)


@pytest.mark.parametrize("surrogate", [Ridge(), Ridge(1e-3), LeastSquares()], ids=repr)
@pytest.mark.parametrize("paired", [False, True])
def test_the_dual_form_of_fewer_samples_than_features(surrogate, paired, monkeypatch):
    noise, *rest = noisy_problem(40, 30)
    if paired:
        noise = torch.stack([noise[:, :15], -noise[:, :15]], 2).flatten(1, 2)
    dual = surrogate.of_noise(noise, *rest)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 100)
    in_blocks = surrogate.of_noise(noise, *rest)
    monkeypatch.setattr("torchlime.fit.has_fewer_rows", lambda design: False)
    primal = surrogate.of_noise(noise, *rest)
    for fit in (dual, in_blocks):
        for ours, theirs in zip(fit, primal, strict=True):
            assert ours.double().allclose(theirs.double(), rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
@pytest.mark.parametrize("num_samples", [80, 7])
def test_one_design_for_all_is_every_images_own(surrogate, num_samples):
    shared = noisy_problem(12, num_samples, batch=3)
    shared[1][1, 0, 2] = math.nan
    together = surrogate.of_noise(*shared)
    own = surrogate.of_noise(*[tensor.clone() for tensor in shared])
    assert own.ok.shape == together.ok.shape == (3,)
    assert torch.equal(own.ok, together.ok)
    for ours, theirs in zip(together, own, strict=True):
        assert ours.shape == theirs.shape
        assert ours.double().allclose(theirs.double(), rtol=1e-8, atol=1e-9, equal_nan=True)
    assert together.coefficients[[0, 2]].isfinite().all()


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_the_definition_on_few_data(surrogate):
    masks, _, weights, count = problem(10, 6, width=12)
    constant = surrogate(masks, torch.full((1, 6, 2), 0.3), weights, count)
    assert (constant.coefficients == 0).all()
    assert (constant.fidelity == 0).all()
    assert constant.intercepts.allclose(torch.tensor(0.3).double())
    assert constant.ok.all()
    one = torch.tensor([1])
    single = surrogate(torch.tensor([[[True], [False]]]), torch.tensor([[[2.0], [0.5]]]),
                       torch.ones(1, 2), one)  # fmt: skip
    assert single.ok.all()
    assert single.coefficients.isfinite().all()
    without_variation = surrogate(masks.new_ones(1, 6, 12), torch.rand(1, 6, 1), weights, count)
    assert (without_variation.coefficients == 0).all()


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_bad_numbers_stay_with_their_image(surrogate):
    good, bad = problem(5, 40), problem(5, 40, seed=1)
    bad[1][0, 3, 1] = math.nan
    fit = surrogate(*[torch.cat(pair) for pair in zip(good, bad, strict=True)])
    assert fit.coefficients[0].isfinite().all()
    assert torch.equal(fit.coefficients[0], surrogate(*good).coefficients[0])
    assert fit.coefficients[1, 1].isnan().all()
    weightless = surrogate(good[0], good[1], torch.zeros(1, 40), good[3])
    assert not weightless.ok.any()


def test_a_singular_solve_is_flagged():
    masks, scores, weights, count = problem(3, 20)
    masks[..., 1] = False
    fit = Ridge(alpha=0.0)(masks, scores, weights, count)
    assert not fit.ok
    assert fit.coefficients.isnan().all()


@pytest.mark.parametrize("seed", range(40))
def test_duplicated_columns_are_singular_whatever_rounding_makes_of_them(seed):
    masks, scores, weights, count = problem(12, 64, seed=seed)
    masks[..., 11] = masks[..., 10]
    assert not Ridge(alpha=0.0)(masks, scores, weights, count).ok
    fit = LeastSquares()(masks, scores, weights, count)
    z, y, w = as_numpy(masks, scores, weights, count)
    expected = oracles.weighted_least_squares(z, y[:, 0], w)[1]
    assert_close(fit.coefficients[0, 0], expected, 1e-8)


@pytest.mark.parametrize("power", [2, 4, 6, 7, 8])
def test_nearly_equal_columns_are_told_apart_by_few_light_rows(power):
    masks, scores, _, count = problem(10, 200)
    masks[..., 9] = masks[..., 8]
    masks[:, 50:60, 9] ^= True
    weights = torch.ones(1, 200, dtype=torch.float64)
    weights[:, 50:60] = 10.0**-power
    fit = LeastSquares()(masks, scores, weights, count)
    z, y, w = as_numpy(masks, scores, weights, count)
    root = np.sqrt(w)[:, None]
    design = np.hstack([np.ones((200, 1)), z])
    expected = np.linalg.lstsq(root * design, root * y, rcond=None)[0]
    assert_close(fit.coefficients[0], expected[1:].T, 10.0 ** (power - 12))
    errors = (
        oracles.hc3(z, y[:, 0], w, expected[0, 0], expected[1:, 0], 0.0)
        if power <= 4
        else fit.standard_errors[0, 0].numpy()
    )  # its inverse is not that exact
    np.testing.assert_allclose(fit.standard_errors[0, 0].numpy(), errors, rtol=1e-5)


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.02, 0.002])
@pytest.mark.parametrize(
    ("count", "num_samples", "groups"), [(49, 12, 49), (80, 30, 8), (50, 90, 5)]
)
def test_lasso_converges_on_hard_designs(count, num_samples, groups, fraction):
    """Fewer samples than features, and columns that nearly repeat each other."""
    g = torch.Generator().manual_seed(count)
    base = torch.rand(4, num_samples, groups, generator=g) < 0.5
    masks = base[:, :, torch.arange(count) % groups]
    masks ^= torch.rand(masks.shape, generator=g) < 0.05
    slopes = torch.randn(4, count, 2, generator=g, dtype=torch.float64)
    noise = torch.randn(4, num_samples, 2, generator=g, dtype=torch.float64)
    scores = masks.double() @ slopes + noise
    fit = Lasso(fraction=fraction)(
        masks, scores, torch.ones(4, num_samples), torch.full((4,), count)
    )
    assert fit.ok.all()
    z, y = (values - values.mean(dim=1, keepdim=True) for values in (masks.double(), scores))
    coefficients = fit.coefficients.mT
    largest = (z.mT @ y).abs().amax(dim=1, keepdim=True)
    gradient = z.mT @ (y - z @ coefficients) / largest
    kept = coefficients != 0
    assert (gradient[kept] / coefficients[kept].sign() - fraction).abs().max() < 2e-8
    assert gradient[~kept].abs().max() < fraction + 2e-8


def test_gradients_flow_through_the_lasso():
    masks, scores, weights, count = problem(6, 40, targets=1)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda y: Lasso(fraction=0.1)(masks, y, weights, count).coefficients, scores, atol=1e-6
    )


def test_a_lasso_of_constant_scores_is_zero():
    masks, _, weights, count = problem(6, 40)
    for surrogate in (Lasso(fraction=0.1), Lasso(alpha=0.1)):
        fit = surrogate(masks, torch.full((1, 40, 2), 0.3), weights, count)
        assert fit.ok.all()
        assert (fit.coefficients == 0).all()


def test_lasso_flags_what_has_not_converged(monkeypatch):
    monkeypatch.setattr("torchlime.surrogates.lasso.STEPS", 1)
    assert not Lasso(fraction=0.01)(*problem(50, 60)).ok


@pytest.mark.parametrize("surrogate", [Ridge(), LeastSquares()], ids=repr)
def test_compiles(surrogate):
    data = problem(9, 64)
    compiled = torch.compile(surrogate, fullgraph=True, backend="aot_eager")(*data)
    for ours, eager in zip(compiled, surrogate(*data), strict=True):
        assert torch.equal(ours, eager)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_float32_where_the_device_has_no_float64(surrogate, monkeypatch):
    expected = surrogate(*problem(9, 64))
    monkeypatch.setattr("torchlime.fit.solve_dtype", lambda device: torch.float32)
    fit = surrogate(*problem(9, 64))
    assert fit.coefficients.dtype == torch.float32
    scale = expected.coefficients.abs().max()
    assert (fit.coefficients - expected.coefficients).abs().max() < 1e-4 * scale


def test_weights_are_not_normalised_and_lasso_does_not_care():
    masks, scores, weights, count = problem(8, 100)
    for surrogate, scaled in ((Ridge(1.0), Ridge(7.0)), (Lasso(alpha=0.1), Lasso(alpha=0.1))):
        fit = surrogate(masks, scores, weights, count)
        other = scaled(masks, scores, 7 * weights, count)
        assert fit.coefficients.allclose(other.coefficients, rtol=1e-9, atol=1e-12)


def test_the_lasso_of_an_orthogonal_design_is_a_soft_threshold():
    masks = Orthogonal()(torch.tensor([8]), 8, 64, seed=0)
    scores = (masks.double() @ torch.arange(8.0).double())[..., None]
    fit = Lasso(alpha=0.5)(masks, scores, Uniform()(masks, torch.tensor([8])), torch.tensor([8]))
    expected = 4 * (torch.arange(8.0).double() / 4 - 0.5).clamp(min=0)
    assert fit.coefficients[0, 0].allclose(expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ridge(alpha=-1), "alpha must be a finite number of at least 0, got -1"),
        (lambda: Ridge(alpha=math.inf), "alpha must be"),
        (lambda: Lasso(), "exactly one of alpha and fraction"),
        (lambda: Lasso(alpha=1.0, fraction=0.5), "exactly one"),
        (lambda: Lasso(alpha=0.0), "alpha must be a finite number above 0, got 0.0"),
        (lambda: Lasso(fraction=1.5), r"fraction must lie in \(0, 1\], got 1.5"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_surrogates_pickle_compare_and_print(surrogate):
    assert pickle.loads(pickle.dumps(surrogate)) == surrogate
    assert eval(repr(surrogate)) == surrogate
