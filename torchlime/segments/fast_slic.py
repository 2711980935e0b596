"""The CPU package fast-slic as a segmenter."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import check_count, check_images, check_positive
from torchlime._labelmap import Segments, dense_labels


@dataclass(frozen=True)
class FastSlic:
    """Superpixels by the package fast-slic: on the CPU, image by image, for three channels.

    The images go to the host and the labels come back: use :class:`Slic` in a pipeline that must
    not wait. Each image is rescaled to 8 bits by its own minimum and maximum, and non-finite values
    count as 0.

    Args:
        num_segments: about how many segments to ask for; also the ``bound``.
        compactness: weight of position against colour, as fast-slic has it.

    Raises:
        ImportError: fast-slic is not installed.
        TypeError, ValueError: a setting is out of range, or the images are not float [B,3,H,W].

    Source: github.com/Algy/fast-slic.
    """

    num_segments: int = 50
    compactness: float = 10.0

    def __post_init__(self) -> None:
        check_count(self.num_segments, "num_segments")
        check_positive(self.compactness, "compactness")

    def __call__(self, images: Tensor) -> Segments:
        """Segments of images [B,3,H,W], on their device."""
        check_images(images)
        if images.shape[1] != 3:
            raise ValueError(f"FastSlic takes images of 3 channels, got {list(images.shape)}")
        import numpy as np

        slic = implementation()
        pixels = _to_bytes(images).permute(0, 2, 3, 1).cpu().contiguous().numpy()
        maps = []
        for image in pixels:
            # Each image needs a new object: an object starts from the clusters of its last image.
            labels = slic(num_components=self.num_segments, compactness=self.compactness)
            maps.append(labels.iterate(np.ascontiguousarray(image)).astype(np.int64))
        dense, count = dense_labels(torch.from_numpy(np.stack(maps)).flatten(1))
        labels = dense.view(-1, *images.shape[2:]).to(images.device)
        count = count.to(images.device)
        return Segments(labels, count, torch.ones_like(count, dtype=torch.bool), self.num_segments)


def implementation() -> Any:
    """fast-slic's class: the one for AVX2 if it was built, else the plain one.

    Raises:
        ImportError: fast-slic is not installed.
    """
    try:
        from fast_slic.avx2 import SlicAvx2
    except ImportError:
        try:
            from fast_slic import Slic as SlicAvx2
        except ImportError as error:
            raise ImportError(
                "FastSlic needs the package fast-slic: pip install cython numpy setuptools, "
                "then pip install --no-build-isolation fast-slic"
            ) from error
    return SlicAvx2


def _to_bytes(images: Tensor) -> Tensor:
    pixels = images.detach().float().nan_to_num(0.0, 0.0, 0.0)
    low, high = pixels.amin((1, 2, 3), True), pixels.amax((1, 2, 3), True)
    span = torch.where(high > low, high - low, 1.0)
    return ((pixels - low) / span * 255).round().byte()
