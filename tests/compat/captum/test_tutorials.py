"""The calls of Captum's tutorials on small models, and the gates of the random stream."""

import captum.attr
import pytest
import torch
from captum._utils.models import linear_model
from captum.attr._core import lime as captums

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


def test_image_classification_with_superpixels():
    net, image, labels = network(), torch.rand(1, 3, 12, 12), cells(each=3)
    similarity = captums.get_exp_kernel_similarity_function("euclidean", kernel_width=1000)

    def call(module):
        explainer = module.Lime(
            net, interpretable_model=linear_model.SkLearnLinearRegression(),
            similarity_func=similarity, **stream(module))  # fmt: skip
        found = explainer.attribute(
            image, target=2, feature_mask=labels[None], n_samples=60, perturbations_per_eval=16,
            show_progress=False).squeeze(0)  # fmt: skip
        sample = (torch.arange(16)[None] % 2).long()
        shown = explainer.from_interp_rep_transform(
            sample, image, feature_mask=labels[None], baselines=0)  # fmt: skip
        return found, shown, explainer.interpretable_model.representation()

    for theirs, mine in zip(*results(call), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


class Bag(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.embedding = torch.nn.EmbeddingBag(40, 16)
        self.head = torch.nn.Linear(16, 4)

    def forward(self, ids, offsets):
        return self.head(self.embedding(ids.flatten(), offsets))


def test_text_classification_with_words_left_out():
    """The offsets belong to one text, so a call has one row, as in the tutorial."""
    bag, text, offsets = Bag().eval(), torch.tensor([[4, 9, 30, 2, 7]]), torch.tensor([0])

    def weight(original, perturbed, sample, **kwargs):
        with torch.no_grad():
            a, b = (bag.embedding(ids.flatten(), offsets) for ids in (original, perturbed))
        distance = 1 - torch.nn.functional.cosine_similarity(a, b)
        return torch.exp(-(distance**2) / 2)

    def words(original, **kwargs):
        return torch.bernoulli(torch.ones_like(original) * 0.5)

    def shown(sample, original, **kwargs):
        return original[sample.bool()].view(1, -1)

    def call(module):
        explainer = module.LimeBase(
            bag, interpretable_model=linear_model.SkLearnLasso(alpha=0.01),
            similarity_func=weight, perturb_func=words, perturb_interpretable_space=True,
            from_interp_rep_transform=shown, to_interp_rep_transform=None)  # fmt: skip
        return explainer.attribute(text, target=1, additional_forward_args=(offsets,), n_samples=64)

    theirs, mine = results(call)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


class TwoInputs(torch.nn.Module):
    """An image and a question of word ids."""

    def __init__(self):
        super().__init__()
        self.image = network(classes=5)
        torch.manual_seed(6)
        self.words = torch.nn.Embedding(50, 5)

    def forward(self, image, words, length):
        return self.image(image) + self.words(words).sum(1) / length[:, None]


@pytest.mark.parametrize("kind", ["Lime", "KernelShap"])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_image_and_a_question(kind, batch):
    net = TwoInputs().eval()
    image, words = torch.rand(batch, 3, 12, 12), torch.arange(3, 3 + 6 * batch).view(batch, 6)
    masks = cells(each=4)[None, None], torch.arange(9, 15)[None]
    length = torch.full((batch,), 6.0)

    def call(module):
        explainer = getattr(module, kind)(net, **stream(module))
        return explainer.attribute(
            (image, words), baselines=(0, 49), target=3, additional_forward_args=(length,),
            feature_mask=masks, n_samples=80, perturbations_per_eval=20)  # fmt: skip

    theirs, mine = results(call)
    for a, b in zip(theirs, mine, strict=True):
        torch.testing.assert_close(b, a, rtol=5e-3, atol=2e-5)


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
