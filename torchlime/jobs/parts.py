"""Parts: the parquet files of a job's rows. A part is whole or absent, and damage is recognised.

A part's name says which run of the job wrote it. The parts of a run that was overwritten are of an
earlier generation, and are not read. A part carries a digest of each of its columns.
"""

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from torchlime._atomic import whole_file
from torchlime._extras import imported
from torchlime.jobs.rows import Row, schema

_NAME = re.compile(r"part-(?:(\d{4,9})-)?(\d{8,9})\.parquet")
_DIGESTS = b"torchlime.digests"


class Damaged(ValueError):
    """A file is not what was written."""


class Part(NamedTuple):
    """The generation of rows that a file belongs to, and the file's place in that generation."""

    generation: int
    number: int
    path: Path


def parts_in(folder: Path) -> list[Part]:
    """All parts in a folder, in their order."""
    found = []
    for path in folder.glob("part-*.parquet"):
        name = _NAME.fullmatch(path.name)
        if name is not None and path.is_file():
            found.append(Part(int(name[1] or 0), int(name[2]), path))
    return sorted(found)


def files_of(folder: Path, generation: int) -> list[Path]:
    """The files of a generation's rows, in their order."""
    return [part.path for part in parts_in(folder) if part.generation == generation]


def next_file(folder: Path, generation: int) -> Path:
    """Where the next rows go."""
    numbers = [part.number for part in parts_in(folder) if part.generation == generation]
    of = f"{generation:04d}-" if generation else ""
    return folder / f"part-{of}{max(numbers, default=-1) + 1:08d}.parquet"


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a part; it is on the disk when this returns."""
    pa, buffer = pyarrow(), io.BytesIO()
    table = pa.Table.from_pylist(list(rows), schema())
    digests = {name: _digest(table[name]) for name in table.column_names}
    metadata = table.schema.metadata | {_DIGESTS: json.dumps(digests).encode()}
    pa.parquet.write_table(
        table.replace_schema_metadata(metadata), buffer, compression="zstd",
        write_page_checksum=True,
    )  # fmt: skip
    with whole_file(path) as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Some columns of a part, or all, as a ``pyarrow.Table``.

    Raises:
        Damaged: they are not what was written.
        OSError: the file has gone, or may not be read.
    """
    pa = pyarrow()
    try:
        with pa.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(columns)
            known = json.loads((file.schema_arrow.metadata or {}).get(_DIGESTS, b"{}"))
        wrong = [name for name in table.column_names if known.get(name, "") != _digest(table[name])]
        missing = set(columns or ()) - set(table.column_names)
        reason = f"its digests of {', '.join(sorted({*wrong, *missing}))} differ" if known else ""
    except (FileNotFoundError, PermissionError, ImportError):
        raise
    except Exception as error:  # the bytes may be anything
        raise _damaged(path, " ".join(str(error).split())) from error
    if known and (wrong or missing):
        raise _damaged(path, reason)
    return table


def columns(path: Path, *names: str) -> Iterator[tuple[Any, ...]]:
    """Some columns of a part, row by row."""
    table = read(path, names)
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def has(path: Path, *names: str) -> bool:
    """Whether a part, which can be read, has these columns: those of early versions have fewer."""
    return set(names) <= set(pyarrow().parquet.read_schema(path).names)


def statuses(folder: Path, generation: int) -> dict[str, str]:
    """The status of each photo that has a row of a generation."""
    return {
        photo_id: status
        for path in files_of(folder, generation)
        for photo_id, status in columns(path, "id", "status")
    }


def pyarrow() -> Any:
    """The package, or an error that says how to install it."""
    imported("pyarrow.parquet", "a job", "jobs")
    return imported("pyarrow", "a job", "jobs")


def _digest(column: Any) -> str:
    values = repr(column.to_pylist()).encode("utf-8", "surrogatepass")
    return blake2b(values, digest_size=8).hexdigest()


def _damaged(path: Path, reason: str) -> Damaged:
    return Damaged(
        f"{path} is damaged ({reason}): run the job again with repair=True (--repair), which sets "
        "it aside and explains its photos again"
    )
