"""Other libraries' interfaces, on torchlime: the only place with foreign argument names.

from lime import lime_image                                    →  from torchlime.compat import lime_image
from lime.wrappers.scikit_image import SegmentationAlgorithm   →  from torchlime.compat.scikit_image import SegmentationAlgorithm

The numbers are those of lime 0.2.0.1, except where lime is wrong or leaves them to chance:

- Label maps may have any ids (1…M, gaps, negative), and explanations use these ids. lime compares
  ids with the numbers of mask columns, so with a map 1…M it never hides segment M.
- ``scores`` and ``local_preds`` hold a number for every label. lime keeps that of the last one.
- Input that must be a mistake is refused: channels first, a label that the classifier lacks, a
  kernel that gives every masked image the weight 0.
- The default segmentation sees every band of an image. Regressors are never refitted in place.
"""  # noqa: E501
