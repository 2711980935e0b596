"""What segmenters take: images, and series and volumes as well."""

from typing import Any

from torchlime._checks import _check_input


def check_spatial(images: Any) -> None:
    """Raise unless ``images`` is a non-empty float tensor of one to three spatial axes."""
    _check_input(
        images, "images", "[B,C,H,W], or [B,C,L] or [B,C,D,H,W]", range(3, 6),
        "image, channel and pixel",
        make="torchvision.transforms.functional.to_tensor(photo)[None] makes one",
        convert="for 8-bit pixels pass images.float() / 255",
    )  # fmt: skip
