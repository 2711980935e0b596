"""Explanations: read back from a job's folder."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torchlime.explanation import Explanation
from torchlime.jobs import parts
from torchlime.jobs.record import record_of
from torchlime.jobs.rows import Row, explanation_of
from torchlime.jobs.told import Tally


class Explanations(Mapping[str, Explanation]):
    """The explanations of a job by the ids of their photos, read when they are asked for.

    ``failures`` says by id why a photo has no explanation. ``settings`` are the job's settings in
    words. ``photos`` is the folder that the job read. For the job of a table, the id of a row is
    its number in words, and ``photos`` is the file of the table.

    Args:
        folder: the folder of a job's results; the job may still be running.

    Raises:
        ValueError: it is not such a folder, or a file in it is damaged; the message names the file.
        KeyError: when an id is asked for: the job has no explanation of it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        record = record_of(self.folder)
        self.settings: dict[str, str] = record.settings
        self.photos: Path = record.photos
        self.failures: dict[str, str] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self._files = parts.files_of(self.folder, record.generation)
        for path in self._files:
            for place, (photo_id, error) in enumerate(parts.columns(path, "id", "error")):
                self._places[photo_id] = path, place
                if error is not None:
                    self.failures[photo_id] = error
        # The last two files stay in memory, since neighbours are mostly asked for together.
        self._table: Callable[[Path], Any] = lru_cache(maxsize=2)(parts.read)

    @property
    def of_table(self) -> bool:
        """Whether the job explained rows of a table, not photos."""
        return "table" in self.settings

    def row(self, photo_id: str) -> Row:
        """All columns of a photo's row; see :func:`torchlime.jobs.rows.schema`."""
        path, place = self._places[photo_id]
        return self._table(path).slice(place, 1).to_pylist()[0]

    def rows(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """Some columns of every row, errors too, in the order that they were written."""
        for path in self._files:
            yield from parts.columns(path, *columns)

    @property
    def samples(self) -> Tally:
        """How many samples the explanations took; rows of early versions do not say it."""
        tally = Tally()
        for path in self._files:
            known = ("samples_used", "sure")
            if parts.has(path, *known):
                for values in parts.columns(path, *known):
                    tally.add(dict(zip(known, values, strict=True)))
        return tally

    def __getitem__(self, photo_id: str) -> Explanation:
        if photo_id in self.failures:
            raise KeyError(f"{photo_id} was not explained: {self.failures[photo_id]}")
        return explanation_of(self.row(photo_id))

    def __iter__(self) -> Iterator[str]:
        return (photo_id for photo_id in self._places if photo_id not in self.failures)

    def __len__(self) -> int:
        return len(self._places) - len(self.failures)
