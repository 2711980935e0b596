"""A grid of rectangles."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_count, check_images
from torchlime._labelmap import Segments
from torchlime.segments.axis import Axis


@dataclass(frozen=True)
class Grid:
    """``rows`` × ``cols`` rectangles, the same for every image, whose sides differ by at most 1.

    Convention:
        Ids run row by row; rectangle (i, j) covers rows i·H//rows … (i+1)·H//rows − 1.

    Raises:
        ValueError: when called with images of fewer pixels than rows or columns.

    Example:
        >>> Grid(1, 2)(torch.zeros(1, 3, 2, 4)).labels.tolist()
        [[[0, 0, 1, 1], [0, 0, 1, 1]]]
    """

    rows: int
    cols: int

    def __post_init__(self) -> None:
        check_count(self.rows, "rows")
        check_count(self.cols, "cols")

    def __call__(self, images: Tensor) -> Segments:
        """Segments of images [B,C,H,W]; ``bound`` is the exact count."""
        check_images(images)
        batch, _, height, width = images.shape
        if self.rows > height or self.cols > width:
            raise ValueError(
                f"Grid({self.rows}, {self.cols}) does not fit images of {height}×{width} pixels"
            )
        row = Axis(height, self.rows).part(images.device)
        column = Axis(width, self.cols).part(images.device)
        labels = row[:, None] * self.cols + column
        bound = int(self.rows * self.cols)
        count = torch.full((batch,), bound, device=images.device)
        ok = torch.ones(batch, dtype=torch.bool, device=images.device)
        return Segments(labels.expand(batch, -1, -1), count, ok, bound)
