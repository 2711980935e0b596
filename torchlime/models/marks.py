"""Marks: the part of each photo whose scores are explained, in the photo's own pixels."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from torchlime._files import bytes_of
from torchlime.folders import id_of, path_of
from torchlime.models.classifier import Classifier, cut_photo
from torchlime.models.limits import Limits
from torchlime.models.photos import read_photo_within
from torchlime.targets import Box, Region

if TYPE_CHECKING:
    from PIL import Image

Corners = tuple[float, float, float, float]
_LARGEST_TABLE = 2**26  # bytes
_COLUMNS = ("photo", "x0", "y0", "x1", "y1")


class RawOutputs(nn.Module):
    """A classifier's network from pixels [n,3,H,W] in [0,1] to whatever it returns.

    Segmentation networks and detectors give no class scores [n,K]; Region and Box take these.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> Any:
        """The network's outputs of normalised pixels."""
        own = self.classifier
        normalised = (pixels - own.mean) / own.std
        dtypes = (p.dtype for p in own.network.parameters() if p.is_floating_point())
        return own.network(normalised.to(next(dtypes, normalised.dtype)))


class Mark(NamedTuple):
    """A photo's own region [H,W] or box in what the network sees, and where they come from.

    ``file`` is that of the region; ``box`` is in pixels of the photo.
    """

    region: Tensor | None = None
    seen: Corners | None = None
    file: str | None = None
    box: Corners | None = None


@dataclass(frozen=True)
class Marks:
    """Which part of photos is explained: a region or a box each.

    Args:
        region: a black-and-white picture of each photo's size, white inside; or a folder of
            them, named as the photos are: ``masks/cats/1.png`` for ``photos/cats/1.jpg``.
        boxes: (x0, y0, x1, y1) in pixels of every photo; or by the ids of photos, see
            :func:`boxes_in`.

    Raises:
        ValueError: there are both, or none.
    """

    region: str | os.PathLike[str] | None = None
    boxes: Corners | Mapping[str, Corners] | None = None

    def __post_init__(self) -> None:
        if (self.region is None) == (self.boxes is None):
            raise ValueError("marks are a region or boxes, one of both")

    def of(
        self,
        classifier: Classifier,
        photo_id: str,
        size: tuple[int, int],
        limits: Limits | None = None,
    ) -> Mark:
        """The mark of a photo of (width, height) ``size``.

        Raises:
            ValueError: the photo has none, or it does not fit the photo or what the network sees.
            OSError: its file is not there, or may not be read.
        """
        if self.region is not None:
            path = _file_of(Path(self.region), photo_id)
            return Mark(region=region_of(path, classifier, size, limits), file=str(path))
        box = self.boxes.get(photo_id) if isinstance(self.boxes, Mapping) else self.boxes
        if box is None:
            raise ValueError(f"the table of boxes has none for {photo_id}")
        return Mark(seen=classifier.geometry.seen(box, size), box=box)

    def scores(
        self,
        marks: Sequence[Mark],
        classes: Sequence[int],
        top: int,
        output: str,
        device: torch.device,
    ) -> Region | Box:
        """The scores of photos with these marks.

        Args:
            marks: one for each photo of a call; their photos have one size.
            classes: to explain; none = the best of each mark.
            top: how many of the best classes of a region, where there are no ``classes``.
            output: of the classifier, which says in what unit a region's scores are.
            device: of the classifier.
        """
        chosen = torch.tensor([list(classes)], device=device) if classes else None
        if self.region is None:
            seen = torch.tensor([mark.seen for mark in marks], device=device)
            return Box(seen[:, None], chosen)
        masks = torch.stack([mark.region for mark in marks if mark.region is not None])
        unit = output if output in ("softmax", "sigmoid") else "logit"
        return Region(masks.to(device), chosen, 1 if classes else top, unit)

    def __str__(self) -> str:
        """In words, for the identity of a job; a row tells its own box."""
        if self.region is not None:
            return f"the region {os.fspath(self.region)}"
        return "boxes of a table" if isinstance(self.boxes, Mapping) else f"the box {self.boxes}"


