"""transformers' image classifiers."""

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torchlime._extras import imported
from torchlime.models.building import download, filled
from torchlime.models.checkpoints import state_in
from torchlime.models.classifier import Classifier
from torchlime.models.geometry import Geometry

if TYPE_CHECKING:
    from PIL import Image

    from torchlime.models.building import Weights


def hugging_face(name: str, weights: "Weights", output: str) -> Classifier:
    """A classifier of the hub, or of a folder that ``save_pretrained`` wrote."""
    transformers = imported("transformers", "hf:FOLDER", "models")
    automatic = transformers.AutoModelForImageClassification
    state = state_in(weights)
    with download(f"hf:{name}", "pass a folder that save_pretrained wrote as hf:FOLDER"):
        read = {"trust_remote_code": False}  # else transformers asks on stdin about code
        processor = transformers.AutoImageProcessor.from_pretrained(name, **read)
        config = transformers.AutoConfig.from_pretrained(name, **read)
        if weights == "DEFAULT":
            build = partial(automatic.from_pretrained, name, **read)
        else:
            build = partial(_from_config, automatic, config)
        network, same_classes = filled(build, state)
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

    A processor changes values by an affine map for each channel, whatever its steps are (rescaling,
    offset, one or two normalisations). A black and a white photo show the map, and it is undone.
    """

    def __init__(self, processor: Any) -> None:
        from PIL import Image

        self.processor = processor
        self.flipped = bool(getattr(processor, "do_flip_channel_order", False))
        # The middle pixel of a constant photo is read: a larger crop would be padded with black.
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
    """The geometry in a processor's settings, with the normalisation that was measured."""
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
