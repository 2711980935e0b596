"""What a forward function may return, beside Captum."""

import captum.attr
import numpy as np
import pytest
import torch

from torchlime.compat import captum as ours

RETURNS = {
    "a numpy number": lambda x: np.float32(x.sum()),
    "an array": lambda x: x.sum(1).numpy(),
    "a list": lambda x: x.sum(1).tolist(),
}


@pytest.mark.parametrize("name", RETURNS)
@pytest.mark.parametrize("method", ["Lime", "KernelShap"])
def test_numbers_of_the_host(method, name):
    x, found = torch.tensor([[1.0, -2.0, 0.5]]), []
    for module, stream in ((captum.attr, {}), (ours, {"rng": "captum"})):
        torch.manual_seed(0)
        explainer = getattr(module, method)(RETURNS[name], **stream)
        found.append(explainer.attribute(x, n_samples=30))
    torch.testing.assert_close(found[1], found[0], rtol=5e-3, atol=1e-4)


def test_differences_of_bools_have_signs():
    x = torch.tensor([[1.0, -1.0]])
    found = ours.FeatureAblation(lambda x: x[:, 1] >= 0).attribute(x)
    assert found.tolist() == [[0, -1]]


@pytest.mark.parametrize("method", ["Lime", "KernelShap"])
def test_inputs_without_entries(method):
    with pytest.raises(ValueError, match="inputs have no entries"):
        getattr(ours, method)(lambda x: x.sum(1)).attribute(torch.zeros(2, 0))


def test_a_parameter_is_no_result():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slopes = torch.nn.Parameter(torch.ones(1, 2))

        def fit(self, data):
            pass

        def representation(self):
            return self.slopes

    x = torch.ones(1, 2)
    found = ours.Lime(lambda x: x.sum(1), Model()).attribute(x, n_samples=10)
    assert found.tolist() == [[1, 1]]
    assert not found.requires_grad
