"""What public subclasses of lime's explainer do: volumes, signals, tensors, hooks of their own."""

import numpy as np
import pytest
import sklearn.metrics
import torch
from lime import lime_image as lime
from torch import nn

from tests.compat.side_by_side import Recorder, assert_same_batches
from torchlime.compat import lime_image as ours

RNG = np.random.RandomState(0)
VOLUME = RNG.rand(4, 6, 5)
VOXELS = RNG.permutation(np.arange(120) % 7).reshape(4, 6, 5)


def volumes_explainer(module, head):
    """As published: an ``__init__`` and an ``explain_instance`` for volumes, the rest inherited.

    ``head`` says whether it was written for lime's repository, or for the release.
    """

    class VolumesExplainer(module.LimeImageExplainer):
        def __init__(self, random_state):
            self.random_state = np.random.RandomState(random_state)
            self.feature_selection = "auto"
            kernel = lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2))  # noqa: E731
            self.base = ours.LimeBase(kernel)

        def explain_instance(self, image, classifier_fn, labels, num_samples, segmentation_fn):
            segments = segmentation_fn(image)
            fudged = image.clone() if isinstance(image, torch.Tensor) else image.copy()
            for x in np.unique(segments):
                fudged[segments == x] = image[segments == x].mean()
            data, scores = self.data_labels(
                image, fudged, segments, classifier_fn, num_samples, batch_size=4
            )
            distances = sklearn.metrics.pairwise_distances(
                data, data[0].reshape(1, -1), metric="cosine"
            ).ravel()
            found = module.ImageExplanation(image, segments)
            for label in labels:
                intercept, exp, score, local_pred = self.base.explain_instance_with_data(
                    data, scores, distances, label, 100, feature_selection="auto"
                )
                found.intercept[label], found.local_exp[label] = intercept, exp
                if head:
                    found.score[label], found.local_pred[label] = score, local_pred
                else:
                    found.score, found.local_pred = score, local_pred
            return found

    return VolumesExplainer


