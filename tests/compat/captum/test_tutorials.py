"""Calls of the kinds that Captum's tutorials make, of both libraries: images, texts, two inputs."""

import captum.attr
import pytest
import torch
from captum._utils.models import linear_model
from captum.attr._core import lime as captums
from torch import nn

from torchlime.compat import captum as ours

SIDES = [(captum.attr, linear_model, captums, {}), (ours, ours, ours, {"rng": "captum"})]
PHOTO = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
REGIONS = torch.tensor([0, 4, 9, 20])[(torch.arange(24)[:, None] // 12) * 2 + torch.arange(24) // 9 % 2]  # noqa: E501  # fmt: skip


def both(call, seed=0):
    """What a call gives with the modules of either library."""
    found = []
    for side in SIDES:
        torch.manual_seed(seed)
        found.append(call(*side))
    return found


def image_classifier():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(3),
        nn.Flatten(), nn.Linear(54, 7), nn.Softmax(1),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("k", [1, 16])
def test_lime_of_a_photo_with_regions_of_a_segmentation(k):
    model = image_classifier()

    def call(attr, models, similarity, own):
        distance = similarity.get_exp_kernel_similarity_function("euclidean", kernel_width=1000)
        lime = attr.Lime(model, models.SkLearnLinearRegression(), distance, **own)
        arguments = {"target": 3, "feature_mask": REGIONS[None], "perturbations_per_eval": k}
        map_ = lime.attribute(PHOTO, n_samples=60, **arguments).squeeze(0)
        features = lime.attribute(PHOTO, n_samples=60, return_input_shape=False, **arguments)
        return map_, features, lime.interpretable_model.representation()

    for theirs, mine in zip(*both(call), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_kernel_shap_of_photos_one_after_the_other_and_together():
    model, photos = image_classifier(), PHOTO + torch.rand(3, 1, 1, 1)

    def call(attr, models, similarity, own):
        shap = attr.KernelShap(model, **own)
        return [shap.attribute(p[None], target=1, feature_mask=REGIONS[None, None] // 4,
                               n_samples=30) for p in photos]  # fmt: skip

    for theirs, mine in zip(*both(call), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=5e-3, atol=1e-5)


def test_ablation_of_the_regions_of_a_photo():
    model = image_classifier()

    def call(attr, *_):
        ablation = attr.FeatureAblation(model)
        return ablation.attribute(PHOTO, target=2, feature_mask=REGIONS, perturbations_per_eval=1)

    theirs, mine = both(call)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_occlusion_of_a_photo():
    model = image_classifier()

    def call(attr, *_):
        return attr.Occlusion(model).attribute(
            PHOTO, strides=(3, 4, 4), target=2, sliding_window_shapes=(3, 7, 7), baselines=0
        )

    theirs, mine = both(call)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


class Texts(nn.Module):
    """A bag of embeddings: token ids one after the other, and where each text begins."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.EmbeddingBag(50, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, ids, offsets):
        return self.head(self.embedding(ids.flatten(), offsets))


@pytest.mark.parametrize("length", [5, 12])
def test_lime_base_of_a_text_hides_token_by_token(length):
    model = Texts().eval()
    text = torch.randint(50, (length,), generator=torch.Generator().manual_seed(4))
    lengths = set()

    def similarity(original, perturbed, mask, **kwargs):
        first, second = (
            model.embedding(ids.flatten(), torch.tensor([0])) for ids in (original, perturbed)
        )
        distance = 1 - torch.cosine_similarity(first, second, dim=1)
        return torch.exp(-(distance**2) / 2)

    def draw(text, **kwargs):
        return torch.bernoulli(torch.full_like(text, 0.5, dtype=torch.float)).long()

    def shorter(mask, text, **kwargs):
        lengths.add(int(mask.sum()))
        return text[mask.bool()].unsqueeze(0)

    def call(attr, models, *_):
        lime = attr.LimeBase(
            model, interpretable_model=models.SkLearnLasso(alpha=0.002), similarity_func=similarity,
            perturb_func=draw, perturb_interpretable_space=True, from_interp_rep_transform=shorter,
            to_interp_rep_transform=None,
        )  # fmt: skip
        return lime.attribute(
            text[None], target=1, additional_forward_args=(torch.tensor([0]),), n_samples=150
        )

    theirs, mine = both(call)
    assert theirs.shape == mine.shape == (1, length)
    assert int((theirs != 0).sum()) > 1
    assert len(lengths) > 3
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


class Answers(nn.Module):
    """Answers a question (embedded words, and their number) about a photo."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.photo = nn.Linear(12, 6)
        self.words = nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, photo, words, number):
        there = (torch.arange(words.shape[1]) < number[:, None])[..., None]
        question = (self.words(words) * there).sum(1) / number[:, None]
        return self.head((self.photo(photo.flatten(1)) * question).tanh())


PAIR = (
    torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(2)),
    torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(3)),
)
MASKS = torch.tensor([[[[0, 1], [2, 3]]]]), torch.arange(4, 8)[None, :, None]


@pytest.mark.parametrize("name", ["Lime", "KernelShap", "FeatureAblation", "ShapleyValueSampling"])
@pytest.mark.filterwarnings("ignore:You are providing multiple inputs")
def test_two_inputs_share_their_features(name):
    model, number = Answers().eval(), torch.tensor([4, 3])

    def call(attr, models, similarity, own):
        own = {} if name == "FeatureAblation" else own
        own = own | ({"interpretable_model": models.SkLearnRidge(alpha=0.1)} if name == "Lime" else {})  # noqa: E501  # fmt: skip
        more = {} if name == "FeatureAblation" else {"n_samples": 40}
        return getattr(attr, name)(model, **own).attribute(
            PAIR, baselines=(0, 0.0), target=[0, 2], additional_forward_args=(number,),
            feature_mask=MASKS, perturbations_per_eval=4, **more,
        )  # fmt: skip

    theirs, mine = both(call)
    assert isinstance(mine, tuple)
    gate = 5e-3 if name == "KernelShap" else 1e-5
    for a, b in zip(theirs, mine, strict=True):
        torch.testing.assert_close(b, a, rtol=gate, atol=gate * float(a.abs().max()))
