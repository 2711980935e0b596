"""What the columns of a design stand for, and how its rows become inputs of the model."""

from torchlime.features.entries import Entries as Entries
from torchlime.features.grids import ShiftedGrids as ShiftedGrids
from torchlime.features.pixels import Pixels as Pixels
from torchlime.features.tables import EveryRow as EveryRow
from torchlime.features.tables import ScoredTable as ScoredTable
from torchlime.features.tables import Table as Table
from torchlime.features.tokens import Tokens as Tokens
from torchlime.features.vectors import Vectors as Vectors
from torchlime.features.words import Words as Words
