"""LIME as one tensor program, batched, on the model's device.

image → segments → masks → perturbed images → predictions → weights → coefficients → explanation
"""

from torchlime import fills, masks, noise, segments, surrogates, weights
from torchlime.explanation import Explanation
from torchlime.lime import Lime, explain
from torchlime.vector import explain_vector
from torchlime.version import __version__ as __version__

__all__ = [
    "Explanation",
    "Lime",
    "explain",
    "explain_vector",
    "fills",
    "masks",
    "noise",
    "segments",
    "surrogates",
    "weights",
]
