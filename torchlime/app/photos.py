"""Photos: turns a file into the pixels that a network sees, and a picture to show.

Several people may send photos that are costly to decode. So one place decodes them all
(``models.read_photo_within``): those that are surely cheap at once, and the others a few at a time.
The page keeps no more of a photo than its pixels and a small picture.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from torchlime import models, plot
from torchlime.cli.serving import LIMITS
from torchlime.models import Classifier, Limits
from torchlime.server import WORK

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {  # what may be uploaded; Pillow reads others too, some by running other programs
    "BMP": ("bmp",),
    "GIF": ("gif",),
    "JPEG": ("jpg", "jpeg"),
    "PNG": ("png",),
    "TIFF": ("tif", "tiff"),
    "WEBP": ("webp",),
}
MAX_SIDE = 1000  # pixels of a picture


class Photo(NamedTuple):
    """A photo that is not decoded yet.

    Convention:
        name: the name of its file, which may be any text.
        file: its bytes, if it was sent; else its path.
        code: Python code that stands for the file.
    """

    name: str
    file: bytes | Path
    code: str


def sent(content: bytes, name: str) -> Photo:
    """A file that somebody sent."""
    return Photo(name, content, repr(name))


def in_folder(path: Path) -> Photo:
    """A file of the folder that may be looked at."""
    return Photo(path.name, path, repr(path.name))


def sample() -> Photo:
    """scikit-image's cat."""
    path = models.sample_photo()
    return Photo(path.name, path, "models.sample_photo()")


class Prepared(NamedTuple):
    """A photo as a network sees it, and as it is shown.

    Convention:
        pixels: [1,3,h,w] in [0,1], on the classifier's device.
        image: [3,H,W] uint8, at most :data:`MAX_SIDE` wide and high where that shows all pixels.
        box: where ``pixels`` lie in ``image``.
        name, code: those of the photo.
    """

    pixels: Tensor
    image: Tensor
    box: plot.Box
    name: str
    code: str


def prepare(classifier: Classifier, photo: Photo, limits: Limits = LIMITS) -> Prepared:
    """Decode a photo and cut it for a classifier; a costly one waits for other costly ones.

    Raises:
        ValueError: it was sent in none of :data:`FORMATS`, is damaged, or takes more than is
            allowed.
        Stopping: the server stops.
    """
    from torchvision.transforms.functional import pil_to_tensor

    with WORK.one():
        image = _decoded(photo, limits)
        pixels = classifier.preprocess(image, limits=limits)
        box = classifier.crop_box(image.size)
        shown, placed = plot.resized(pil_to_tensor(image), box, tuple(pixels.shape[2:]), MAX_SIDE)
    return Prepared(pixels, shown, placed, photo.name, photo.code)


def _decoded(photo: Photo, limits: Limits) -> "Image.Image":
    """An upright RGB photo; the one place where the page decodes anything."""
    if isinstance(photo.file, Path):
        return models.read_photo_within(photo.file, limits)
    return models.read_photo_within(photo.file, limits, name=photo.name, formats=list(FORMATS))
