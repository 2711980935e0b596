"""Where Captum is wrong, silent or surprising: what the drop-in does instead, or does as well."""

import itertools
import warnings

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models import linear_model
from sklearn.linear_model import Lasso as ScikitLasso

from torchlime.compat import captum as ours
from torchlime.compat.captum.active_set import ExactLasso

BOTH = {"captum": captum.attr, "ours": ours}
KINDS = ["Lime", "KernelShap"]
pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs")


def total(x, *further):
    added = sum(f.flatten(1).sum(1) if getattr(f, "ndim", 0) else f for f in further)
    return x.flatten(1).sum(1) + added


def error_of(call):
    try:
        call()
    except Exception as error:
        return type(error)
    return None


X = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
ROWS = torch.arange(4)[:, None].expand(4, 4)  # a map [H,W] of the rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_that_captum_would_cut_by_rows_is_refused(kind):
    """Captum gives row b of the mask to example b, and so wrong attributions, where H = B."""
    explainer = getattr(ours, kind)(total)
    with pytest.raises(ValueError, match=r"feature_mask of shape \[4, 4\] is ambiguous.*\[None\]"):
        explainer.attribute(IMAGES, feature_mask=ROWS)
    found = explainer.attribute(IMAGES, feature_mask=ROWS[None, None], n_samples=60)
    assert found.shape == IMAGES.shape
    assert torch.equal(found[:, :, :, 0], found[:, :, :, 3])
    fewer = explainer.attribute(IMAGES[:3], feature_mask=ROWS, n_samples=60)  # H is not B
    assert fewer.shape == (3, 3, 4, 4)


