"""What is exact in a game of K features: limits of methods, and the best order to hide them in."""

import math

import torch
from torch import Tensor

from benchmarks.games import Game, every_mask


def shapley(game: Game) -> Tensor:
    """The Shapley values [K]: mean gains over all orders.

    >>> table = torch.tensor([0.0, 1.0, 2.0, 5.0])  # z0 + 2·z1 + 2·z0·z1
    >>> from benchmarks.games import game_of_table
    >>> shapley(game_of_table(table)).tolist()
    [2.0, 3.0]
    """
    features = game.features
    orders = [math.factorial(k) * math.factorial(features - 1 - k) for k in range(features)]
    shares = torch.tensor(orders, dtype=torch.float64) / math.factorial(features)
    return _mean_gains(game, shares)


def banzhaf(game: Game) -> Tensor:
    """The Banzhaf values [K]: mean gains over all masks; also the least squares fit to them.

    >>> from benchmarks.games import game_of_table
    >>> banzhaf(game_of_table(torch.tensor([0.0, 1.0, 2.0, 5.0]))).tolist()
    [2.0, 3.0]
    """
    shares = torch.full((game.features,), 0.5 ** (game.features - 1), dtype=torch.float64)
    return _mean_gains(game, shares)


def _mean_gains(game: Game, shares: Tensor) -> Tensor:
    """Σ shares[k] · (the score with the feature − without), k the others that are kept."""
    masks = every_mask(game.features)
    sizes, numbers, found = masks.sum(1), torch.arange(len(masks)), []
    for j in range(game.features):
        without = numbers[~masks[:, j]]
        gains = game.table[without + (1 << j)] - game.table[without]
        found.append((shares[sizes[without]].to(gains.dtype) * gains).sum())
    return torch.stack(found)


def least_deletion(game: Game) -> float:
    """The least area that any order of hiding features one by one leaves.

    >>> from benchmarks.games import game_of_table
    >>> least_deletion(game_of_table(torch.tensor([0.0, 1.0, 2.0, 5.0])))  # 5, 1, 0: z1 first
    1.75
    """
    return _best_area(game, -game.table) * -1


def most_insertion(game: Game) -> float:
    """The largest area that any order of showing features one by one reaches.

    >>> from benchmarks.games import game_of_table
    >>> most_insertion(game_of_table(torch.tensor([0.0, 1.0, 2.0, 5.0])))  # 0, 2, 5
    2.25
    """
    return _best_area(game, game.table)


def random_area(game: Game) -> float:
    """The mean area of a random order, of hiding and of showing.

    >>> from benchmarks.games import game_of_table
    >>> random_area(game_of_table(torch.tensor([0.0, 1.0, 2.0, 5.0])))  # 0, 1.5, 5
    2.0
    """
    sizes = every_mask(game.features).sum(1)
    means = torch.stack([game.table[sizes == k].mean() for k in range(game.features + 1)])
    return ((means.sum() - (means[0] + means[-1]) / 2) / game.features).item()


def _best_area(game: Game, gains: Tensor) -> float:
    """The largest normalised trapezoid of gains [2^K] along a path from no feature to all."""
    masks = every_mask(game.features)
    sizes, numbers = masks.sum(1), torch.arange(len(masks))
    best = gains.clone()  # the sum along the best path up to each mask, itself included
    for size in range(1, game.features + 1):
        these = numbers[sizes == size]
        before = these[:, None] - masks[these] * (1 << torch.arange(game.features))
        allowed = torch.where(masks[these], best[before], -torch.inf)
        best[these] = gains[these] + allowed.amax(1)
    ends = (gains[0] + gains[-1]) / 2
    return ((best[-1] - ends) / game.features).item()
