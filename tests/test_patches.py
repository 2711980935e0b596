"""Vision transformers explained by their tokens."""

import pytest
import torch

from tests.vits import FAMILIES, PATCHES, SIZE
from torchlime import PatchLime


def images(batch=2, dtype=torch.float64, size=SIZE):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, size, size, generator=generator, dtype=dtype)


def some_masks(number=4):
    """Masks [N,P] of several lengths; the first keeps all."""
    generator = torch.Generator().manual_seed(2)
    masks = (
        torch.rand(number, PATCHES, generator=generator) < torch.linspace(0.2, 0.8, number)[:, None]
    )
    masks[:, 0] = True
    masks[0] = True
    return masks


@pytest.mark.parametrize("name", FAMILIES)
def test_dropped_tokens_are_those_that_no_attention_sees(name):
    family = FAMILIES[name]
    model, x, masks = family.model(), images(), some_masks()
    found = PatchLime().scores(model, x, masks, "all")
    for b in range(len(x)):
        for row, mask in enumerate(masks):
            expected = family.reference(model, x[b : b + 1], mask.nonzero()[:, 0])
            assert (found[b, row] - expected[0]).abs().max() <= 1e-10
    with torch.no_grad():
        outputs = model(x)
    assert (found[:, 0] - getattr(outputs, "logits", outputs)).abs().max() <= 1e-10
    assert ((found[:, 1:] - found[:, :1]).abs().amax(2) > 1e-3).all()  # it is no vacuous test
