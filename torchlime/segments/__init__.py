"""images → Segments: a label map for each image, with a static bound."""

from torchlime._labelmap import Segments as Segments
from torchlime.segments.fast_slic import FastSlic as FastSlic
from torchlime.segments.grid import Grid as Grid
from torchlime.segments.reduced import Reduced as Reduced
from torchlime.segments.scikit_slic import ScikitSlic as ScikitSlic
from torchlime.segments.slic import Slic as Slic
