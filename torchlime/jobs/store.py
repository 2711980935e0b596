"""Store: a job's rows on disk, while they are written."""

import contextlib
import errno
import json
import os
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from torchlime._atomic import is_temporary, whole_file
from torchlime.folders import PICTURES, RECORD, path_of
from torchlime.jobs import parts, successor
from torchlime.jobs.identity import counted, differences
from torchlime.jobs.lock import LOCK, locked
from torchlime.jobs.parts import Damaged
from torchlime.jobs.record import Record, note, record_of
from torchlime.jobs.rows import Row

# Readers of a folder of parquet files skip names that begin with "_" or ".".
ASIDE = "_damaged-"
ROWS_IN_A_FILE = 256
_LONGEST_NAME = 255  # bytes, on most file systems
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class Store:
    """The folder of a job's rows while it is written. As a context, it holds the folder's lock.

    Adding rows replaces a file by a longer one, up to 256 rows. So rows are on disk once
    :meth:`add` returns, a reader never sees half a file, and there are few files. A folder that
    cannot be written is an error only when there is something to write.

    Args:
        folder: made if it does not exist.

    Raises:
        ValueError: it holds other things than a job's results.
        OSError: it cannot be written; or another process, or thread, writes to it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.status: dict[str, str] = {}
        self.aside: list[Path] = []
        self._generation = 0
        self._file: Path | None = None
        self._rows: list[Row] = []
        self._place = self.folder  # of the rows and pictures that are written
        self._record: Record | None = None  # of a job that begins with its first rows
        self._precious = False  # whether there are rows that a new job's are not to replace yet
        self._refused: OSError | None = None

    def __enter__(self) -> "Store":
        parts.pyarrow()
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file: name a folder for the results")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / RECORD).exists() and any(
            entry.name != LOCK for entry in self.folder.iterdir() if not is_temporary(entry)
        ):
            raise ValueError(
                f"{self.folder} holds other things than a job's results: name a new folder"
            )
        self._contexts = contextlib.ExitStack()
        try:
            self._contexts.enter_context(locked(self.folder))
        except OSError as error:
            if error.errno not in _READ_ONLY or not (self.folder / RECORD).exists():
                raise
            self._refused = error
            return self
        for left in filter(is_temporary, self.folder.rglob(".*.part")):
            left.unlink()  # a killed run left it
        return self

    def __exit__(self, *_: object) -> None:
        self._contexts.close()

    def begin(
        self,
        settings: Mapping[str, str],
        photos: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        retry: Collection[str] = (),
        repair: bool = False,
    ) -> None:
        """Continue with the rows in the folder, if they were made with these settings.

        A new job is written beside the rows that are there. Readers see the old rows until
        :meth:`complete`; or, where the old rows explain no photo, until the first new rows are
        added. A new job that was not completed is continued by a call with its settings.

        Args:
            settings: what the rows depend on.
            photos: the folder that the ids are relative to. It may have moved.
            overwrite: begin a new job instead.
            retry: the ids of photos whose row is forgotten if it is an error.
            repair: rename files that are damaged, so that their photos have no rows; ``aside``
                then has their new names. Write a damaged record again.

        Raises:
            ValueError: the settings or the folder differ (the message names the difference); or a
                file is damaged, and ``repair`` is False.
        """
        now = Record(dict(settings), Path(photos).resolve())
        beside = self.folder / successor.NEXT
        if self._refused is None:
            successor.settle(self.folder)
        records = [f for f in (self.folder, beside) if (f / RECORD).exists()]
        if repair and not overwrite:
            for folder in records:
                self._repair(folder, now)
        if overwrite or not records:
            self._anew(now)
        elif beside in records and not _other(beside, now):
            self._take_up(beside, now, retry)
            self._precious = self._is_precious()
        elif self._same(now):
            self._take_up(self.folder, now, retry)
        else:
            self._anew(now)

    def _anew(self, now: Record) -> None:
        generations = [part.generation for part in parts.parts_in(self.folder)]
        if (self.folder / RECORD).exists():
            self._place = self.folder / successor.NEXT
            self._precious = self._is_precious()
            with contextlib.suppress(ValueError):
                generations.append(record_of(self.folder).generation)
        self._generation = max(generations, default=-1) + 1
        self._record = now._replace(generation=self._generation)

    def _take_up(self, place: Path, now: Record, retry: Collection[str]) -> None:
        self._place, self._generation = place, record_of(place).generation
        if self._refused is None:
            note(place, now._replace(generation=self._generation))
            successor.remove_others(place, self._generation)
        self._forget_errors(retry)
        self.status = parts.statuses(place, self._generation)

    def _is_precious(self) -> bool:
        """Whether a photo was explained, or may have been."""
        try:
            return "ok" in parts.statuses(self.folder, record_of(self.folder).generation).values()
        except ValueError:
            return True

    def complete(self) -> bool:
        """Let the rows of a new job replace the old ones, unless they are all errors.

        New rows that are all errors do replace old rows of which none explains a photo.

        Returns:
            Whether readers see the rows of this job.
        """
        if self._place != self.folder and ("ok" in self.status.values() or not self._precious):
            self._check_writable()
            successor.replace(self.folder)
            self._file = self._file and self.folder / self._file.name
            self._place = self.folder
        return self._place == self.folder

    def add(self, rows: Sequence[Row]) -> list[Row]:
        """Write rows; return those that were new. A row's ``picture`` becomes a file of its own.

        Raises:
            OSError: they cannot be written; the message says what is kept.
        """
        new = list({row["id"]: row for row in rows if row["id"] not in self.status}.values())
        if not new:
            return []
        self._check_writable()
        pictures = {row["id"]: row.pop("picture", None) for row in new}
        try:
            if self._record is not None:
                self._begin(self._record)
            self._append(new)
            self.status |= {row["id"]: row["status"] for row in new}
            for photo_id, picture in pictures.items():
                if picture is not None:
                    self.draw(photo_id, picture)
            if not self._precious:
                self.complete()
        except OSError as error:
            kept = f"the {len(self.status)} rows before are kept, and the same job"
            if self._place != self.folder:
                kept = "what was there is kept, and the same job without overwrite (--overwrite)"
            reason = f"{error.strerror}; {kept} goes on there"
            raise OSError(error.errno, reason, error.filename) from error
        return new

    def draw(self, photo_id: str, picture: bytes) -> None:
        """Write a photo's picture."""
        self._check_writable()
        path, other = picture_paths(self._place, photo_id)
        try:
            _write_picture(path, picture)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            _write_picture(other, picture)

    def _append(self, new: list[Row]) -> None:
        if self._file is None or len(self._rows) >= ROWS_IN_A_FILE:
            self._file, self._rows = parts.next_file(self._place, self._generation), []
        parts.write(self._file, [*self._rows, *new])
        self._rows += new

    def _begin(self, record: Record) -> None:
        """Make the place of a job's first rows; readers of the old rows see nothing of it."""
        if self._place != self.folder:
            successor.discard(self.folder)
            self._place.mkdir()
        note(self._place, record)
        self._record = None

    def _same(self, now: Record) -> bool:
        """Whether the rows there are of this job; if not, and one explains a photo, an error."""
        found = _other(self.folder, now)
        if found and self._is_precious():
            raise ValueError(
                f"{self.folder} was made with other settings ({'; '.join(found)}): "
                "name another folder, or overwrite it"
            )
        return not found

    def _forget_errors(self, ids: Collection[str]) -> None:
        for path in parts.files_of(self._place, self._generation) if ids else ():
            rows = parts.read(path).to_pylist()
            kept = [row for row in rows if row["status"] == "ok" or row["id"] not in ids]
            if len(kept) < len(rows):
                self._check_writable()
                parts.write(path, kept) if kept else path.unlink()

    def _repair(self, folder: Path, now: Record) -> None:
        """Set aside the parts that cannot be read, and write a damaged record again."""
        self._check_writable()
        whole = []
        for part in parts.parts_in(folder):
            try:
                table = parts.read(part.path, _TOLD)
                parts.read(part.path)
                whole.append((part, table))
            except Damaged:
                aside = part.path.with_name(ASIDE + part.path.name)
                part.path.replace(aside)
                self.aside.append(aside)
        try:
            record_of(folder)
        except Damaged:
            generations = {part.generation for part, _ in whole} or {0}
            rows = [row for _, table in whole for row in table.to_pylist()]
            if len(generations) > 1 or not all(_made_with(now.settings, row) for row in rows):
                raise
            note(folder, now._replace(generation=generations.pop()))

    def _check_writable(self) -> None:
        if self._refused is not None:
            raise self._refused


