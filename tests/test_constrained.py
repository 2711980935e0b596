"""The fit under a sum constraint, and its recipes, against Shapley and Banzhaf values."""

import itertools
import math
import pickle

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from torchlime import Explanation, Lime, _row_blocks, explain, explain_vector
from torchlime._growing import GrowingFit
from torchlime.fills import Constant
from torchlime.masks import (
    Bernoulli,
    BinomialLaw,
    Exhaustive,
    GlimeLaw,
    LeverageLaw,
    Orthogonal,
    Permutations,
    ShapleyLaw,
    SizeLaw,
    UniformLaw,
)
from torchlime.rounds import Until
from torchlime.segments import Grid
from torchlime.surrogates import ConstrainedLeastSquares, LeastSquares
from torchlime.weights import Exponential, ImportanceWeights, ShapleyKernel, Uniform

FIT = ConstrainedLeastSquares()
LEVERAGE = ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw())
RECIPES = {
    "KernelSHAP": (SizeLaw(), Uniform()),
    "KernelSHAP, no pairs": (SizeLaw(paired=False), Uniform()),
    "Leverage SHAP": (SizeLaw(LeverageLaw()), LEVERAGE),
}


def table(players, seed=0, targets=2):
    """The scores [2^S,T] of all coalitions; bit j of a row's number is player j."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2**players, targets, generator=generator, dtype=torch.float64)


def played(game, masks):
    """Scores [B,N,T]."""
    return game[(masks.long() * 2 ** torch.arange(masks.shape[-1])).sum(-1)]


def values_of(game, weight):
    """[T,S], by definition: Σ over coalitions of what a player adds, times weight(size)."""
    players = len(game).bit_length() - 1
    total = np.zeros((game.shape[1], players))
    for j, row in itertools.product(range(players), range(2**players)):
        if not row >> j & 1:
            gain = (game[row | 1 << j] - game[row]).numpy()
            total[:, j] += weight(players, row.bit_count()) * gain
    return torch.from_numpy(total)


def shapley(game):
    return values_of(game, lambda n, k: 1 / (n * math.comb(n - 1, k)))


def banzhaf(game):
    return values_of(game, lambda n, k: 0.5 ** (n - 1))


def drawn(sampler, kernel, players, num_samples, seed=0, game=None):
    """masks, scores, weights and count, for one input or for each of several seeds."""
    count = torch.full((len(seed) if isinstance(seed, torch.Tensor) else 1,), players)
    masks = sampler(count, players, num_samples, seed=seed)
    game = table(players) if game is None else game
    return masks, played(game, masks), kernel(masks, count), count


@pytest.mark.parametrize("players", [1, 2, 3, 10])
def test_all_masks_give_the_shapley_values(players):
    game = table(players)
    data = drawn(Exhaustive(), ShapleyKernel(), players, 2**players, game=game)
    fit = FIT(*data)
    assert fit.ok.all()
    torch.testing.assert_close(fit.coefficients[0], shapley(game), rtol=0, atol=1e-12)
    torch.testing.assert_close(fit.intercepts[0], game[0], rtol=0, atol=1e-12)
    # Leverage SHAP: all masks, each by its probability under the law of leverage
    masks, scores, _, count = data
    mass = ImportanceWeights(LeverageLaw(), drawn=BinomialLaw())(masks, count)
    again = FIT(masks, scores, mass * LEVERAGE(masks, count), count)
    torch.testing.assert_close(again.coefficients[0], shapley(game), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", RECIPES)
def test_samples_converge_to_the_shapley_values(name):
    game = table(10)
    seeds = torch.arange(300)
    errors = []
    for number in (400, 1600):
        fit = FIT(*drawn(*RECIPES[name], 10, number, seeds, game))
        assert fit.ok.all()
        off = fit.coefficients - shapley(game)
        errors.append(off.square().mean().sqrt().item())
        coverage = (off.abs() <= 1.96 * fit.standard_errors).double().mean().item()
        assert 0.93 <= coverage <= 0.97, coverage
        standard = off.std(0) / len(seeds) ** 0.5
        assert ((off.mean(0).abs() / standard) < 4.5).all()  # 20 means: no bias
    assert 1.8 < errors[0] / errors[1] < 2.2  # four times the samples, half the error


def test_leverage_and_pairs_are_worth_their_while():
    """At equal cost on one game: pairs cut the variance, as both papers say."""
    game, seeds = table(10), torch.arange(300)
    spread = {
        name: (FIT(*drawn(*recipe, 10, 400, seeds, game)).coefficients - shapley(game)).square()
        for name, recipe in RECIPES.items()
    }
    mean = {name: off.mean().item() for name, off in spread.items()}
    assert mean["KernelSHAP"] < 0.75 * mean["KernelSHAP, no pairs"]
    assert mean["Leverage SHAP"] < 1.05 * mean["KernelSHAP"]


def test_all_masks_of_equal_weight_give_the_banzhaf_values():
    game = table(10)
    fit = LeastSquares()(*drawn(Exhaustive(), Uniform(), 10, 1024, game=game))
    torch.testing.assert_close(fit.coefficients[0], banzhaf(game), rtol=0, atol=1e-12)
    fit = LeastSquares()(*drawn(Bernoulli(), Uniform(), 10, 4000, game=game))
    assert ((fit.coefficients[0] - banzhaf(game)).abs() < 4 * fit.standard_errors[0]).all()


@pytest.mark.parametrize("law", [GlimeLaw(), GlimeLaw(0.6, "euclidean")], ids=repr)
def test_glime_has_the_limit_of_lime(law):
    """Masks drawn by LIME's weight, equal weights = fair masks that have this weight."""
    game = table(8)
    lime = Exponential(law.width, law.distance)
    limit = LeastSquares()(*drawn(Exhaustive(), lime, 8, 256, game=game))
    kernel = ImportanceWeights(law)  # the same weights, up to a factor
    again = LeastSquares()(*drawn(Exhaustive(), kernel, 8, 256, game=game))
    torch.testing.assert_close(again.coefficients, limit.coefficients, rtol=0, atol=1e-10)
    fit = LeastSquares()(*drawn(SizeLaw(law, False), Uniform(), 8, 4000, 0, game))
    off = (fit.coefficients - limit.coefficients)[0].abs()
    assert (off < 4 * fit.standard_errors[0]).all()
    if law.distance == "euclidean":  # the product measure: a difference of two means
        keep = 1 / (1 + math.exp(-1 / (2 * law.width**2)))
        means = values_of(game, lambda n, k: keep**k * (1 - keep) ** (n - 1 - k))
        torch.testing.assert_close(limit.coefficients[0], means, rtol=0, atol=1e-10)


