"""Inputs without an example (B = 0): what Captum gives, where it gives something."""

import captum.attr
import pytest
import torch

from torchlime.compat import captum as ours

NONE = torch.zeros(0, 4)
FUNCTIONS = {
    "sums": lambda x: x.sum(1), "several": lambda x: x, "one": lambda x: x.sum(),
    "a number": lambda x: 1.0, "whole numbers": lambda x: x.sum(1).int(),
    "half": lambda x: x.sum(1).half(), "a fixed one": lambda x: torch.ones(1),
}  # fmt: skip
METHODS = {
    "FeatureAblation": [{}, {"feature_mask": torch.tensor([[0, 0, 1, 1]])},
                        {"feature_mask": torch.zeros(0, 4, dtype=torch.long), "baselines": NONE}],
    "Occlusion": [{"sliding_window_shapes": (2,)}],
}  # fmt: skip


@pytest.mark.parametrize("per_eval", [1, 3])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("method", METHODS)
def test_no_example_gives_what_captum_gives(method, function, per_eval):
    for more in METHODS[method]:
        theirs, mine = (
            getattr(module, method)(FUNCTIONS[function]).attribute(
                NONE, perturbations_per_eval=per_eval, **more)
            for module in (captum.attr, ours)
        )  # fmt: skip
        if method == "Occlusion":  # one output gives Captum 0 windows over 0
            theirs = theirs.nan_to_num()
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_tuples_stay_tuples():
    found = ours.FeatureAblation(lambda a, b: a.sum(1)).attribute((NONE, torch.zeros(0, 2, 3)))
    assert [tuple(part.shape) for part in found] == [(0, 4), (0, 2, 3)]


def test_shapley_values_of_no_example():
    """Captum fails."""
    assert ours.ShapleyValueSampling(lambda x: x.sum(1)).attribute(NONE).shape == (0, 4)


@pytest.mark.parametrize("name", ["Lime", "KernelShap"])
def test_a_surrogate_needs_an_example(name):
    with pytest.raises(AssertionError, match="at least one example"):
        getattr(ours, name)(lambda x: x.sum(1)).attribute(NONE)
