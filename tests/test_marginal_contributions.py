"""Marginal contributions against Shapley values from their definition, and Captum's sampling."""

import itertools
import math
import pickle

import captum.attr
import numpy as np
import pytest
import torch

from torchlime import _row_blocks, explain
from torchlime.masks import Bernoulli, Permutations
from torchlime.surrogates import MarginalContributions
from torchlime.weights import Exponential

WHICH = MarginalContributions()


def game(masks):
    """Scores [B,N,2] of coalitions [B,N,S]: interactions of up to four players."""
    z = masks.double()
    four = z[..., 0] * z[..., 1] * z[..., -1] * (1 - z[..., 2]) + 2 * z[..., 1] * z[..., 2]
    steps = torch.arange(1.0, z.shape[-1] + 1, dtype=torch.float64)
    return torch.stack([four + z @ steps + 0.7, (z @ steps.sqrt()).tanh()], dim=2)


def shapley(players):
    """[2,S], by the definition: the mean over all orders of what a player adds."""
    total = torch.zeros(2, players, dtype=torch.float64)
    orders = list(itertools.permutations(range(players)))
    for order in orders:
        shown = torch.zeros(1, 1, players)
        for player in order:
            before = game(shown)
            shown[..., player] = 1
            total[:, player] += (game(shown) - before)[0, 0] / len(orders)
    return total


def all_orders(players):
    """A design [1,N,S] that walks down one order and up the next, through all orders."""
    rows = [torch.ones(players, dtype=torch.bool)]
    for i, order in enumerate(itertools.permutations(range(players))):
        for player in order if i % 2 else reversed(order):
            rows.append(rows[-1].clone())
            rows[-1][player] = i % 2 == 1
    return torch.stack(rows)[None]


def walked(count, num_samples, seed=0, paired=True, width=None):
    """masks, scores, weights, count of one input."""
    count = torch.tensor([count])
    masks = Permutations(paired)(count, width or int(count), num_samples, seed=seed)
    return masks, game(masks), Exponential()(masks, count), count


def test_all_orders_give_the_shapley_values():
    masks = all_orders(5)
    fit = WHICH(masks, game(masks), torch.ones(1, masks.shape[1]), torch.tensor([5]))
    torch.testing.assert_close(fit.coefficients[0], shapley(5), rtol=0, atol=1e-12)
    whole, nothing = (game(torch.full((1, 1, 5), end))[0, 0] for end in (1.0, 0.0))
    torch.testing.assert_close(fit.intercepts[0], nothing)
    torch.testing.assert_close(fit.coefficients[0].sum(1), whole - nothing)
    assert fit.ok


def literal(masks, scores, count):
    """(means, errors) [T,S] of one input, walk by walk."""
    gains = [[] for _ in range(count)]
    for r in range(1, len(masks)):
        for j in range(count):
            if masks[r, j] != masks[r - 1, j]:
                gains[j].append((scores[r] - scores[r - 1]) * (1 if masks[r, j] else -1))
    walks = min(map(len, gains))
    table = np.array([rows[:walks] for rows in gains])  # [S,walks,T]
    means = table.mean(1)
    pairs = [table[:, i : i + 2] - means[:, None] for i in range(0, walks, 2)]
    squares = sum(pair.sum(1) ** 2 for pair in pairs)
    errors = np.sqrt(squares * len(pairs) / max(len(pairs) - 1, 1)) / walks
    return means.T, (errors if len(pairs) > 1 else errors * math.nan).T


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("num_samples", [6, 12, 16, 28, 57, 103])
def test_means_and_errors_are_their_definition(num_samples, paired):
    data = walked(5, num_samples, paired=paired)
    fit = WHICH(*data)
    means, errors = literal(data[0][0].numpy(), data[1][0].numpy(), 5)
    np.testing.assert_allclose(fit.coefficients[0].numpy(), means, atol=1e-12)
    np.testing.assert_allclose(fit.standard_errors[0].numpy(), errors, atol=1e-12)
    y, w = data[1][0].numpy(), data[2][0].numpy()[:, None]
    expected = fit.intercepts[0].numpy() + data[0][0].double().numpy() @ means.T
    variation = (w * (y - (w * y).sum(0) / w.sum()) ** 2).sum(0)
    r2 = 1 - (w * (y - expected) ** 2).sum(0) / variation
    np.testing.assert_allclose(fit.fidelity[0].numpy(), r2, atol=1e-12)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_cover_the_shapley_values(paired):
    number = 400
    count = torch.full((number,), 5)
    masks = Permutations(paired)(count, 5, 1 + 5 * 120, seed=torch.arange(number))
    fit = WHICH(masks, game(masks), torch.ones(masks.shape[:2]), count)
    off = (fit.coefficients - shapley(5)).abs()
    coverage = (off <= 1.96 * fit.standard_errors + 1e-12).double().mean().item()
    assert 0.92 <= coverage <= 0.98, coverage
    assert (fit.coefficients.mean(0) - shapley(5)).abs().max() < 0.02