def test_one_law_may_be_drawn_for_another():
    """Fair masks, drawn uniformly over sizes, estimate what fair masks do."""
    game = table(8)
    kernel = ImportanceWeights(BinomialLaw(), drawn=UniformLaw())
    fit = LeastSquares()(*drawn(SizeLaw(UniformLaw()), kernel, 8, 4000, 0, game))
    assert ((fit.coefficients[0] - banzhaf(game)).abs() < 4 * fit.standard_errors[0]).all()


# ---- weights -------------------------------------------------------------------------------------


def test_the_shapley_kernel_is_its_formula():
    counts = torch.tensor([7, 4])
    masks = Bernoulli()(counts, 7, 300, seed=torch.tensor([0, 1]))
    masks[:, 1] = False
    ours = ShapleyKernel()(masks, counts)
    for b, n in enumerate(counts.tolist()):
        kept = masks[b].sum(1).tolist()
        literal = [(n - 1) / (math.comb(n, k) * k * (n - k)) if 0 < k < n else 0.0 for k in kept]
        total = sum((n - 1) / (k * (n - k)) for k in range(1, n))
        np.testing.assert_allclose(
            ours[b].numpy(), [w * 2**n / total if w else 0.0 for w in literal], rtol=1e-12
        )
    assert ours[:, :2].sum() == 0  # all and nothing
    assert ShapleyKernel()(masks[:, :, :1], torch.tensor([1, 1])).eq(1).all()  # there is no more
    every = Exhaustive()(torch.tensor([9]), 9, 512, seed=0)
    assert ShapleyKernel()(every, torch.tensor([9])).mean().item() == pytest.approx(1)