def test_a_baseline_that_captum_would_cut_by_rows_is_refused():
    with pytest.raises(ValueError, match=r"baselines\[0\] of shape \[4, 4\] is ambiguous"):
        ours.Lime(total).attribute(IMAGES, baselines=torch.zeros(4, 4))
    ours.Lime(total).attribute(IMAGES, baselines=torch.zeros(1, 1, 4, 4), n_samples=5,
                               feature_mask=ROWS[None, None])  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("further", [torch.ones(2, 3), 2, 0.5, torch.tensor(1.5)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_one_further_argument_needs_no_tuple(kind, further, batch):
    """Captum iterates over the rows of a tensor, and fails for a number."""
    if isinstance(further, torch.Tensor) and further.dim():
        further = further[:batch]
    found = []
    for given in (further, (further,)):
        explainer = getattr(ours, kind)(total, seed=0)
        found.append(explainer.attribute(X[:batch], additional_forward_args=given, n_samples=40))
    assert torch.equal(*found)


def test_a_further_tensor_that_is_no_row_of_the_batch_is_passed_as_captum_passes_it():
    weights, seen = torch.rand(4), []

    def forward(x, w):
        seen.append((len(x), tuple(w.shape)))
        return x @ w[:4]

    torch.manual_seed(0)
    mine = ours.Lime(forward, rng="captum").attribute(
        X, additional_forward_args=(weights,), n_samples=30
    )
    assert set(seen) == {(2, (4,)), (1, (4,))}
    torch.manual_seed(0)
    theirs = captum.attr.Lime(forward).attribute(
        X, additional_forward_args=(weights,), n_samples=30
    )
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


MASKS = {"float": torch.tensor([[0.0, 1.0, 1.0, 0.0]])}
MASKS["bool"] = MASKS["float"].bool()


@pytest.mark.parametrize("dtype", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_masks_that_are_no_integers_get_captums_error(kind, dtype):
    for module in BOTH.values():
        with pytest.raises(IndexError):
            getattr(module, kind)(total).attribute(X, feature_mask=MASKS[dtype])
    with pytest.raises(IndexError, match="feature_mask must hold integers, got torch"):
        getattr(ours, kind)(total).attribute(X, feature_mask=MASKS[dtype])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_masks_may_have_any_integer_dtype(dtype):
    found = [
        ours.Lime(total, seed=0).attribute(X, feature_mask=torch.tensor([[0, 1, 1, 2]], dtype=t))
        for t in (dtype, torch.int64)
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_with_gaps_have_columns_of_noise_as_in_captum(kind):
    shapes = []
    for module in BOTH.values():
        explainer = getattr(module, kind)(total)
        mask = torch.tensor([[0, 3, 6, 9]])
        shapes.append(explainer.attribute(X[:1], feature_mask=mask, return_input_shape=False).shape)
    assert shapes == [(1, 10), (1, 10)]


def test_a_hidden_nan_or_infinity_does_not_reach_the_model():
    """In Captum 0·NaN is NaN, so that no row is clean."""
    x = torch.tensor([[1.0, torch.nan, torch.inf, 2.0]])
    clean = lambda x: x[:, 0] + x[:, 3] + 10 * x[:, 1:3].isfinite().all(1)  # noqa: E731
    theirs, mine = (m.KernelShap(clean).attribute(x, n_samples=100) for m in BOTH.values())
    assert theirs[0, 1:3].abs().max() < 1e-4  # every row is broken
    torch.testing.assert_close(mine.sum(), torch.tensor(1.0 + 2.0 - 10.0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine, torch.tensor([[1.0, -5.0, -5.0, 2.0]]), rtol=0, atol=1.0)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_nan_weights_and_scores_are_an_error_as_in_captum(broken):
    x = torch.tensor([[1.0, broken]])
    for module in BOTH.values():
        with pytest.raises(ValueError):
            module.Lime(total).attribute(x)
        with pytest.raises(ValueError):
            module.Lime(lambda x: x.sum(1) * broken).attribute(X[:1])
    with pytest.raises(ValueError, match="similarity_func gave NaN or infinite values"):
        ours.Lime(lambda x: x[:, 0]).attribute(x)
    with pytest.raises(ValueError, match="forward_func gave NaN or infinite values"):
        ours.KernelShap(total).attribute(x)


REFUSED = {
    "a list": lambda m: m.Lime(total).attribute([X]),
    "no sample": lambda m: m.Lime(total).attribute(X[:1], n_samples=0),
    "no example": lambda m: m.Lime(total).attribute(
        X[:0], feature_mask=torch.tensor([[0, 1, 2, 3]])),
    "a baseline of words": lambda m: m.Lime(total).attribute(X, baselines="0"),
    "too few baselines": lambda m: m.Lime(lambda a, b: total(a)).attribute(
        (X[:1], X[:1]), baselines=(0,)),
    "several outputs": lambda m: m.Lime(lambda x: x).attribute(X[:1]),
    "several outputs of several": lambda m: m.Lime(lambda x: x).attribute(X),
    "one score, several a call": lambda m: m.Lime(lambda x: x.sum()).attribute(
        X, perturbations_per_eval=2),
    "a target behind the outputs": lambda m: m.Lime(lambda x: x).attribute(X[:1], target=9),
    "a target of no axis": lambda m: m.Lime(total).attribute(X[:1], target=1),
    "a float target": lambda m: m.Lime(lambda x: x).attribute(X[:1], target=1.0),
    "words as targets": lambda m: m.Lime(lambda x: x).attribute(X, target=["a", "b"]),
    "too few targets": lambda m: m.Lime(lambda x: x).attribute(X, target=[1]),
    "more targets than the one example": lambda m: m.Lime(lambda x: x).attribute(
        X[:1], target=[1, 2]),
    "more targets in a tensor": lambda m: m.KernelShap(lambda x: x).attribute(
        X[:1], target=torch.tensor([1, 2])),
    "more tuples than the one example": lambda m: m.Lime(lambda x: x).attribute(
        X[:1], target=[(1,), (2,)]),
    "targets beyond the outputs": lambda m: m.Lime(lambda x: x).attribute(X, target=[1, 9]),
    "too many indices": lambda m: m.Lime(lambda x: x).attribute(X, target=(1, 1)),
    "a list as a mask": lambda m: m.Lime(total).attribute(X, feature_mask=[[0, 1, 2, 3]]),
    "a distance": lambda m: m.Lime(total, similarity_func=getattr(
        m, "get_exp_kernel_similarity_function", captum.attr._core.lime.
        get_exp_kernel_similarity_function)("l1")).attribute(X[:1]),
    "the model's own": lambda m: m.Lime(lambda x: 1 / 0).attribute(X[:1]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_mistakes_get_the_class_of_captums_error(what):
    theirs, mine = (error_of(lambda m=m: REFUSED[what](m)) for m in BOTH.values())
    assert mine is not None
    assert issubclass(mine, theirs)


SENTENCES = {
    "n_samples must be at least 1, got 0": lambda: ours.Lime(total).attribute(X, n_samples=0),
    "perturbations_per_eval must be at least 1": lambda: ours.Lime(total).attribute(
        X, perturbations_per_eval=0),
    "pass target= to choose one": lambda: ours.Lime(lambda x: x).attribute(X),
    'rng must be None or "captum"': lambda: ours.Lime(total, rng="torch"),
    "takes no seed=": lambda: ours.KernelShap(total, rng="captum", seed=1),
    "seed must be None, an int or": lambda: ours.Lime(total, seed=0.5).attribute(X),
    "forward_func must be callable, got Tensor": lambda: ours.Lime(X).attribute(X),
    'must be a tensor, a tuple or "slic"': lambda: ours.Lime(total).attribute(
        X, feature_mask="grid"),
    r"superpixels need one input, images \[B,C,H,W\]": lambda: ours.Lime(total).attribute(
        X, feature_mask="slic"),
    "return_explanation=True needs a known similarity": lambda: ours.Lime(
        total, similarity_func=lambda *_, **__: 1.0).attribute(X, return_explanation=True),
    "return_explanation=True needs a known interpretable": lambda: ours.Lime(
        total, ours.SkLearnLinearModel("linear_model.BayesianRidge")).attribute(
        X, return_explanation=True),
}  # fmt: skip


@pytest.mark.parametrize("words", SENTENCES)
def test_mistakes_get_a_sentence(words):
    with pytest.raises((AssertionError, TypeError, ValueError), match=words):
        SENTENCES[words]()


def test_an_unknown_distance_is_refused_at_the_call_as_in_captum():
    similarity = ours.get_exp_kernel_similarity_function("l1")
    with pytest.raises(ValueError, match="distance_mode must be either cosine or euclidean, got"):
        ours.Lime(total, similarity_func=similarity).attribute(X)


@pytest.mark.parametrize("rng", [None, "captum"])
@pytest.mark.parametrize("number", [1, 2])
def test_kernel_shap_of_one_or_two_features_is_exact(number, rng):
    """Captum fails for one feature."""
    x = torch.tensor([[3.0, 2.0]])[:, :number]
    found = ours.KernelShap(lambda x: x.exp().sum(1), rng=rng).attribute(x, n_samples=40)
    torch.testing.assert_close(found, x.exp() - 1, rtol=1e-4, atol=1e-4)


def test_kernel_shap_gives_shapley_values():
    """Against their definition: the mean over all orders of what a feature adds."""
    x = torch.tensor([[1.0, 2.0, -1.0, 0.5]], dtype=torch.float64)
    value = lambda x: x[:, 0] * x[:, 1] + x[:, 2].exp() * x[:, 3] + x[:, 1]  # noqa: E731
    expected = torch.zeros(4, dtype=torch.float64)
    orders = list(itertools.permutations(range(4)))
    for order in orders:
        shown = torch.zeros_like(x)
        for feature in order:
            before = value(shown)
            shown[0, feature] = x[0, feature]
            expected[feature] += (value(shown) - before)[0] / len(orders)
    found = ours.KernelShap(value, seed=0).attribute(x, n_samples=4000)[0].double()
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(found.sum(), expected.sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_results_are_float32_whatever_the_inputs(kind, dtype):
    x = torch.tensor([[1, 2, 3, 0]]).to(dtype)
    found = getattr(ours, kind)(lambda x: x.float().sum(1)).attribute(x, n_samples=40)
    assert found.dtype == torch.float32
    assert not found.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_caller_is_changed(kind):
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.0)).train()
    x, base, mask = X.clone().requires_grad_(), torch.zeros(1, 4), torch.tensor([[1, 2, 2, 3]])
    copies = [value.detach().clone() for value in (x, base, mask)]
    grads = []

    def forward(x):
        grads.append(torch.is_grad_enabled())
        assert net.training  # as the caller left it
        return net(x)

    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(ours, kind)(forward, seed=0).attribute(
            x, baselines=base, target=1, feature_mask=mask, n_samples=20
        )
    assert not any(grads)  # Captum's first call keeps a graph
    assert all(torch.equal(a, b) for a, b in zip((x, base, mask), copies, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_more_than_ten_thousand_features_are_warned_of():
    x = torch.rand(1, 10_001)
    with pytest.warns(UserWarning, match="> 10000 features"):
        found = ours.Lime(total, seed=0).attribute(x, n_samples=8)
    assert found.shape == x.shape


def test_a_function_without_parameters_is_called_without_arguments():
    for module in BOTH.values():
        found = module.Lime(lambda: torch.tensor([2.0])).attribute(X[:1], n_samples=4)
        assert not found.any()


@pytest.mark.parametrize("batch", [1, 3])
def test_an_example_may_be_one_number(batch):
    x = torch.arange(1.0, batch + 1)
    found = []
    for module, more in ((captum.attr, {}), (ours, {"rng": "captum"})):
        torch.manual_seed(0)
        found.append(module.Lime(lambda x: 2 * x, **more).attribute(x, n_samples=20))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    explanation = ours.Lime(lambda x: 2 * x).attribute(x, return_explanation=True)
    assert not explanation.problems.any()


@pytest.mark.parametrize("kind", KINDS)
def test_constant_scores_give_zeros(kind):
    found = getattr(ours, kind)(lambda x: torch.full((len(x),), 7.0)).attribute(X, n_samples=30)
    assert not found.any()


def objective(coefficients, z, y, w, alpha):
    share = w / w.sum()
    intercept = (share * (y - z @ coefficients)).sum()
    loss = (share * (y - z @ coefficients - intercept) ** 2).sum() / 2
    return float(loss + alpha * np.abs(coefficients).sum())


@pytest.mark.parametrize("shape", [(25, 49), (25, 300), (40, 20), (5, 49), (60, 60)], ids=str)
@pytest.mark.parametrize("alpha", [0.01, 0.001])
def test_the_lasso_is_at_its_optimum_also_with_few_samples(shape, alpha):
    """scikit-learn's default stops before; the optimality conditions say which is better."""
    samples, width = shape
    rng = np.random.RandomState(0)
    z = rng.rand(3, samples, width) < 0.5
    y = z @ rng.randn(width) / width**0.5 + 0.3 * rng.randn(3, samples)
    w = 0.5 + rng.rand(3, samples)
    fit = ExactLasso(alpha)(
        torch.from_numpy(z), torch.from_numpy(y)[..., None], torch.from_numpy(w),
        torch.full((3,), width))  # fmt: skip
    assert fit.ok.all()
    for b in range(3):
        mine, own_w = fit.coefficients[b, 0].numpy(), w[b] / w[b].sum()
        mean = (own_w[:, None] * z[b]).sum(0)
        rest = y[b] - z[b] @ mine - float(fit.intercepts[b, 0])
        gradient = ((z[b] - mean) * (own_w * rest)[:, None]).sum(0)
        on = mine != 0
        np.testing.assert_allclose(gradient[on], alpha * np.sign(mine[on]), atol=1e-8)
        assert np.abs(gradient).max() <= alpha + 1e-8
        theirs = ScikitLasso(alpha=alpha).fit(z[b], y[b], sample_weight=w[b]).coef_
        values = [objective(c, z[b], y[b], w[b], alpha) for c in (mine, theirs)]
        assert values[0] <= values[1] + 1e-12


def test_captums_own_models_are_known_and_hold_the_last_fit():
    model = linear_model.SkLearnRidge(alpha=0.1)
    found = ours.Lime(total, model, seed=0).attribute(X, n_samples=60, return_input_shape=False)
    assert torch.equal(model.representation(), found[1:])
    assert model.bias().shape == (1,)
    assert model(torch.zeros(3, 4)).shape == (3, 1)


class Bag(torch.nn.Module):
    """Ids and offsets of one text: many rows with their offsets of 0 are one long text."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.embedding = torch.nn.EmbeddingBag(40, 3)

    def forward(self, ids, offsets):
        return self.embedding(ids.flatten(), offsets).sum(1)


def last_counts(x):
    return x.sum(1) * (torch.arange(len(x)) == len(x) - 1)


def first_counts(x):
    return x.sum(1)[:1].expand(len(x))


def centred(x):
    return x.sum(1) - 0.5 * x.sum(1).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["bag", last_counts, first_counts, centred])
def test_a_function_of_one_row_that_takes_more_gets_one(kind, what):
    """It gives a score for each of several rows, but not the one that the row has alone."""
    bag = Bag().eval()
    function = bag if what == "bag" else what
    x = torch.tensor([[4, 9, 30, 2, 7]]) if what == "bag" else torch.rand(1, 5)
    further = {"additional_forward_args": (torch.tensor([0]),)} if what == "bag" else {}
    found = []
    for module in BOTH.values():
        torch.manual_seed(0)
        own = {"rng": "captum"} if module is ours else {}
        explainer = getattr(module, kind)(function, **own)
        found.append(explainer.attribute(x, n_samples=60, **further))
    torch.testing.assert_close(*found, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("function", [last_counts, first_counts, centred])
def test_limebase_too(function):
    found = []
    for module in BOTH.values():
        torch.manual_seed(0)
        base = module.LimeBase(
            function, linear_model.SkLearnRidge(alpha=0.1), lambda *_, **__: 1.0,
            lambda x, **_: torch.randint(0, 2, (1, 5)), True,
            lambda z, x, **_: z * x, None)  # fmt: skip
        found.append(base.attribute(torch.arange(1.0, 6.0)[None], n_samples=60))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
