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
from torchlime.jobs import parts
from torchlime.jobs.identity import differences
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
    :meth:`add` returns, a reader never meets half a file, and there are few files. A folder that
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
        self._record: Record | None = None  # for a job that begins with its first rows
        self._refused: OSError | None = None

    def __enter__(self) -> "Store":
        parts.pyarrow()
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

        ``status`` then knows these rows. A job that begins anew keeps the old rows until the first
        new ones are added. A job also begins anew where no photo was explained yet.

        Args:
            settings: what the rows depend on.
            photos: the folder that the ids are relative to. It may have moved.
            overwrite: begin anew instead.
            retry: the ids of photos whose row is forgotten if it is an error.
            repair: rename files that are damaged, so that their photos have no rows; ``aside``
                then knows their new names. Write a damaged record anew.

        Raises:
            ValueError: the settings or the folder are others (the message names the difference); or
                a file is damaged, and ``repair`` is False.
        """
        now = Record(dict(settings), Path(photos).resolve())
        there = (self.folder / RECORD).exists()
        if there and repair and not overwrite:
            self._repair(now)
        if overwrite or not there or not self._same(now):
            generations = [part.generation for part in parts.parts_in(self.folder)]
            if there:
                with contextlib.suppress(ValueError):
                    generations.append(record_of(self.folder).generation)
            self._record = now._replace(generation=max(generations, default=-1) + 1)
            return
        self._generation = record_of(self.folder).generation
        if self._refused is None:
            note(self.folder, now._replace(generation=self._generation))
            self._remove_others()
        self._forget_errors(retry)
        self.status = self._found(self._generation)

    def add(self, rows: Sequence[Row]) -> list[Row]:
        """Write rows; return those that were new. A row's ``picture`` becomes a file of its own."""
        new = list({row["id"]: row for row in rows if row["id"] not in self.status}.values())
        if not new:
            return []
        self._check_writable()
        pictures = {row["id"]: row.pop("picture", None) for row in new}
        try:
            if self._record is not None:
                self._begin_anew(self._record, new)
            else:
                self._append(new)
            self.status |= {row["id"]: row["status"] for row in new}
            for photo_id, picture in pictures.items():
                if picture is not None:
                    self.draw(photo_id, picture)
        except OSError as error:
            kept = f"the {len(self.status)} rows before are"
            if self._record is not None:
                kept = "what was there is"
            reason = f"{error.strerror}; {kept} kept, and the same job continues there"
            raise OSError(error.errno, reason, error.filename) from error
        return new

    def draw(self, photo_id: str, picture: bytes) -> None:
        """Write a photo's picture."""
        self._check_writable()
        path, other = picture_paths(self.folder, photo_id)
        try:
            _write_picture(path, picture)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            _write_picture(other, picture)

    def _append(self, new: list[Row]) -> None:
        if self._file is None or len(self._rows) >= ROWS_IN_A_FILE:
            self._file, self._rows = parts.next_file(self.folder, self._generation), []
        parts.write(self._file, [*self._rows, *new])
        self._rows += new

    def _begin_anew(self, record: Record, new: list[Row]) -> None:
        """Write the first rows of a job; remove those of the job before once these are written.

        The record is replaced in one step. Before it, nobody reads the new rows; after it, nobody
        reads the old ones.
        """
        self._generation = record.generation
        if not (self.folder / RECORD).exists():
            note(self.folder, record)
        self._append(new)
        _sync(self.folder)
        note(self.folder, record)
        self._record = None
        self._remove_others()

    def _remove_others(self) -> None:
        """Remove the parts of other generations; but first the pictures of earlier ones.

        New pictures are written after that. So while such parts exist, all pictures belong to them.
        """
        others = [p for p in parts.parts_in(self.folder) if p.generation != self._generation]
        if any(part.generation < self._generation for part in others):
            for path in filter(Path.is_file, (self.folder / PICTURES).rglob("*.png")):
                path.unlink()
        for part in others:
            part.path.unlink()

    def _found(self, generation: int) -> dict[str, str]:
        return {
            photo_id: status
            for path in parts.files_of(self.folder, generation)
            for photo_id, status in parts.columns(path, "id", "status")
        }

    def _same(self, now: Record) -> bool:
        """Whether the rows in the folder are this job's; raise if not, unless all are errors."""
        record = record_of(self.folder)
        found = differences(record.settings, now.settings)
        before = record.photos
        if before.is_dir() and not before.samefile(now.photos):
            found.append(f"photos: those in {before}, not in {now.photos}")
        if found and "ok" in self._found(record.generation).values():
            raise ValueError(
                f"{self.folder} was made with other settings ({'; '.join(found)}): "
                "name another folder, or overwrite it"
            )
        return not found

    def _forget_errors(self, ids: Collection[str]) -> None:
        for path in parts.files_of(self.folder, self._generation) if ids else ():
            rows = parts.read(path).to_pylist()
            kept = [row for row in rows if row["status"] == "ok" or row["id"] not in ids]
            if len(kept) < len(rows):
                self._check_writable()
                parts.write(path, kept) if kept else path.unlink()

    def _repair(self, now: Record) -> None:
        """Set aside the parts that cannot be read; write the record anew if it cannot be read."""
        self._check_writable()
        whole = []
        for part in parts.parts_in(self.folder):
            try:
                table = parts.read(part.path, _TOLD)
                parts.read(part.path)
                whole.append((part, table))
            except Damaged:
                aside = part.path.with_name(ASIDE + part.path.name)
                part.path.replace(aside)
                self.aside.append(aside)
        try:
            record_of(self.folder)
        except Damaged:
            generations = {part.generation for part, _ in whole} or {0}
            rows = [row for _, table in whole for row in table.to_pylist()]
            if len(generations) > 1 or not all(_made_with(now.settings, row) for row in rows):
                raise
            note(self.folder, now._replace(generation=generations.pop()))

    def _check_writable(self) -> None:
        if self._refused is not None:
            raise self._refused


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
    """A picture's path by its photo's name; and its path where another name is in the way, as
    with ``a.png`` and ``a.png.png/b.png``."""
    path = path_of(folder / PICTURES, photo_id + ".png")
    short = blake2b(photo_id.encode(), digest_size=16).hexdigest() + ".png"
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        path = path.with_name(short)
    return path, folder / PICTURES / short


def _write_picture(path: Path, picture: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(picture)


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
