"""Other libraries' interfaces, on torchlime: the only place with foreign argument names.

from lime import lime_image                                    →  from torchlime.compat import lime_image
from lime.wrappers.scikit_image import SegmentationAlgorithm   →  from torchlime.compat.scikit_image import SegmentationAlgorithm
"""  # noqa: E501