def test_importance_weights_have_a_mean_of_one():
    count = torch.tensor([12])
    masks = SizeLaw(UniformLaw())(count, 12, 20_000, seed=0)
    weights = ImportanceWeights(GlimeLaw(), drawn=UniformLaw())(masks, count)
    assert weights.mean().item() == pytest.approx(1, abs=5 * weights.std().item() / 20_000**0.5)
    masks[0, 0], masks[0, 1], masks[0, 2] = True, False, torch.arange(12) < 6
    weights = ImportanceWeights(UniformLaw(), drawn=LeverageLaw())(masks[:, :3], count)
    assert weights[0].tolist() == pytest.approx([0, 0, 11 / 13])  # one law has no mass at the ends
    for kernel in (ShapleyKernel(), LEVERAGE, ImportanceWeights(GlimeLaw(), UniformLaw())):
        assert eval(repr(pickle.loads(pickle.dumps(kernel)))) == kernel
        assert kernel.by_row
        assert not kernel.needs_energy


def test_many_segments_neither_overflow_nor_vanish():
    for n in (200, 1500):
        count = torch.tensor([n])
        for sampler, kernel in ((Bernoulli(), ShapleyKernel()), (SizeLaw(LeverageLaw()), LEVERAGE)):
            weights = kernel(sampler(count, n, 50, seed=0), count)[0, 2:]
            assert weights.isfinite().all()
            assert (weights > 0).all()


# ---- the fit -------------------------------------------------------------------------------------


def uneven(count, num_samples, sampler, seed=0, targets=3, width=None):
    """A noisy line, uneven weights; of rows 0 and 1 one keeps all and one hides all."""
    count = torch.tensor([count])
    masks = sampler(count, width or int(count), num_samples, seed=seed)
    masks[:, 1] = False
    g = torch.Generator().manual_seed(seed)
    slopes = torch.randn(masks.shape[2], targets, generator=g, dtype=torch.float64)
    noise = torch.randn(1, num_samples, targets, generator=g, dtype=torch.float64)
    weights = torch.rand(1, num_samples, generator=g, dtype=torch.float64) + 0.1
    return masks, masks.double() @ slopes + noise, weights, count


