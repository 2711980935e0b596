"""Rows in blocks: that they cover, and how large they are."""

import pytest
import torch

from torchlime._row_blocks import ELEMENTS_ELSEWHERE, ELEMENTS_ON_CPU, row_blocks
from torchlime.fit import NormalEquations

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.mark.parametrize(
    ("device", "elements"), [(CPU, ELEMENTS_ON_CPU), (META, ELEMENTS_ELSEWHERE)]
)
def test_blocks_cover_the_rows_and_suit_the_device(device, elements):
    width = elements // 100
    blocks = list(row_blocks(251, width, device, multiple=7))
    assert [row for block in blocks for row in range(251)[block]] == list(range(251))
    assert [block.stop - block.start for block in blocks] == [98, 98, 55]
    assert next(row_blocks(50, 2 * elements, device, multiple=7)) == slice(0, 7)


def test_no_block_of_a_fit_is_smaller_than_its_gram_matrix(monkeypatch):
    monkeypatch.setattr("torchlime._row_blocks.ELEMENTS_ON_CPU", 10)
    masks = torch.rand(3, 200, 31) > 0.5
    samples = NormalEquations(
        masks, torch.rand(3, 200, 1), torch.ones(3, 200), torch.full((3,), 31)
    )
    sizes = [block.stop - block.start for block in samples._blocks()]
    assert sizes == [32, 32, 32, 32, 32, 32, 8]  # even, for pairs
