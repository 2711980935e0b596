"""Folders of photos, root/<class>/… or flat, and the class that a name means."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

# The names of the record and of the folder of pictures in a job's folder.
RECORD, PICTURES = "_job.json", "_pictures"
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".gif", ".bmp", ".webp", ".avif", ".tif",
    ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip


class PhotoFile(NamedTuple):
    """A file that is a photo by its name.

    Convention:
        id: the path relative to the listed folder, with percent-encoded bytes and ``/`` between
            its parts. It is ASCII, and the same wherever the folder lies.
        class_name: the first-level folder that holds the photo, or None.
    """

    path: Path
    id: str
    class_name: str | None


def photos_in(root: str | os.PathLike[str]) -> list[PhotoFile]:
    """The photos in a folder and all folders below it, in the order of their ids.

    A file with one of :data:`SUFFIXES`, in upper or lower case, is a photo; its reader finds out
    whether it can be read. Hidden files and folders are left out. The pictures that a job drew are
    left out too, unless ``root`` lies among them. Links are followed, but not back into a folder
    that they are in.

    Raises:
        OSError: the folder, or a folder in it, cannot be read; the message names it.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {root}")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file, not a folder of photos")
    real = root.resolve()
    found = []
    for path in _files(root, (real,), among_drawn=_is_drawn(real)):
        if path.suffix.lower() in SUFFIXES:
            relative = path.relative_to(root)
            class_name = relative.parts[0] if len(relative.parts) > 1 else None
            found.append(PhotoFile(path, id_of(relative), class_name))
    return sorted(found, key=lambda photo: photo.id)


def _files(folder: Path, inside: tuple[Path, ...], *, among_drawn: bool) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                linked = entry.is_symlink() and not among_drawn
                if not (linked and _is_drawn(_real(path))):
                    yield path
            elif (real := path.resolve()) not in inside and (among_drawn or not _is_drawn(real)):
                yield from _files(path, (*inside, real), among_drawn=among_drawn)


def _is_drawn(real: Path) -> bool:
    """Whether this is the folder of a job's pictures, or lies in one."""
    return any(
        path.name == PICTURES and (path.parent / RECORD).is_file() for path in (real, *real.parents)
    )


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a circle of links
        return path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links; if it is named like a photo, the reader reports it
        return False


def id_of(relative: Path) -> str:
    """The id of a path that is relative to the listed folder.

    >>> id_of(Path("tabby cat/1.jpg"))
    'tabby%20cat/1.jpg'
    """
    return quote_from_bytes(os.fsencode(relative.as_posix()))


def path_of(root: str | os.PathLike[str], photo_id: str) -> Path:
    """Where the photo with this id lies.

    >>> path_of("photos", "tabby%20cat/1.jpg").as_posix()
    'photos/tabby cat/1.jpg'
    """
    return Path(root, os.fsdecode(unquote_to_bytes(photo_id)))


def class_names(photos: Iterable[PhotoFile]) -> list[str]:
    """The classes of the photos, each once, in their order."""
    return list(dict.fromkeys(p.class_name for p in photos if p.class_name is not None))


def meant_by(name: str, known: Sequence[str]) -> list[int]:
    """The indices of the ``known`` names that ``name`` means; there may be none.

    Names match if they are equal but for case, spaces, and underscores or hyphens instead of
    spaces. If none is equal, names match that share a synonym with ``name``; a name may list
    several synonyms: "tabby, tabby cat".

    >>> meant_by("tabby_cat", ["tabby, tabby cat", "Tench"]), meant_by("tench", ["Tench"])
    ([0], [0])
    >>> meant_by("crane", ["crane", "tench", "crane"])
    [0, 2]
    """
    plain = [_plain(other) for other in known]
    asked = _plain(name)
    same = [index for index, other in enumerate(plain) if other == asked]
    return same or [index for index, other in enumerate(plain) if _synonyms(asked, other)]


def _plain(name: str) -> str:
    return " ".join(re.sub("[_-]", " ", name).casefold().split())


def _synonyms(one: str, other: str) -> bool:
    first, second = ({part.strip() for part in name.split(",")} for name in (one, other))
    return not first.isdisjoint(second - {""})
