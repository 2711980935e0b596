"""Geometry: how a network's picture is cut from a photo. Importing it loads no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

FITS = ("cover", "contain", "stretch")
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


def check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    """Raise unless ``value`` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


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
        halve_down: half of an odd margin around the crop is rounded down, as transformers does;
            otherwise it is rounded to the even number, as torchvision and timm do.
    """

    resize: tuple[int, int] | None = (256, 256)
    crop: tuple[int, int] | None = (224, 224)
    fit: str = "cover"
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    halve_down: bool = False

    def __post_init__(self) -> None:
        check_choice(self.fit, FITS, "fit")
        check_choice(self.interpolation, INTERPOLATIONS, "interpolation")

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

    def seen(
        self, box: tuple[float, float, float, float], image_size: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """Where a box (x0, y0, x1, y1) of a photo lies in the network's picture, cut at its edges.

        Convention:
            Pixels of the upright photo of (width, height) ``image_size``; x1 and y1 are exclusive.

        Raises:
            ValueError: it lies outside the photo, or outside of what the network sees of it.

        >>> Geometry(resize=(128, 128), crop=(100, 100)).seen((60, 20, 100, 300), (256, 256))
        (16.0, 0.0, 36.0, 100.0)
        """
        told, (width, height) = f"the box ({', '.join(f'{x:g}' for x in box)})", image_size
        x0, y0, x1, y1 = box
        if not (max(x0, 0) < min(x1, width) and max(y0, 0) < min(y1, height)):
            raise ValueError(
                f"{told} holds nothing of the photo, which is {width} pixels wide and {height} high"
            )
        resized = self.resized(image_size)
        left, top, right, bottom = self.window(resized)
        across, down = resized[0] / width, resized[1] / height
        seen = (
            max(x0 * across - left, 0.0),
            max(y0 * down - top, 0.0),
            min(x1 * across - left, float(right - left)),
            min(y1 * down - top, float(bottom - top)),
        )
        if not (seen[0] < seen[2] and seen[1] < seen[3]):
            raise ValueError(
                f"{told} lies outside of what the network sees of the photo, which is the box "
                f"{self.crop_box(image_size)}"
            )
        return seen

    def picture(self, photo: "Image.Image") -> "Image.Image":
        """What the network sees of an RGB photo: resized and cropped, as an RGB picture."""
        from PIL import Image

        resized = self.resized(photo.size)
        picture = photo.resize(resized, Image.Resampling[self.interpolation.upper()])
        return picture.crop(self.window(resized))

    def cut(self, photo: "Image.Image") -> "Tensor":
        """Cut an RGB photo exactly as torchvision's presets do: pixels [3,H,W] float32 in [0,1]."""
        import numpy as np
        import torch

        pixels = np.array(self.picture(photo))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
