"""Nothing is read back for a sample by the methods that ablate: on fake CUDA tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.compat.captum.test_fake_cuda import Counting, loss, model
from tests.test_fake_cuda import CAUGHT, RefuseWaiting
from torchlime.compat.captum import FeatureAblation, Occlusion, ShapleyValueSampling
from torchlime.compat.captum.batch_scoring import BatchScoring

EXPLAINERS = {
    "ablation": (FeatureAblation, {}),
    "occlusion": (Occlusion, {"sliding_window_shapes": (2,)}),
    "shapley": (lambda function: ShapleyValueSampling(function, seed=0), {}),
}


@pytest.fixture(autouse=True)
def on_fake_cuda():
    with FakeTensorMode():
        yield


@pytest.mark.parametrize("name", EXPLAINERS)
def test_attribute_reads_nothing_back(name):
    make, arguments = EXPLAINERS[name]
    arguments = arguments | {"perturbations_per_eval": 2}
    x = torch.empty(2, 6, device="cuda")
    column = torch.zeros(2, dtype=torch.int64, device="cuda")
    with RefuseWaiting():
        found = [
            make(model).attribute(x, target=1, **arguments),
            make(model).attribute(x, target=column, baselines=0.5, **arguments),
            make(model).attribute(x, baselines=x[:1], target=column[:1], **arguments),
            make(model).attribute(x, target=1, additional_forward_args=(x, x), **arguments),
        ]
        every = make(model).attribute(x, **arguments)
        whole = make(loss).attribute(x, **arguments | {"perturbations_per_eval": 1})
    assert {t.device.type for t in (*found, every, whole)} == {"cuda"}
    assert {tuple(t.shape) for t in found} == {(2, 6)}
    assert every.shape[-1] == 6
    assert whole.shape == (1, 6)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_one_flag_is_read_back_for_one_perturbation_a_call(name, monkeypatch):
    make, arguments = EXPLAINERS[name]
    x = torch.empty(2, 6, device="cuda")
    with pytest.raises(CAUGHT), RefuseWaiting():
        make(model).attribute(x, target=1, **arguments)
    asked = []
    monkeypatch.setattr(BatchScoring, "_agrees", lambda *_: asked.append(1) or True)
    with RefuseWaiting():
        make(model).attribute(x, target=1, **arguments)
    assert asked == [1]


@pytest.mark.parametrize("name", ["ablation", "shapley"])
def test_the_ids_of_a_mask_are_read_back(name):
    make, _ = EXPLAINERS[name]
    mask = torch.empty(1, 6, dtype=torch.int64, device="cuda")
    with pytest.raises(CAUGHT), RefuseWaiting():
        make(model).attribute(
            torch.empty(2, 6, device="cuda"), target=1, feature_mask=mask, perturbations_per_eval=2
        )


def launches(name, width, **more):
    make, arguments = EXPLAINERS[name]
    x = torch.empty(4, width, device="cuda")
    explainer = make(model)
    with Counting() as counting:
        explainer.attribute(x, target=1, perturbations_per_eval=2, **arguments, **more)
    return counting.calls


@pytest.mark.parametrize("name", EXPLAINERS)
def test_launches_do_not_grow_with_the_samples(name):
    """All rows fit into one chunk; Captum needs 10 operators or more for each sample."""
    if name == "shapley":
        few, many = (launches(name, 6, n_samples=number) for number in (20, 80))
    else:
        few, many = (launches(name, width) for width in (40, 160))
    assert many == few
    assert few < 700
