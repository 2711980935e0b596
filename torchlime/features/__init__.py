"""What the columns of a design stand for, and how its rows become inputs of the model."""

from torchlime.features.pixels import Pixels as Pixels
from torchlime.features.tokens import Tokens as Tokens
from torchlime.features.vectors import Vectors as Vectors
