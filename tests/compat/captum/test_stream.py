"""One random stream for both: the coefficients agree within the gates, and the same are 0."""

import captum.attr
import pytest
import torch
from captum._utils.models import linear_model

from torchlime.compat import captum as ours

pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs")
BOTH = [captum.attr, ours]


def stream(module):
    return {"rng": "captum"} if module is ours else {}


def results(call, seed=0):
    found = []
    for module in BOTH:
        torch.manual_seed(seed)
        found.append(call(module))
    return found


def network(channels=3, classes=6, size=12):
    torch.manual_seed(5)
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(4 * (size - 2) ** 2, classes), torch.nn.Softmax(1),
    ).eval()  # fmt: skip


def cells(size=12, each=2):
    across = torch.arange(size) // each
    return across[:, None] * (size // each) + across


def relative(a, b):
    return float((a - b).abs().max() / a.abs().max())


GATES = {
    "Lasso": (lambda: linear_model.SkLearnLasso(alpha=1e-3, tol=1e-10, max_iter=3000), 1e-5),
    "default Lasso": (lambda: linear_model.SkLearnLasso(alpha=1e-3), 1e-4),
    "linear regression": (linear_model.SkLearnLinearRegression, 1e-5),
    "ridge": (lambda: linear_model.SkLearnRidge(alpha=1.0), 1e-5),
    "KernelShap": (None, 5e-3),
}


@pytest.mark.filterwarnings("ignore:Objective did not converge")
@pytest.mark.parametrize("name", GATES)
def test_captums_stream_gives_captums_coefficients(name):
    """Three images, 36 features, 200 samples: within the gates, and zero where Captum is."""
    model, gate = GATES[name]
    net, images = network()[:-1], torch.rand(3, 3, 12, 12)

    def call(module):
        if model is None:
            explainer = module.KernelShap(net, **stream(module))
        else:
            explainer = module.Lime(net, model(), **stream(module))
        return explainer.attribute(
            images, target=[0, 1, 2], feature_mask=cells()[None, None], n_samples=200,
            perturbations_per_eval=50, return_input_shape=False)  # fmt: skip

    theirs, mine = results(call)
    assert relative(theirs, mine) <= gate
    assert torch.equal(theirs == 0, mine == 0)
