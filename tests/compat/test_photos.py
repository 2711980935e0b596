"""Photos as lime works on them: ids of segments, what hidden ones show, and large ones."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torchlime.compat.photos import hidden_pixels, segmented, segmenter_of
from torchlime.segments import Reduced, Slic

LABELS = hnp.arrays(
    st.sampled_from([np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64, np.bool_]),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
)


@pytest.mark.parametrize("count", [3, 255, 256, 257, 70_000])
def test_hidden_pixels_are_the_means_of_any_number_of_segments(count):
    rng = np.random.RandomState(0)
    side = int(np.ceil(np.sqrt(2 * count)))
    image = rng.randint(0, 256, (side, side, 2)).astype(np.uint8)
    segments = rng.permutation(side * side).reshape(side, side) % count
    fudged = hidden_pixels(image, segments, None)
    for segment in {0, 1, count // 2, count - 1}:
        inside = segments == segment
        expected = [np.uint8(np.mean(image[inside, channel])) for channel in (0, 1)]
        assert (fudged[inside] == expected).all()


def test_slic_segments_a_large_photo_in_a_reduced_copy():
    rng = np.random.RandomState(0)
    photo = rng.randint(0, 256, (12, 17, 3)).astype(np.uint8).repeat(90, axis=0).repeat(90, axis=1)
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    found = segmented(photo, segmenter_of("slic", None), torch.device("cpu"))
    expected = Reduced(Slic(), 1024)(pixels).labels[0].numpy()
    assert found.shape == photo.shape[:2]
    np.testing.assert_array_equal(found, expected)
    own = segmented(photo, Reduced(Slic(9), 100), torch.device("cpu"))
    np.testing.assert_array_equal(own, Reduced(Slic(9), 100)(pixels).labels[0].numpy())


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.uint16, np.int64, np.float32, np.float64])
def test_pixels_of_any_type_are_segmented_alike(dtype):
    photo = (np.arange(20 * 20 * 3).reshape(20, 20, 3) % 7 > 3).astype(dtype)
    expected = Slic(4)(torch.from_numpy(photo.astype(np.float64)).permute(2, 0, 1)[None])
    found = segmented(photo, Slic(4), torch.device("cpu"))
    np.testing.assert_array_equal(found, expected.labels[0].numpy())
