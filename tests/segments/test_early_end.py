"""If the host can look, rounds that would change nothing are left out, and only these."""

from unittest.mock import patch

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from torchlime import _host
from torchlime.segments import Slic, components, slic


class Operators(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


def segmented(images):
    """The segments, and how many operators a later call takes."""
    Slic()(images)
    with Operators() as counted:
        segments = Slic()(images)
    return segments, counted.number


@pytest.mark.parametrize(
    "size", [(1, 8, 8), (3, 8, 8), (3, 21, 34), (2, 40), (1, 6, 7, 8)], ids=repr
)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_labels_are_those_of_all_rounds(batch, size):
    images = torch.rand(batch, *size, generator=torch.Generator().manual_seed(batch))
    images[-1] = images[-1].round()
    found, fewer = segmented(images)
    with (
        patch.object(slic, "is_at_hand", lambda values: False),
        patch.object(components, "is_at_hand", lambda values: False),
    ):
        expected, number = segmented(images)
    assert all(map(torch.equal, found[:3], expected[:3]))
    assert fewer < number


def test_a_tiny_image_takes_half_of_the_operators():
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert segmented(images)[1] < 390  # 723 with all rounds, and every index made anew


def test_only_real_and_normal_tensors_are_kept():
    _host._kept.clear()
    images = torch.rand(1, 3, 8, 8)
    with FakeTensorMode():
        assert not _host.is_at_hand(torch.zeros(1))
        assert Slic()(torch.rand(1, 3, 8, 8)).labels.shape == (1, 8, 8)
    assert not _host._kept
    with torch.inference_mode():
        Slic()(images)
    assert _host._kept
    assert not any(tensor.is_inference() for tensor in _host._kept.values())


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(_host, "MOST", 3)
    _host._kept.clear()
    for side in range(8, 20):
        Slic()(torch.rand(1, 3, side, side))
        assert len(_host._kept) <= 3
