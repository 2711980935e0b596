"""LimeBase: the caller's own functions, as in Captum's tutorials."""

import captum.attr
import pytest
import torch
from captum._utils.models import linear_model

from torchlime.compat import captum as ours
from torchlime.surrogates import Lasso, LeastSquares, Ridge

BOTH = [captum.attr, ours]


def run(make, seed=0, **arguments):
    """The results of Captum and of the drop-in, each after one seed, and a number drawn after."""
    found = []
    for module in BOTH:
        torch.manual_seed(seed)
        found.append((make(module).attribute(**arguments), float(torch.rand(()))))
    return found


class Bag(torch.nn.Module):
    """Texts as ids [n,L] of any length: a bag of embeddings."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = torch.nn.EmbeddingBag(30, 8, mode="sum")
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, text, offsets=None):
        return self.linear(self.embedding(text, offsets).tanh())


def similarity(original, perturbed, sample, **kwargs):
    """By the words that are left."""
    kept = sample.float().mean()
    return torch.exp(-((1 - kept) ** 2) / 2)


def some_words(original, **kwargs):
    return torch.bernoulli(torch.full((1, original.shape[1]), 0.5)).long()


def without_hidden_words(sample, original, **kwargs):
    """Perturbed texts have lengths of their own, so that they cannot be joined."""
    return original[sample.bool()].reshape(1, -1)


@pytest.mark.parametrize("k", [1, 3])
def test_the_text_tutorial_removes_words(k):
    bag = Bag().eval()
    text = torch.arange(3, 12)[None]
    if k > 1:  # Captum joins texts of different lengths, and fails; so do we, with its class
        with pytest.raises(RuntimeError):
            ours.LimeBase(bag, linear_model.SkLearnLasso(alpha=0.01), similarity, some_words, True,
                          without_hidden_words, None).attribute(
                text, target=1, n_samples=30, perturbations_per_eval=3)  # fmt: skip
        return
    theirs, mine = run(
        lambda module: module.LimeBase(
            bag, linear_model.SkLearnLasso(alpha=0.01), similarity, some_words, True,
            without_hidden_words, None),
        inputs=text, target=1, additional_forward_args=(torch.tensor([0]),) * 0, n_samples=40,
    )  # fmt: skip
    torch.testing.assert_close(mine[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert mine[1] == theirs[1]


def test_samples_of_the_input_space():
    x = torch.rand(1, 6)

    def moved(original, scale=0.3, **kwargs):
        return original + scale * torch.randn(1, 6)

    def difference(perturbed, original, **kwargs):
        return perturbed - original

    theirs, mine = run(
        lambda module: module.LimeBase(
            lambda x: (x * x).sum(1), linear_model.SkLearnRidge(alpha=0.1),
            lambda a, b, c, **k: float((-(c**2).sum()).exp()), moved, False, None, difference),
        inputs=x, n_samples=50, perturbations_per_eval=4, scale=0.2,
    )  # fmt: skip
    torch.testing.assert_close(mine[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert mine[1] == theirs[1]


def every_subset(original, **kwargs):
    number = original.shape[1]
    for code in range(2**number):
        yield torch.tensor([[code >> i & 1 for i in range(number)]])


@pytest.mark.parametrize("n_samples", [16, 40])
def test_a_generator_may_end_early_with_captums_warning(n_samples):
    x = torch.tensor([[1.0, -2.0, 3.0, 0.5]])
    arguments = {"inputs": x, "n_samples": n_samples, "perturbations_per_eval": 5}

    def make(module):
        return module.LimeBase(
            lambda x: x.prod(1) + x.sum(1), linear_model.SkLearnLinearRegression(),
            lambda *_, **__: 1.0, every_subset, True, lambda z, x, **_: z * x, None)  # fmt: skip

    if n_samples > 16:
        with pytest.warns(UserWarning, match="Generator completed prior"):
            theirs, mine = run(make, **arguments)
    else:
        theirs, mine = run(make, **arguments)
    torch.testing.assert_close(mine[0], theirs[0], rtol=1e-4, atol=1e-5)


def test_one_score_for_a_batch():
    x = torch.rand(3, 4)
    theirs, mine = run(
        lambda module: module.LimeBase(
            lambda x: x.pow(2).sum(), linear_model.SkLearnRidge(alpha=0.1), lambda *_, **__: 1.0,
            lambda x, **_: torch.randint(0, 2, (1, 4)), True, lambda z, x, **_: z * x, None),
        inputs=x, n_samples=30,
    )  # fmt: skip
    torch.testing.assert_close(mine[0], theirs[0], rtol=1e-5, atol=1e-6)


def test_more_samples_share_a_call_than_captum_gives():
    seen = []

    def forward(x):
        seen.append(len(x))
        return x.sum(1)

    base = ours.LimeBase(forward, ours.SkLearnRidge(), lambda *_, **__: 1.0, some_words, True,
                         lambda z, x, **_: z * x, None)  # fmt: skip
    base.attribute(torch.rand(1, 4), n_samples=50)
    assert seen == [50, 1, 1, 1]  # three alone, to see that rows do not depend on each other


SURROGATES = [Ridge(0.3), LeastSquares(), Lasso(alpha=0.01)]


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_torchlimes_surrogates_plug_into_captums_classes(surrogate):
    x = torch.rand(1, 5)
    forward = lambda x: x @ torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0])  # noqa: E731
    twins = {
        "Ridge": linear_model.SkLearnRidge(alpha=0.3),
        "LeastSquares": linear_model.SkLearnLinearRegression(),
        "Lasso": linear_model.SkLearnLasso(alpha=0.01, tol=1e-10),
    }
    model, found = ours.SurrogateModel(surrogate), []
    for own in (model, twins[type(surrogate).__name__]):
        torch.manual_seed(0)
        found.append(captum.attr.Lime(forward, own).attribute(x, n_samples=60))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    z = torch.eye(5)
    predicted = model.representation().T + model.bias()
    torch.testing.assert_close(model(z), predicted, rtol=1e-6, atol=1e-6)
    torch.manual_seed(0)
    mine = ours.Lime(forward, surrogate, rng="captum").attribute(x, n_samples=60)
    torch.testing.assert_close(mine, found[0], rtol=1e-4, atol=1e-5)


def test_a_missing_transform_is_refused_as_in_captum():
    for module in BOTH:
        for space in (True, False):
            with pytest.raises(AssertionError):
                module.LimeBase(len, None, len, len, space, None, None)
    with pytest.raises(AssertionError, match="perturb_interpretable_space=False needs to_interp"):
        ours.LimeBase(len, None, len, len, False, len, None)


def test_outputs_that_are_not_one_a_sample_are_refused_as_in_captum():
    for module in BOTH:
        base = module.LimeBase(
            lambda x: x, linear_model.SkLearnRidge(), lambda *_, **__: 1.0, some_words, True,
            lambda z, x, **_: z * x, None)  # fmt: skip
        with pytest.raises(AssertionError, match="Number of outputs is not appropriate"):
            base.attribute(torch.rand(1, 4), n_samples=5)


def test_a_model_without_a_fit_says_so():
    with pytest.raises(RuntimeError, match="has not been fitted yet"):
        ours.SkLearnRidge().representation()


def test_what_limes_wrapper_cannot_solve_goes_to_scikit_learn():
    z = (torch.rand(40, 3) < 0.5).float()
    y, weights = z @ torch.tensor([1.0, -2.0, 0.0]), torch.ones(40)
    model = ours.SkLearnLasso(alpha=0.01, positive=True)
    model.fit([(z, y, weights)])
    assert model.representation().shape == (1, 3)
    assert float(model.representation().min()) == 0.0
