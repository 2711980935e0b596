"""images, segments → what a hidden segment shows [B,C,H,W].

Convention:
    A fill lives in the pixel space of the images it is given, keeps their dtype and device, and
    never modifies them. A tensor that broadcasts to [B,C,H,W] is a fill too.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_images, check_positive, check_real
from torchlime._labelmap import Segments, channel_sizes, over_channels, segment_sums
from torchlime._precision import solve_dtype


@dataclass(frozen=True)
class SegmentMean:
    """Each hidden segment shows its own mean colour (Ribeiro et al. 2016's choice for images).

    Example:
        >>> image = torch.tensor([[[[0.0, 1.0, 5.0]]]])
        >>> labels, count, ok = torch.tensor([[[0, 0, 1]]]), torch.tensor([2]), torch.tensor([True])
        >>> SegmentMean()(image, Segments(labels, count, ok, bound=2)).flatten().tolist()
        [0.5, 0.5, 5.0]
    """

    def __call__(self, images: Tensor, segments: Segments) -> Tensor:
        """Like the images: the mean of each pixel's segment, in each channel."""
        check_images(images)
        sizes = channel_sizes(segments, images.shape).clamp(min=1)
        means = (segment_sums(images, segments) / sizes).to(images.dtype)
        labels = over_channels(segments.labels, images.dim()).expand(images.shape).flatten(2)
        if segments.background:  # it is never hidden
            labels = labels.clamp(min=0)
        return means.gather(2, labels).view_as(images)


@dataclass(frozen=True)
class ImageMean:
    """Every hidden segment shows the mean colour of the whole image.

    Example:
        >>> ImageMean()(torch.tensor([[[[0.0, 1.0, 5.0]]]]), None).flatten().tolist()
        [2.0, 2.0, 2.0]
    """

    def __call__(self, images: Tensor, segments: Segments) -> Tensor:
        """[B,C,H,W]: the mean of each channel."""
        check_images(images)
        means = images.to(solve_dtype(images.device)).mean(dim=(2, 3), keepdim=True)
        return means.to(images.dtype).expand_as(images)


@dataclass(frozen=True)
class Constant:
    """Hidden segments show one colour: a number, or a number for each channel.

    Raises:
        ValueError: when called with images of another number of channels.

    Example:
        >>> Constant((0.5, 0.0))(torch.zeros(1, 2, 1, 1), None).flatten().tolist()
        [0.5, 0.0]
    """

    value: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.value, list | tuple):
            object.__setattr__(self, "value", tuple(self.value))  # a list would not hash
        for value in self.value if isinstance(self.value, tuple) else (self.value,):
            check_real(value, "value")

    def __call__(self, images: Tensor, segments: Segments) -> Tensor:
        """[B,C,H,W] of that colour."""
        check_images(images)
        channels = images.shape[1]
        values = self.value if isinstance(self.value, tuple) else (self.value,) * channels
        if len(values) != channels:
            raise ValueError(
                f"Constant has {len(values)} values, the images have {channels} channels"
            )
        colour = images.new_empty(channels)
        for channel, value in enumerate(values):
            colour[channel].fill_(value)
        return colour[:, None, None].expand_as(images)


@dataclass(frozen=True)
class Blur:
    """Hidden segments show the image through a Gaussian blur of ``sigma`` pixels.

    The kernel is cut at 4 sigma; borders repeat their last pixel.

    Raises:
        ValueError: ``sigma`` is not a finite number above 0, or over 10 times the longer side of
            the images (its kernel would fill the memory, and change nothing).

    Example:
        >>> Blur(sigma=2.0)(torch.ones(1, 1, 5, 5), None).allclose(torch.ones(()))
        True
    """

    sigma: float = 10.0

    def __post_init__(self) -> None:
        check_positive(self.sigma, "sigma")

    def __call__(self, images: Tensor, segments: Segments) -> Tensor:
        """[B,C,H,W]: the blurred images."""
        from kornia.filters import filter2d_separable, get_gaussian_kernel1d

        check_images(images)
        if self.sigma > 10 * max(images.shape[2:]):
            raise ValueError(
                f"Blur's sigma of {self.sigma:g} pixels is far beyond the images' "
                f"{images.shape[2]}×{images.shape[3]}"
            )
        dtype = torch.promote_types(images.dtype, torch.float32)  # no half-precision sums
        sigma = images.new_full((1, 1), self.sigma, dtype=dtype)
        kernel = get_gaussian_kernel1d(2 * math.floor(4 * self.sigma + 0.5) + 1, sigma)
        with torch.autocast(images.device.type, enabled=False):
            blurred = filter2d_separable(images.to(dtype), kernel, kernel, "replicate")
        return blurred.to(images.dtype)
