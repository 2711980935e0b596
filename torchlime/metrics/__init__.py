"""Explanation → numbers: how faithful, how stable and how well placed the evidence is.

Functions, for a whole batch at once, on the explanation's device: nothing is read back. Forward
passes cost rows: B·T·(S+1) for :func:`deletion` and :func:`insertion`, B·N for :func:`fidelity`,
none for the others. They run as those of :meth:`torchlime.Lime.explain` do, with the chunk size and
autocast of the explanation's explainer.
"""

from torchlime.metrics.faithfulness import deletion as deletion
from torchlime.metrics.faithfulness import fidelity as fidelity
from torchlime.metrics.faithfulness import insertion as insertion
from torchlime.metrics.placement import share_inside as share_inside
from torchlime.metrics.stability import overlap as overlap
from torchlime.metrics.stability import rank_correlation as rank_correlation
