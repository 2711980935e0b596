"""Store: rows on disk, each whole or absent, and explanations read back from them."""

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from torchlime._atomic import whole_file
from torchlime.explanation import Explanation
from torchlime.folders import path_of
from torchlime.jobs.identity import differences
from torchlime.jobs.rows import FORMAT, Row, explanation_of, schema

# Names that begin with "_" or "." are no data to those who read a folder of parquet files.
RECORD, LOCK, PICTURES = "_job.json", "_lock", "_pictures"
ROWS_IN_A_FILE = 256
_LONGEST_NAME = 255  # bytes, on most file systems


class Store:
    """The folder of a job's rows, while it is written; a context that holds its lock.

    A file is replaced by a longer one whenever rows are added, up to 256 rows: so rows are on disk
    once :meth:`add` returns, a reader never meets half a file, and few files come of it.

    Args:
        folder: is made if it is not there.

    Raises:
        ValueError: there are other things than a job's in it.
        OSError: it cannot be written; or another process writes to it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.status: dict[str, str] = {}
        self._file: Path | None = None
        self._rows: list[Row] = []
        self._record: dict[str, Any] | None = None  # of a job that begins with its first rows

    def __enter__(self) -> "Store":
        _pyarrow()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / RECORD).exists() and any(
            entry.name != LOCK for entry in self.folder.iterdir() if not _is_temporary(entry)
        ):
            raise ValueError(
                f"{self.folder} holds other things than a job's results: name a new folder"
            )
        self._lock = _locked(self.folder / LOCK)
        for left in filter(_is_temporary, self.folder.rglob(".*.part")):
            left.unlink()  # of a run that was killed
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def begin(
        self,
        settings: Mapping[str, str],
        photos: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        retry: Collection[str] = (),
    ) -> None:
        """Take up what is there, if it was made with these settings; ``status`` then knows it.

        What is begun anew, as it is where no photo was explained yet, is so with the first rows
        that are added: until then the old ones are kept.

        Args:
            settings: what the rows depend on.
            photos: the folder that the ids are relative to. It may have moved.
            overwrite: begin anew instead.
            retry: the ids of photos whose row is forgotten if it is an error.

        Raises:
            ValueError: other settings, or another folder; the difference is named.
        """
        record = {
            "format": FORMAT,
            "settings": dict(settings),
            "photos": str(Path(photos).resolve()),
        }
        if overwrite or not (self.folder / RECORD).exists() or not self._same(settings, photos):
            self._record = record
            return
        self._note(record)
        self._forget_errors(retry)
        self.status = self._found()

    def add(self, rows: Sequence[Row]) -> list[Row]:
        """Write rows; those that were new. A row's ``picture`` becomes a file of its own."""
        new = list({row["id"]: row for row in rows if row["id"] not in self.status}.values())
        if not new:
            return []
        if self._record is not None:
            drawn = (self.folder / PICTURES).rglob("*.png")
            for path in [*_files(self.folder), *filter(Path.is_file, drawn)]:
                path.unlink()
            self._note(self._record)
            self._record = None
        if self._file is None or len(self._rows) >= ROWS_IN_A_FILE:
            self._file, self._rows = _next_file(self.folder), []
        try:
            for row in new:
                picture = row.pop("picture", None)
                if picture is not None:
                    self.draw(row["id"], picture)
            _write(self._file, [*self._rows, *new])
        except OSError as error:
            kept = f"; the {len(self.status)} rows before are kept, and the same job goes on there"
            raise OSError(error.errno, f"{error.strerror}{kept}", error.filename) from error
        self._rows += new
        self.status |= {row["id"]: row["status"] for row in new}
        return new

    def draw(self, photo_id: str, picture: bytes) -> None:
        """Write a photo's picture."""
        path, other = _picture_paths(self.folder, photo_id)
        try:
            _write_picture(path, picture)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            _write_picture(other, picture)

    def _found(self) -> dict[str, str]:
        return {
            photo_id: status
            for path in _files(self.folder)
            for photo_id, status in _columns(path, "id", "status")
        }

    def _note(self, record: Mapping[str, Any]) -> None:
        with whole_file(self.folder / RECORD) as file:
            file.write(json.dumps(record, indent=1).encode())

    def _same(self, settings: Mapping[str, str], photos: str | os.PathLike[str]) -> bool:
        """Whether the rows there are of this job; refused if not, but for errors alone."""
        record = record_of(self.folder)
        found = differences(record["settings"], settings)
        before = record["photos"]
        if before.is_dir() and not before.samefile(photos):
            found.append(f"photos: those in {before}, not in {photos}")
        if found and "ok" in self._found().values():
            raise ValueError(
                f"{self.folder} was made with other settings ({'; '.join(found)}): "
                "name another folder, or overwrite it"
            )
        return not found

    def _forget_errors(self, ids: Collection[str]) -> None:
        for path in _files(self.folder) if ids else ():
            rows = _table(path).to_pylist()
            kept = [row for row in rows if row["status"] == "ok" or row["id"] not in ids]
            if not kept:
                path.unlink()
            elif len(kept) < len(rows):
                _write(path, kept)


