import numpy as np
import pytest
import torch

from tests import oracles
from torchlime._labelmap import segments_from_labels
from torchlime.features.pixels import Perturbed, perturb


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    images, fill = torch.rand(2, 3, 3, 6, 5, generator=g)
    labels = torch.randint(0, 7, (3, 6, 5), generator=g)
    masks = torch.rand(3, 8, 7, generator=g) < 0.5
    return images, fill, segments_from_labels(labels, 3, (6, 5), 7), masks


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_chunk_is_the_rows_of_its_blocks(batch, channels_last):
    images, fill, segments, masks = batch
    perturbed = Perturbed(images, fill, segments, masks, channels_last=channels_last)
    blocks = [(slice(0, 3), slice(0, 1)), (slice(1, 2), slice(2, 7)), (slice(2, 3), slice(1, 8))]
    chunk = perturbed(blocks, 18)
    assert chunk.shape == (18, 3, 6, 5)
    row = 0
    for image_slice, sample_slice in blocks:
        for b in range(3)[image_slice]:
            for n in range(8)[sample_slice]:
                expected = oracles.perturbed_image(
                    images[b].numpy(), fill[b].numpy(), segments.labels[b].numpy(), masks[b, n]
                )
                np.testing.assert_array_equal(chunk[row].numpy(), expected)
                row += 1
    assert row == 15
    assert chunk[row:].isfinite().all()  # padding


def test_memory_format_dtype_and_the_reused_buffer(batch):
    images, fill, segments, masks = batch
    perturbed = Perturbed(images, fill, segments, masks, dtype=torch.float64, channels_last=True)
    block = [(slice(0, 1), slice(0, 8))]
    first = perturbed(block, 8)
    assert first.dtype == torch.float64
    assert first.is_contiguous(memory_format=torch.channels_last)
    second = perturbed([(slice(1, 2), slice(0, 8))], 8)
    assert second.data_ptr() == first.data_ptr()
    assert perturbed(block, 4 + 4).data_ptr() == first.data_ptr()
    assert Perturbed(images, fill, segments, masks)(block, 8).is_contiguous()


def test_an_expanded_mask_and_expanded_fill(batch):
    images, fill, segments, masks = batch
    shared = Perturbed(images, fill[:1].expand_as(images), segments, masks[:1].expand(3, -1, -1))
    chunk = shared([(slice(0, 3), slice(0, 8))], 24)
    keep = masks[0][:, segments.labels[2]][:, None]
    assert torch.equal(chunk[16:], torch.where(keep, images[2], fill[0]))


def test_compiles(batch):
    images, fill, segments, masks = batch
    index = segments.labels[:, None].expand_as(images).flatten(1)
    arguments = (images.flatten(1), fill.flatten(1), index, masks)
    compiled = torch.compile(perturb, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*arguments), perturb(*arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_map_for_all_channels_is_that_map_for_each(batch, dtype):
    images, fill, segments, masks = batch
    each = segments._replace(labels=segments.labels[:, None].expand(-1, 3, -1, -1))
    blocks = [(slice(0, 3), slice(0, 1)), (slice(1, 2), slice(2, 7))]
    one, other, last = (
        Perturbed(images, fill, some, masks, dtype=dtype, channels_last=last)(blocks, 8)
        for some, last in ((segments, False), (each, False), (each, True))
    )
    assert torch.equal(one, other)
    assert torch.equal(one, last)


def test_the_index_of_one_channel_serves_all(batch):
    images, fill, segments, masks = batch
    index = segments.labels[:, None].expand_as(images).flatten(1)
    arguments = (images.flatten(1), fill.flatten(1))
    assert torch.equal(
        perturb(*arguments, segments.labels.flatten(1), masks), perturb(*arguments, index, masks)
    )
