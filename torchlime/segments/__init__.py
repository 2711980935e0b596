"""images → Segments."""

from torchlime.labelmap import Segments as Segments
