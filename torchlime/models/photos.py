"""Photos: whatever one came as → an upright RGB picture of 8 bits a channel."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchlime._errors import first_line

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Photo = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor


def read_photo(photo: "Photo") -> "Image.Image":
    """An upright RGB photo of 8 bits a channel, whatever it came as.

    Args:
        photo: a path, a PIL image, an array [H,W,C] or [H,W], or a tensor [C,H,W] or [H,W]; C
            is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Numbers are uint8, uint16, bool,
            or floats in [0,1], which are rounded to 8 bits.

    Convention:
        EXIF rotation is applied; transparency is composited on white; 16 bits are scaled to 8;
        of an animation the first frame is read (of an opened one, the current frame).

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        TypeError: ``photo`` is none of the above.
        ValueError: it cannot be decoded, or is larger than ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    from PIL import Image

    if isinstance(photo, str | os.PathLike):
        path = Path(photo)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder, not an image")
        if not path.exists():
            raise FileNotFoundError(f"there is no image {path}")
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty (0 bytes)")
        try:
            image = Image.open(path)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"{path} claims to be too large: {error}") from error
        except PermissionError:
            raise
        except Exception as error:  # UnidentifiedImageError, and what Pillow's readers let through
            raise ValueError(f"{path} is not an image that Pillow can read") from error
        with image:
            return _upright_rgb(image, str(path))
    if isinstance(photo, Image.Image):
        return _upright_rgb(photo, name_of(photo))
    return _upright_rgb(_from_array(photo), name_of(photo))


def refuse_bombs() -> None:
    """Make Pillow's warning of a decompression bomb an error; its other warnings are not shown."""
    from PIL import Image

    warnings.filterwarnings("ignore", module="PIL")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def sample_photo() -> Path:
    """scikit-image's photo of a cat, which its package ships.

    Raises:
        ImportError: scikit-image is not installed.
    """
    try:
        import skimage.data
    except ImportError as error:
        raise ImportError(
            "the default photo comes with scikit-image: pip install 'torchlime[demo]', "
            "or name a photo of your own"
        ) from error
    return Path(skimage.data.__file__).with_name("chelsea.png")


def name_of(photo: "Photo") -> str:
    """What to call a photo in a sentence."""
    if isinstance(photo, str | os.PathLike):
        return os.fspath(photo)
    return str(getattr(photo, "filename", "")) or f"the {type(photo).__name__} given as photo"


def check_size(width: int, height: int, name: str) -> None:
    """Raise where ``name`` has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(
            f"{name}: {width}×{height} pixels are more than the {limit} of "
            "PIL.Image.MAX_IMAGE_PIXELS"
        )


def _upright_rgb(image: "Image.Image", name: str) -> "Image.Image":
    """Decode, turn and convert; damage of any kind becomes one sentence."""
    from PIL import Image, ImageOps

    check_size(*image.size, name)
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode[0] in "IF":  # Pillow's own conversion clips them
            image = _from_array(_wide_grey(image))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like on damaged bytes
        raise ValueError(
            f"{name} is damaged or cannot be converted to RGB: {first_line(error)}"
        ) from error


def _wide_grey(image: "Image.Image") -> "np.ndarray[Any, Any]":
    """Grey of 16 bits (modes I;16 and I) as uint16; of floats (mode F) as they are."""
    import numpy as np

    values = np.asarray(image)
    if image.mode == "F":
        return values
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its values run from {values.min()} to {values.max()}, not 0 to 65535")
    return values.astype(np.uint16)


def _from_array(photo: Any) -> "Image.Image":
    """An array [H,W,C] or [H,W], or a tensor [C,H,W] or [H,W], as a PIL image."""
    import numpy as np
    from PIL import Image

    if isinstance(photo, Tensor):
        values = photo.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        array = values.movedim(0, -1).numpy() if photo.dim() == 3 else values.numpy()
        axes = "[C,H,W]"
    elif isinstance(photo, np.ndarray):
        array, axes = photo, "[H,W,C]"
    else:
        raise TypeError(
            f"a photo is a path, a PIL image, an array or a tensor, got {type(photo).__name__}"
        )
    if array.ndim not in (2, 3) or 0 in array.shape or array.shape[2:] not in (
        (), (1,), (2,), (3,), (4,),
    ):  # fmt: skip
        raise ValueError(
            f"a photo given as {type(photo).__name__} is {axes} with C of 1 to 4, or [H,W], "
            f"got {list(photo.shape)}"
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
