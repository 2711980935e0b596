"""Conversion of pictures between tensors and Pillow."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image


def image_of(picture: Tensor) -> "Image.Image":
    """A picture [3,H,W] as an image of its own pixels."""
    from PIL import Image

    return Image.fromarray(picture.cpu().permute(1, 2, 0).contiguous().numpy())


def tensor_of(image: "Image.Image") -> Tensor:
    """An RGB image as a picture [3,H,W]."""
    import numpy as np

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
