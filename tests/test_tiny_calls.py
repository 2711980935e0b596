"""A call for a tiny input is mostly operators of some microseconds each: they have a budget."""

import torch

from tests.segments.test_early_end import Operators
from torchlime import Lime, explain_vector


def operators(call):
    call()  # designs and indices are made once
    with Operators() as counted:
        call()
    return counted.number


def test_an_image_of_8x8():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    number = operators(lambda: Lime().explain(lambda x: x.mean((2, 3)), image))
    assert number <= 672  # 1031 with every round and index


def test_a_vector_of_ten_features():
    x = torch.rand(1, 10, generator=torch.Generator().manual_seed(0))
    assert operators(lambda: explain_vector(lambda z: z.tanh(), x)) <= 213
