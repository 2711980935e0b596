"""FeatureAblation, Occlusion and ShapleyValueSampling: what is more, refused, or asked of both."""

import copy
import inspect
import pickle

import captum.attr
import pytest
import torch
from captum.attr import NoiseTunnel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchlime import Lime
from torchlime.compat import captum as ours
from torchlime.compat.captum import FeatureAblation, Occlusion, ShapleyValueSampling
from torchlime.compat.captum.batch_scoring import rectangles
from torchlime.masks import LeaveOneOut
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares
from torchlime.weights import Uniform

METHODS = ["FeatureAblation", "Occlusion", "ShapleyValueSampling"]
X = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
CELLS = (torch.arange(8)[:, None] // 4 * 2 + torch.arange(8) // 4)[None, None]


def total(x):
    return x.flatten(1).sum(1)


def product(x):
    """Of no more than two features in a term."""
    return x[:, 0] * x[:, 1] - 2 * x[:, 2] * x[:, 3] + x[:, 0]


def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    ).eval()


def more(method):
    """The arguments that a method needs."""
    return {"sliding_window_shapes": (2,)} if method == "Occlusion" else {}


@pytest.mark.parametrize("name", METHODS)
def test_the_classes_are_captums(name):
    own, theirs = getattr(ours, name), getattr(captum.attr, name)
    assert issubclass(own, theirs)
    assert own.get_name() == theirs.get_name()
    explainer = own(total)
    assert isinstance(explainer, captum.attr.FeatureAblation) == (name != METHODS[2])
    assert explainer.has_convergence_delta() is False
    assert explainer.multiplies_by_inputs is theirs(total).multiplies_by_inputs is True
    parameters = [inspect.signature(c.attribute).parameters.values() for c in (own, theirs)]
    assert [(p.name, p.default, p.kind) for p in parameters[0]] == [
        (p.name, p.default, p.kind) for p in parameters[1]
    ]
    with pytest.raises(NotImplementedError, match=r"not implemented for .*; call attribute\(\)"):
        explainer.attribute_future(X)
    again = copy.deepcopy(pickle.loads(pickle.dumps(explainer)))
    assert torch.equal(
        again.attribute(X, **more(name)).isnan(), torch.zeros(3, 4, dtype=torch.bool)
    )


@pytest.mark.parametrize("name", METHODS[:2])
def test_noise_tunnel(name):
    found = []
    for module in (captum.attr, ours):
        torch.manual_seed(0)
        tunnel = NoiseTunnel(getattr(module, name)(product))
        found.append(tunnel.attribute(X, nt_type="smoothgrad", nt_samples=3, **more(name)))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("per_eval", [1, 3])
def test_a_bar_with_captums_name_reaches_its_end(name, per_eval, capsys):
    explainer = getattr(ours, name)(total)
    arguments = {"perturbations_per_eval": per_eval, "show_progress": True}
    explainer.attribute(X, **arguments, **more(name))
    shown = capsys.readouterr().err
    assert f"{explainer.get_name()} attribution: 100%" in shown


def looks_around(x):
    """[n], where a row depends on the others."""
    return total(x) - total(x).mean()


def one_batch_only(x):
    if len(x) != 3:
        raise RuntimeError("only the batch as it is")
    return total(x)


def later_rows(x):
    """[n], where a row depends on those before it."""
    return total(x).cumsum(0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("function", [looks_around, one_batch_only, later_rows])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_function_of_the_batch_gets_captums_calls(name, function, batch):
    if function is one_batch_only and batch == 1:
        pytest.skip("it needs three examples")
    found = []
    for module in (captum.attr, ours):
        torch.manual_seed(0)
        own = {"rng": "captum"} if module is ours and name == METHODS[2] else {}
        explainer = getattr(module, name)(function, **own)
        found.append(explainer.attribute(X[:batch], **more(name)))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_each_example_has_its_own_further_arguments_and_targets(name):
    weights, classes = torch.rand(3, 4), [2, 0, 1]
    explainer = getattr(ours, name)(lambda x, w, scale: x * w * scale)
    together = explainer.attribute(
        X, target=classes, additional_forward_args=(weights, 2.0), **more(name)
    )
    for b in range(3):
        own = {"target": classes[b], "additional_forward_args": (weights[b : b + 1], 2.0)}
        alone = explainer.attribute(X[b : b + 1], **own, **more(name))
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-5, atol=1e-6)


def test_ablation_is_lime_with_its_design_and_least_squares():
    model, target = net(), 2
    lime = Lime(
        segmenter=Grid(2, 2), sampler=LeaveOneOut(), num_samples=5, kernel=Uniform(),
        surrogate=LeastSquares(), fill=torch.zeros(1, 3, 1, 1),
    )  # fmt: skip
    e = lime.explain(model, IMAGES, targets=target)
    found = FeatureAblation(model).attribute(IMAGES, target=target, feature_mask=CELLS)
    torch.testing.assert_close(e.heatmap()[:, 0, None].expand_as(found).float(), found)