def literal_fit(z, y, w):
    """By the optimality conditions, with a multiplier; errors with a basis of Σβ = 0."""
    n = z.shape[1]
    z, start = z.astype(float), y[1]
    gram = (z * w[:, None]).T @ z
    system = np.block([[gram, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    right = np.append((z * w[:, None]).T @ (y - start), y[0] - start)
    slopes = np.linalg.solve(system, right)[:n]
    basis = scipy.linalg.null_space(np.ones((1, n)))
    inverse = basis @ np.linalg.inv(basis.T @ gram @ basis) @ basis.T
    residuals = y - start - z @ slopes
    leverage = w * np.einsum("ij,jk,ik->i", z, inverse, z)
    pull = (w * residuals / (1 - leverage))[:, None] * (z @ inverse)
    return slopes, residuals, leverage, pull


@pytest.mark.parametrize("count", [2, 5, 12])
def test_coefficients_and_errors_are_their_definition(count):
    data = uneven(count, 60, Bernoulli(0.6))
    fit = FIT(*data)
    z, y, w = data[0][0].numpy(), data[1][0].numpy(), data[2][0].numpy()
    for t in range(3):
        slopes, residuals, _, pull = literal_fit(z, y[:, t], w)
        np.testing.assert_allclose(fit.coefficients[0, t], slopes, atol=1e-11)
        errors = np.sqrt((pull**2).sum(0))
        np.testing.assert_allclose(fit.standard_errors[0, t], errors, atol=1e-11)
        r2 = oracles.weighted_r2(y[:, t], y[:, t] - residuals, w)
        assert fit.fidelity[0, t].item() == pytest.approx(r2, abs=1e-11)
    torch.testing.assert_close(fit.intercepts, data[1][:, 1])
    assert fit.ok.all()


@pytest.mark.parametrize("num_samples", [60, 61])
def test_errors_of_pairs_are_their_definition(num_samples):
    masks, scores, _, count = uneven(7, num_samples, SizeLaw())
    w = torch.ones(1, num_samples)
    fit = FIT(masks, scores, w, count)
    y = scores[0, :, 0].numpy()
    _, _, leverage, pull = literal_fit(masks[0].numpy(), y, w[0].double().numpy())
    total = np.zeros(7)
    for i in range(0, num_samples, 2):
        both = leverage[i : i + 2].sum() if i + 1 < num_samples else 0.0
        total += pull[i : i + 2].sum(0) ** 2 * (1 - both / 2) ** 2 / (1 - both)
    np.testing.assert_allclose(fit.standard_errors[0, 0], np.sqrt(total), atol=1e-11)


@pytest.mark.parametrize("shared", [True, False])
def test_equations_that_grow_have_the_fit_to_all_rows(shared):
    """So rounds need not fit all rows anew; inputs share a design, or have their own."""
    count = torch.tensor([9]).expand(2) if shared else torch.tensor([9, 6])
    seed = 0 if shared else torch.arange(2)
    masks = SizeLaw(LeverageLaw())(count[: 1 if shared else 2], 9, 200, seed=seed)
    weights = LEVERAGE(masks, count[: len(masks)]).expand(2, -1)
    masks = masks.expand(2, -1, -1)
    noise = torch.rand(2, 200, 3, generator=torch.Generator().manual_seed(3)).double()
    scores = masks.double() @ noise[:, :9] + noise
    growing = GrowingFit(FIT.of_equations)
    for rows in (64, 96, 200):
        data = masks[:, :rows], scores[:, :rows], weights[:, :rows], count
        ours, theirs = growing([0, 1], *data), FIT(*data)
        assert ours.ok.all()
        for mine, of_all in zip(ours, theirs, strict=True):
            assert mine.double().allclose(of_all.double(), rtol=0, atol=1e-9)


def test_it_does_not_matter_what_all_and_nothing_weigh():
    masks, scores, weights, count = uneven(6, 80, SizeLaw())
    found = []
    for ends in (0.0, 1.0, 1e6):
        weights[:, :2] = ends
        found.append(FIT(masks, scores, weights, count))
    for fit in found[1:]:
        torch.testing.assert_close(fit.coefficients, found[0].coefficients, rtol=0, atol=1e-9)
        torch.testing.assert_close(fit.standard_errors, found[0].standard_errors, rtol=1e-7, atol=0)


def test_the_first_of_several_rows_counts():
    """Rows beyond those that an input took have weight 0 and no scores."""
    masks, scores, weights, count = uneven(4, 40, SizeLaw())
    longer = [torch.cat([v, v[:, :2] * 0 if i else v[:, :2]], 1) for i, v in
              enumerate((masks, scores, weights))]  # fmt: skip
    torch.testing.assert_close(
        FIT(*longer, count).coefficients, FIT(masks, scores, weights, count).coefficients
    )


def test_inputs_of_other_counts_are_fitted_as_if_alone():
    parts = [uneven(n, 60, SizeLaw(), seed=n, width=9) for n in (9, 1, 4, 2)]
    batch = FIT(*[torch.cat([part[k] for part in parts]) for k in range(4)])
    assert batch.ok.all()
    for b, part in enumerate(parts):
        n = int(part[3])
        alone = FIT(part[0][..., :n], *part[1:])
        assert (batch.coefficients[b, :, n:] == 0).all()
        assert (batch.standard_errors[b, :, n:] == 0).all()
        for name in ("coefficients", "standard_errors"):
            ours, theirs = getattr(batch, name)[b, :, :n], getattr(alone, name)[0]
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
        for name in ("intercepts", "fidelity"):
            torch.testing.assert_close(getattr(batch, name)[b], getattr(alone, name)[0])


def test_a_shared_design_is_one_design():
    count = torch.tensor([5]).expand(3)
    masks = SizeLaw()(count[:1], 5, 60, seed=0).expand(3, -1, -1)
    scores = torch.randn(3, 60, 2, generator=torch.manual_seed(0), dtype=torch.float64)
    weights = torch.ones(1, 60).expand(3, -1)
    together = FIT(masks, scores, weights, count)
    for b in range(3):
        alone = FIT(masks[:1], scores[b : b + 1], weights[:1], count[:1])
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[b], theirs[0], rtol=1e-11, atol=1e-12)


def test_blocks_change_nothing(monkeypatch):
    data = uneven(6, 101, SizeLaw())
    whole = FIT(*data)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 30)
    for ours, theirs in zip(FIT(*data), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_what_cannot_be_solved_is_flagged():
    masks, scores, weights, count = uneven(6, 50, SizeLaw())
    lacks_all = FIT(masks[:, 1:], scores[:, 1:], weights[:, 1:], count)
    lacks_none = FIT(*(v[:, [0, *range(2, 50)]] for v in (masks, scores, weights)), count)
    few = FIT(masks[:, :5], scores[:, :5], weights[:, :5], count)
    empty = FIT(masks, scores, torch.zeros_like(weights), count)
    for fit in (lacks_all, lacks_none, few, empty):
        assert not fit.ok
    for fit in (lacks_all, lacks_none, few):
        assert fit.coefficients.isnan().all()
    bad = scores.clone()
    bad[0, 7, 0] = math.nan
    both = [torch.cat(pair) for pair in zip((masks, scores, weights, count),
                                            (masks, bad, weights, count), strict=True)]  # fmt: skip
    fit = FIT(*both)
    good = FIT(masks, scores, weights, count)
    torch.testing.assert_close(fit.coefficients[0], good.coefficients[0])
    assert fit.coefficients[1, 0].isnan().all()
    torch.testing.assert_close(fit.coefficients[1, 1:], good.coefficients[0, 1:])


def test_constant_scores_have_no_coefficients():
    masks, scores, weights, count = uneven(5, 40, SizeLaw())
    fit = FIT(masks, torch.full_like(scores, 0.3), weights, count)
    assert (fit.coefficients == 0).all()
    assert (fit.fidelity == 0).all()
    assert (fit.standard_errors == 0).all()
    scores = torch.full_like(scores, 5.0)
    scores[:, :2] = 0.0  # all and nothing score 0, and weigh 0
    weights[:, :2] = 0.0
    assert (FIT(masks, scores, weights, count).fidelity == 0).all()


def test_scores_may_need_gradients():
    masks, scores, weights, count = uneven(5, 40, SizeLaw())
    scores.requires_grad_()
    fit = FIT(masks, scores, weights, count)
    (fit.coefficients[0, 0, 2] + fit.fidelity[0, 0]).backward()
    assert scores.grad.isfinite().all()
    shift = torch.zeros_like(scores)
    shift[0, 9, 0] = 1e-6
    with torch.no_grad():
        ends = [FIT(masks, scores + s * shift, weights, count) for s in (1, -1)]
    change = [(f.coefficients[0, 0, 2] + f.fidelity[0, 0]).item() for f in ends]
    expected = (change[0] - change[1]) / 2e-6
    assert scores.grad[0, 9, 0].item() == pytest.approx(expected, rel=1e-5)


# ---- axioms --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(players=st.integers(2, 6), seed=st.integers(0, 2**31), data=st.data())
def test_axioms(players, seed, data):
    """Dummy, symmetry, efficiency and linearity."""
    game = table(players, seed)
    one, other = data.draw(st.permutations(range(players)))[:2]
    rows = torch.arange(2**players)
    own = torch.tensor([1.5, -2.0], dtype=torch.float64)
    dummy = game[rows & ~(1 << one)] + (rows >> one & 1)[:, None] * own  # adds ``own`` to any
    swapped = (
        rows & ~(1 << one) & ~(1 << other) | (rows >> one & 1) << other | (rows >> other & 1) << one
    )
    alike = game + game[swapped]

    def fitted(game):
        data = drawn(Exhaustive(), ShapleyKernel(), players, 2**players, game=game)
        return FIT(*data).coefficients[0]

    close = {"rtol": 0, "atol": 1e-10}
    torch.testing.assert_close(fitted(dummy)[:, one], own, **close)
    torch.testing.assert_close(fitted(alike)[:, one], fitted(alike)[:, other], **close)
    torch.testing.assert_close(fitted(game).sum(1), game[-1] - game[0], **close)
    torch.testing.assert_close(fitted(game + 2 * dummy), fitted(game) + 2 * fitted(dummy), **close)


@settings(max_examples=40, deadline=None)
@given(
    players=st.integers(2, 12),
    seed=st.integers(0, 2**31),
    name=st.sampled_from(sorted(RECIPES)),
    num_samples=st.integers(60, 200),
)
def test_samples_are_efficient_and_exact_for_games_without_interactions(
    players, seed, name, num_samples
):
    generator = torch.Generator().manual_seed(seed)
    game = table(players, seed)
    masks, scores, weights, count = drawn(*RECIPES[name], players, num_samples, seed, game)
    fit = FIT(masks, scores, weights, count)
    if not fit.ok:  # too few sets for so many players
        return
    torch.testing.assert_close(fit.coefficients[0].sum(1), game[-1] - game[0], rtol=0, atol=1e-9)
    alone = torch.randn(players, 1, generator=generator, dtype=torch.float64)
    fit = FIT(masks, masks.double() @ alone + 0.7, weights, count)
    torch.testing.assert_close(fit.coefficients[0, 0], alone[:, 0], rtol=0, atol=1e-9)
    torch.testing.assert_close(fit.fidelity, torch.ones_like(fit.fidelity))


# ---- explainers ----------------------------------------------------------------------------------


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.first = torch.randn(6, 2, 3, 3, generator=g, dtype=torch.float64)
        self.last = torch.randn(3, 6 * 8, generator=g, dtype=torch.float64)

    def forward(self, x):
        features = torch.nn.functional.conv2d(x, self.first, padding=1).relu()
        pooled = torch.nn.functional.adaptive_avg_pool2d(features, (2, 4)).flatten(1)
        return (pooled @ self.last.T).softmax(1)


IMAGES = torch.rand(2, 2, 6, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
SETTINGS = {"segmenter": Grid(2, 4), "fill": Constant(0.0), "surrogate": FIT}


def network_game(image):
    labels = (torch.arange(6)[:, None] // 3 * 4 + torch.arange(8) // 2).expand(6, 8)
    rows = torch.arange(256)[:, None, None] >> labels & 1
    return Network()(image * rows[:, None])


@pytest.mark.parametrize("name", ["exact", *RECIPES])
def test_a_network_is_explained_by_its_shapley_values(name):
    sampler, kernel = RECIPES.get(name, (Exhaustive(), ShapleyKernel()))
    number = 256 if name == "exact" else 600
    explainer = Lime(**SETTINGS, sampler=sampler, kernel=kernel, num_samples=number)
    found = explainer.explain(Network(), IMAGES, targets="all", seed=torch.tensor([5, 6]))
    found.check()
    games = [network_game(image) for image in IMAGES]
    exact = torch.stack([shapley(game) for game in games])
    if name == "exact":
        torch.testing.assert_close(found.coefficients, exact, rtol=0, atol=1e-9)
    else:
        assert ((found.coefficients - exact).abs() < 4.5 * found.standard_errors).all()
        assert found.standard_errors.max() < 0.1 * exact.abs().max()
    rise = torch.stack([game[-1] - game[0] for game in games])
    torch.testing.assert_close(found.coefficients.sum(2), rise, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.local_predictions, found.scores, rtol=0, atol=1e-9)


def test_an_explanation_says_how_and_is_fitted_again(tmp_path):
    explainer = Lime(**SETTINGS, sampler=SizeLaw(LeverageLaw()), kernel=LEVERAGE, num_samples=128)
    found = explainer.explain(Network(), IMAGES, 1, keep_samples=True)
    assert found.settings["sampler"] == "SizeLaw(law=LeverageLaw(), paired=True)"
    assert found.settings["surrogate"] == "ConstrainedLeastSquares()"
    assert found.settings["kernel"] == (
        "ImportanceWeights(target=ShapleyLaw(), drawn=LeverageLaw())"
    )
    assert repr(ShapleyKernel()) == "ShapleyKernel()"
    found.save(tmp_path / "e.npz")
    again = Explanation.load(tmp_path / "e.npz").refit(surrogate=FIT)
    assert torch.equal(again.coefficients, found.coefficients)
    resumed = explainer.explain(Network(), IMAGES, 1, resume=found, keep_samples=True)
    longer = Lime(**SETTINGS, sampler=SizeLaw(LeverageLaw()), kernel=LEVERAGE, num_samples=256)
    torch.testing.assert_close(
        resumed.coefficients, longer.explain(Network(), IMAGES, 1).coefficients
    )


def test_rounds_until_the_shapley_values_are_sure():
    """The second image is constant, so it needs no further rows."""
    images = IMAGES.clone()
    images[1] = 0.0
    explainer = Lime(**SETTINGS, sampler=SizeLaw(), kernel=Uniform(),
                     rounds=Until(absolute=0.02, most=2000))  # fmt: skip
    found = explainer.explain(Network(), images, 1, seed=torch.tensor([1, 2]))
    rows = found.samples_used.tolist()
    assert rows[1] == 65 < rows[0] < 2000
    once = Lime(**SETTINGS, sampler=SizeLaw(), kernel=Uniform(), num_samples=rows[0])
    expected = once.explain(Network(), images[:1], 1, seed=torch.tensor([1]))
    torch.testing.assert_close(found.coefficients[0], expected.coefficients[0], rtol=0, atol=1e-9)
    exact = shapley(network_game(images[0]))[1]
    assert ((found.coefficients[0, 0] - exact).abs() < 0.02).all()


@pytest.mark.parametrize("sampler", [Orthogonal(), SizeLaw(UniformLaw())], ids=repr)
def test_an_input_beside_the_design_is_refused(sampler):
    message = r"needs rows .* that hide all, but this sampler has the image beside its design"
    with pytest.raises(ValueError, match=message):
        explain(lambda x: pytest.fail("scored"), IMAGES, **SETTINGS, sampler=sampler)
    others = SETTINGS | {"surrogate": LeastSquares()}
    found = explain(Network(), IMAGES, **others, sampler=sampler, keep_samples=True)
    with pytest.raises(ValueError, match=message):
        found.refit(surrogate=FIT)


def test_a_design_that_hides_not_all_is_a_problem_of_the_explanation():
    found = explain(Network(), IMAGES, **SETTINGS, sampler=Bernoulli(), num_samples=40)
    with pytest.raises(RuntimeError, match="could not be solved"):
        found.check()
    walks = explain(Network(), IMAGES, **SETTINGS, sampler=Permutations(), num_samples=81,
                    kernel=LEVERAGE)  # fmt: skip
    walks.check()


def test_noise_is_refused():
    x = torch.rand(2, 3)
    model = lambda x: x.sum(1, keepdim=True)  # noqa: E731
    with pytest.raises(TypeError, match="needs masks, of which one keeps all .* got noise"):
        explain_vector(model, x, surrogate=FIT)
    with pytest.raises(TypeError, match="ShapleyKernel weighs masks by .* got noise"):
        explain_vector(model, x, kernel=ShapleyKernel())
    with pytest.raises(TypeError, match=r"target must be a law of sizes, such as ShapleyLaw\(\)"):
        ImportanceWeights("shapley")
    with pytest.raises(TypeError, match=r"drawn must be a law of sizes, such as ShapleyLaw\(\)"):
        ImportanceWeights(ShapleyLaw(), drawn=0.5)


@pytest.mark.filterwarnings("ignore:an image is one segment:UserWarning")
@pytest.mark.parametrize(
    ("sampler", "kernel"),
    [
        (SizeLaw(LeverageLaw()), ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw())),
        (Exhaustive(), ShapleyKernel()),
        (SizeLaw(), Uniform()),
    ],
)
def test_an_input_of_one_segment_is_sound(sampler, kernel):
    """There are no masks but all and nothing, so that all rows weighed 0."""
    labels = torch.zeros(2, 6, 8).long()
    labels[1, 3:] = not isinstance(sampler, Exhaustive)  # which needs as many for all inputs
    found = explain(
        lambda x: x.square().mean((2, 3)), IMAGES, 1, segments=labels, sampler=sampler,
        kernel=kernel, surrogate=FIT, num_samples=64, fill=Constant(0.0),
    )  # fmt: skip
    found.check()
    assert found.coefficients[0, 0, 0] == pytest.approx(found.scores[0, 0].item(), abs=1e-9)
