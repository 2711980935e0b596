"""Games, their banks of scores, and what is kept of runs on them: known answers."""

import math

import pytest
import torch

from benchmarks.games import Bank, Game, Table, both, every_mask
from benchmarks.runs import errors_of, fixed, predicted, rows_of, stopped
from torchlime.masks import Orthogonal
from torchlime.surrogates import LeastSquares

SLOPES = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=torch.float64)
EVERY = every_mask(4)


def logits_of(masks):
    """The log-odds of the second class are the slopes' sum."""
    return torch.stack([torch.zeros(len(masks)), masks.double() @ SLOPES], dim=1)


def game(output="log-odds"):
    return Game("straight", output, 4, Table(logits_of(EVERY)), EVERY)


def test_a_table_has_the_outputs_of_each_mask():
    masks = torch.tensor([[[True, False, True, False]], [[False] * 4]])
    odds = game().scores(masks)
    assert odds.tolist() == [[pytest.approx(2.5)], [pytest.approx(0.0)]]
    assert game("probability").scores(masks).allclose(odds.sigmoid())


def test_of_several_classes_the_rest_is_all_others():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    probability, odds = both(logits, 1)[0]
    assert probability.item() == pytest.approx(math.e**2 / (math.e + math.e**2 + math.e**3))
    assert odds.item() == pytest.approx(math.log(probability / (1 - probability)))


def test_the_truth_of_a_straight_game_is_its_slopes():
    assert game().truth().allclose(SLOPES)


def test_a_bank_scores_each_mask_once():
    asked = []

    def score(masks):
        asked.extend(masks.tolist())
        return both(logits_of(masks), 1)

    bank, masks = Bank(score), EVERY[torch.randint(16, (3, 40), generator=torch.manual_seed(0))]
    found = [bank(masks), bank(masks.flip(1)).flip(1)]
    assert found[0].equal(both(logits_of(masks.flatten(0, 1)), 1).unflatten(0, (3, 40)))
    assert found[1].equal(found[0])
    assert sorted(asked) == EVERY.unique(dim=0).tolist()  # each once


def test_errors_that_are_predicted():
    found = torch.tensor([[3.0, 4.0], [3.0, 4.0], [1.0, 0.0]])
    errors = torch.tensor([[0.0, 0.0], [0.0, 3.0], [2.0, 0.0]])
    assert predicted(found, errors).tolist() == [0.0, pytest.approx(3 / 4), math.inf]
    assert errors_of(found, torch.tensor([3.0, 3.0])).tolist()[0] == pytest.approx(1 / 18**0.5)


def test_what_is_kept_of_runs():
    key = ("some", "probability", "stream", "until", 0.25)
    found = {
        "errors": torch.tensor([0.1, 0.3, 0.2, 0.4]),
        "used": torch.tensor([64, 64, 128, 256]),
        "sure": torch.tensor([True, True, True, False]),
    }
    (row,) = rows_of([(key, found)])
    assert (row["games"], row["at"], row["runs"]) == ("some", 0.25, 4)
    assert (row["mean"], row["sure"], row["first"]) == (128, 0.75, 0.25)
    assert row["within"] == pytest.approx(2 / 3)
    assert row["rms"] == pytest.approx((0.3 / 4) ** 0.5)


def test_a_straight_game_errs_by_nothing_and_stops_at_once():
    seed, truth = torch.arange(2), game().truth()
    every = (game(), truth, "stream", Orthogonal(), LeastSquares(), seed)
    (of_fixed,) = fixed(*every, [32])
    (of_rule,) = stopped(*every, [0.1], 256)
    assert of_fixed[0] == ("straight", "log-odds", "stream", "fixed", 32)
    assert of_fixed[1]["errors"].max() < 1e-9
    assert of_fixed[1]["predicted"].max() < 1e-9
    assert of_rule[1]["used"].tolist() == [64, 64]
    assert of_rule[1]["sure"].all()