def test_a_mask_as_wide_as_the_batch_is_broadcast_as_in_captum():
    """Only Lime and KernelShap cut it by rows."""
    mask = torch.tensor([[0, 0, 1], [1, 2, 2], [2, 2, 2]])
    x, base = torch.rand(3, 3, 3), torch.rand(3, 3)
    for name in (METHODS[0], METHODS[2]):
        found = []
        for module in (captum.attr, ours):
            torch.manual_seed(0)
            own = {"rng": "captum"} if module is ours and name == METHODS[2] else {}
            explainer = getattr(module, name)(lambda x: total(x).sin(), **own)
            arguments = {"feature_mask": mask} | ({"baselines": base} if name == METHODS[0] else {})
            found.append(explainer.attribute(x, **arguments))
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_a_mask_of_lower_rank_is_broadcast_whatever_the_number_of_perturbations(k):
    """Captum adds up other features' outputs here where k is the number of outputs."""
    x, mask = torch.rand(3, 2, 3), torch.tensor([[0, 1, 2], [0, 1, 2]])
    settings = {"perturbations_per_eval": k}
    right = captum.attr.FeatureAblation(total).attribute(x, feature_mask=mask[None], **settings)
    wrong = captum.attr.FeatureAblation(total)
    found = FeatureAblation(total).attribute(x, feature_mask=mask, **settings)
    torch.testing.assert_close(found, right)
    if k == 3:
        assert not torch.allclose(wrong.attribute(x, feature_mask=mask, **settings), right)


def test_ids_are_one_feature_across_tensors_and_gaps_cost_nothing():
    rows = []
    pair = torch.rand(2, 3), torch.rand(2, 2)
    masks = torch.tensor([[0, 7, 900]]), torch.tensor([[7, -5]])

    def forward(a, b):
        rows.append(len(a))
        return total(a) * total(b)

    found = FeatureAblation(forward).attribute(pair, feature_mask=masks)
    assert torch.equal(found[0][:, 1], found[1][:, 0])
    assert sum(rows) == 2 + 1 + 2 * 4


def test_outputs_without_a_target_may_have_masks_of_their_own():
    masks = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 2, 3]])
    both = lambda x: torch.stack([product(x), total(x)], dim=1)  # noqa: E731
    together = FeatureAblation(both).attribute(X, feature_mask=masks)
    assert together.shape == (6, 4)
    for target in range(2):
        alone = FeatureAblation(both).attribute(X, feature_mask=masks, target=target)
        torch.testing.assert_close(together.view(3, 2, 4)[:, target], alone)


def test_two_orders_are_exact_without_interactions_of_three_features():
    exact = captum.attr.ShapleyValues(product).attribute(X, baselines=0.3)
    for seed in range(3):
        found = ShapleyValueSampling(product, seed=seed).attribute(X, baselines=0.3, n_samples=2)
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)


def cubic(x):
    return x.prod(1) * 5 + product(x)


def test_orders_of_our_own_have_captums_mean():
    exact = captum.attr.ShapleyValues(cubic).attribute(X)
    many = ShapleyValueSampling(cubic, seed=0).attribute(X, n_samples=4000)
    torch.testing.assert_close(many, exact, rtol=0, atol=0.02)
    few = ShapleyValueSampling(cubic, seed=0).attribute(X, n_samples=3)
    assert not torch.allclose(few, exact, atol=1e-4)
    torch.testing.assert_close(few.sum(1), cubic(X) - cubic(X * 0))  # efficiency
    assert torch.equal(few, ShapleyValueSampling(cubic, seed=0).attribute(X, n_samples=3))
    assert not torch.equal(few, ShapleyValueSampling(cubic, seed=1).attribute(X, n_samples=3))
    torch.manual_seed(5)
    drawn = [ShapleyValueSampling(cubic).attribute(X, n_samples=3) for _ in range(2)]
    torch.manual_seed(5)
    again = ShapleyValueSampling(cubic).attribute(X, n_samples=3)
    assert torch.equal(drawn[0], again)
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("name", METHODS)
def test_one_feature(name):
    window = {"sliding_window_shapes": (1,)} if name == "Occlusion" else {}
    found = getattr(ours, name)(total).attribute(torch.tensor([[2.0]]), **window)
    assert found.tolist() == [[2.0]]


@pytest.mark.parametrize("name", [METHODS[0], METHODS[2]])
def test_no_feature(name):
    found = getattr(ours, name)(total).attribute(torch.empty(2, 0))
    assert found.shape == (2, 0)


