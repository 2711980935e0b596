"""Models: turns a named or given classifier into a callable from pixels in [0,1] to scores.

Masks and fills act on pixels. So normalisation belongs to the model, and everything before it
(reading, resizing, cropping) belongs to the picture. :func:`load` gives a :class:`Classifier`: its
``preprocess`` makes the pixels, and its call normalises them and runs the network.

    classifier = models.load("resnet34")
    pixels = classifier.preprocess("photo.jpg")
    explanation = torchlime.explain(classifier, pixels)
"""

from torchlime.models.checkpoints import read_checkpoint
from torchlime.models.classifier import Classifier, cut_photo
from torchlime.models.decoding import Decoder, NoDecoder, Picture
from torchlime.models.estimators import load_estimator
from torchlime.models.geometry import Geometry
from torchlime.models.limits import Limits
from torchlime.models.marks import Mark, Marks, RawOutputs
from torchlime.models.of_torchvision import names
from torchlime.models.photos import read_photo, read_photo_within, sample_photo
from torchlime.models.reading import refuse_bombs
from torchlime.models.sources import load

__all__ = [
    "Classifier",
    "Decoder",
    "Geometry",
    "Limits",
    "Mark",
    "Marks",
    "NoDecoder",
    "Picture",
    "RawOutputs",
    "cut_photo",
    "load",
    "load_estimator",
    "names",
    "read_checkpoint",
    "read_photo",
    "read_photo_within",
    "refuse_bombs",
    "sample_photo",
]
