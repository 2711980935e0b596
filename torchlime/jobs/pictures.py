"""Pictures: an explanation on its photo, as the bytes of a file."""

import io
from pathlib import Path
from typing import Any

from torch import Tensor

from torchlime import models, plot
from torchlime.explanation import Explanation, label_map_of

LONGER_SIDE = 1024  # pixels of a photo's picture at most


def overlays(
    explanation: Explanation,
    photo: Path,
    box: Any,
    longer_side: int = LONGER_SIDE,
    limits: models.Limits | None = None,
) -> Tensor:
    """The overlay of each target on the whole photo, side by side: [3,h,w]."""
    return plot.side_by_side(*of_targets(explanation, photo, box, longer_side, limits))


def of_targets(
    explanation: Explanation,
    photo: Path,
    box: Any,
    longer_side: int = LONGER_SIDE,
    limits: models.Limits | None = None,
) -> list[Tensor]:
    """The overlay [3,h,w] of each target on the whole photo.

    Where the photo can no longer be read, the pictures show the coefficients alone, as colours.
    """
    from torchvision.transforms.functional import pil_to_tensor

    targets = explanation.targets[0].tolist()
    try:
        image = pil_to_tensor(models.read_photo_within(photo, limits))
    except (OSError, ValueError):
        return [plot.heatmap_picture(explanation, None, target) for target in targets]
    seen = tuple(label_map_of(explanation).shape[1:])
    image, box = plot.resized(image, box, seen, longer_side)
    return [plot.overlay(explanation, image, target, box=box) for target in targets]


def encoded(picture: Tensor, kind: str) -> bytes:
    """The bytes of a "PNG" or "JPEG" file of a picture [3,h,w]."""
    from torchvision.transforms.functional import to_pil_image

    buffer = io.BytesIO()
    to_pil_image(picture).save(buffer, kind, quality=85)
    return buffer.getvalue()
