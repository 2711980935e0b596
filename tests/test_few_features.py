"""Inputs of one to six features have few masks, so later rows only repeat them."""

import pytest
import torch

from torchlime import Explanation, Lime, explain_text
from torchlime import surrogates as s
from torchlime.fills import Constant
from torchlime.masks import Bernoulli, FixedCount, Orthogonal, RandomSize, Sizes
from torchlime.rounds import MOST, Once, Until
from torchlime.segments import Grid

ONES = torch.ones(1, 1, 1, 6, dtype=torch.float64)


def lime(columns, **settings):
    return Lime(segmenter=Grid(1, columns), fill=Constant(0.0), **settings)


@pytest.mark.parametrize("columns", [2, 3])
def test_what_holds_every_mask_equally_often_is_sure(columns):
    """Each block of Orthogonal holds all masks, so there is no sampling error."""

    def model(x):  # of one pixel a segment
        kept = x[:, 0, 0, :: 6 // columns] > 0
        return (kept.sum(1) % 2).to(x.dtype)[:, None] + 0.01 * kept[:, :1]

    found = lime(columns, rounds=Until(error=0.1)).explain(model, ONES).check()
    assert found.samples_used.item() == 64
    more = lime(columns, num_samples=128, surrogate=s.Ridge(2.0)).explain(model, ONES)
    assert torch.allclose(found.coefficients, more.coefficients, 0, 1e-12)


def test_an_input_of_few_features_is_sure_beside_one_of_many():
    labels = torch.stack([torch.arange(12).view(1, 12), torch.arange(12).view(1, 12) // 4])
    images = torch.ones(2, 1, 1, 12, dtype=torch.float64)

    def model(x):
        return ((x[:, 0, 0, ::4] > 0).sum(1) % 2).to(x.dtype)[:, None] + 1e-3 * x.mean((2, 3))

    how = Lime(fill=Constant(0.0), rounds=Until(error=0.1, most=600))
    found = how.explain(model, images, segments=labels)
    assert found.sure.tolist() == [False, True]
    assert found.samples_used[1] < 100 < found.samples_used[0]


@pytest.mark.parametrize(
    ("text", "most"), [("good", 130), ("good day", 260)], ids=["one word", "two words"]
)
def test_a_text_of_few_words_does_not_take_the_most(text, most):
    """Only one row keeps the whole text, so the penalty's error stays with any number of rows."""

    def model(texts):
        return torch.tensor([0.3 + 0.5 * ("good" in t) + 0.1 * ("day" in t) for t in texts])

    found = explain_text(model, text, rounds=Until(error=0.25))
    assert found.samples_used.item() < most
    assert not found.sure


@pytest.mark.parametrize("sampler", [FixedCount(), RandomSize(), Sizes()], ids=repr)
@pytest.mark.parametrize("columns", [1, 2])
def test_errors_that_stopped_falling_take_no_more_rows(sampler, columns):
    found = lime(columns, sampler=sampler, rounds=Until(error=0.1)).explain(
        lambda x: x.mean((2, 3)), ONES
    )
    assert found.samples_used.item() < 300
    assert not found.sure


def test_errors_that_fall_take_rows_until_they_are_small():
    """Bernoulli draws some masks more often than others, so there is a sampling error."""

    def model(x):
        return x[..., ::2].prod(3).flatten(1)

    found = lime(3, sampler=Bernoulli(), rounds=Until(error=0.09)).explain(model, ONES).check()
    assert 32 * 2**3 < found.samples_used.item() < MOST


@pytest.mark.parametrize("sampler", [Bernoulli(), Orthogonal(noisy=True)], ids=repr)
def test_a_model_that_draws_random_numbers_gives_equal_masks_unequal_scores(sampler):
    def model(x):
        return x.mean((2, 3)) + torch.randn(len(x), 1, dtype=x.dtype)

    rule = Until(error=0.3)
    found = lime(2, sampler=sampler, rounds=rule, surrogate=s.LeastSquares()).explain(model, ONES)
    assert found.samples_used.item() > 128


def noise(like, columns=1):
    return torch.randn(len(like), columns, dtype=like.dtype)


def test_masks_that_came_once_do_not_say_that_the_model_draws_nothing():
    """In one of five designs the first 64 rows of six features are all masks."""
    sampler = Orthogonal(noisy=True)
    for seed in range(12):
        how = lime(6, sampler=sampler, rounds=Until(error=0.2, most=64), seed=seed)
        assert not how.explain(noise, ONES).sure


def test_a_target_of_noise_is_not_sure_beside_a_large_one():
    def model(x):
        return torch.cat([1e4 * x.mean((2, 3)), noise(x)], dim=1)

    found = lime(2, rounds=Until(error=0.2, most=64)).explain(model, ONES, top=2)
    assert not found.sure


def test_a_little_noise_is_an_error_where_more_is_asked():
    def model(x):
        return x.mean((2, 3)) + 1e-3 * noise(x)

    for error, enough in {1e-5: False, 0.05: True}.items():
        how = lime(2, rounds=Until(absolute=error, most=64), surrogate=s.LeastSquares())
        assert how.explain(model, ONES).sure.item() == enough


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_the_scores_does_not_matter(scale):
    def model(x):
        return scale * x[..., ::2].prod(3).flatten(1)

    rule = Until(error=0.09)
    found = lime(3, sampler=Bernoulli(), rounds=rule, surrogate=s.Ridge(0.0)).explain(model, ONES)
    assert found.sure


SURROGATES = [
    s.Ridge(), s.Ridge(0.0), s.LeastSquares(), s.Lasso(fraction=0.2), s.BayesianRidge(),
    s.ConstrainedLeastSquares(), s.MarginalContributions(), s.MarginalMean(), s.MeanDrop(),
    s.SignEntropy(s.Ridge()),
]  # fmt: skip


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
@pytest.mark.parametrize("columns", [1, 2])
def test_every_surrogate_answers_or_says_why_not(surrogate, columns):
    """An error is a sentence of this package that names what was asked for."""
    drawn = lime(columns, num_samples=64, sampler=Bernoulli()).explain(
        lambda x: x.mean((2, 3)), ONES, keep_samples=True
    )
    settings = {"num_samples": 64, "sampler": Bernoulli(), "surrogate": surrogate}

    def until():
        rounds = Until(error=0.3, most=200)
        return lime(columns, **settings, rounds=rounds).explain(lambda x: x.mean((2, 3)), ONES)

    def captured():
        explainer = lime(columns, **settings, rounds=Once())
        return explainer.capture(lambda x: x.mean((2, 3)), ONES)(ONES, seed=1)

    asked = {
        "refit": lambda: drawn.refit(surrogate=surrogate),
        "interactions": lambda: drawn.interactions(surrogate=surrogate),
        "Until": until,
        "capture": captured,
    }
    for name, ask in asked.items():
        try:
            found = ask()
        except (TypeError, ValueError) as error:
            assert repr(surrogate) in str(error)
            assert name in str(error)
            continue
        if isinstance(found, Explanation):
            finite = found.coefficients.isfinite().all()
            assert finite or found.reasons() != [[]]
