"""A nominal 95 % interval holds the coefficient of all masks in 93 to 98 % of the draws."""

import itertools
import math

import pytest
import torch

from benchmarks.coverage import fitted, measured, networks
from torchlime.masks import Bernoulli, Exhaustive, Orthogonal
from torchlime.surrogates import LeastSquares, Ridge

SEEDS = 20
GAMES = 52  # or a few more, of all sizes together


def covered(surrogate, sampler, segments, number, pairs=True, games=13):
    """Of so many networks and 20 seeds, against the fit of all masks."""
    game = networks(segments, games)
    truth = fitted(surrogate, Exhaustive(), segments, 1 << segments, game, [0])[0]
    found, errors = fitted(surrogate, sampler, segments, number, game, range(SEEDS), pairs)
    return measured((found - truth, errors))


@pytest.mark.parametrize("surrogate", [LeastSquares(), Ridge()], ids=repr)
@pytest.mark.parametrize("sampler", [Orthogonal(), Bernoulli()], ids=repr)
@pytest.mark.parametrize("number", [64, 128, 256, 512, 1024])
def test_intervals_cover(surrogate, sampler, number):
    # Ridge's penalty counts less for more rows than there are masks, so its target is another then.
    sizes = [segments for segments in (8, 10, 12, 13) if number <= 1 << segments]
    games = math.ceil(GAMES / len(sizes))
    every = [covered(surrogate, sampler, size, number, games=games) for size in sizes]
    share = sum(row["coverage"] for row in every) / len(every)
    assert 0.93 <= share <= 0.98
    assert all(0.925 <= row["coverage"] <= 0.985 for row in every)


def test_by_row_errors_of_pairs_are_too_wide():
    """The rows of the same masks in another order, where no pair is found."""
    for number in (64, 256):
        by_row = covered(LeastSquares(), Orthogonal(), 12, number, pairs=False)
        by_pair = covered(LeastSquares(), Orthogonal(), 12, number)
        assert by_row["coverage"] > 0.98
        assert by_row["ratio"] > 1.15 * by_pair["ratio"]


def test_networks_are_no_sums():
    """The games have interactions, so that there is something to err about."""
    for segments, game in ((s, networks(s, 5)) for s in (8, 12)):
        masks = Exhaustive()(torch.tensor([segments]), segments, 1 << segments, seed=0)
        scores = game(masks)
        assert scores.shape == (1, 1 << segments, 5)
        assert torch.equal(scores, networks(segments, 5)(masks))
        weights = torch.ones(1, 1 << segments)
        fit = LeastSquares()(masks, scores, weights, torch.tensor([segments]))
        assert (fit.fidelity < 0.95).all()
        assert (fit.fidelity > 0.3).all()
    for a, b in itertools.combinations(range(5), 2):
        assert not scores[..., a].allclose(scores[..., b])
