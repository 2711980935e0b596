"""Photos: turns a photo of any kind into an upright RGB picture of 8 bits a channel."""

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchlime._checks import check_count
from torchlime._extras import imported
from torchlime.models import decoding, headers
from torchlime.models.limits import Limits
from torchlime.models.reading import check_photo, from_array, read_file, upright_rgb

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    PhotoLike = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor


def read_photo(
    photo: "PhotoLike", *, page: int | None = None, limits: Limits | None = None
) -> "Image.Image":
    """An upright RGB photo of 8 bits a channel, whatever it came as.

    It is decoded in this process, however long that takes. For files of people that you do not
    know, see :func:`read_photo_within`.

    Args:
        photo: a path, a PIL image, an array [H,W,C] or [H,W], or a tensor [C,H,W] or [H,W]; C
            is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Numbers are uint8, uint16, bool,
            or floats in [0,1], which are rounded to 8 bits.
        page: of a file with several pages or frames, which one, from 1.
        limits: of its size; None = ``PIL.Image.MAX_IMAGE_PIXELS``. Of an opened file, Pillow
            checks that too.

    Convention:
        EXIF rotation is applied; transparency is composited on white; 16 bits are scaled to 8.
        For an animation, and for a photo with previews or layers, the first frame is read; for an
        opened image, the current frame. A file of several pages, such as a TIFF, needs ``page``.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        TypeError: ``photo`` is none of the above.
        ValueError: it cannot be decoded, is larger than allowed, is no regular file, or has
            several pages and none was chosen.
    """
    from PIL import Image

    check_page(page)
    if isinstance(photo, str | os.PathLike):
        check_photo(photo)
        return read_file(Path(photo), os.fspath(photo), limits, page=page)
    if page is not None:
        raise ValueError(f"page= goes with the path of a file, got a {type(photo).__name__}")
    if isinstance(photo, Image.Image):
        return upright_rgb(photo, name_of(photo), limits)
    return upright_rgb(_from_array(photo), name_of(photo), limits)


def read_photo_within(
    photo: str | os.PathLike[str] | bytes,
    limits: Limits | None = None,
    *,
    page: int | None = None,
    name: str | None = None,
    formats: Sequence[str] | None = None,
    decoder: decoding.Decoder | None = None,
) -> "Image.Image":
    """:func:`read_photo` for a file that may be hostile, within limits of time and memory.

    A file that its header proves to be cheap, as most photos are, is decoded in this process. Any
    other file is decoded in a separate process, which costs a tenth of a second. If that process
    crashes, hangs or fills its memory, the photo is refused. Any thread may call this.

    Args:
        photo: its path, or the bytes of its file.
        limits: None = ``Limits()``.
        page: which page or frame of a file with several, from 1.
        name: what to call it in a sentence; None = its path.
        formats: Pillow's names of the formats that are read, such as "JPEG"; None = all.
        decoder: a decoder of whole photos, which saves starting one for each photo. It has its own
            limits, serves one thread at a time, and is not ended.

    Raises:
        ValueError: :func:`read_photo` refuses it, it takes more than ``limits``, or it ends the
            process that decodes it.
        OSError: it is not there, or may not be read.
        models.NoDecoder: no process could be started.

    Example:
        >>> from PIL import Image
        >>> buffer = io.BytesIO()
        >>> Image.new("RGB", (60, 40)).save(buffer, "PNG")
        >>> read_photo_within(buffer.getvalue()).size
        (60, 40)
        >>> read_photo_within(buffer.getvalue(), Limits(pixels=1000), name="it.png")
        Traceback (most recent call last):
        ValueError: it.png is too large: 60×40 pixels are more than the 1000 that are allowed
        (pixels=, --max-pixels)
    """
    from PIL import Image

    check_page(page)
    limits = limits or Limits()
    if isinstance(photo, bytes):
        data, name = photo, name or "the photo"
    else:
        check_photo(photo)
        name = name or os.fspath(photo)
        with Path(photo).open("rb") as file:
            data = file.read(headers.MOST_BYTES + 1)
    headers.check_scans(data, name)
    if headers.is_cheap(data) or not decoding.POSSIBLE:
        return read_file(io.BytesIO(data), name, limits, page=page, formats=formats)
    with contextlib.ExitStack() as stack:
        if decoder is None:
            stack.enter_context(decoding.AT_ONCE)
            decoder = stack.enter_context(decoding.Decoder(limits))
        read = decoder.read(photo, name, page=page, formats=formats)
    return Image.frombytes("RGB", read.size, read.pixels)


def check_page(page: int | None) -> None:
    """Raise unless ``page`` is None or a number from 1."""
    if page is not None:
        check_count(page, "page")


def sample_photo() -> Path:
    """scikit-image's photo of a cat, which its package ships.

    Raises:
        ImportError: scikit-image is not installed.
    """
    data = imported("skimage.data", "the default photo", "demo")
    return Path(str(data.__file__)).with_name("chelsea.png")


def name_of(photo: "PhotoLike") -> str:
    """What to call a photo in a sentence."""
    if isinstance(photo, str | os.PathLike):
        return os.fspath(photo)
    return str(getattr(photo, "filename", "")) or f"the {type(photo).__name__} given as photo"


def _from_array(photo: Any) -> "Image.Image":
    """An array [H,W,C] or [H,W], or a tensor [C,H,W] or [H,W], as a PIL image."""
    import numpy as np

    if isinstance(photo, Tensor):
        values = photo.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        array = values.movedim(0, -1).numpy() if photo.dim() == 3 else values.numpy()
        return from_array(array, "[C,H,W]", photo)
    if isinstance(photo, np.ndarray):
        return from_array(photo)
    raise TypeError(
        f"a photo is a path, a PIL image, an array or a tensor, got {type(photo).__name__}"
    )
