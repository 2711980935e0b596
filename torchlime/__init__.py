"""LIME as one tensor program, batched, on the model's device.

input → features → masks → perturbed inputs → predictions → scores → weights → coefficients →
explanation

- **input**: `explain` and `Lime` for images (`torchlime.lime`), `explain_vector` and `VectorLime`
  for vectors (`torchlime.vectors`), and `torchlime.models` for networks and photos
- **features**: `torchlime.features`, made of `torchlime.segments` for images
- **masks**: `torchlime.masks`, and `torchlime.noise` for vectors
- **perturbed inputs**: `torchlime.fills`, what a hidden segment shows
- **predictions**: `torchlime.black_box` and `torchlime.predictions`
- **scores**: `torchlime.targets`
- **weights**: `torchlime.weights`
- **coefficients**: `torchlime.surrogates` and `torchlime.fit`
- **explanation**: `Explanation` (`torchlime.explanation`), `torchlime.interactions`,
  `torchlime.plot`, `torchlime.metrics`

`torchlime.local` composes the stages, and `torchlime.strategies` has their contracts.
`torchlime.methods` are LIME's relatives as recipes over them, such as KernelSHAP. Around them are
`torchlime.training`, `torchlime.jobs` and `torchlime.compat`, the drop-in for lime.

    >>> import torch, torchlime
    >>> from torchlime.segments import Grid
    >>> image = torch.linspace(0, 1, 64).view(1, 1, 8, 8)  # its lower right corner is the brightest
    >>> explanation = torchlime.explain(lambda x: x.amax((2, 3)), image, segmenter=Grid(2, 2))
    >>> segments, coefficients = explanation.check().top(1)
    >>> segments.tolist(), explanation.heatmap().shape
    ([[[3]]], torch.Size([1, 1, 8, 8]))
"""

from torchlime import fills, masks, noise, segments, surrogates, weights
from torchlime.background import Background
from torchlime.explanation import Explanation
from torchlime.lime import Lime, explain
from torchlime.patches import PatchLime, explain_patches
from torchlime.rise import Rise
from torchlime.tables import TableLime, explain_table
from torchlime.texts import TextLime, explain_text
from torchlime.tokens import TokenLime, explain_tokens
from torchlime.vectors import VectorLime, explain_vector
from torchlime.version import __version__ as __version__

__all__ = [
    "Background",
    "Explanation",
    "Lime",
    "PatchLime",
    "Rise",
    "TableLime",
    "TextLime",
    "TokenLime",
    "VectorLime",
    "explain",
    "explain_patches",
    "explain_table",
    "explain_text",
    "explain_tokens",
    "explain_vector",
    "fills",
    "masks",
    "noise",
    "segments",
    "surrogates",
    "weights",
]
