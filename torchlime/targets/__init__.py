"""outputs → scores [n,T]: which scores of a model's outputs are explained.

Convention:
    Scores are two pure functions. ``reference(outputs, rows)`` finds what the unmasked rows fix,
    such as the best classes: a mapping of tensors whose first axis runs over the rows, "targets"
    [n,T] int64 among them. Where a target may be no class of the model, or may not be found, such
    as an object's box, "in_range" [n] bool says whether all are. It is called with chunks that
    begin with unmasked rows, and only what it says of these is kept.

    ``(outputs, rows, reference)`` gives the scores [n,T] of a chunk; there ``reference`` holds, for
    every row, what was found for the input that the row belongs to. ``rows`` [n] int64 is the
    number of that input, on the device of the inputs.

    Scores that hold something of each input, such as its region, also have ``placed(place)``. It
    checks them against the inputs, before the first forward pass, and moves them to their device.
"""

from torchlime.targets.box import Box
from torchlime.targets.classes import Classes
from torchlime.targets.computed import Computed
from torchlime.targets.given import Targets, scores_for, scores_of, words_of_scores
from torchlime.targets.region import Region
from torchlime.targets.similarity import Similarity

__all__ = [
    "Box",
    "Classes",
    "Computed",
    "Region",
    "Similarity",
    "Targets",
    "scores_for",
    "scores_of",
    "words_of_scores",
]
