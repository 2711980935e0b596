"""Explanation → numbers that say how faithful, stable and well placed the evidence is.

Metrics take an :class:`torchlime.Explanation`, a :class:`Heatmap`, or a plain heatmap [B,H,W] of
any method, such as Grad-CAM. :func:`compare` runs several metrics on several explanations.

Each function below takes a whole batch at once, on the explanation's device, and returns [B,T]
(:func:`randomisation`: [L,B,T] for L layers). It reads nothing back, except one number in
:func:`fidelity` after ``rounds=Until(…)``. Forward passes run as in
:meth:`torchlime.Lime.explain`, with the chunk size and autocast of the explanation's explainer. For
an image of S segments, the model gets this number of rows:

- :func:`deletion`, :func:`insertion`: T·(S + 1), or T·(steps + 1);
- :func:`fidelity`: N, or N + 1 where the input is beside the samples;
- :func:`infidelity`, :func:`faithfulness_correlation`: N + 1;
- :func:`sensitivity_n`: N for each size, + 1;
- :func:`faithfulness_estimate`, :func:`monotonicity`: S + 1;
- :func:`road`: T·P + 1 for P percentages;
- :func:`max_sensitivity`, :func:`randomisation`: those of one explanation for each noise or layer;
- :func:`share_inside`, :func:`rank_inside`, :func:`pointing_game`, :func:`rank_correlation`,
  :func:`overlap`: none.

Two functions summarise many inputs: :func:`representative` picks those that show most, and
:func:`mean_heatmap` gives the mean heatmap.
"""

from torchlime.metrics.comparison import Comparison as Comparison
from torchlime.metrics.comparison import compare as compare
from torchlime.metrics.evidence import Heatmap as Heatmap
from torchlime.metrics.faithfulness import deletion as deletion
from torchlime.metrics.faithfulness import fidelity as fidelity
from torchlime.metrics.faithfulness import insertion as insertion
from torchlime.metrics.many import mean_heatmap as mean_heatmap
from torchlime.metrics.many import representative as representative
from torchlime.metrics.placement import pointing_game as pointing_game
from torchlime.metrics.placement import rank_inside as rank_inside
from torchlime.metrics.placement import share_inside as share_inside
from torchlime.metrics.randomisation import Randomised as Randomised
from torchlime.metrics.randomisation import randomisation as randomisation
from torchlime.metrics.removal import faithfulness_correlation as faithfulness_correlation
from torchlime.metrics.removal import faithfulness_estimate as faithfulness_estimate
from torchlime.metrics.removal import infidelity as infidelity
from torchlime.metrics.removal import monotonicity as monotonicity
from torchlime.metrics.removal import sensitivity_n as sensitivity_n
from torchlime.metrics.road import road as road
from torchlime.metrics.robustness import max_sensitivity as max_sensitivity
from torchlime.metrics.stability import overlap as overlap
from torchlime.metrics.stability import rank_correlation as rank_correlation
