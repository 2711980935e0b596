"""Earlier: a job that was begun with a fixed number of samples continues with it.

Earlier versions took 512 samples of every photo where nobody said how many. If one job held such
rows and rows of a rule, they could not be compared. So the same command continues as it began.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torchlime.folders import RECORD
from torchlime.jobs import parts
from torchlime.jobs.parts import Damaged
from torchlime.jobs.record import record_of
from torchlime.jobs.successor import NEXT
from torchlime.lime import Lime
from torchlime.rounds import Once


def as_begun(
    out: str | os.PathLike[str], explainer: Lime, say: Callable[[str], object] | None = None
) -> Lime:
    """The explainer with its number of samples in the place of its rule, if ``out`` began so.

    If a new job stands beside an old one in ``out``, the new one counts.

    Args:
        out: the folder of a job's results, whether or not there is one.
        explainer: settings whose number of samples nobody named.
        say: called with a sentence, if the rule gives way.
    """
    begun = _settings_in(Path(out) / NEXT) or _settings_in(Path(out)) or {}
    fixed = begun.get("rounds", "Once()") == "Once()"
    if (
        not fixed
        or begun.get("num_samples") != str(explainer.num_samples)
        or explainer.rounds == Once()
    ):
        return explainer
    if say is not None:
        say(f"each photo takes {explainer.num_samples} samples, as when the job was begun")
    return replace(explainer, rounds=Once())


def _settings_in(folder: Path) -> Mapping[str, str] | None:
    """The settings of a job in words; of one of its rows where the record is damaged."""
    if not (folder / RECORD).is_file():
        return None
    try:
        return record_of(folder).settings
    except Damaged:
        return _settings_of_rows(folder)
    except ValueError:
        return None


def _settings_of_rows(folder: Path) -> Mapping[str, str] | None:
    for part in parts.parts_in(folder):
        try:
            for status, settings in parts.columns(part.path, "status", "settings"):
                if status == "ok":
                    found: Mapping[str, str] = json.loads(settings)
                    return found
        except Damaged:
            continue
    return None
