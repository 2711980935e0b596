"""timm's networks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from torchlime._errors import nearest
from torchlime._extras import imported
from torchlime.models.building import download, filled
from torchlime.models.checkpoints import state_in
from torchlime.models.classifier import Classifier
from torchlime.models.geometry import Geometry

if TYPE_CHECKING:
    from PIL import Image

    from torchlime.models.building import Weights


def timm(name: str, weights: "Weights", output: str) -> Classifier:
    """A classifier by timm's name."""
    timm = imported("timm", "timm:NAME", "models")
    if ":" not in name and not timm.is_model(name):  # "hf-hub:…" and "local-dir:…" are timm's
        raise ValueError(f"unknown timm model {name!r}{nearest(name, timm.list_models())}")
    state = state_in(weights)
    build = partial(timm.create_model, name, pretrained=weights == "DEFAULT")
    with download(f"timm:{name}"):
        network, same_classes = filled(build, state)
    settings = timm.data.resolve_model_data_config(network)
    cut = partial(_timm_cut, timm.data.create_transform(**settings, normalize=False))
    published: Any = network.pretrained_cfg
    categories = published.get("label_names") if same_classes else None
    subset = timm.data.infer_imagenet_subset(network)
    if categories is None and subset is not None:
        categories = timm.data.ImageNetInfo(subset).label_descriptions()
    return Classifier(network, _timm_geometry(settings), categories, output=output, cut=cut)


def _timm_geometry(settings: Mapping[str, Any]) -> Geometry:
    """The geometry in the result of timm's ``resolve_model_data_config``."""
    height, width = settings["input_size"][1:]
    share = settings["crop_pct"]
    return Geometry(
        resize=(int(height / share), int(width / share)),
        crop=(height, width),
        fit={"squash": "stretch", "border": "contain"}.get(settings["crop_mode"], "cover"),
        interpolation=settings["interpolation"],
        mean=settings["mean"],
        std=settings["std"],
    )


def _timm_cut(transform: "Callable[[Image.Image], Tensor]", photo: "Image.Image") -> Tensor:
    return transform(photo).float() / 255
