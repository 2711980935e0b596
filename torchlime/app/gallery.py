"""Gallery: the photos of a folder by class, with what a job found in them before."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

import torch
from torch import Tensor

from torchlime import models, plot
from torchlime.app.classifiers import Answer
from torchlime.app.explained import Explained
from torchlime.app.photos import MAX_SIDE, Prepared
from torchlime.explanation import label_map_of
from torchlime.folders import RECORD, SUFFIXES, path_of, photos_in
from torchlime.models import Limits
from torchlime.server import WORK

if TYPE_CHECKING:
    from torchlime.jobs.explanations import Explanations
    from torchlime.jobs.rows import Row

THUMB_SIDE = 480  # pixels of a picture in the gallery, as in a job's report
_UNITS = {"softmax": "probability", "sigmoid": "probability", "logit": "logit"}


class Item(NamedTuple):
    """A photo of the gallery.

    Convention:
        id: as :class:`torchlime.folders.PhotoFile` has it.
        name: its file's name.
        path: its file; None if the id names none within the folder.
        said: what the model predicted in it, in a job; "" without a job.
        error: why the job could not explain it; None if it could, or there is no job.
    """

    id: str
    name: str
    path: Path | None
    said: str = ""
    error: str | None = None


class Gallery:
    """The photos of a folder by class: photos/<class>/…, or what a job explained of these.

    Args:
        folder: of photos, or of a job's results.

    Attributes:
        job: the explanations of a job; None if the folder holds photos.
        classes: the photos of each class, in the order of their ids; those without a class last.

    Raises:
        ValueError: a file of the job is damaged, or there are no photos.
        OSError: the folder cannot be read.
        ImportError: the folder holds a job's results, and the packages that read them are missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job: Explanations | None = None
        if (folder / RECORD).is_file():
            from torchlime import jobs

            self.job = jobs.read(folder)
            if self.job.of_table:
                raise ValueError(
                    f"{folder} holds results of a table, which has no photos: make a page of them "
                    f"with torchlime report {folder} --out report.html"
                )
        found: dict[str | None, list[Item]] = {}
        for name, item in sorted(self._items(), key=lambda pair: pair[1].id):
            found.setdefault(name, []).append(item)
        if not found:
            raise ValueError(f"there is no photo in {folder.name}")
        ordered = sorted(found, key=lambda name: (name is None, name or ""))
        self.classes: dict[str | None, list[Item]] = {name: found[name] for name in ordered}

    def _items(self) -> Iterator[tuple[str | None, Item]]:
        if self.job is None:
            for photo in photos_in(self.folder):
                yield photo.class_name, Item(photo.id, photo.path.name, photo.path)
            return
        for id_, name, error, predicted, share in self.job.rows(
            "id", "class", "error", "predicted_name", "probability"
        ):
            said = (predicted or "") + ("" if share is None else f", {share:.1%}")
            path = within(self.job.photos, id_)
            yield name, Item(id_, os.fsdecode(_last(id_)), path, said, error)

    def thumb(self, item: Item, limits: Limits) -> Tensor:
        """A small picture: the evidence on the photo if there is any, else the photo: [3,h,w].

        Raises:
            OSError, ValueError: there is no evidence, and the photo cannot be read.
        """
        with WORK.one():
            if self.job is not None and item.error is None:
                from torchlime.jobs.pictures import overlays

                row = self.job.row(item.id)
                photo = item.path or Path(os.devnull)  # not readable: only the evidence is shown
                return overlays(self.job[item.id], photo, tuple(row["box"]), THUMB_SIDE, limits)
            if item.path is None:
                raise FileNotFoundError("there is no such file")
            image, box = _read(item.path, limits)
            return plot.resized(image, box, (1, 1), THUMB_SIDE)[0]

    def explained(self, item: Item, limits: Limits) -> "Stored":
        """What the job found in a photo; nothing is computed."""
        assert self.job is not None
        row, explanation = self.job.row(item.id), self.job[item.id]
        unit = _UNITS.get(self.job.settings.get("output", ""), "score")
        answers = [
            Answer(target, name, f"{score:.1%}" if unit == "probability" else f"{score:.4g}", None)
            for target, name, score in zip(
                row["targets"], row["target_names"], row["scores"], strict=True
            )
        ]
        with WORK.one():
            photo = _shown(row, item, tuple(label_map_of(explanation).shape[1:]), limits)
        return Stored(explanation, photo, answers, unit, self.folder.name, item.id)


def within(root: Path, photo_id: str) -> Path | None:
    """The photo with this id, if it lies in the folder: a job's rows may name anything.

    >>> within(Path("photos"), "tabby%20cat/1.jpg").as_posix()
    'photos/tabby cat/1.jpg'
    >>> [within(Path("photos"), one) for one in ("..%2f1.jpg", "%2fetc/1.jpg", "x/passwd")]
    [None, None, None]
    """
    relative = PurePosixPath(os.fsdecode(unquote_to_bytes(photo_id)))
    inside = not relative.is_absolute() and not any(
        part.startswith(".") or "\0" in part for part in relative.parts
    )
    return path_of(root, photo_id) if inside and relative.suffix.lower() in SUFFIXES else None


def _last(photo_id: str) -> bytes:
    return unquote_to_bytes(photo_id).rpartition(b"/")[2]


def _read(path: Path, limits: Limits) -> tuple[Tensor, plot.Box]:
    """A photo [3,H,W], and the box of all of it."""
    from torchvision.transforms.functional import pil_to_tensor

    image = pil_to_tensor(models.read_photo_within(path, limits))
    return image, (0, 0, image.shape[2], image.shape[1])


def _shown(row: "Row", item: Item, seen: tuple[int, ...], limits: Limits) -> Prepared:
    """The photo of a row; white where it can no longer be read."""
    code = repr(item.name)
    box: plot.Box = tuple(row["box"])
    try:
        if item.path is None:
            raise FileNotFoundError
        image, _ = _read(item.path, limits)
    except (OSError, ValueError):
        image, box = torch.full((3, *seen), 255, dtype=torch.uint8), (0, 0, seen[1], seen[0])
    shown, box = plot.resized(image, box, seen, MAX_SIDE)
    return Prepared(torch.empty(1, 3, *seen), shown, box, item.name, code)


@dataclass(frozen=True, eq=False)
class Stored(Explained):
    """An explanation that a job made.

    Attributes:
        folder: the name of the job's folder.
        id: of the photo.
    """

    folder: str
    id: str

    def snippet(self, top: int, opacity: float) -> str:
        """Python that reads the explanation again."""
        return _SNIPPET.format(
            folder=self.folder,
            id=self.id,
            file=self.file_name(".png"),
            top=top,
            opacity=opacity,
            max_side=MAX_SIDE,
        )


_SNIPPET = '''\
"""An explanation of a job, and its picture."""

from torchvision.transforms.functional import pil_to_tensor

from torchlime import jobs, models, plot
from torchlime.folders import path_of

found = jobs.read({folder!r})
explanation = found[{id!r}]
box = tuple(found.row({id!r})["box"])
photo = pil_to_tensor(models.read_photo(path_of(found.photos, {id!r})))
seen = tuple(explanation.segments.shape[-2:])
image, box = plot.resized(photo, box, seen, max_side={max_side})
overlays = [
    plot.overlay(explanation, image, target, top={top}, opacity={opacity}, box=box)
    for target in explanation.targets[0].tolist()
]
plot.save_png(plot.side_by_side(*overlays), {file!r})
'''
