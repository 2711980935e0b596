"""Outputs: where results go."""

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from torchlime._atomic import sweep
from torchlime.cli.meanings import UsageError


class Files:
    """The files that a call writes: each once, and none that it reads.

    Args:
        read: files that must not be overwritten.
        new: folders that are made when something is written into them.
    """

    def __init__(self, read: Iterable[Path], new: Iterable[Path] = ()) -> None:
        self._taken = {path.resolve() for path in read}
        self._new = set(new)

    def take(self, path: Path) -> Path:
        """``path``, reserved: nothing else in this call writes it.

        Raises:
            UsageError: the file cannot be written.
        """
        self._check(path)
        if path.parent in self._new:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                why = error.strerror or error
                raise UsageError(f"cannot make the folder {path.parent}: {why}") from error
        self._taken.add(path.resolve())
        return path

    def _check(self, path: Path) -> None:
        folder = path.parent
        if folder not in self._new and not folder.is_dir():
            raise UsageError(f"cannot write {path}: there is no folder {folder}")
        if path.is_dir() or (folder.is_dir() and not os.access(folder, os.W_OK)):
            raise UsageError(f"cannot write {path}: it is not a file name in a writable folder")
        if path.resolve() in self._taken:
            raise UsageError(f"cannot write {path}: this call reads that file, or wrote it already")


class Folder(Files):
    """A folder of results; it is made with the first of them.

    Raises:
        UsageError: ``out`` is a file.
    """

    def __init__(self, out: str, read: Iterable[Path]) -> None:
        self.path = Path(out)
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out: {out} is a file; name a folder for the results")
        super().__init__(read, [self.path])
        sweep(self.path)

    def file(self, *parts: str) -> Path:
        """``part.part.suffix`` in the folder, reserved."""
        return self.take(self.path / ".".join(part for part in parts if part))


class Outputs(Files):
    """The names of all files of a call. No two are the same, and none is a file that is read.

    ``--out`` and ``--save`` are a file, a folder or a pattern. A folder exists already, or its
    name ends in a slash and it is made; its files are ``{photo}.explanation``. In a pattern,
    {photo} stands for the stem of the photo's name, numbered where two photos share it, and
    {target} for the class, as in 281-tabby. A name that cannot tell several files apart is
    extended: cat.png becomes cat.281-tabby.png.

    Args:
        asked: the options.
        photos: all that will be explained.
        read: files that must not be overwritten.

    Raises:
        UsageError: a file cannot be written.
    """

    def __init__(self, asked: argparse.Namespace, photos: Sequence[Path], read: Iterable[Path]):
        photo = ["photo"] if len(photos) > 1 else []
        target = ["target"] if len(asked.target) > 1 or (asked.top or 1) > 1 else []
        self._out = _pattern("--out", asked.out, ".png", photo + target)
        self._save = None if asked.save is None else _pattern("--save", asked.save, ".npz", photo)
        if self._save is not None and "{target}" in self._save:
            raise UsageError(
                "--save: a file holds all targets of its photo, so there is no {target}"
            )
        self._stems = distinct([path.stem for path in photos])
        names = (asked.out, asked.save or "")
        new = {Path(name) for name in names if _is_folder(name) and not Path(name).exists()}
        super().__init__(read, new)
        folders = set()
        for index in range(len(photos)):
            picture = self.picture(index, "0")
            for path in (picture, picture.with_suffix(".json"), self.saved(index)):
                if path is not None:
                    self._check(path)
                    folders.add(path.parent)
        for folder in folders:
            sweep(folder)

    def picture(self, photo: int, target: str) -> Path:
        """The picture of a photo, by its place in the call, and a target."""
        return Path(self._out.replace("{target}", target).replace("{photo}", self._stems[photo]))

    def saved(self, photo: int) -> Path | None:
        """The file of a photo's explanation, if it is to be kept."""
        if self._save is None:
            return None
        return Path(self._save.replace("{photo}", self._stems[photo]))


def _pattern(flag: str, name: str, suffix: str, needed: Sequence[str]) -> str:
    """``name`` with all ``needed`` placeholders before its suffix."""
    if _is_folder(name):
        name = os.path.join(name, "{photo}.explanation" + suffix)
    if not name.lower().endswith(suffix):
        raise UsageError(
            f"cannot write {name}: {flag} takes a name that ends in {suffix}, or an existing folder"
        )
    stem, ending = name[: -len(suffix)], name[-len(suffix) :]
    missing = (f".{{{field}}}" for field in needed if f"{{{field}}}" not in stem)
    return stem + "".join(missing) + ending


def _is_folder(name: str) -> bool:
    return name.endswith(("/", os.sep)) or Path(name).is_dir()


def distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered from 2 where one is taken already; case does not count.

    >>> distinct(["cat", "Cat", "dog", "cat-2"])
    ['cat', 'Cat-2', 'dog', 'cat-2-2']
    """
    taken: dict[str, str] = {}
    for name in names:
        new, number = name, 1
        while new.casefold() in taken:
            number += 1
            new = f"{name}-{number}"
        taken[new.casefold()] = new
    return list(taken.values())
