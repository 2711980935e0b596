"""images, segments → what a hidden segment shows [B,C,H,W].

Convention:
    A fill lives in the pixel space of the images it is given, keeps their dtype and device, and
    never modifies them. A tensor that broadcasts to [B,C,H,W] is a fill too.

    Images may be inputs of any rank: series [B,C,L], volumes and videos [B,C,D,H,W]. For vectors
    [B,F] and for integer ids, use :class:`Constant` or a tensor.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchlime._checks import check_inputs, check_positive, check_real
from torchlime._labelmap import Segments, over_channels, segment_means
from torchlime._precision import solve_dtype
from torchlime._softmap import SoftSegments, soft_means
from torchlime._undisturbed import without_autocast


@dataclass(frozen=True)
class SegmentMean:
    """Each hidden segment shows its own mean colour (Ribeiro et al. 2016's choice for images).

    Soft segments that share a pixel show the mean of their means, weighted by their shares.

    Example:
        >>> image = torch.tensor([[[[0.0, 1.0, 5.0]]]])
        >>> labels, count, ok = torch.tensor([[[0, 0, 1]]]), torch.tensor([2]), torch.tensor([True])
        >>> SegmentMean()(image, Segments(labels, count, ok, bound=2)).flatten().tolist()
        [0.5, 0.5, 5.0]
    """

    def __call__(self, images: Tensor, segments: Segments) -> Tensor:
        """In the shape of the images: the mean of each pixel's segment, in each channel."""
        _check_floats(images, self)
        if isinstance(segments, SoftSegments):
            return soft_means(images, segments).to(images.dtype)
        means = segment_means(images, segments)
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
        """In the shape of the images: the mean of each channel."""
        _check_floats(images, self)
        axes = tuple(range(2, images.dim()))
        means = images.to(solve_dtype(images.device)).mean(dim=axes, keepdim=True)
        return means.to(images.dtype).expand_as(images)


@dataclass(frozen=True)
class Constant:
    """Hidden segments show one colour: a number, or a number for each channel.

    For vectors [B,F], every feature is a channel.

    Raises:
        TypeError: when called with integers, a number is not whole.
        ValueError: when called, the images have another number of channels.

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
        """In the shape of the images: the colour."""
        if not _has_integers(images):
            check_inputs(images)
        channels = images.shape[1]
        values = self.value if isinstance(self.value, tuple) else (self.value,) * channels
        if len(values) != channels:
            raise ValueError(
                f"Constant has {len(values)} values, the images have {channels} channels"
            )
        if not images.is_floating_point():
            _check_whole(values, images.dtype)
        colour = images.new_empty(channels)
        for channel, value in enumerate(values):
            colour[channel].fill_(value)
        return colour.view(-1, *[1] * (images.dim() - 2)).expand_as(images)


def _has_integers(images: object) -> bool:
    """Whether these are integers or bools [B,F,…], as one of several inputs may be."""
    floats = not isinstance(images, Tensor) or images.is_floating_point() or images.is_complex()
    return not floats and images.dim() > 1  # type: ignore[attr-defined]


def _check_whole(values: tuple[float, ...], dtype: torch.dtype) -> None:
    """Raise unless an integer dtype holds the values as they are."""
    if any(not math.isfinite(value) or value != int(value) for value in values):
        raise TypeError(f"Constant must be whole for inputs of {dtype}, got {values}")
    span = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    if not span[0] <= min(values) <= max(values) <= span[1]:
        raise ValueError(
            f"Constant must lie in {span[0]}…{span[1]} for inputs of {dtype}, got {values}"
        )


@dataclass(frozen=True)
class Blur:
    """Hidden segments show the image through a Gaussian blur of ``sigma`` pixels.

    The kernel is cut off at 4 sigma; borders repeat their last pixel. It blurs along every axis
    after the channels, so in a video also along time.

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
        """In the shape of the images: the images, blurred."""
        _check_floats(images, self)
        axes = images.shape[2:]
        if self.sigma > 10 * max(axes):
            raise ValueError(
                f"Blur's sigma of {self.sigma:g} pixels is far beyond the images' "
                f"{'×'.join(map(str, axes))}"
            )
        dtype = torch.promote_types(images.dtype, torch.float32)  # no half-precision sums
        with without_autocast(images.device):
            return _blurred(images.to(dtype), self.sigma).to(images.dtype)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    from kornia.filters import filter2d_separable, get_gaussian_kernel1d

    reach = math.floor(4 * sigma + 0.5)
    kernel = get_gaussian_kernel1d(2 * reach + 1, images.new_full((1, 1), sigma))
    if images.dim() == 4:
        return filter2d_separable(images, kernel, kernel, "replicate")
    for axis in range(2, images.dim()):
        lines = images.movedim(axis, -1)
        padded = pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        blurred = torch.nn.functional.conv1d(padded, kernel[None])
        images = blurred.view(lines.shape).movedim(-1, axis)
    return images


def _check_floats(images: Tensor, fill: object) -> None:
    """Raise unless ``images`` are floats with axes after the channels, as a computed fill needs."""
    check_inputs(images)
    if images.dim() == 2 or not images.is_floating_point():
        raise ValueError(
            f"{fill!r} needs float inputs [B,C,…] with axes behind the channels, got "
            f"{images.dtype} {list(images.shape)}; pass fill=Constant(…), or a tensor of baselines"
        )