def test_pairs_of_walks_are_exact_for_interactions_of_two():
    data = list(walked(6, 1 + 6 * 4))
    z = data[0].double()
    data[1] = (z[..., 0] * z[..., 1] * 2 - z[..., 3] * z[..., 5] + z[..., 2])[..., None]
    fit = WHICH(*data)
    expected = torch.tensor([1.0, 1.0, 1.0, -0.5, 0.0, -0.5]).double()
    torch.testing.assert_close(fit.coefficients[0, 0], expected)
    assert fit.standard_errors.abs().max() < 1e-12


def test_it_is_captums_shapley_value_sampling():
    """Both estimate one thing: Captum's mean over many orders lies within the errors."""
    x = torch.tensor([[1.0, 2.0, -1.0, 0.5]], dtype=torch.float64)
    value = lambda x: x[:, 0] * x[:, 1] * x[:, 3] + x[:, 2].exp() * x[:, 3] + x[:, 1]  # noqa: E731
    torch.manual_seed(0)
    theirs = captum.attr.ShapleyValueSampling(value).attribute(
        x, n_samples=300, perturbations_per_eval=4
    )
    count = torch.tensor([4])
    masks = Permutations()(count, 4, 1 + 4 * 600, seed=0)
    fit = WHICH(masks, value(masks[0] * x)[None, :, None], torch.ones(1, masks.shape[1]), count)
    bound = 5 * fit.standard_errors[0, 0] + 0.02
    assert bool(((fit.coefficients[0] - theirs).abs() < bound).all())


def test_an_explainer_gives_shapley_values():
    images = torch.tensor([2.0, 3.0, 1.0]).expand(1, 1, 1, 3)
    found = explain(
        lambda x: (x[:, 0, 0, 0] * x[:, 0, 0, 1] + 3 * x[:, 0, 0, 2])[:, None], images,
        segments=torch.tensor([[0, 1, 2]]), fill=torch.zeros(1, 1, 3), sampler=Permutations(),
        surrogate=WHICH, num_samples=1 + 3 * 4,
    )  # fmt: skip
    torch.testing.assert_close(found.coefficients[0, 0].float(), torch.tensor([3.0, 3.0, 3.0]))
    torch.testing.assert_close(found.intercepts, torch.zeros_like(found.intercepts))
    found.check()


def test_padding_and_batches_change_nothing():
    parts = [walked(count, 60, seed=count, width=7) for count in (3, 5, 7)]
    batch = WHICH(*[torch.cat([part[k] for part in parts]) for k in range(4)])
    for b, part in enumerate(parts):
        count = int(part[3])
        tight = WHICH(part[0][..., :count], *part[1:])
        for name in ("coefficients", "standard_errors"):
            ours = getattr(batch, name)[b]
            assert (ours[:, count:] == 0).all()
            torch.testing.assert_close(
                ours[:, :count], getattr(tight, name)[0], rtol=0, atol=1e-12, equal_nan=True
            )
        assert batch.ok[b] == tight.ok[0]


def test_blocks_change_nothing(monkeypatch):
    data = walked(6, 101)
    whole = WHICH(*data)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 30)
    for ours, theirs in zip(WHICH(*data), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_what_is_no_walk_is_flagged():
    masks = Bernoulli()(torch.tensor([6]), 6, 200, seed=0)
    assert not WHICH(masks, game(masks), torch.ones(1, 200), torch.tensor([6])).ok
    short = walked(6, 5)  # no walk is complete
    assert not WHICH(*short).ok
    assert WHICH(*short).coefficients.isnan().all()
    data = walked(6, 50)
    assert not WHICH(data[0], data[1], torch.zeros(1, 50), data[3]).ok


def test_constant_scores_and_bad_numbers():
    good, bad = walked(5, 40), list(walked(5, 40, seed=1))
    bad[1] = bad[1].clone()
    bad[1][0, 3, 1] = math.nan
    fit = WHICH(*[torch.cat(pair) for pair in zip(good, bad, strict=True)])
    assert torch.equal(fit.coefficients[0], WHICH(*good).coefficients[0])
    assert fit.coefficients[1, 1].isnan().all()
    assert fit.coefficients[1, 0].isfinite().all()
    fit = WHICH(good[0], torch.full((1, 40, 2), 0.3), *good[2:])
    assert (fit.coefficients == 0).all()
    assert (fit.fidelity == 0).all()
    torch.testing.assert_close(fit.intercepts, torch.full((1, 2), 0.3).double())


def test_weights_do_not_move_the_values():
    masks, scores, weights, count = walked(5, 60)
    ones = WHICH(masks, scores, torch.ones_like(weights), count)
    assert torch.equal(WHICH(masks, scores, weights, count).coefficients, ones.coefficients)


def test_it_compiles_pickles_and_differentiates():
    data = walked(5, 61)
    compiled = torch.compile(WHICH, fullgraph=True, backend="aot_eager")(*data)
    for ours, eager in zip(compiled, WHICH(*data), strict=True):
        assert torch.equal(ours, eager)
    assert eval(repr(pickle.loads(pickle.dumps(WHICH)))) == WHICH
    scores = data[1].clone().requires_grad_()
    WHICH(data[0], scores, *data[2:]).coefficients.sum().backward()
    assert scores.grad.isfinite().all()


def test_noise_is_refused():
    with pytest.raises(TypeError, match="needs masks of walks, got noise"):
        WHICH(torch.rand(1, 9, 3), torch.rand(1, 9, 1), torch.ones(1, 9), torch.tensor([3]))
