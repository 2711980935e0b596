"""Code that subclasses Captum's Lime, and models that fit themselves."""

import inspect

import captum.attr
import pytest
import torch

from torchlime.compat import captum as ours

BOTH = {"captum": captum.attr, "ours": ours}
X = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs")


def total(x):
    return x @ torch.tensor([1.0, -2.0, 0.5, 0.0])


def few_kept(original, share, **kwargs):
    return (torch.rand(1, kwargs["num_interp_features"]) < share).long()


def explained_by(parent, batch=1):
    class Own(parent):
        """As Captum's KernelShap calls its Lime."""

        def attribute(self, inputs, share=0.5):
            return self._attribute_kwargs(
                inputs=inputs, baselines=0.1, n_samples=40, perturbations_per_eval=2,
                return_input_shape=True, show_progress=False, share=share)  # fmt: skip

    torch.manual_seed(0)
    more = {"rng": "captum"} if parent is ours.Lime else {}
    return Own(total, perturb_func=few_kept, **more).attribute(X[:batch], share=0.7)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_subclass_calls_what_captums_lime_has(batch):
    theirs, mine = (explained_by(module.Lime, batch) for module in BOTH.values())
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Lime", "KernelShap"])
def test_its_arguments_are_captums(name):
    own, theirs = (
        inspect.signature(getattr(m, name)._attribute_kwargs).parameters
        for m in (ours, captum.attr)
    )
    assert [(p.name, p.default, p.kind) for p in theirs.values()] == [
        (p.name, p.default, p.kind) for p in own.values() if p.name != "return_explanation"
    ]


def test_a_subclass_with_captums_arguments_only_is_called_with_them():
    class Own(ours.Lime):
        def _attribute_kwargs(self, inputs, baselines=None, target=None,
                              additional_forward_args=None, feature_mask=None, n_samples=25,
                              perturbations_per_eval=1, return_input_shape=True,
                              show_progress=False):  # fmt: skip
            return inputs, n_samples

    assert Own(total).attribute(X, n_samples=3)[1] == 3


class Watched:
    """A model that says whether gradients are on."""

    def fit(self, data, **kwargs):
        self.grad = [torch.is_grad_enabled()]
        self.width = next(iter(data))[0].shape[1]

    def representation(self):
        self.grad.append(torch.is_grad_enabled())
        return torch.zeros(1, self.width)


@pytest.mark.parametrize("similarity", [None, lambda *_, **__: 1.0], ids=["known", "own"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("module", BOTH)
def test_a_model_fits_itself_without_gradients(module, batch, similarity):
    model = Watched()
    BOTH[module].Lime(total, model, similarity).attribute(X[:batch])
    assert model.grad == [False, False]


@pytest.mark.parametrize("module", BOTH)
def test_so_it_does_in_limebase(module):
    model = Watched()
    BOTH[module].LimeBase(
        total, model, lambda *_, **__: 1.0, lambda x, **_: torch.ones(1, 4), True,
        lambda z, x, **_: z * x, None).attribute(X[:1])  # fmt: skip
    assert model.grad == [False, False]
