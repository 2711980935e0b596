"""Told: what a run of a job says of itself at its end."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torchlime._reading import mean_samples_in_words
from torchlime.rounds import Once


class Summary(NamedTuple):
    """How many inputs this run explained, how many failed in it, and how many had a result before.

    Inputs are photos, or rows of a table. ``failures`` counts those asked for whose result is an
    error, whichever run wrote it.
    """

    explained: int
    failed: int
    before: int
    failures: int


class Tally:
    """How many samples explanations took, and how many of them are not sure."""

    def __init__(self) -> None:
        self.used: list[int] = []
        self.unsure = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row, or what is known of it; those without a number of samples do not count."""
        if row.get("samples_used") is not None:
            self.used.append(row["samples_used"])
            self.unsure += row.get("sure") is False

    def __str__(self) -> str:
        """In words; at least one row was counted.

        >>> tally = Tally()
        >>> tally.add({"samples_used": 128, "sure": True})
        >>> tally.add({"samples_used": 2048, "sure": False})
        >>> str(tally)
        'on average 1088 samples, at most 2048, which were too few to be sure for 1 of 2'
        """
        few = f", which were too few to be sure for {self.unsure} of {len(self.used)}"
        return mean_samples_in_words(self.used) + few * bool(self.unsure)


def by_rule(explainer: Any) -> bool:
    """Whether rounds other than :class:`Once` say how many samples an input takes."""
    return getattr(explainer, "rounds", Once()) != Once()
