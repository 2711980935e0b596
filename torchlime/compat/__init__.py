"""Other libraries' interfaces, on torchlime: the only place with foreign argument names.

from lime import lime_image                                    →  from torchlime.compat import lime_image
from lime.wrappers.scikit_image import SegmentationAlgorithm   →  from torchlime.compat.scikit_image import SegmentationAlgorithm
from lime import lime_tabular, lime_text, submodular_pick      →  from torchlime.compat import lime_tabular, lime_text, submodular_pick
from lime import discretize, explanation, exceptions           →  from torchlime.compat import discretize, explanation, exceptions
from lime import lime_base                                     →  from torchlime.compat import lime_base
from captum.attr import Lime, LimeBase, KernelShap             →  from torchlime.compat.captum import Lime, LimeBase, KernelShap
from captum.attr import FeatureAblation, Occlusion, ShapleyValueSampling  →  from torchlime.compat.captum import …

``torchlime.compat.captum`` says what differs from Captum. For lime, the numbers are those of lime
0.2.0.1, except where lime is wrong or leaves them to chance:

- Label maps may have any ids (1…M, gaps, negative), and explanations use these ids. lime compares
  ids with the numbers of mask columns, so with a map 1…M it never hides segment M.
- ``scores`` and ``local_preds`` hold a number for every label. lime keeps that of the last one.
- Input that must be a mistake is an error: channels first, a label that the classifier lacks, a
  kernel that gives every masked image the weight 0.
- The default segmentation sees every band of an image. Regressors are never refitted in place.
- For a bin of a single value, the model is shown this value. lime shows it about 0
  (``literal_bins=True`` does so too). Weights of a sparse row are for one standard deviation, as
  for dense rows. lime multiplies by the deviation instead of dividing (``literal_scale=True``).
- SubmodularPick adds the weights of several labels without their signs, and keeps bins of the same
  name apart. lime adds them with their signs, and merges such bins (``literal=True``).
- Pages are static, and draw no random number. No explainer keeps the classes of its first model.
- Several rows or texts may be given. Their samples are those that lime draws for one after the
  other.
"""  # noqa: E501
