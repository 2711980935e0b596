"""The parts that users import by name, against Captum's."""

import math

import pytest
import torch
from captum._utils.models import linear_model
from captum.attr._core import lime as captums

from torchlime.compat import captum as ours
from torchlime.compat.captum.arguments import as_inputs
from torchlime.compat.captum.feature_masks import as_columns
from torchlime.compat.captum.linear_models import solver_of
from torchlime.compat.captum.perturbed import Perturbed
from torchlime.compat.captum.similarity import known_similarity
from torchlime.surrogates import LeastSquares, Ridge

PAIR = torch.rand(2, 3, 4, 4), torch.randint(0, 9, (2, 5))
BASES = {"zero": None, "numbers": (0.5, 2), "tensors": (torch.rand(1, 3, 4, 4), torch.ones(2, 5))}
MODES = [("cosine", 1.0), ("cosine", 0.25), ("euclidean", 3.0)]


@pytest.mark.parametrize("bases", BASES)
@pytest.mark.parametrize(("mode", "width"), MODES)
@pytest.mark.parametrize("whole", [False, True])
def test_weights_of_a_design_are_captums_of_each_perturbed_input(bases, mode, width, whole):
    inputs = as_inputs(PAIR, BASES[bases])
    masks = torch.arange(16).view(1, 1, 4, 4) // 3, torch.arange(5)[None] + 4
    columns = as_columns(masks, inputs)
    design = torch.rand(1 if whole else 2, 8, columns.number) < 0.5
    design[:, 0], design[:, 1] = True, False
    theirs = captums.get_exp_kernel_similarity_function(mode, width)
    mine = ours.get_exp_kernel_similarity_function(mode, width)
    found = mine.of_design(inputs, columns, design, whole)
    rows = Perturbed(inputs, columns, design.expand(2, -1, -1), whole=whole)
    for b in range(len(design)):
        for n in range(8):
            own = inputs.tensors if whole else inputs.example(b).tensors
            perturbed = rows([(slice(b, b + 1), slice(n, n + 1))], 1)
            expected = theirs(own, perturbed, None)
            assert math.isclose(found[b, n], expected, abs_tol=5e-7)
            assert math.isclose(mine(own, perturbed, None), expected, abs_tol=1e-7)


@pytest.mark.parametrize("bases", BASES)
@pytest.mark.parametrize("several", [False, True])
def test_the_default_transform(bases, several):
    inputs = as_inputs(PAIR, BASES[bases])
    masks = torch.arange(16).view(1, 1, 4, 4) // 3, torch.arange(5)[None]
    sample = torch.tensor([[1, 0, 1, 1, 0, 1]])
    given = (inputs.tensors, masks, inputs.baselines)
    if not several:
        given = tuple(one[0] for one in given)
    found = [
        module.default_from_interp_rep_transform(
            sample, given[0], feature_mask=given[1], baselines=given[2]
        )
        for module in (captums, ours)
    ]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype


def test_the_default_perturbation_draws_captums_stream():
    found = []
    for module in (captums, ours):
        torch.manual_seed(0)
        found.append([module.default_perturb_func(PAIR, num_interp_features=7) for _ in range(3)])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.default_perturb_func(PAIR),
        lambda m: m.default_from_interp_rep_transform(torch.ones(1, 2), PAIR, baselines=0),
        lambda m: m.default_from_interp_rep_transform(torch.ones(1, 2), PAIR, feature_mask=PAIR),
    ],
)
def test_what_the_parts_need_is_named(call):
    for module in (captums, ours):
        with pytest.raises(AssertionError):
            call(module)


@pytest.mark.parametrize("masks", [None, (torch.tensor([[[[0]], [[4]], [[2]]]]), PAIR[1][:1])])
def test_construct_feature_mask(masks):
    theirs, mine = (m.construct_feature_mask(masks, PAIR) for m in (captums, ours))
    assert theirs[1] == mine[1]
    assert all(torch.equal(a, b) for a, b in zip(theirs[0], mine[0], strict=True))


KNOWN = {
    "linear_model.Lasso": {"alpha": 0.1, "tol": 1e-6, "max_iter": 50},
    "linear_model.Ridge": {},
    "linear_model.LinearRegression": {"fit_intercept": True},
}
UNKNOWN = [
    ("linear_model.Lasso", {"alpha": 0.1, "positive": True}),
    ("linear_model.Lasso", {"alpha": 0}),
    ("linear_model.Ridge", {"fit_intercept": False}),
    ("linear_model.ElasticNet", {"alpha": 0.1}),
]


@pytest.mark.parametrize("module", [linear_model, ours])
def test_which_models_run_as_tensors(module):
    for name, kwargs in KNOWN.items():
        assert solver_of(module.SkLearnLinearModel(name, **kwargs)) is not None
    for name, kwargs in UNKNOWN:
        assert solver_of(module.SkLearnLinearModel(name, **kwargs)) is None
    assert solver_of(module.SkLearnRidge()) == Ridge(1.0)
    assert solver_of(module.SkLearnLinearRegression()) == LeastSquares()

    class Own(module.SkLearnRidge):
        def fit(self, train_data, **kwargs):
            return super().fit(train_data)

    assert solver_of(Own()) is None  # it may do something else
    assert solver_of(linear_model.SGDLasso()) is None


def test_captums_own_functions_run_as_tensors_too():
    similarity = captums.get_exp_kernel_similarity_function("euclidean", 2.0)
    assert known_similarity(similarity) == ours.get_exp_kernel_similarity_function("euclidean", 2.0)
    lime = ours.Lime(len, None, similarity, captums.default_perturb_func)
    assert lime.is_known()
    lime.from_interp_rep_transform = captums.default_from_interp_rep_transform
    assert lime.is_known()
    lime.from_interp_rep_transform = lambda *_, **__: None
    assert not lime.is_known()
    assert not ours.Lime(len, perturb_func=lambda x, **_: x).is_known()


@pytest.mark.filterwarnings("ignore:You are providing multiple inputs")
def test_a_subclass_of_kernel_shap_may_draw_and_weigh_as_it_likes():
    class Halves(ours.KernelShap):
        def kernel_shap_perturb_generator(self, original_inp, **kwargs):
            assert kwargs["num_select_distribution"] is not None
            yield from super().kernel_shap_perturb_generator(original_inp, **kwargs)

    x = torch.rand(2, 4)
    function = lambda x: x.sum(1)  # noqa: E731
    assert not Halves(function).is_known()
    assert ours.KernelShap(function).is_known()
    found = Halves(function).attribute(x, n_samples=50)
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-3)