class Explanations(Mapping[str, Explanation]):
    """The explanations of a job by the ids of their photos, read when they are asked for.

    ``failures`` are the reasons of the photos that have none, by id; ``settings`` are the job's, in
    words; ``photos`` is the folder that it read.

    Args:
        folder: of a job's results, perhaps of one that is running.

    Raises:
        ValueError: it is not such a folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        record = record_of(self.folder)
        self.settings: dict[str, str] = record["settings"]
        self.photos: Path = record["photos"]
        self.failures: dict[str, str] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        for path in _files(self.folder):
            for place, (photo_id, error) in enumerate(_columns(path, "id", "error")):
                self._places[photo_id] = path, place
                if error is not None:
                    self.failures[photo_id] = error
        # A file at a time, since neighbours are mostly asked for together.
        self._table: Callable[[Path], Any] = lru_cache(maxsize=2)(_table)

    def row(self, photo_id: str) -> Row:
        """All columns of a photo's row; see :func:`torchlime.jobs.rows.schema`."""
        path, place = self._places[photo_id]
        return self._table(path).slice(place, 1).to_pylist()[0]

    def rows(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """Some columns of every row, errors too, in the order that they were written."""
        for path in _files(self.folder):
            yield from _columns(path, *columns)

    def __getitem__(self, photo_id: str) -> Explanation:
        if photo_id in self.failures:
            raise KeyError(f"{photo_id} was not explained: {self.failures[photo_id]}")
        return explanation_of(self.row(photo_id))

    def __iter__(self) -> Iterator[str]:
        return (photo_id for photo_id in self._places if photo_id not in self.failures)

    def __len__(self) -> int:
        return len(self._places) - len(self.failures)


def record_of(folder: Path) -> dict[str, Any]:
    """What a job's folder says about itself.

    Raises:
        ValueError: it is no such folder, of a newer format, or damaged.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["format"] <= FORMAT:
            return {"settings": dict(record["settings"]), "photos": Path(record["photos"])}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{folder} does not hold a job's results (no {RECORD})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / RECORD} is damaged: overwrite the job's results") from error
    raise ValueError(f"{folder} was written by a newer version of torchlime")


def picture_path(folder: Path, photo_id: str) -> Path:
    """Where a photo's picture lies in a job's folder, or would."""
    path, other = _picture_paths(folder, photo_id)
    return other if other.is_file() else path


def _picture_paths(folder: Path, photo_id: str) -> tuple[Path, Path]:
    """Where a picture lies by its photo's name; and where, if another's name is in the way, as
    those of ``a.png`` and ``a.png.png/b.png`` are."""
    path = path_of(folder / PICTURES, photo_id + ".png")
    short = blake2b(photo_id.encode(), digest_size=16).hexdigest() + ".png"
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        path = path.with_name(short)
    return path, folder / PICTURES / short


def _write_picture(path: Path, picture: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(picture)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _next_file(folder: Path) -> Path:
    numbers = (int(re.sub(r"\D", "", path.stem) or 0) for path in _files(folder))
    return folder / f"part-{max(numbers, default=-1) + 1:08d}.parquet"


def _write(path: Path, rows: Iterable[Row]) -> None:
    pa, buffer = _pyarrow(), io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(list(rows), schema()), buffer, compression="zstd")
    with whole_file(path) as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def _table(path: Path, columns: Sequence[str] | None = None) -> Any:
    pa = _pyarrow()
    try:
        with pa.parquet.ParquetFile(path) as file:
            return file.read(columns)
    except pa.ArrowInvalid as error:
        reason = f"{path} is damaged ({error}); without it, its rows would be made anew"
        raise ValueError(reason) from error


def _columns(path: Path, *names: str) -> Iterator[tuple[Any, ...]]:
    table = _table(path, names)
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("a job's rows need pyarrow: pip install 'torchlime[jobs]'") from error
    return pyarrow


def _is_temporary(path: Path) -> bool:
    """Whether this is what :func:`whole_file` writes to."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.part", path.name) is not None


def _locked(path: Path) -> BinaryIO:
    """The file at ``path``, locked until it is closed or the process ends, however it does."""
    file = path.open("ab")
    with contextlib.suppress(ImportError):  # of other systems than Unix
        import fcntl

        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.close()
            raise OSError(f"another job is writing to {path.parent}") from error
        except OSError:  # a file system without locks
            pass
    return file
