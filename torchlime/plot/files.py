"""Pictures as PIL images and as PNG files."""

import os
from typing import IO, TYPE_CHECKING

from torch import Tensor

from torchlime._atomic import whole_file
from torchlime.plot._canvas import check_picture
from torchlime.plot._images import image_of

if TYPE_CHECKING:
    from PIL import Image


def to_pil(picture: Tensor) -> "Image.Image":
    """A picture [3,H,W] as a PIL image, which a notebook shows by itself.

    Raises:
        TypeError: ``picture`` is not a uint8 tensor [3,H,W].

    Example:
        >>> import torch
        >>> to_pil(torch.zeros(3, 2, 5, dtype=torch.uint8)).size
        (5, 2)
    """
    check_picture(picture)
    return image_of(picture)


def save_png(picture: "Tensor | Image.Image", path: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write ``picture`` as a PNG file, wholly or not at all.

    Args:
        picture: uint8 [3,H,W], or a PIL image.
        path: the file's path, or a file open for writing bytes, which stays open.

    Raises:
        TypeError: ``picture`` is neither.
        OSError: the file cannot be written there; the message names ``path``.

    Example:
        >>> import io, torch
        >>> file = io.BytesIO()
        >>> save_png(torch.zeros(3, 2, 5, dtype=torch.uint8), file)
        >>> file.getvalue()[1:4]
        b'PNG'
    """
    from PIL import Image

    image = picture if isinstance(picture, Image.Image) else to_pil(picture)
    if not isinstance(path, str | os.PathLike):
        image.save(path, "PNG")
        return
    with whole_file(path) as file:
        image.save(file, "PNG")
