"""Inputs of one row for several examples, and models of the host."""

import captum.attr
import numpy as np
import pytest
import torch

from torchlime.compat import captum as ours

X = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
ONE = torch.rand(1, 2, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 0.3])
pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs")
METHODS = {
    "Lime": {"n_samples": 60}, "KernelShap": {"n_samples": 40}, "FeatureAblation": {},
    "ShapleyValueSampling": {"n_samples": 3},
    "Occlusion": {"sliding_window_shapes": ((2,), (1,))},
}  # fmt: skip
DRAWS = ("Lime", "KernelShap", "ShapleyValueSampling")


def both(method, function, inputs, **arguments):
    found = []
    for module in (captum.attr, ours):
        own = {"rng": "captum"} if module is ours and method in DRAWS else {}
        explainer = getattr(module, method)(function, **own)
        torch.manual_seed(0)
        found.append(explainer.attribute(inputs, **{**METHODS[method], **arguments}))
    return found


def rows(a, b):
    """The second input stands for all: its sum must not run over copies of it."""
    return a @ WEIGHTS + b.sum()


def batch(a, b):
    return (a @ WEIGHTS).sum() + b.sum()


@pytest.mark.parametrize("function", [rows, batch])
@pytest.mark.parametrize("method", METHODS)
def test_one_row_for_all_examples_stays_one_row(method, function):
    theirs, mine = both(method, function, (X, ONE))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("as_given", [lambda y: y.numpy(), lambda y: y.tolist()])
@pytest.mark.parametrize("method", METHODS)
def test_arrays_of_the_host_are_scores_of_rows(method, as_given):
    """Captum takes an array of several scores for one score, or fails."""
    more = {"sliding_window_shapes": (2,)} if method == "Occlusion" else {}
    found = [
        getattr(ours, method)(function, **({"seed": 0} if method in DRAWS else {})).attribute(
            X, **{**METHODS[method], **more})
        for function in (lambda x: x @ WEIGHTS, lambda x: as_given(x @ WEIGHTS))
    ]  # fmt: skip
    torch.testing.assert_close(found[0], found[1].float(), rtol=1e-4, atol=1e-4)


def test_arrays_may_have_targets():
    found = ours.FeatureAblation(lambda x: np.stack([x[:, 0], x[:, 1]], 1)).attribute(X, target=1)
    torch.testing.assert_close(found, X * torch.tensor([0.0, 1.0, 0.0, 0.0]))


@pytest.mark.parametrize("argument", ["n_samples", "perturbations_per_eval"])
@pytest.mark.parametrize("value", [None, "2"])
def test_a_number_must_be_one(argument, value):
    with pytest.raises(TypeError, match=f"{argument} must be an int, got"):
        ours.Lime(lambda x: x.sum(1)).attribute(X, **{argument: value})
