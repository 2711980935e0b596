"""The designs that stand beside the library's in benchmarks."""

import pytest
import torch

from benchmarks.rivals import (
    Blocks,
    BySize,
    Independent,
    Paired,
    glime,
    leverage,
    size_weights,
)

DESIGNS = [
    Blocks(), Blocks(beside=False), Independent(), Paired(), BySize(glime),
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
    if isinstance(design, Blocks) and not design.beside:
        assert many[:, 0].all()


def test_blocks_are_those_before_the_stream():
    """Some rows of the library's design as 0.1 drew them, and the balance of both sizes."""
    rows = Blocks(beside=False)(torch.tensor([7]), 7, 64, seed=0)[0, :8]
    assert (rows.long() << torch.arange(7)).sum(1).tolist() == [127, 0, 101, 26, 88, 39, 116, 11]
    masks = Blocks()(torch.tensor([7]), 7, 64, seed=0)[0]
    assert (masks[0::2] ^ masks[1::2]).all()
    for block in masks.split(32):
        signs = 1 - 2 * block.double()
        assert torch.equal(signs.mT @ signs, 32 * torch.eye(7, dtype=torch.float64))
    few = Blocks()(torch.tensor([7]), 7, 24, seed=0)[0]  # smaller blocks
    signs = 1 - 2 * few[:16].double()
    assert torch.equal(signs.mT @ signs, 16 * torch.eye(7, dtype=torch.float64))


@pytest.mark.parametrize(("shares", "paired"), [(glime, False), (leverage, True)])
def test_weights_make_up_for_the_sizes(shares, paired):
    """The expected weight of a size is the kernel's, times the number of masks of that size."""
    design = BySize(shares, paired)
    of_size, weights = design.distribution(6)
    expected = size_weights(6) * torch.tensor([1, 6, 15, 20, 15, 6, 1]) / 64
    assert (of_size * weights).allclose(expected)
    masks = design(torch.tensor([6]), 6, 20_000, seed=SEEDS[:1])
    found = masks.sum(2).flatten().bincount(minlength=7) / 20_000
    drawn = (of_size + of_size.flip(0)) / 2 if paired else of_size
    assert found.double().allclose(drawn, atol=0.02)
