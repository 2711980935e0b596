"""Photos: turns a file into the pixels that a network sees, and a picture to show.

Several people may send photos that are costly to decode. So all photos are decoded in one place, a
few at once. Only a photo's pixels and a small picture are kept.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from torchlime import models, plot
from torchlime.models import Classifier
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
AT_ONCE = 2  # photos are decoded; the others wait
_SLOTS = threading.BoundedSemaphore(AT_ONCE)


class Photo(NamedTuple):
    """A photo that is not decoded yet.

    Convention:
        name: the name of its file, whatever somebody called it.
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


def prepare(classifier: Classifier, photo: Photo) -> Prepared:
    """Decode a photo and cut it for a classifier; waits while others do so.

    Raises:
        ValueError: it was sent in none of :data:`FORMATS`, is damaged, or takes more than is
            allowed.
        Stopping: the server stops.
    """
    from torchvision.transforms.functional import pil_to_tensor

    with _SLOTS, WORK.one():
        image = _decoded(photo)
        pixels = classifier.preprocess(image)
        box = classifier.crop_box(image.size)
        shown, placed = plot.resized(pil_to_tensor(image), box, tuple(pixels.shape[2:]), MAX_SIDE)
    return Prepared(pixels, shown, placed, photo.name, photo.code)


def _decoded(photo: Photo) -> "Image.Image":
    """An upright RGB photo; only this function of the page decodes anything."""
    if isinstance(photo.file, Path):
        return models.read_photo_within(photo.file)
    return models.read_photo_within(photo.file, name=photo.name, formats=list(FORMATS))
