"""Large images: the segments of a reduced copy, enlarged."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_count, check_made, check_spatial
from torchlime._labelmap import Segments, as_segments
from torchlime.segments.axis import Axis


@dataclass(frozen=True)
class Reduced:
    """Segments of a copy that is reduced to ``max_side``, enlarged to the image.

    It is for large photos and volumes: the segmentation takes the time and memory of the copy. All
    axes behind the channels shrink alike, so ``Reduced(Slic(), max_side=128)`` pools a scan of
    512×512×100 by 4.

    The image is cut into one block for each pixel of the copy. The sides of the blocks differ by at
    most a pixel. The mean of a block becomes its pixel in the copy. Then every pixel of the block
    gets the label of that pixel.

    Args:
        segmenter: images [B,C,*axes] → Segments, as :class:`~torchlime.segments.Slic` gives them,
            or a label map that ``explain(segments=)`` would take.
        max_side: the longest side of the copy, in pixels. An image that is no larger goes to the
            segmenter as it is.

    Convention:
        Block (i, j) of h×w covers the rows i·H//h … (i+1)·H//h − 1, and the columns likewise.
        Non-finite pixels count as 0, as in Slic; the copy has the dtype of the images. Elementwise
        operations add up a mean in one order, and the mean of equal pixels is their value. So
        segments are the same, bit for bit, in any batch, if those of the segmenter are.

    Segments that are connected in the copy stay connected, and ids that are dense stay dense: no
    block is empty, a block is connected, and the blocks of neighbouring pixels share a whole side.

    Raises:
        TypeError: the segmenter is not callable or gives no segments, ``max_side`` is not an int,
            or the images are not float.
        ValueError: ``max_side`` is below 1, or the images do not have 1 to 3 axes behind the
            channels.

    Example:
        >>> from torchlime.segments import Grid
        >>> Reduced(Grid(1, 2), max_side=3)(torch.zeros(1, 3, 2, 7)).labels.tolist()
        [[[0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]]]
    """

    segmenter: Callable[[Tensor], Segments | Tensor]
    max_side: int = 1024

    def __post_init__(self) -> None:
        check_made(self.segmenter, "segmenter")
        if not callable(self.segmenter):
            raise TypeError(f"segmenter must be callable, got {type(self.segmenter).__name__}")
        check_count(self.max_side, "max_side")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Segments:
        """Segment ``images`` [B,C,*axes], float of any precision and range."""
        check_spatial(images)
        sides = images.shape[2:]
        longest = max(sides)
        if longest <= self.max_side:
            return self._segments(images)
        axes = [_reduced(side, longest, int(self.max_side)) for side in sides]
        copy = images
        for dim in range(images.dim() - 1, 1, -1):
            copy = _means(copy, axes[dim - 2], dim)
        found = self._segments(copy.to(images.dtype))
        # torch 2.11 does not compile _replace().
        return Segments(_enlarged(found.labels, axes), *found[1:])

    def _segments(self, images: Tensor) -> Segments:
        found = self.segmenter(images)
        if not isinstance(found, Segments):
            found = as_segments(found, images)
        labels = found.labels
        channels = labels.shape[1 : -len(images.shape[2:])]  # if each channel has its own map
        return found._replace(labels=labels.expand(len(labels), *channels, *images.shape[2:]))


def _reduced(side: int, longest: int, max_side: int) -> Axis:
    """``side`` reduced by ``max_side / longest``, rounded, but at least a pixel."""
    return Axis(side, max(1, (2 * side * max_side + longest) // (2 * longest)))


def _means(images: Tensor, axis: Axis, dim: int) -> Tensor:
    """The mean of each of the axis's parts along ``dim``, in float32 at least.

    The sum x₀ + Σ (xⱼ/n − x₀/n) cannot overflow, and gives x₀ where all are equal.
    """
    index, valid = axis.tiles(images.device)
    shape = (-1, *[1] * (images.dim() - 1 - dim))
    count = valid.sum(dim=1).view(shape)

    def pixels(place: int) -> Tensor:
        taken = images.index_select(dim, index[:, place])
        return taken.to(torch.promote_types(images.dtype, torch.float32)).nan_to_num_(0, 0, 0)

    means = pixels(0)
    first = means / count
    for place in range(1, axis.size):
        step = pixels(place).div_(count).sub_(first)
        means += step.masked_fill_(~valid[:, place].view(shape), 0)
    return means


def _enlarged(labels: Tensor, axes: list[Axis]) -> Tensor:
    """Labels […,*sides of the copy] → […,*sides of the image]."""
    first = labels.dim() - len(axes)
    for place in reversed(range(len(axes))):
        labels = labels.index_select(first + place, axes[place].part(labels.device))
    return labels
