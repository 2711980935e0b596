"""Explanation → numbers: how faithful, how stable and how well placed the evidence is.

:func:`representative` and :func:`mean_heatmap` look at many inputs at once: which of them show
most, and what holds on average.

Each function takes a whole batch at once, on the explanation's device, and reads nothing back.
:func:`deletion` and :func:`insertion` forward B·T·(S+1) rows, :func:`fidelity` forwards B·N rows,
and the others forward none. Forward passes run as in :meth:`torchlime.Lime.explain`, with the chunk
size and autocast of the explanation's explainer.
"""

from torchlime.metrics.faithfulness import deletion as deletion
from torchlime.metrics.faithfulness import fidelity as fidelity
from torchlime.metrics.faithfulness import insertion as insertion
from torchlime.metrics.many import mean_heatmap as mean_heatmap
from torchlime.metrics.many import representative as representative
from torchlime.metrics.placement import share_inside as share_inside
from torchlime.metrics.stability import overlap as overlap
from torchlime.metrics.stability import rank_correlation as rank_correlation
