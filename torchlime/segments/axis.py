"""One side of an image, cut into parts that differ by at most a pixel."""

from typing import NamedTuple

import torch
from torch import Tensor

from torchlime._host import kept


class Axis(NamedTuple):
    """A side of ``length`` pixels in ``parts`` parts; there are no more parts than pixels.

    Convention:
        Part i covers the pixels i·length//parts … (i+1)·length//parts − 1, so none is empty.
    """

    length: int
    parts: int

    @property
    def step(self) -> float:
        """The mean number of pixels of a part."""
        return self.length / self.parts

    @property
    def size(self) -> int:
        """Pixels of the longest part."""
        return -(-self.length // self.parts)

    def bounds(self, device: torch.device) -> Tensor:
        """Where each part starts, and where the last one ends: [parts+1] int64."""
        return torch.arange(self.parts + 1, device=device) * self.length // self.parts

    def tiles(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Pixels of each part, padded to one size: index and valid, [parts,size]."""
        bounds = self.bounds(device)
        index = bounds[:-1, None] + torch.arange(self.size, device=device)
        return index.clamp(max=self.length - 1), index < bounds[1:, None]

    @kept
    def padded_tiles(self, device: torch.device) -> Tensor:
        """The pixels of each part in turn, [parts·size]; ``length`` fills up a short part."""
        index, valid = self.tiles(device)
        return index.masked_fill(~valid, self.length).flatten()

    def part(self, device: torch.device) -> Tensor:
        """The part of each pixel: [length] int64, in steps of 0 or 1 from 0 to parts − 1.

        >>> Axis(7, 3).part(torch.device("cpu")).tolist()
        [0, 0, 1, 1, 2, 2, 2]
        """
        step, length = self.parts, self.length
        return torch.arange(step - 1, step * (length + 1) - 1, step, device=device) // length

    @kept
    def places(self, device: torch.device) -> Tensor:
        """The place of each pixel in the flat tiles, [length]: the inverse of ``tiles``."""
        part = self.part(device)
        pixel = torch.arange(self.length, device=device)
        return part * self.size + pixel - part * self.length // self.parts
