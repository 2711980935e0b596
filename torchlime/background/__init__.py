"""Training data as the background of a table: its columns, their bins and how often each occurs."""

from torchlime.background.background import Background as Background
from torchlime.background.bins import Bins as Bins
from torchlime.background.bins import Deciles as Deciles
from torchlime.background.bins import Edges as Edges
from torchlime.background.bins import Entropy as Entropy
from torchlime.background.bins import Quantiles as Quantiles
