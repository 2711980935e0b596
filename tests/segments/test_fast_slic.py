import sys

import numpy as np
import pytest
import torch

from torchlime import explain
from torchlime.segments import FastSlic

fast_slic = pytest.importorskip("fast_slic", reason="fast-slic is not installed")


@pytest.fixture
def images():
    from skimage import data

    photos = [data.astronaut()[:160, :200], data.chelsea()[:160, :200]]
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float()


def test_labels_are_the_packages_own_image_by_image(images):
    from fast_slic.avx2 import SlicAvx2

    images[:, 0, 0, 0], images[:, 0, 0, 1] = 0, 255  # so that rescaling changes nothing
    segments = FastSlic(num_segments=60, compactness=20)(images)
    for b in range(2):
        pixels = images[b].byte().permute(1, 2, 0).contiguous().numpy()
        theirs = SlicAvx2(num_components=60, compactness=20).iterate(pixels)
        _, dense = np.unique(theirs, return_inverse=True)
        np.testing.assert_array_equal(segments.labels[b].numpy(), dense.reshape(160, 200))
        assert segments.count[b] == dense.max() + 1 <= segments.bound
    assert segments.labels.dtype == torch.int64
    assert segments.ok.all()


def test_any_range_and_the_whole_pipeline(images):
    scaled = FastSlic()(images / 255 * 4 - 2)
    assert torch.equal(scaled.labels, FastSlic()(images).labels)
    e = explain(lambda x: x.mean((2, 3)), images, 0, segmenter=FastSlic(), num_samples=128)
    assert e.check().coefficients.shape == (2, 1, 50)


def test_bad_input(images, monkeypatch):
    with pytest.raises(ValueError, match=r"takes images of 3 channels, got \[2, 1, 160, 200\]"):
        FastSlic()(images[:, :1])
    with pytest.raises(ValueError, match="num_segments must be at least 1"):
        FastSlic(0)
    monkeypatch.setitem(sys.modules, "fast_slic", None)
    monkeypatch.setitem(sys.modules, "fast_slic.avx2", None)
    with pytest.raises(ImportError, match="pip install --no-build-isolation fast-slic"):
        FastSlic()(images)
