"""Targets that the outputs lack, in every form: Captum's class of error, and no GPU that dies."""

import captum.attr
import pytest
import torch

from torchlime.compat import captum as ours
from torchlime.compat.captum.targets import Targets, _gathered, _one_for_all

pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs")
T = torch.tensor
BEYOND = {
    "int": 9, "int from the end": -9, "tuple": (9,), "tuple from the end": (-9,),
    "0-d": T(9), "0-d from the end": T(-9), "one": T([9]), "one from the end": T([-9]),
    "[1,1]": T([[9]]), "list": [9, 1], "list from the end": [-1, 1],
    "list of tuples": [(9,), (1,)], "list of tuples from the end": [(-9,), (1,)],
    "list of long tuples": [(1, 1), (1, 1)], "[B]": T([9, 1]), "[B] from the end": T([-1, 1]),
}  # fmt: skip
METHODS = {"Lime": {"n_samples": 6}, "FeatureAblation": {}}


@pytest.mark.parametrize("per_eval", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", BEYOND)
def test_a_target_beyond_the_outputs_gets_the_class_of_captums_error(what, method, batch, per_eval):
    target = BEYOND[what]
    if batch == 1 and what == "[B] from the end":
        return  # it is one index for all
    if batch == 1 and (isinstance(target, list) or what.startswith("[B]")):
        target = target[:1]
    x, raised = torch.rand(batch, 4), []
    for module in (captum.attr, ours):
        with pytest.raises(Exception) as caught:
            getattr(module, method)(lambda x: x).attribute(
                x, target=target, perturbations_per_eval=per_eval, **METHODS[method])  # fmt: skip
        raised.append(caught.type)
    assert issubclass(raised[1], raised[0])


@pytest.mark.parametrize("target", [T(-1), T([-1]), T([[2]]), (-1,), -1], ids=repr)
def test_indices_from_the_end(target):
    x = torch.rand(1, 4)
    found = [
        module.FeatureAblation(lambda x: x * T([1.0, 2.0, 3.0, 4.0])).attribute(x, target=target)
        for module in (captum.attr, ours)
    ]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_on_a_device_an_index_out_of_range_is_nan(dtype):
    """Nothing is read back there, and a failing gather would end the process."""
    outputs = T([[1, 2], [3, 4], [5, 6]]).to(dtype)

    class Elsewhere(torch.Tensor):
        device = torch.device("meta")

    for index, expected in ((0, [1, 3, 5]), (-1, [2, 4, 6]), (2, None), (-3, None)):
        found = _one_for_all(outputs, T(index).as_subclass(Elsewhere)).as_subclass(torch.Tensor)
        assert found.isnan().all() if expected is None else found.tolist() == expected
    columns = T([[1], [2], [-1]]).as_subclass(Elsewhere)
    found = _gathered(outputs, columns).as_subclass(torch.Tensor)
    assert found[0].item() == 2
    assert found[1:].isnan().all()


def test_one_index_for_all_needs_an_axis():
    with pytest.raises(AssertionError, match="behind the axis of examples"):
        Targets(T(0), torch.device("cpu"), 2)(torch.rand(2), None)
