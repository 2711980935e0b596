"""The study of methods: its limits are exact, its passes equal, and its intervals honest."""

import pytest
import torch

from benchmarks import bootstrap, limits, on_games, recipes
from benchmarks.games import every_mask, game_of_table
from benchmarks.settings import Settings
from torchlime.metrics._correlation import pearson


def game(features=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    table = torch.rand(2**features, generator=generator, dtype=torch.float64)
    return game_of_table(table + every_mask(features).double().sum(1))


def test_exact_limits_are_those_of_the_axioms():
    one = game()
    assert limits.shapley(one).sum().item() == pytest.approx((one.table[-1] - one.table[0]).item())
    design = torch.cat([torch.ones(64, 1), every_mask(6)], 1).double()
    fitted = torch.linalg.lstsq(design, one.table[:, None]).solution[1:, 0]
    assert (limits.banzhaf(one) - fitted).abs().max() < 1e-12


def test_the_best_order_is_the_best_of_all_orders():
    import itertools

    one = game(5)
    areas = []
    for order in itertools.permutations(range(5)):
        numbers = [0, *itertools.accumulate(1 << j for j in order)]
        scores = one.table[numbers]
        areas.append((scores.sum() - (scores[0] + scores[-1]) / 2).item() / 5)
    assert limits.most_insertion(one) == pytest.approx(max(areas))
    assert limits.least_deletion(one) == pytest.approx(min(areas))
    assert limits.random_area(one) == pytest.approx(sum(areas) / len(areas))


LIMITS = {
    "lime": "LIME", "torchlime": "LIME", "glime": "LIME", "baylime": "LIME", "slime": "LIME",
    "bayeslime": "LIME", "kernel_shap": "Shapley", "leverage_shap": "Shapley",
    "permutation_shapley": "Shapley", "banzhaf": "Banzhaf",
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_a_method_comes_to_its_limit(name):
    one = game(8)
    exact = {
        "LIME": one.truth(), "Shapley": limits.shapley(one), "Banzhaf": limits.banzhaf(one)
    }  # fmt: skip
    assert on_games.limit(Settings(torch.device("cpu")), name, one, None, exact)[1] == LIMITS[name]


@pytest.mark.parametrize("name", recipes.names())
def test_no_method_gets_more_passes_than_the_others(name):
    model = on_games.Lookup(game(8))
    case = on_games.case_of(model, (2, 4), 2)
    if not recipes.takes_part(name, case, masks_only=True):
        pytest.skip("shows more than hidden and shown")
    found = recipes.evidence(name, case, 256, torch.arange(2))
    assert found.shape == (2, 8)
    assert 0 < model.rows <= 2 * (256 + 1)


def test_correlation_is_pearsons_where_weights_are_alike():
    fitted, scores = torch.rand(3, 9, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    expected = pearson(fitted, scores.expand(3, -1))
    off = on_games.correlation(fitted, scores, torch.full((9,), 2.0).double()) - expected
    assert off.abs().max() < 1e-12


def test_a_difference_is_noise_unless_its_interval_says_more():
    ours, theirs = [1.0, 2.0, 3.0, 4.0], [1.5, 1.5, 3.5, 3.5]
    assert bootstrap.difference(ours, theirs).noise
    better = bootstrap.difference([value + 1 for value in theirs], theirs)
    assert (better.low, better.noise) == (1.0, False)
