"""The calls of public notebooks, with lime's import and with ours: the same pictures."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lime import lime_image as lime
from PIL import Image
from skimage.data import chelsea, coffee
from skimage.segmentation import mark_boundaries
from torchvision import models as architectures
from torchvision import transforms

from tests.compat.side_by_side import assert_same, explain
from torchlime import models
from torchlime.compat import lime_image as ours

BOTH = (lime, ours)


def assert_same_pictures(theirs, mine, **arguments):
    for label in theirs.local_exp:
        expected = theirs.get_image_and_mask(label, **arguments)
        found = mine.get_image_and_mask(label, **arguments)
        for a, b in zip(expected, found, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_inception_v3():
    """The Keras notebook of lime's own repository, and the posts that follow it."""
    torch.manual_seed(0)
    network = architectures.inception_v3(weights=None, init_weights=False).eval()

    def predict(images):
        with torch.no_grad():
            return network(torch.from_numpy(images).permute(0, 3, 1, 2).float()).softmax(1).numpy()

    photo = Image.fromarray(chelsea()).resize((299, 299))
    image = (np.array(photo) / 255 - 0.5) * 2
    theirs, mine = (
        explain(
            module, image.astype("double"), predict, {"random_state": 0}, top_labels=1,
            hide_color=0, num_samples=12,
        )
        for module in BOTH
    )  # fmt: skip
    assert_same(theirs, mine)
    shown, mask = mine.get_image_and_mask(
        mine.top_labels[0], positive_only=False, num_features=5, hide_rest=False
    )
    assert_same_pictures(theirs, mine, positive_only=False, num_features=5, hide_rest=False)
    outlined = mark_boundaries(shown / 2 + 0.5, mask)
    assert outlined.shape == (299, 299, 3)
    assert not np.array_equal(outlined, shown / 2 + 0.5)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return architectures.resnet18(weights=None).eval()


@pytest.mark.parametrize(
    "chosen", [{"top_labels": 5}, {"top_labels": 20}, {"top_labels": None, "labels": (3, 281, 7)}]
)
def test_resnet18_on_an_image_between_minus_one_and_one(resnet, chosen):
    def predict(images):
        with torch.no_grad():
            return resnet(torch.tensor(images).permute(0, 3, 1, 2)).softmax(1).detach().numpy()

    photo = Image.fromarray(chelsea()).resize((96, 96))
    image = (np.array(photo) / 127.5 - 1).astype(np.float32)
    theirs, mine = (
        explain(m, image, predict, {"random_state": 42}, num_samples=60, **chosen) for m in BOTH
    )
    assert_same(theirs, mine)
    # one label after another, as the notebooks do
    assert_same_pictures(theirs, mine, positive_only=True, num_features=5, hide_rest=True)
    assert_same_pictures(theirs, mine, positive_only=True, num_features=5, hide_rest=False)
    assert_same_pictures(theirs, mine, positive_only=False, num_features=10, min_weight=1e-5)
    assert_same_pictures(theirs, mine, positive_only=False, negative_only=True, hide_rest=True)
    for label in mine.local_exp:
        weights = dict(mine.local_exp[label])
        heatmap = np.vectorize(weights.get)(mine.segments)
        np.testing.assert_array_equal(heatmap, mine.heatmap(label))


def test_a_batch_predict_that_stacks_pil_transforms(resnet):
    """lime's PyTorch notebook: the image is a uint8 array, every masked one goes through PIL."""
    resize = transforms.Compose([transforms.Resize((100, 100)), transforms.CenterCrop(80)])
    preprocess = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    )

    def batch_predict(images):
        batch = torch.stack([preprocess(Image.fromarray(image)) for image in images], dim=0)
        return F.softmax(resnet(batch), dim=1).detach().cpu().numpy()

    image = np.array(resize(Image.fromarray(coffee())))
    theirs, mine = (
        explain(
            m, image, batch_predict, {"random_state": 1}, top_labels=5, hide_color=0, num_samples=60
        )
        for m in BOTH
    )
    assert_same(theirs, mine)
    assert_same_pictures(theirs, mine, positive_only=True, num_features=5, hide_rest=False)
    shown, mask = mine.get_image_and_mask(mine.top_labels[0], positive_only=False, num_features=10)
    assert mark_boundaries(shown / 255.0, mask).max() <= 1


@pytest.mark.parametrize("photo", [chelsea, coffee])
def test_efficientnet_lite0_with_its_real_weights(photo):
    classifier = models.load("efficientnet_lite0")
    pixels = classifier.preprocess(photo())
    image = pixels[0].permute(1, 2, 0).numpy()

    def predict(images):
        with torch.no_grad():
            return classifier(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()

    arguments = {"top_labels": 3, "num_samples": 30}
    theirs, mine, module = (
        explain(m, given, fn, {"random_state": 5}, **arguments)
        for m, given, fn in (
            (lime, image, predict), (ours, image, predict), (ours, pixels, classifier),
        )
    )  # fmt: skip
    assert_same(theirs, mine)
    assert_same_pictures(theirs, mine)
    # Other chunks round otherwise in float32.
    largest = max(abs(w) for weights in theirs.local_exp.values() for _, w in weights)
    assert_same(theirs, module, 1e-4 * largest)
