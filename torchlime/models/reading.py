"""Reading: Pillow turns a photo's file into an upright RGB picture. Importing it loads no torch."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from torchlime._errors import first_line
from torchlime._files import check_file
from torchlime.models.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PIL import Image

# In these formats, what Pillow shows first is the photo; the other frames are an animation's,
# previews, depths or layers. In other formats, such as TIFF, they are pages.
_FIRST_IS_MEANT = frozenset({"GIF", "WEBP", "PNG", "AVIF", "MPO", "PSD", "FLI", "HEIF", "ICNS"})
_NEW_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101  # of TIFF 6.0: a smaller copy, or a mask
_MOST_PAGES = 10_000  # that are counted


def refuse_bombs() -> None:
    """Make Pillow's warning of a decompression bomb an error; its other warnings are not shown."""
    from PIL import Image

    warnings.filterwarnings("ignore", module="PIL")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def check_photo(path: str | os.PathLike[str]) -> None:
    """Raise unless ``path`` is a regular file that is not empty."""
    if check_file(path, "image") == 0:
        raise ValueError(f"{os.fspath(path)} is empty (0 bytes)")


def read_file(
    file: Path | BinaryIO,
    name: str,
    limits: Limits | None = None,
    *,
    page: int | None = None,
    formats: "Sequence[str] | None" = None,
) -> "Image.Image":
    """The upright RGB photo in a file.

    Args:
        file: its path, or an open file.
        name: what to call it in a sentence.
        limits: checked against its header; None = ``PIL.Image.MAX_IMAGE_PIXELS`` alone.
        page: which of several pages or frames, from 1.
        formats: Pillow's names of the formats that are read; None = all.

    Raises:
        ValueError: it cannot be decoded, is larger than allowed, or has several pages of which
            none was chosen.
        OSError: it may not be read.
    """
    from PIL import Image

    try:
        image = Image.open(file, formats=None if formats is None else list(formats))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name} claims to be too large: {error}") from error
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # UnidentifiedImageError, and what Pillow's readers let through
        raise ValueError(f"{name} is not an image that Pillow can read") from error
    with image:
        _turn_to(image, page, name)
        return upright_rgb(image, name, limits)


def check_size(width: int, height: int, name: str, limits: Limits | None = None) -> None:
    """Raise where ``name`` is larger than allowed; None = ``PIL.Image.MAX_IMAGE_PIXELS``."""
    from PIL import Image

    if limits is not None:
        limits.check(width, height, name)
        return
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(
            f"{name}: {width}×{height} pixels are more than the {limit} of "
            "PIL.Image.MAX_IMAGE_PIXELS"
        )


def _turn_to(image: Any, page: int | None, name: str) -> None:
    """Go to the page that was asked for; raise if one must be chosen, or does not exist."""
    if page is None and image.format in _FIRST_IS_MEANT:
        return
    if page is None and not getattr(image, "is_animated", False):
        return
    frames = _pages(image, page)
    if page is None and len(frames) > 1:
        raise ValueError(
            f"{name} has {len(frames)} pages: choose one with page=N (--page N), from 1, or save "
            "it as a file of its own"
        )
    if page is not None and page > len(frames):
        raise ValueError(f"{name} has {len(frames)} page{'s' * (len(frames) > 1)}, not {page}")
    try:
        image.seek(frames[(page or 1) - 1])
    except Exception as error:
        raise ValueError(
            f"{name}: page {page or 1} cannot be read ({first_line(error)})"
        ) from error


def _pages(image: Any, most: int | None) -> list[int]:
    """The frames that are pages of their own, up to ``most``; a TIFF may hold smaller copies."""
    pages = []
    for frame in range(_MOST_PAGES):
        try:
            image.seek(frame)
        except EOFError:
            break
        except Exception:  # a page that cannot be shown still counts
            if frame >= len(getattr(image, "_frame_pos", ())):
                break
        tags = getattr(image, "tag_v2", {})
        if not int(tags.get(_NEW_SUBFILE_TYPE, 0)) & _REDUCED_OR_MASK:
            pages.append(frame)
        if len(pages) == most:
            break
    return pages or [0]


def upright_rgb(image: "Image.Image", name: str, limits: Limits | None = None) -> "Image.Image":
    """Decode, turn and convert; damage of any kind becomes one sentence."""
    from PIL import Image, ImageOps

    check_size(*image.size, name, limits)
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode[0] in "IF":  # Pillow's own conversion clips them
            image = from_array(_wide_grey(image))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # decoders raise any error on damaged bytes
        raise ValueError(
            f"{name} is damaged or cannot be converted to RGB: {first_line(error)}"
        ) from error


def _wide_grey(image: "Image.Image") -> "np.ndarray[Any, Any]":
    """Grey of 16 bits (modes I;16 and I) as uint16; grey of floats (mode F) as it is."""
    import numpy as np

    values = np.asarray(image)
    if image.mode == "F":
        return values
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its values run from {values.min()} to {values.max()}, not 0 to 65535")
    return values.astype(np.uint16)


def from_array(array: "np.ndarray[Any, Any]", axes: str = "[H,W,C]", given: Any = None) -> Any:
    """An array [H,W,C] or [H,W] as a PIL image.

    Args:
        array: uint8, uint16, bool, or floats in [0,1].
        axes: the layout of the caller's own value, for the error messages.
        given: that value; None = the array.
    """
    import numpy as np
    from PIL import Image

    given = array if given is None else given
    if array.ndim not in (2, 3) or 0 in array.shape or array.shape[2:] not in (
        (), (1,), (2,), (3,), (4,),
    ):  # fmt: skip
        raise ValueError(
            f"a photo given as {type(given).__name__} is {axes} with C of 1 to 4, or [H,W], "
            f"got {list(given.shape)}"
        )
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"a photo of {array.dtype} has values in [0,1], got {array.min()} to "
                f"{array.max()}; pass 0 to 255 as uint8"
            )
        array = array * 255
    elif array.dtype == np.bool_:
        array = array * 255.0
    elif array.dtype == np.uint16:
        array = array / 257
    elif array.dtype != np.uint8:
        raise TypeError(f"a photo is of uint8, uint16, bool or floats, got {array.dtype}")
    array = np.ascontiguousarray(np.rint(array).astype(np.uint8))
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
