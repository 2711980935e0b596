"""How many samples one design needs for the error of another, from curves of (N, error)."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

Curve = Sequence[tuple[int, float]]
Curves = Mapping[str, Curve]  # of each photo


def evaluations_for(error: float, curve: Curve) -> tuple[float, str]:
    """The N at which a curve comes down to ``error``: linear in the logarithms.

    Where it starts below, its first N and "≤"; where it ends above, its last and "≥".

    >>> evaluations_for(0.02, [(100, 0.08), (400, 0.01)])
    (252.0, '')
    >>> evaluations_for(0.001, [(100, 0.08), (400, 0.01)])
    (400, '≥')
    >>> evaluations_for(0.1, [(100, 0.08), (400, 0.01)])
    (100, '≤')
    """
    if error > curve[0][1]:
        return curve[0][0], "≤"
    for (n0, e0), (n1, e1) in itertools.pairwise(curve):
        if e1 <= error <= e0:
            share = 0.0 if e0 == e1 else math.log(e0 / error) / math.log(e0 / e1)
            return round(n0 * (n1 / n0) ** share, 1), ""
    return curve[-1][0], "≥"


def equal_error(number: int, ours: Curves, theirs: Curves) -> tuple[float, str]:
    """Samples of theirs for the error of ``number`` of ours, the geometric mean over the photos.

    Marked "≤" or "≥" where a curve ends before, "≤≥" where some do at one end, some at the other.
    """
    found = [evaluations_for(dict(curve)[number], theirs[name]) for name, curve in ours.items()]
    marks = "".join(sorted({mark for _, mark in found}))
    return statistics.geometric_mean(needed for needed, _ in found), marks


def times(number: int, ours: Curves, theirs: Curves) -> str:
    """:func:`equal_error` over ``number``, with its mark.

    >>> times(100, {"cat": [(100, 0.02)]}, {"cat": [(100, 0.08), (400, 0.01)]})
    '2.52'
    """
    needed, mark = equal_error(number, ours, theirs)
    return f"{mark} {needed / number:.2f}".strip()
