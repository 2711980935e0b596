"""Region: the mean score of a class over a part of each image, for segmentation networks."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from torchlime._checks import check_count
from torchlime.strategies import Reference
from torchlime.targets.outputs import check_floats, named, of_name
from torchlime.targets.placing import (
    Described,
    Given,
    Numbers,
    Place,
    check_batch,
    classes_of,
    of_rows,
    on_device,
    placed_classes,
)

UNITS = ("logit", "softmax", "sigmoid")


@dataclass(frozen=True, eq=False, repr=False)
class Region(Described):
    """The mean of a class's scores over each image's own region.

    The model gives scores [n,K,h,w] for every pixel, or [n,h,w] of its one class: as a tensor, as
    "logits" or "out" of an object or a mapping, or first in a tuple.

    Convention:
        score_k = Σ_p m_p s_pk / Σ_p m_p over the pixels p of the outputs, where s are the model's
        own outputs ("logit"), or their softmax over the classes ("softmax") or their sigmoid
        ("sigmoid"). The region m has the size of the inputs, or of the outputs. A larger one is
        averaged down to the outputs (area), so that a pixel of the outputs counts by the share of
        it that lies inside; outputs are never enlarged. The same holds for volumes [n,K,d,h,w]
        and series [n,K,l].

    Args:
        masks: bool [H,W] for all images, or [B,H,W]; or floats of 0 or above, the weights m.
        classes: None = those with the best mean inside the region of the unmasked image; an int
            for all; or ints [B] or [B,T].
        top: how many of the best classes, where ``classes`` is None. Ties go to the lower class.
        unit: "logit", "softmax" or "sigmoid".
        size: (H, W) of the images; explain() fills it in.

    Raises:
        IndexError: an int class is none of the model's.
        TypeError, ValueError: a region is empty, or of another size, or there are not as many as
            images; the model's outputs are of another type or shape. On a GPU, an empty region is
            known to the device alone: ``problems`` tells it.

    Example:
        >>> logits = torch.tensor([[[[1.0, 5.0]], [[2.0, 2.0]]]])  # [1,2,1,2]
        >>> left, rows = Region(torch.tensor([[True, False]])), torch.tensor([0])
        >>> found = left.reference({"out": logits}, rows)
        >>> found["targets"].tolist(), left({"out": logits}, rows, found).tolist()
        ([[1]], [[2.0]])
    """

    masks: Numbers
    classes: Given = None
    top: int = 1
    unit: str = "logit"
    size: tuple[int, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_count(self.top, "top")
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {self.unit!r}")

    def placed(self, place: Place) -> Self:
        """The same on the device of the inputs, checked."""
        masks = on_device(self.masks, "masks", place)
        _check_masks(masks, place)
        classes = placed_classes(self.classes, place)
        return replace(self, masks=masks, classes=classes, size=place.size)

    def reference(self, outputs: Any, rows: Tensor) -> dict[str, Tensor]:
        """The classes [n,T], and the share [n,P] of the region in each pixel of the outputs."""
        maps = self._maps(outputs, rows)
        shares = of_rows(self._shares(maps), rows)
        classes = classes_of(self.classes, rows)
        if classes is None:
            classes = self._best(maps.flatten(2), shares)
        count = maps.shape[1]
        if isinstance(self.classes, int) and self.classes >= count:
            raise IndexError(f"classes={self.classes}, but the model has {count} classes")
        columns = classes.clamp(0, count - 1)
        in_range = (columns == classes).all(dim=1) & (shares.sum(dim=1) > 0)
        return {"targets": classes, "columns": columns, "shares": shares, "in_range": in_range}

    def __call__(self, outputs: Any, rows: Tensor, reference: Reference) -> Tensor:
        """The mean scores [n,T] inside the region; 0 where it is empty."""
        maps = self._maps(outputs, rows).flatten(2)
        return self._means(maps, reference["columns"], reference["shares"])

    def _maps(self, outputs: Any, rows: Tensor) -> Tensor:
        """The scores [n,K,…] of every pixel; those of one class may lack its axis."""
        maps = _found(outputs, rows)
        alone = self.size is not None and maps.dim() == len(self.size) + 1
        return maps[:, None] if alone else maps

    def _means(self, maps: Tensor, columns: Tensor, shares: Tensor) -> Tensor:
        """The means [n,T] of the columns [n,T] of maps [n,K,P]."""
        index = columns[:, :, None].expand(-1, -1, maps.shape[2])
        scores = maps.gather(1, index).to(shares.dtype)
        if self.unit == "sigmoid":
            scores = scores.sigmoid()
        elif self.unit == "softmax":
            scores = (scores - maps.to(shares.dtype).logsumexp(dim=1, keepdim=True)).exp()
        return (scores * shares[:, None]).sum(dim=2)

    def _best(self, maps: Tensor, shares: Tensor) -> Tensor:
        count, classes = maps.shape[:2]
        if self.top > classes:
            raise ValueError(f"top={self.top}, but the model has {classes} classes")
        means = [
            self._means(maps, torch.full((count, 1), k, device=maps.device), shares)
            for k in range(classes)  # one by one, so that no second [n,K,P] is made
        ]
        best = torch.cat(means, dim=1).sort(dim=1, descending=True, stable=True)
        return best.indices[:, : self.top]

    def _shares(self, maps: Tensor) -> Tensor:
        """The masks at the size of the maps, with a sum of 1: [B,P] or [1,P]."""
        size, dtype = tuple(maps.shape[2:]), torch.promote_types(maps.dtype, torch.float32)
        masks = torch.as_tensor(self.masks, device=maps.device)
        masks = masks if masks.dim() > len(size) else masks[None]
        self._check_size(tuple(masks.shape[1:]), size)
        if self.unit == "softmax" and maps.shape[1] == 1:
            raise ValueError(
                "the model gives one score for a pixel, whose softmax is always 1; use "
                "unit='sigmoid'"
            )
        weights = masks.to(dtype)
        if tuple(masks.shape[1:]) != size:
            weights = interpolate(weights[:, None], size=size, mode="area")[:, 0]
        weights = weights.flatten(1)
        return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(dtype).tiny)

    def _check_size(self, own: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        if own == outputs:
            return
        of_images = "" if self.size is None else f"the images' {list(self.size)} or "
        told = (
            f"masks must have the size of {of_images}the model's outputs, which is "
            f"{list(outputs)}, got {list(own)}"
        )
        if len(own) != len(outputs) or own != (self.size or own):
            raise ValueError(f"{told}; draw the region on what the model sees")
        steps = [mine / theirs for mine, theirs in zip(own, outputs, strict=True)]
        if min(steps) < 1:
            raise ValueError(f"{told}; outputs are not enlarged: give masks of their size")
        # A network that halves an odd side rounds, so a side may be one output pixel off.
        if any(abs(o / max(steps) - n) >= 1 for o, n in zip(own, outputs, strict=True)):
            raise ValueError(f"{told}, which has other proportions")


def _found(outputs: Any, rows: Tensor) -> Tensor:
    """The scores [n,K,…] of every pixel within whatever a network returned."""
    found = of_name(outputs, "logits", "out")
    if isinstance(found, tuple | list) and found:
        found = found[0]
    count = len(rows)
    expected = f"for a Region the model must return floats [{count},classes,h,w]"
    if not isinstance(found, Tensor):
        raise TypeError(
            f'{expected}, such a "logits" or "out" in a mapping, or one first in a tuple, got '
            f"{named(outputs)}; wrap the model in a function that picks it"
        )
    check_floats(found, rows, expected)
    if found.dim() not in (3, 4, 5) or len(found) != count or 0 in found.shape:
        raise ValueError(f"{expected}, got {list(found.shape)}")
    return found


def _check_masks(masks: Tensor, place: Place) -> None:
    """Raise unless the masks are regions of the inputs, as far as the host knows."""
    size = "[H,W] or [B,H,W]" if place.size is None else f"of images {list(place.size)}"
    expected = f"masks must be bool, or floats of 0 or above, {size}"
    if masks.dtype != torch.bool and not masks.is_floating_point():
        raise TypeError(
            f"{expected}, got {masks.dtype}; of a label map, masks = (labels == id) is a region"
        )
    rank = len(place.size or (0, 0))
    if masks.dim() not in (rank, rank + 1) or 0 in masks.shape:
        raise ValueError(f"{expected}, got {list(masks.shape)}")
    if masks.dim() > rank:
        check_batch(masks, "masks", place)
    if masks.device.type != "cpu":
        return
    for number, mask in enumerate(masks if masks.dim() > rank else masks[None]):
        of = f" {number}" * (masks.dim() > rank and len(masks) > 1)
        if mask.is_floating_point() and not bool((mask.isfinite() & (mask >= 0)).all()):
            raise ValueError(f"{expected}, but region{of} holds other numbers")
        if not bool(mask.any()):
            raise ValueError(f"region{of} of masks is empty: no pixel of it is inside")
