"""torchvision's segmentation networks and detectors, as Classifiers for their photos and names.

What they return are no class scores, so that calling such a Classifier is an error; RawOutputs
gives their outputs to Region or Box.
"""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlime._errors import nearest
from torchlime.models.building import download
from torchlime.models.checkpoints import fill, state_in
from torchlime.models.classifier import Classifier
from torchlime.models.geometry import Geometry
from torchlime.models.of_torchvision import names, torchvision

if TYPE_CHECKING:
    from torchlime.models.building import Weights

_FAINT = 0.01  # the least confidence of a box


def torchvision_dense(name: str, weights: "Weights", output: str) -> Classifier:
    """Any image network by torchvision's name, with its weights, those of a file, or random ones.

    Convention:
        A segmentation network sees the whole photo, its shorter side resized to 520. A detector
        sees the photo in its own size, and resizes and normalises it itself; its ``output`` is
        "none". It keeps boxes down to a confidence of 0.01, so that a box that fades while parts
        are hidden does not fall to 0 at once.

    Raises:
        ValueError: torchvision has no such network, or the file does not fit it.
        FileNotFoundError: ``weights`` is neither a file nor torchvision's name of some.
    """
    from torchvision import models

    segmenters = models.list_models(module=models.segmentation)
    detectors = models.list_models(module=models.detection)
    if name in models.list_models(module=models):
        return torchvision(name, weights, output)
    if name not in segmenters + detectors:
        known = names() + segmenters + detectors
        raise ValueError(f"torchvision has no image network {name!r}{nearest(name, known)}")
    entry, state = _weights(name, weights)
    build = partial(models.get_model, name, weights=entry, weights_backbone=None)
    if any(key.startswith("aux_classifier") for key in state or ()):
        build = partial(build, aux_loss=True)
    with download(name):
        network = build()
    if state is not None:
        fill(network, state)
    known = models.get_model_weights(name)["DEFAULT"]
    geometry = Geometry(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    if name in segmenters:
        preset = known.transforms()
        geometry = Geometry(
            resize=(preset.resize_size[0],) * 2, crop=None, mean=tuple(preset.mean),
            std=tuple(preset.std), interpolation=preset.interpolation.value,
        )  # fmt: skip
    else:
        output = "none"
        _keep_faint_boxes(network)
    return Classifier(network, geometry, known.meta["categories"], output=output)


def _keep_faint_boxes(network: Any) -> None:
    part = getattr(network, "roi_heads", network)  # of two-stage detectors
    part.score_thresh = min(part.score_thresh, _FAINT)


def _weights(name: str, weights: "Weights") -> tuple[Any, Any]:
    """torchvision's weights of that name, or the state in a file; neither for random ones."""
    from torchvision import models

    if weights is None:
        return None, None
    known, asked = models.get_model_weights(name), os.fspath(weights)
    entry = known.__members__.get(asked.removeprefix(f"{known.__name__}."))
    if entry is not None:
        return entry, None
    if not Path(asked).exists():
        raise FileNotFoundError(
            f"{asked!r} is neither a file nor one of the weights of {name} "
            f"({', '.join(known.__members__)})"
        )
    return None, state_in(asked)
