"""``rounds.Until`` and ``resume`` in odd combinations, held against fixed numbers of rows."""

import dataclasses

import pytest
import torch

from tests.test_until import MODEL, assert_alike, images_of, lime
from torchlime.masks import Orthogonal, Permutations
from torchlime.rounds import Once, Until
from torchlime.surrogates import LeastSquares, MarginalContributions
from torchlime.weights import Uniform

NUMBERS = ("coefficients", "standard_errors", "intercepts", "fidelity", "effective_samples")


def fixed(explainer, image, rows, model=MODEL, **call):
    once = dataclasses.replace(explainer, rounds=Once(), num_samples=rows)
    return once.explain(model, image, keep_samples=True, **call)


def assert_each_is_fixed(explainer, found, images, **call):
    """Each image has the numbers of a call with as many rows."""
    assert len(found.samples_used.unique()) > 1
    for b, rows in enumerate(found.samples_used.tolist()):
        one = fixed(explainer, images[b : b + 1], rows, **call)
        for name in NUMBERS:
            ours, theirs = getattr(found, name)[b], getattr(one, name)[0]
            assert ours.allclose(theirs, rtol=1e-9, atol=1e-12, equal_nan=True), name


# ---- other numbers of rows for each image ----------------------------------------------------


def unweighted(masks, scores, weights, count):
    """A caller's own surrogate, which heeds no weights."""
    return LeastSquares()(masks, scores, torch.ones_like(weights), count)


def by_share(masks, count, energy=None):
    """A caller's own kernel, which compares rows: a row's weight is its share of all."""
    kept = masks.double().sum(2) + 1
    return kept / kept.sum(1, keepdim=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": Permutations(), "surrogate": MarginalContributions()},
        {"surrogate": unweighted},
        {"kernel": by_share},
        {"kernel": by_share, "sampler": Orthogonal()},
    ],
    ids=str,
)
def test_no_image_is_fitted_to_the_rows_of_others(changes):
    images = images_of(5)
    explainer = lime(rounds=Until(error=0.15, most=600), **changes)
    found = explainer.explain(MODEL, images, keep_samples=True)
    assert_each_is_fixed(explainer, found, images)
    weights = found.weights
    assert all(weights[b, n:].eq(0).all() for b, n in enumerate(found.samples_used.tolist()))
    again = found.refit()
    assert_alike(again, found, (*NUMBERS, "weights"))
    for other in ({"surrogate": unweighted}, {"kernel": by_share}, {"kernel": Uniform()}):
        refitted = found.refit(**other)
        assert_each_is_fixed(dataclasses.replace(explainer, **other), refitted, images)


def test_odd_numbers_of_rows_of_a_design_in_pairs():
    """The last row of one image is alone, although the design has its partner."""
    images = images_of(4)
    explainer = lime(sampler=Orthogonal(), rounds=Until(error=0.1))
    kept = explainer.explain(MODEL, images, keep_samples=True)
    more = dataclasses.replace(explainer, rounds=Once(), num_samples=51)
    found = more.explain(MODEL, images, keep_samples=True, resume=kept)
    assert torch.equal(found.samples_used, kept.samples_used + 51)
    assert_each_is_fixed(explainer, found, images)


def test_gradients_flow_where_images_took_different_numbers():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
    ).double()
    with torch.no_grad():
        net[1].weight.mul_(8)
    images, explainer = images_of(4), lime(sampler=Orthogonal(), rounds=Until(error=0.1))

    def gradients(explanation):
        loss = explanation.coefficients.square().sum() + explanation.fidelity.sum()
        return torch.autograd.grad(loss, list(net.parameters()))

    found = explainer.explain(net, images, 0, differentiable=True)
    assert len(found.samples_used.unique()) > 1
    assert not found.standard_errors.requires_grad
    ones = [
        gradients(
            dataclasses.replace(explainer, rounds=Once(), num_samples=rows).explain(
                net, images[b : b + 1], 0, differentiable=True
            )
        )
        for b, rows in enumerate(found.samples_used.tolist())
    ]
    for ours, theirs in zip(gradients(found), zip(*ones, strict=True), strict=True):
        assert ours.allclose(sum(theirs), rtol=1e-9, atol=1e-12)