def _other(folder: Path, now: Record) -> list[str]:
    """What is different about the job whose rows lie in a folder."""
    before = record_of(folder)
    found = differences(counted(before.settings), now.settings)
    if before.photos.is_dir() and not before.photos.samefile(now.photos):
        found.append(f"photos: those in {before.photos}, not in {now.photos}")
    return found


_TOLD = ("status", "model", "weights", "settings", "targets")


def _made_with(settings: Mapping[str, str], row: Row) -> bool:
    """Whether the settings that a row records agree with ``settings``."""
    if row["status"] != "ok":
        return True
    told = json.loads(row["settings"]) | {"model": row["model"], "weights": row["weights"]}
    chosen = ", ".join(map(str, row["targets"])) == settings["targets"]
    same = all(told[name] == value for name, value in settings.items() if name in told)
    return same and (chosen or "best" in settings["targets"])


def picture_path(folder: Path, photo_id: str) -> Path:
    """The path of a photo's picture in a job's folder, whether or not it is there."""
    path, other = picture_paths(folder, photo_id)
    return other if other.is_file() else path


def picture_paths(folder: Path, photo_id: str) -> tuple[Path, Path]:
    """A picture's path by its photo's name, and its path where another name is in the way.

    That is so with ``a.png`` and ``a.png.png/b.png``.
    """
    path = path_of(folder / PICTURES, photo_id + ".png")
    short = blake2b(photo_id.encode(), digest_size=16).hexdigest() + ".png"
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        path = path.with_name(short)
    return path, folder / PICTURES / short


def _write_picture(path: Path, picture: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(picture)