@pytest.mark.parametrize("tensor", [True, False])
def test_a_subclass_for_volumes(tensor):
    image = torch.from_numpy(VOLUME) if tensor else VOLUME
    results, recorders = [], (Recorder(), Recorder())
    for module, recorder in zip((lime, ours), recorders, strict=True):
        explainer = volumes_explainer(module, head=False)(3)
        results.append(
            explainer.explain_instance(image.copy() if not tensor else image.clone(), recorder,
                                       labels=(0, 2), num_samples=50,
                                       segmentation_fn=lambda _: VOXELS)
        )  # fmt: skip
    theirs, mine = results
    assert_same_batches(recorders[0].batches, recorders[1].batches)
    assert recorders[1].batches[0].shape == (4, 4, 6, 5)
    assert theirs.local_exp == mine.local_exp
    assert (theirs.score, theirs.local_pred) == (mine.score, mine.local_pred)
    painted = np.vectorize(dict(mine.local_exp[2]).get)(VOXELS)
    np.testing.assert_array_equal(mine.heatmap(2), painted)
    if not tensor:
        for a, b in zip(*(e.get_image_and_mask(2) for e in results), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_subclass_written_for_limes_repository():
    explainer = volumes_explainer(ours, head=True)(3)
    e = explainer.explain_instance(VOLUME, Recorder(), (0, 2), 50, lambda _: VOXELS)
    assert list(e.score) == list(e.local_pred) == list(e.scores) == [0, 2]
    assert e.local_pred[2].shape == (1,)


def cases():
    """name: image, fudged image, label map."""
    colours = np.stack([VOLUME, 1 - VOLUME, VOLUME**2], axis=-1)
    return {
        "a volume": (VOLUME, 0 * VOLUME, VOXELS),
        "a volume of colours": (colours, 0 * colours, VOXELS),
        "frames": (VOLUME, 0 * VOLUME, np.arange(4)),
        "a plane of a volume": (VOLUME, 0 * VOLUME, np.arange(24).reshape(4, 6) // 5),
        "a signal": (VOLUME.ravel(), 0 * VOLUME.ravel(), np.arange(120) // 10),
        "a grey image": (VOLUME[0], 0 * VOLUME[0], VOXELS[0]),
        "integers for floats": (VOLUME, np.ones(VOLUME.shape, int), VOXELS),
        "floats for 8 bits": ((VOLUME * 255).astype(np.uint8), VOLUME * 200 + 0.7, VOXELS),
        "one fudged channel for three": (colours, 0.5 * VOLUME[..., None], VOXELS),
        "a label map of floats": (VOLUME, 0 * VOLUME, VOXELS.astype(float)),
        "a bool map": (VOLUME, 0 * VOLUME, VOXELS > 3),
        "not contiguous": (VOLUME[:, ::2], 0 * VOLUME[:, ::2], VOXELS[:, ::2] // 2),
        "Fortran's order": tuple(map(np.asfortranarray, (VOLUME, 0 * VOLUME, VOXELS))),
        "complex": (VOLUME + 1j * VOLUME[::-1], 0 * VOLUME, VOXELS),
        "long doubles": (VOLUME.astype(np.longdouble), 0 * VOLUME, VOXELS),
        "the other byte order": (VOLUME.astype(">f4"), 0 * VOLUME, VOXELS),
        "objects": (VOLUME.astype(object), 0 * VOLUME.astype(object), VOXELS),
        "words": (np.array(["a", "bb", "c"] * 4), np.array(["?"] * 12), np.arange(12) // 3),
        "tensors": tuple(map(torch.from_numpy, (VOLUME, 0 * VOLUME, VOXELS))),
        "a tensor of 16 bits": (
            torch.from_numpy(VOLUME).half(),
            torch.zeros(4, 6, 5).half(),
            VOXELS,
        ),
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("batch_size", [4, 10])
def test_data_labels_takes_what_limes_takes(name, batch_size):
    def function(batch):
        batches.append(batch.copy())
        flat = batch.reshape(len(batch), -1)
        values = (flat == flat[0]) if flat.dtype.kind in "U" else np.abs(flat).astype(float)
        return np.stack([values.mean(axis=1), values[:, 0]], axis=1)

    results = []
    for module in (lime, ours):
        image, fudged, segments = cases()[name]
        batches = []
        explainer = module.LimeImageExplainer(random_state=5)
        data, scores = explainer.data_labels(image, fudged, segments, function, 13, batch_size)
        results.append((data, scores, batches))
        for before, after in zip(cases()[name], (image, fudged, segments), strict=True):
            np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
    (data, scores, batches), (our_data, our_scores, our_batches) = results
    np.testing.assert_array_equal(data, our_data)
    np.testing.assert_array_equal(scores, our_scores)
    # lime's batches of a single image have the other byte order, unlike its larger ones
    assert [b.dtype.newbyteorder("=") for b in batches] == [b.dtype for b in our_batches]
    for expected, found in zip(batches, our_batches, strict=True):
        np.testing.assert_array_equal(expected, found)


def test_a_volumes_ids_stand_in_their_order():
    """lime compares ids with column numbers, so it must be asked of the map renumbered."""
    results = []
    for module, segments in ((lime, VOXELS), (ours, VOXELS * 10 - 30)):
        explainer, recorder = module.LimeImageExplainer(random_state=5), Recorder()
        data, _ = explainer.data_labels(VOLUME, 0 * VOLUME, segments, recorder, 13, 4)
        results.append((data, recorder.batches))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert_same_batches(results[0][1], results[1][1])


def test_shapes_that_do_not_fit_are_named():
    explainer = ours.LimeImageExplainer(random_state=5)
    with pytest.raises(IndexError, match=r"first axes, got \[4, 6, 5\] for an image \[3, 4, 6, 5"):
        explainer.data_labels(np.stack([VOLUME] * 3), VOLUME, VOXELS, Recorder(), 9)
    with pytest.raises(ValueError, match=r"broadcast to the image's \[4, 6, 5\], got \[7\]"):
        explainer.data_labels(VOLUME, np.zeros(7), VOXELS, Recorder(), 9)
    with pytest.raises(TypeError, match=r"module takes images \[H,W,C\], got \[6, 5\]; write a fu"):
        explainer.data_labels(VOLUME[0], 0 * VOLUME[0], VOXELS[0], nn.Flatten(), 9)
