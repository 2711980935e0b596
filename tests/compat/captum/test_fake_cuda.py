"""Nothing is read back for a sample: on fake CUDA tensors, as tests/test_fake_cuda.py."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.test_fake_cuda import CAUGHT, UNORDERED, RefuseWaiting
from torchlime.compat.captum import KernelShap, Lime, SkLearnRidge
from torchlime.compat.captum import get_exp_kernel_similarity_function as similarity
from torchlime.segments import Slic

pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs")


@pytest.fixture
def on_fake_cuda():
    with FakeTensorMode():
        yield


def model(x, *further):
    return x.flatten(1)[:, :4] + sum(f[:, :1] for f in further)


def loss(x):
    return x.sum()


RIDGE = Lime(model, SkLearnRidge(alpha=1.0), similarity("euclidean", 2.0), seed=0)
LIMES = {"default": Lime(model, seed=0), "ridge": RIDGE, "shap": KernelShap(model, seed=0)}


@pytest.mark.parametrize("name", LIMES)
@pytest.mark.usefixtures("on_fake_cuda")
def test_attribute_reads_nothing_back(name):
    x = torch.empty(2, 3, device="cuda")
    with RefuseWaiting():
        found = LIMES[name].attribute(x, target=1, n_samples=30)
    assert found.shape == (2, 3)
    assert found.device.type == "cuda"


CALLS = {
    "columns": lambda x, i: RIDGE.attribute(x, target=i),
    "one column": lambda x, i: RIDGE.attribute(x, target=i[:1]),
    "several": lambda x, i: RIDGE.attribute(x, target=i[:, None].expand(2, 2)),
    "an index": lambda x, i: RIDGE.attribute(x, target=(1,)),
    "baselines": lambda x, i: RIDGE.attribute(x, 0.5, target=1),
    "a tensor": lambda x, i: RIDGE.attribute(x, x[:1], target=1),
    "further": lambda x, i: RIDGE.attribute(x, None, 1, (x, x)),
    "few samples": lambda x, i: Lime(model, seed=0).attribute(x, target=1, n_samples=4),
    "superpixels": lambda x, i: RIDGE.attribute(
        torch.empty(2, 3, 16, 16, device="cuda"), target=1, feature_mask=Slic(8)),
    "an explanation": lambda x, i: RIDGE.attribute(
        x, target=i, return_explanation=True).coefficients,
    "a batch": lambda x, i: Lime(loss, SkLearnRidge(), seed=0).attribute(x),
    "two inputs": lambda x, i: Lime(lambda a, b: model(a), SkLearnRidge(), seed=0).attribute(
        (x, torch.empty(2, 2, 2, device="cuda")), target=1)[1],
}  # fmt: skip


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.usefixtures("on_fake_cuda")
def test_no_argument_reads_anything_back(what):
    column = torch.zeros(2, dtype=torch.int64, device="cuda")
    # Captum's lasso adds one number and zeros to each place, so the order does not matter.
    with RefuseWaiting(UNORDERED - {"scatter_add"}):
        found = CALLS[what](torch.empty(2, 6, device="cuda"), column)
    assert found.device.type == "cuda"


@pytest.mark.usefixtures("on_fake_cuda")
def test_the_highest_id_is_the_one_documented_read_back():
    mask = torch.empty(1, 6, dtype=torch.int64, device="cuda")
    with pytest.raises(CAUGHT), RefuseWaiting():
        RIDGE.attribute(torch.empty(2, 6, device="cuda"), target=1, feature_mask=mask)


@pytest.mark.usefixtures("on_fake_cuda")
def test_one_flag_is_read_back_for_one_example_and_one_row_a_call():
    x = torch.empty(1, 6, device="cuda")
    with pytest.raises(CAUGHT), RefuseWaiting():
        RIDGE.attribute(x, target=1)
    with RefuseWaiting():
        RIDGE.attribute(x, target=1, perturbations_per_eval=2)


class Counting(TorchDispatchMode):
    """Counts operators."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


def launches(explainer, n_samples):
    x = torch.empty(4, 6, device="cuda")
    with Counting() as counting:
        explainer.attribute(x, target=1, n_samples=n_samples)
    return counting.calls


@pytest.mark.parametrize("name", ["ridge", "shap"])
@pytest.mark.usefixtures("on_fake_cuda")
def test_launches_do_not_grow_with_the_samples(name):
    """All these samples fit into one chunk; Captum needs some 20 operators for each."""
    few, many = (launches(LIMES[name], number) for number in (100, 400))
    assert many == few
    assert few < 1500
