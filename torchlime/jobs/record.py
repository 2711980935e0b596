"""Record: what a job's folder says about itself, in one file that is replaced in one step."""

import json
import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from torchlime._atomic import whole_file
from torchlime._files import bytes_of
from torchlime.folders import RECORD
from torchlime.jobs.parts import Damaged
from torchlime.jobs.rows import FORMAT

_LARGEST = 2**24  # bytes


class Record(NamedTuple):
    """A job: its settings in words, the folder of its photos, and which rows are its own."""

    settings: dict[str, str]
    photos: Path
    generation: int = 0


def record_of(folder: Path) -> Record:
    """What a job's folder says about itself.

    Raises:
        ValueError: it is not a job's folder, or has a newer format.
        Damaged: the record is not what was written.
    """
    path = folder / RECORD
    try:
        record = json.loads(bytes_of(path, "record", _LARGEST))
        if record["format"] > FORMAT:
            raise ValueError(f"{folder} was written by a newer version of torchlime")
        if record.pop("digest", None) not in (None, _digest(record)):
            raise KeyError("digest")
        return Record(
            dict(record["settings"]), Path(record["photos"]), int(record.get("generation", 0))
        )
    except PermissionError:
        raise
    except OSError as error:
        raise ValueError(f"{folder} does not hold a job's results (no {RECORD})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if "newer version" in str(error):
            raise
        raise Damaged(
            f"{path} is damaged: run the same job again with repair=True (--repair), or overwrite "
            "its results"
        ) from error


def note(folder: Path, record: Record) -> None:
    """Replace the record, if it says something else."""
    told: dict[str, object] = {"format": FORMAT, **_plain(record)}
    text = json.dumps(told | {"digest": _digest(told)}, indent=1).encode()
    path = folder / RECORD
    if path.is_file() and path.read_bytes() == text:
        return
    with whole_file(path) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _plain(record: Record) -> dict[str, object]:
    photos = str(record.photos)
    return {"settings": record.settings, "photos": photos, "generation": record.generation}


def _digest(record: Mapping[str, object]) -> str:
    return blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=8).hexdigest()