REFUSED = {
    "k = 0": ({"perturbations_per_eval": 0}, "must be an integer and at least 1, got 0"),
    "a list": ({"inputs": [X]}, "inputs must be a torch.Tensor"),
    "k > 1 of a scalar": ({"function": lambda x: x.sum(), "perturbations_per_eval": 2}, None),
    "k > 1 of one number": (
        {"function": lambda x: x.sum().reshape(1), "perturbations_per_eval": 2}, None),
    "a target too many": ({"target": [0, 1], "function": lambda x: x}, "target must name"),
    "no tensor": ({"feature_mask": 3}, "feature_mask must be a torch.Tensor"),
    "masks of their own": (
        {"feature_mask": torch.arange(12).view(3, 4), "function": lambda x: x.sum()},
        "Cannot provide different masks for each example"),
    "no window": ({"sliding_window_shapes": 2}, "sliding_window_shapes must be a tuple of 1"),
    "two windows": ({"sliding_window_shapes": ((2,), (2,))}, "a tuple of 1, one for each input"),
    "a window of two axes": ({"sliding_window_shapes": (1, 1)}, "a tuple of 1 ints for inputs"),
    "a window too wide": ({"sliding_window_shapes": (5,)}, "must lie within the grid"),
    "a stride too wide": ({"sliding_window_shapes": (1,), "strides": 2}, "at most the window"),
    "a stride of two axes": ({"sliding_window_shapes": (2,), "strides": (1, 1)}, "strides must"),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("what", REFUSED)
def test_bad_arguments_get_captums_error(name, what):
    arguments, sentence = REFUSED[what]
    wanted = inspect.signature(getattr(ours, name).attribute).parameters
    if not set(arguments) - {"function"} <= set(wanted):
        pytest.skip("no argument of this method")
    arguments = {"inputs": X, **more(name), **arguments}
    function = arguments.pop("function", total)
    with pytest.raises(Exception) as theirs:
        getattr(captum.attr, name)(function).attribute(**arguments)
    riddles = "masks of their own", "no window", "no tensor"  # another error of torch's or Python's
    refused = AssertionError if what in riddles else theirs.type
    with pytest.raises(refused, match=sentence):
        getattr(ours, name)(function).attribute(**arguments)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ShapleyValueSampling(total).attribute(X, n_samples=0), "n_samples must be at"),
        (lambda: ShapleyValueSampling(total, rng="numpy"), "rng must be None"),
        (lambda: ShapleyValueSampling(total, rng="captum", seed=1), "takes no seed="),
        (
            lambda: ShapleyValueSampling(total, rng="captum").attribute(
                X, feature_mask=torch.tensor([[-1, 0, 1, 1]])
            ),
            "feature_mask holds -1; Captum never shows .* Number them from 0",
        ),
        (lambda: FeatureAblation(total).attribute(X, feature_mask=torch.zeros(2, 4)), "must broad"),
        (lambda: FeatureAblation(total).attribute(X, feature_mask=(X, X)), "a tuple of 1 tensors"),
        (lambda: Occlusion(total).attribute(X, (2,), baselines=torch.zeros(5)), "must broadcast"),
    ],
)
def test_what_captum_answers_wrongly_or_in_riddles(call, sentence):
    with pytest.raises((ValueError, AssertionError), match=sentence):
        call()


def test_rows_come_in_order_with_the_unchanged_one_second():
    for batch, samples in ((1, 1), (1, 4), (2, 3), (3, 5)):
        rows = [(b, s) for b in range(batch) for s in range(1, samples + 1)]
        rows.insert(1, (0, 0))
        for start in range(len(rows)):
            for stop in range(start + 1, len(rows) + 1):
                found = [
                    (b, s)
                    for examples, several in rectangles(slice(start, stop), samples)
                    for b in range(examples.start, examples.stop)
                    for s in range(several.start, several.stop)
                ]
                assert found == rows[start:stop]


class Largest(TorchDispatchMode):
    """The most elements of a tensor."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        sizes = [t.untyped_storage().nbytes() for t in tree_leaves(found) if isinstance(t, torch.Tensor)]  # noqa: E501  # fmt: skip
        self.elements = max([self.elements, *sizes])
        return found


@pytest.mark.parametrize("name", METHODS)
def test_no_more_is_held_than_a_chunk(name):
    """Each scalar of 4000 is a feature: its masks would take 16 MB, the rows 64 MB."""
    explainer = getattr(ours, name)(total)
    arguments = {"n_samples": 1} if name == METHODS[2] else more(name)
    with Largest() as largest:
        explainer.attribute(torch.rand(1, 4000), **arguments)
    # A chunk has 2²⁰ entries, and 8 bytes an index.
    assert largest.elements <= 9 * 2**20
