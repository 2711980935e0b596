"""scikit-image's SLIC as a segmenter: on the CPU, for one to three axes."""

import importlib
import math
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from torchlime._checks import check_count, check_positive, check_real, check_spatial
from torchlime._labelmap import Segments, dense_labels


@dataclass(frozen=True)
class ScikitSlic:
    """Superpixels and supervoxels by scikit-image: on the CPU, one image after the other.

    The images go to the host and the labels come back: use :class:`Slic` in a pipeline that must
    not wait. It takes series [B,C,L], images [B,C,H,W], and volumes or videos [B,C,D,H,W].

    Args:
        num_segments: about how many segments to ask for.
        compactness: weight of position against colour, on the scale of Lab whatever the channels,
            as for :class:`Slic`. (scikit-image gets a hundredth of it for colours that are not
            converted to Lab.)
        iterations: the most rounds of the k-means.
        sigma: standard deviation of a Gaussian blur that comes first, in pixels, or in the units of
            ``spacing``; 0 = no blur.
        spacing: the distance of two pixels along each axis, such as (5.0, 0.7, 0.7) for a scan of
            thick slices; None = 1 everywhere.
        min_size_factor: the smallest segment, as a share of the mean size. In (0, 1].

    Convention:
        Three channels of images and volumes are taken as sRGB; non-finite values count as 0. The
        ``bound`` is how many segments of the smallest size fit in the image.

    Raises:
        ImportError: scikit-image is not installed.
        TypeError, ValueError: a setting or the images are not as above.

    Source: ``skimage.segmentation.slic``.

    Example:
        >>> ScikitSlic(8)(torch.rand(1, 1, 8, 16, 16)).labels.shape
        torch.Size([1, 8, 16, 16])
    """

    num_segments: int = 50
    compactness: float = 10.0
    iterations: int = 10
    sigma: float = 0.0
    spacing: tuple[float, ...] | None = None
    min_size_factor: float = 0.5

    def __post_init__(self) -> None:
        check_count(self.num_segments, "num_segments")
        check_positive(self.compactness, "compactness")
        check_count(self.iterations, "iterations")
        check_real(self.sigma, "sigma")
        check_real(self.min_size_factor, "min_size_factor")
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma must be a finite number of at least 0, got {self.sigma!r}")
        if not 0 < self.min_size_factor <= 1:
            raise ValueError(f"min_size_factor must be in (0, 1], got {self.min_size_factor!r}")
        for distance in self.spacing or ():
            check_positive(distance, "a number of spacing")

    def __call__(self, images: Tensor) -> Segments:
        """Segments of images [B,C,*axes], on their device."""
        check_spatial(images)
        sides = tuple(images.shape[2:])
        if self.spacing is not None and len(self.spacing) != len(sides):
            raise ValueError(
                f"spacing must have a number for each of the {len(sides)} axes behind the "
                f"channels, got {self.spacing!r}"
            )
        pixels = images.detach().double().nan_to_num(0.0, 0.0, 0.0).movedim(1, -1).cpu()
        if len(sides) == 1:  # scikit-image takes no series
            pixels = pixels[:, None]
        in_lab = images.shape[1] == 3 and len(sides) > 1
        maps = torch.stack([self._labels(image, in_lab) for image in pixels])
        dense, count = dense_labels(maps.flatten(1))
        bound = self._bound(tuple(pixels.shape[1:-1]))
        labels = dense.view(-1, *sides).to(images.device)
        count = count.to(images.device)
        return Segments(labels, count, torch.ones_like(count, dtype=torch.bool), bound)

    def _labels(self, image: Tensor, in_lab: bool) -> Tensor:
        """Labels [*axes] of one image [*axes,C]; colours are compared in Lab, or as they are."""
        found = _scikit("skimage.segmentation").slic(
            image.numpy(),
            n_segments=self.num_segments,
            compactness=self.compactness if in_lab else self.compactness / 100,
            max_num_iter=self.iterations,
            sigma=self.sigma,
            spacing=self._spacing(image.dim() - 1),
            convert2lab=in_lab,
            min_size_factor=self.min_size_factor,
            start_label=0,
            channel_axis=-1,
        )
        return torch.from_numpy(found).long()

    def _spacing(self, axes: int) -> tuple[float, ...] | None:
        if self.spacing is None:
            return None
        return (1.0,) * (axes - len(self.spacing)) + tuple(self.spacing)

    def _bound(self, sides: tuple[int, ...]) -> int:
        """How many of the smallest segments fit: scikit-image merges what is smaller."""
        pixels = math.prod(sides)
        slices = _scikit("skimage.util").regular_grid((1, *sides)[-3:], self.num_segments)
        cells = math.prod(len(range(n)[s]) for n, s in zip((1, *sides)[-3:], slices, strict=True))
        return pixels // max(int(self.min_size_factor * (pixels / cells)), 1)


def _scikit(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError("ScikitSlic needs scikit-image: pip install 'torchlime[lime]'") from error
