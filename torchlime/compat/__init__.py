"""Other libraries' interfaces, on torchlime: the only place with foreign argument names.

from lime import lime_image                                    →  from torchlime.compat import lime_image
from lime.wrappers.scikit_image import SegmentationAlgorithm   →  from torchlime.compat.scikit_image import SegmentationAlgorithm

Numbers are those of lime 0.2.0.1, but for what it gets wrong or leaves to chance:

- Label maps may have any ids (1…M, gaps, negative); explanations go by these. lime compares ids
  with the numbers of mask columns: of a map 1…M it never hides segment M.
- ``scores`` and ``local_preds`` hold for every label what lime keeps of the last one only.
- What cannot be meant is refused: channels first, a label that the classifier lacks, a kernel under
  which every masked image weighs nothing.
- The default segmentation sees every band of an image; regressors are never refitted in place.
"""  # noqa: E501
