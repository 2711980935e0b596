"""LIME as one tensor program, batched, on the model's device.

image → segments → masks → perturbed images → predictions → weights → coefficients → explanation
"""

__version__ = "0.1.0"

from torchlime import fills, masks, segments, surrogates, weights
from torchlime.explanation import Explanation
from torchlime.lime import Lime, explain

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
