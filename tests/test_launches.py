"""Kernels outside the model have a budget; fake CUDA tensors count them on any machine."""

import pytest
import torch

from benchmarks.launches import counted, explain
from torchlime import Lime
from torchlime.segments import Slic

BUDGET = {
    "segments": 352,
    "masks": 183,
    "fill": 20,
    "rows": 27,
    "scores": 14,
    "weights": 8,
    "surrogate": 74,
    "rest": 41,  # one of them writes samples_used
}


def test_what_counts():
    def call():
        x = torch.empty(4, 8, device="cuda")
        torch.ones(3)  # on the host
        (x.expand(2, 4, 8)[0].mT + 1)[:, 0].view(-1)

    launches = counted(call)
    assert launches.kernels == {"rest": 1}
    assert launches.bytes == {"rest": 2 * 4 * 32}


def test_the_default_explanation_stays_within_its_budget():
    kernels = counted(lambda: explain(Lime(num_samples=512), 1)).kernels
    over = {stage: number for stage, number in kernels.items() if number > BUDGET[stage]}
    assert over == {}


@pytest.mark.parametrize(("size", "most"), [((224, 224), 352), ((225, 231), 410)])
def test_slic(size, most):
    def call():
        Slic(50)(torch.empty(1, 3, *size, device="cuda"))

    assert counted(call).kernels["segments"] <= most


@pytest.mark.parametrize("batch", [2, 32])
def test_kernels_of_the_stages_do_not_grow_with_the_batch(batch):
    kernels = counted(lambda: explain(Lime(num_samples=64), batch)).kernels
    once = counted(lambda: explain(Lime(num_samples=64), 2)).kernels
    for stage in ("segments", "masks", "fill", "weights", "surrogate"):
        assert kernels[stage] == once[stage]
