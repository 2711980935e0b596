"""The designs that stand beside the library's in the benchmark of rules that stop."""

import itertools

import pytest
import torch

from benchmarks.cosets import Cosets
from benchmarks.designs import BySize, IndependentBlocks, Paired, glime, leverage, size_weights
from torchlime.masks import Orthogonal

DESIGNS = [
    Cosets(), IndependentBlocks(), IndependentBlocks(beside=True), Paired(), BySize(glime),
    BySize(leverage, paired=True),
]  # fmt: skip
SEEDS = torch.tensor([3, 4])


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: type(d).__name__)
def test_rows_go_on(design):
    count = torch.tensor([6, 6])
    many = design(count, 6, 100, seed=SEEDS)
    assert many.shape == (2, 100, 6)
    assert not torch.equal(many[0], many[1])
    parts = [(0, 38), (38, 32), (70, 30)]
    rows = [design(count, 6, size, seed=SEEDS, first=first) for first, size in parts]
    assert torch.equal(torch.cat(rows, dim=1), many)
    if isinstance(design, IndependentBlocks) and not design.beside:
        assert many[:, 0].all()


@pytest.mark.parametrize(("features", "rows"), [(5, 128), (8, 128), (11, 256), (16, 256)])
def test_a_cycle_of_cosets_has_strength_five(features, rows):
    masks = Cosets()(torch.tensor([features]), features, rows, seed=SEEDS[:1])[0]
    signs = 1 - 2 * masks.double()
    for size in range(1, 6):
        for some in itertools.combinations(range(features), size):
            assert signs[:, list(some)].prod(dim=1).sum() == 0


def test_blocks_are_hadamard_and_folded_over():
    masks = IndependentBlocks(beside=True)(torch.tensor([7]), 7, 64, seed=SEEDS[:1])[0]
    assert (masks[0::2] ^ masks[1::2]).all()
    for block in masks.split(32):
        signs = 1 - 2 * block.double()
        assert torch.equal(signs.mT @ signs, 32 * torch.eye(7, dtype=torch.float64))
    today = Orthogonal()(torch.tensor([7]), 7, 64, seed=0)[0]
    assert (today[0::2] ^ today[1::2]).all()  # the library's are folded over as well


@pytest.mark.parametrize(("shares", "paired"), [(glime, False), (leverage, True)])
def test_weights_make_up_for_the_sizes(shares, paired):
    """The expected weight of a size is the kernel's, times the number of masks of that size."""
    design = BySize(shares, paired)
    of_size, weights = design.distribution(6)
    expected = size_weights(6) * torch.tensor([1, 6, 15, 20, 15, 6, 1])
    assert (of_size * weights).allclose(expected)
    masks = design(torch.tensor([6]), 6, 20_000, seed=SEEDS[:1])
    found = masks.sum(2).flatten().bincount(minlength=7) / 20_000
    drawn = (of_size + of_size.flip(0)) / 2 if paired else of_size
    assert found.double().allclose(drawn, atol=0.02)
