"""What else takes Captum's classes and results takes ours."""

import copy
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import captum.attr
import pytest
import torch
from captum._utils.models.model import Model
from captum.attr import visualization
from captum.attr._utils.attribution import Attribution, PerturbationAttribution
from captum.metrics import infidelity, sensitivity_max

from torchlime.compat import captum as ours

ROOT = Path(__file__).parents[3]
MASK = torch.tensor([[[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]]])
IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def classes(x):
    """[n,2], from images [n,3,4,4]."""
    return torch.stack([x[:, :, :2].mean((1, 2, 3)), x[:, 0].amax((1, 2))], dim=1)


@pytest.mark.parametrize("name", ["Lime", "LimeBase", "KernelShap"])
def test_isinstance_holds_for_captums_classes(name):
    own, theirs = getattr(ours, name), getattr(captum.attr, name)
    assert issubclass(own, theirs)
    assert issubclass(own, PerturbationAttribution)
    assert own.get_name() == theirs.get_name()
    assert issubclass(ours.SkLearnLasso, Model)


@pytest.mark.parametrize("name", ["Lime", "KernelShap"])
def test_arguments_are_captums_in_order_name_and_default(name):
    own, theirs = (
        inspect.signature(getattr(module, name).attribute).parameters.values()
        for module in (ours, captum.attr)
    )
    positional = [p for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional] == [(p.name, p.default) for p in theirs]
    base = [inspect.signature(m.LimeBase.attribute).parameters for m in (ours, captum.attr)]
    assert [(p.name, p.default) for p in base[0].values()] == [
        (p.name, p.default) for p in base[1].values()
    ]
    init = [inspect.signature(getattr(m, name)).parameters for m in (ours, captum.attr)]
    assert list(init[0])[: len(init[1])] == list(init[1])


@pytest.mark.parametrize("explainer", [ours.Lime(classes), ours.KernelShap(classes)])
def test_what_captum_says_of_its_explainers(explainer):
    assert isinstance(explainer, Attribution)
    assert explainer.has_convergence_delta() is False
    assert explainer.multiplies_by_inputs is False
    with pytest.raises(NotImplementedError):
        explainer.attribute_future()
    again = pickle.loads(pickle.dumps(explainer))
    assert type(again) is type(copy.deepcopy(explainer)) is type(explainer)


@pytest.mark.parametrize("kind", ["smoothgrad", "vargrad"])
def test_noise_tunnel(kind):
    found = []
    for module in (captum.attr, ours):
        torch.manual_seed(0)
        own = {"rng": "captum"} if module is ours else {}
        tunnel = captum.attr.NoiseTunnel(module.KernelShap(classes, **own))
        found.append(
            tunnel.attribute(IMAGES, nt_type=kind, nt_samples=3, target=1, feature_mask=MASK,
                             n_samples=30))  # fmt: skip
    torch.testing.assert_close(*found, rtol=5e-3, atol=1e-4)


def test_infidelity():
    attributions = ours.KernelShap(classes).attribute(IMAGES, target=[0, 1], feature_mask=MASK)

    def perturb(inputs):
        noise = 0.01 * torch.randn_like(inputs)
        return noise, inputs - noise

    found = infidelity(classes, perturb, IMAGES, attributions, target=[0, 1], normalize=True)
    assert found.shape == (2,)


def test_sensitivity_max_with_a_feature_mask():
    found = []
    for module in (captum.attr, ours):
        torch.manual_seed(0)
        own = {"rng": "captum"} if module is ours else {}
        explain = module.Lime(classes, ours.SkLearnRidge(alpha=0.1), **own).attribute
        arguments = {"target": [0, 1], "feature_mask": MASK, "n_samples": 30}
        found.append(sensitivity_max(explain, IMAGES, n_perturb_samples=3, **arguments))
    assert found[1].shape == (2,)
    assert bool((found[1] < 1).all())


def test_visualization():
    attributions = ours.Lime(classes).attribute(IMAGES, target=0, feature_mask=MASK, n_samples=30)
    figure, _ = visualization.visualize_image_attr(
        attributions[0].permute(1, 2, 0).numpy(), IMAGES[0].permute(1, 2, 0).numpy(),
        method="blended_heat_map", sign="all", use_pyplot=False)  # fmt: skip
    assert figure is not None


@pytest.mark.parametrize("module", [captum.attr, ours], ids=["captum", "ours"])
@pytest.mark.parametrize("name", ["Lime", "KernelShap"])
def test_progress(module, name, capsys):
    explainer = getattr(module, name)(classes)
    explainer.attribute(IMAGES, target=0, feature_mask=MASK, n_samples=10, show_progress=True,
                        perturbations_per_eval=4)  # fmt: skip
    said = capsys.readouterr().err
    assert f"{explainer.get_name()} attribution: 100%" in said
    assert "/3" in said or "/6" in said  # a bar for each example, or one for all


WITHOUT = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("captum", "sklearn", "tqdm"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refused())
import torch
from torchlime.compat.captum import KernelShap, Lime, LimeBase, SkLearnLasso, SkLearnRidge
x = torch.rand(2, 4)
f = lambda x: x @ torch.tensor([1.0, 2.0, 3.0, 0.0])
assert Lime(f).attribute(x, n_samples=50, show_progress=True).shape == (2, 4)
assert KernelShap(f).attribute(x[:1]).shape == (1, 4)
assert Lime(f, SkLearnRidge(alpha=0.1), rng="captum").attribute(x, n_samples=50).shape == (2, 4)
assert KernelShap.__mro__[-1] is object and "captum" not in sys.modules
try:
    Lime(f, SkLearnLasso(alpha=0.1, positive=True)).attribute(x[:1])
except ImportError as error:
    print(error)
"""


def test_captum_is_not_needed():
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", WITHOUT], capture_output=True,
                         text=True, cwd=ROOT)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("pip install 'torchlime[lime]'")
    assert "Lime attribution: 100%" in run.stderr
