"""count → masks [B,N,S]: which features each sample keeps.

Convention:
    True = the segment is kept. Row 0 keeps all segments. But if the sampler's attribute ``beside``
    is True, row 0 is drawn like the others, and the input is scored beside the design, as one more
    row that is not fitted. Columns beyond an image's count are False. A mask entry depends on
    (seed, sample, segment, S) alone, not on the batch, the device or any global generator.
    (:class:`FixedCount`, :class:`RandomSize`, :class:`SizeLaw` and :class:`Sizes` also depend on
    the count. :class:`Orthogonal` draws in another way if there are fewer samples than 3/4 of a
    block.) ``seed`` is an int, for one draw that all inputs share, or an int64 tensor [B] on the
    device of ``count``. A sampler with an endless design gives the rows ``first`` … first + N − 1
    of it.
"""

from torchlime._size_laws import BinomialLaw as BinomialLaw
from torchlime._size_laws import GlimeLaw as GlimeLaw
from torchlime._size_laws import LeverageLaw as LeverageLaw
from torchlime._size_laws import ShapleyLaw as ShapleyLaw
from torchlime._size_laws import UniformLaw as UniformLaw
from torchlime.masks._drawing import present as present
from torchlime.masks.bernoulli import Bernoulli as Bernoulli
from torchlime.masks.exhaustive import Exhaustive as Exhaustive
from torchlime.masks.fixed_count import FixedCount as FixedCount
from torchlime.masks.leave_one_out import LeaveOneOut as LeaveOneOut
from torchlime.masks.orthogonal import Orthogonal as Orthogonal
from torchlime.masks.permutations import Permutations as Permutations
from torchlime.masks.random_size import RandomSize as RandomSize
from torchlime.masks.size_law import SizeLaw as SizeLaw
from torchlime.masks.sizes import Sizes as Sizes
from torchlime.masks.sliding_window import SlidingWindow as SlidingWindow
