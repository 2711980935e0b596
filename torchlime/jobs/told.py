"""Told: what a run of a job says of itself at its end."""

from typing import NamedTuple


class Summary(NamedTuple):
    """How many inputs this run explained, how many failed in it, and how many had a result before.

    Inputs are photos, or rows of a table. ``failures`` counts those asked for whose result is an
    error, whichever run wrote it.
    """

    explained: int
    failed: int
    before: int
    failures: int
