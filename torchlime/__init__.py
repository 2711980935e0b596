"""LIME as one tensor program, batched, on the model's device.

image → segments → masks → perturbed images → predictions → weights → coefficients → explanation
"""

from torchlime import fills, masks, segments, surrogates, weights
from torchlime.explanation import Explanation
from torchlime.lime import Lime, explain
from torchlime.version import __version__ as __version__

__all__ = [
    "Explanation",
    "Lime",
    "explain",
    "fills",
    "masks",
    "segments",
    "surrogates",
    "weights",
]