def region_of(
    path: Path, classifier: Classifier, size: tuple[int, int], limits: Limits | None = None
) -> Tensor:
    """The mask [H,W] bool of what the network sees, from a picture of the photo's size.

    A pixel is inside if it is brighter than half of the brightest one, so that 0 and 255, or 0 and
    1, mean the same. The network's picture is cut from the mask as it is from the photo.

    Raises:
        ValueError: it has another size than the photo, or transparency; or no pixel is inside.
        OSError: it is not there, or may not be read.
    """
    import numpy as np
    from PIL import Image

    picture = read_photo_within(path, limits)
    with Image.open(path) as header:
        if header.has_transparency_data:
            raise ValueError(f"{path} is transparent in parts: save the mask as black and white")
    if picture.size != size:
        (width, height), (own_width, own_height) = size, picture.size
        raise ValueError(
            f"{path} is {own_width}×{own_height} pixels, but the photo is {width}×{height}: a mask "
            "has the size of its photo"
        )
    values = np.asarray(picture.convert("L"))
    if not values.any():
        raise ValueError(f"{path} is black all over: no pixel is inside the region")
    inside = Image.fromarray((values > values.max() / 2).astype(np.uint8) * 255)
    return _cut(inside, classifier, path, limits)


def _cut(
    inside: "Image.Image", classifier: Classifier, path: Path, limits: Limits | None
) -> Tensor:
    pixels = cut_photo(
        inside.convert("RGB"), classifier.geometry, classifier.cut, str(path), limits
    )
    mask = pixels[0] >= 0.5
    if not bool(mask.any()):
        raise ValueError(
            f"the region in {path} lies outside of what the network sees of the photo, which is "
            f"the box {classifier.crop_box(inside.size)}, or is too small for it"
        )
    return mask


def _file_of(region: Path, photo_id: str) -> Path:
    """The mask of a photo: the file itself, or the one in the folder that has the photo's name."""
    if not region.is_dir():
        return region
    wanted = path_of(region, photo_id)
    possible = [wanted.with_suffix(suffix) for suffix in (".png", wanted.suffix)]
    for path in possible:
        if path.is_file():
            return path
    raise FileNotFoundError(f"there is no mask {possible[0]}")


def boxes_in(path: str | os.PathLike[str]) -> dict[str, Corners]:
    """The boxes of a table, by the ids of photos.

    It is a CSV file with the columns photo, x0, y0, x1 and y1 and perhaps others; ``photo`` is the
    photo's path in its folder, such as ``cats/1.jpg``.

    Raises:
        ValueError: it is no such table; the message names the line.
        OSError: it cannot be read.
    """
    try:
        text = bytes_of(path, "table of boxes", _LARGEST_TABLE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{os.fspath(path)} is no text in UTF-8 ({error}): save the table as CSV, UTF-8"
        ) from error
    lines = csv.DictReader(io.StringIO(text))
    missing = [name for name in _COLUMNS if name not in (lines.fieldnames or ())]
    if missing:
        raise ValueError(
            f"{os.fspath(path)} must have the columns {', '.join(_COLUMNS)}; it lacks "
            f"{', '.join(missing)}"
        )
    boxes: dict[str, Corners] = {}
    for line in lines:
        where = f"{os.fspath(path)}, line {lines.line_num}"
        try:
            box = corners(",".join(line[name] or "" for name in _COLUMNS[1:]))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if not line["photo"]:
            raise ValueError(f"{where}: the photo has no name")
        photo_id = id_of(Path(line["photo"]))
        if photo_id in boxes:
            raise ValueError(f"{where}: {line['photo']} has a box already; give it one")
        boxes[photo_id] = box
    return boxes


def corners(word: str) -> Corners:
    """A typed box.

    >>> corners("10,20,30.5,40")
    (10.0, 20.0, 30.5, 40.0)

    Raises:
        ValueError: it is none.
    """
    try:
        x0, y0, x1, y1 = (float(part) for part in word.split(","))
    except ValueError:
        raise ValueError(f"{word!r} is no box x0,y0,x1,y1") from None
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError(f"the box {word} must have four finite numbers")
    if not (x0 < x1 and y0 < y1):
        raise ValueError(
            f"the box {word} is empty: x0 must be below x1, and y0 below y1; it is not x, y, "
            "width and height"
        )
    return x0, y0, x1, y1
