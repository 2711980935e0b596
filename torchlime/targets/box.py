"""Box: the score of an object's box, for detectors."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from torchlime._checks import check_count
from torchlime.strategies import Reference
from torchlime.targets.outputs import named
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


@dataclass(frozen=True, eq=False, repr=False)
class Box(Described):
    """How well a detector finds an object: the best of its boxes of that class.

    The model returns a list of n mappings with "boxes" [k,4], "labels" [k] and "scores" [k], as
    torchvision's detectors do; k may differ from row to row.

    Convention:
        score = max over the row's boxes d of the class: IoU(box, d) · confidence(d); 0 where the
        row has none. It is the similarity of D-RISE (Petsiuk et al. 2021) for detectors that give
        one label and one confidence a box. Boxes are (x0, y0, x1, y1) in pixels of the model's
        input, x to the right, y down, and x1 and y1 are exclusive.

        A detector drops boxes below its threshold, so a fading box falls to 0 at once. Give the
        detector a low one: ``score_thresh=0.01`` in torchvision.

    Args:
        boxes: [4] for all images, [B,4] or [B,T,4]; None = the ``top`` most confident boxes of the
            unmasked image, or the most confident one of each of the ``classes``.
        classes: None = the class of the unmasked image's box that scores best; an int for all; or
            ints [B] or [B,T].
        top: how many boxes, where neither ``boxes`` nor ``classes`` are given. Of equals, the
            first one counts.
        size: (H, W) of the images; explain() fills it in.

    Raises:
        TypeError, ValueError: a box is empty or lies outside the images, or there are not as many
            as images; the model's outputs are of another type or shape. If the unmasked image has
            no such box, ``problems`` tells it, and its scores are 0.

    Example:
        >>> cat = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([17]),
        ...        "scores": torch.tensor([0.8])}
        >>> half, rows = Box([0, 0, 4, 2]), torch.tensor([0])
        >>> found = half.reference([cat], rows)
        >>> found["targets"].tolist(), half([cat], rows, found)
        ([[17]], tensor([[0.4000]]))
    """

    boxes: Numbers | None = None
    classes: Given = None
    top: int = 1
    size: tuple[int, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_count(self.top, "top")
        if self.top > 1 and (self.boxes is not None or self.classes is not None):
            raise ValueError(
                f"top={self.top} goes without boxes and classes, which say how many there are"
            )

    def placed(self, place: Place) -> Self:
        """The same on the device of the inputs, checked."""
        boxes = None if self.boxes is None else on_device(self.boxes, "boxes", place)
        if boxes is not None:
            _check_boxes(boxes, place)
        classes = placed_classes(self.classes, place)
        return replace(self, boxes=boxes, classes=classes, size=place.size)

    def reference(self, outputs: Any, rows: Tensor) -> dict[str, Tensor]:
        """The classes [n,T] and boxes [n,T,4] that are looked for in later rows."""
        found = _found(outputs, rows, self.top)
        classes = classes_of(self.classes, rows)
        if self.boxes is None:
            boxes, classes = _most_confident(found, classes, self.top)
        else:
            given = torch.as_tensor(self.boxes, device=rows.device).to(found.boxes.dtype)
            boxes = _of_rows(given, rows)
        if classes is None:
            scores = overlap(boxes, found.boxes) * found.scores[:, None]
            classes = found.labels.gather(1, _first_best(scores))
        width = max(boxes.shape[1], classes.shape[1])
        if not {boxes.shape[1], classes.shape[1]} <= {1, width}:
            raise ValueError(
                f"boxes and classes must be as many for an image, got {boxes.shape[1]} and "
                f"{classes.shape[1]}"
            )
        classes, boxes = classes.expand(-1, width), boxes.expand(-1, width, -1)
        in_range = (_scores(found, boxes, classes) > 0).all(dim=1)
        return {"targets": classes, "boxes": boxes, "in_range": in_range}

    def __call__(self, outputs: Any, rows: Tensor, reference: Reference) -> Tensor:
        """The scores [n,T] of the best boxes of the classes; 0 where there is none."""
        return _scores(_found(outputs, rows), reference["boxes"], reference["targets"])


class Found(NamedTuple):
    """The boxes [n,D,4], labels [n,D] and confidences [n,D] of n rows.

    Rows are padded with boxes of label −1 and confidence 0, at least one each.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes [n,T,4] and others [n,D,4]: [n,T,D]; 0 for empty ones.

    >>> overlap(torch.tensor([[[0.0, 0, 2, 2]]]), torch.tensor([[[1.0, 0, 3, 2], [5, 5, 6, 6]]]))
    tensor([[[0.3333, 0.0000]]])
    """
    one, two = boxes[:, :, None], others[:, None]
    low = torch.maximum(one[..., :2], two[..., :2])
    high = torch.minimum(one[..., 2:], two[..., 2:])
    both = (high - low).clamp(min=0).prod(dim=-1)
    either = _area(one) + _area(two) - both
    return both / either.clamp(min=torch.finfo(both.dtype).tiny)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _scores(found: Found, boxes: Tensor, classes: Tensor) -> Tensor:
    """Of boxes [n,T,4] of classes [n,T]: [n,T]."""
    same = found.labels[:, None] == classes[:, :, None]
    scores = overlap(boxes, found.boxes) * found.scores[:, None]
    return torch.where(same, scores, 0.0).amax(dim=2)


def _most_confident(found: Found, classes: Tensor | None, top: int) -> tuple[Tensor, Tensor]:
    """The boxes [n,T,4] and classes [n,T] of the most confident boxes, of given classes if any."""
    if classes is None:
        chosen = found.scores.sort(dim=1, descending=True, stable=True).indices[:, :top]
        classes = found.labels.gather(1, chosen)
    else:
        same = found.labels[:, None] == classes[:, :, None]
        chosen = _first_best(torch.where(same, found.scores[:, None], 0.0))
    return found.boxes.gather(1, chosen[:, :, None].expand(-1, -1, 4)), classes


def _first_best(scores: Tensor) -> Tensor:
    """The first place of the largest of scores [n,T,D]: [n,T]."""
    return scores.sort(dim=2, descending=True, stable=True).indices[:, :, 0]


def _found(outputs: Any, rows: Tensor, least: int = 1) -> Found:
    """What a detector found, of one width, which is at least ``least``."""
    count = len(rows)
    expected = (
        f'for a Box the model must return a list of {count} mappings with "boxes" [k,4], "labels" '
        '[k] and "scores" [k]'
    )
    if not isinstance(outputs, list | tuple) or not all(isinstance(o, Mapping) for o in outputs):
        raise TypeError(
            f"{expected}, got {named(outputs)}; wrap the model in a function that returns these"
        )
    if len(outputs) != count:
        raise ValueError(f"{expected}, got {len(outputs)}")
    for one in outputs:
        missing = [name for name in Found._fields if name not in one]
        if missing:
            raise ValueError(f"{expected}, got {named(one)}, without {', '.join(missing)}")
        number = len(one["scores"])
        shapes = {"boxes": (number, 4), "labels": (number,), "scores": (number,)}
        for name, shape in shapes.items():
            if one[name].shape != shape or one[name].device != rows.device:
                raise ValueError(
                    f"{expected} on {rows.device}, got {name} {list(one[name].shape)} on "
                    f"{one[name].device}"
                )
    boxes, labels, scores = ([one[name] for one in outputs] for name in Found._fields)
    more = max(1, least - max(len(one) for one in scores))  # the host knows how many there are
    dtype = torch.promote_types(scores[0].dtype, torch.float32)
    return Found(
        pad(pad_sequence(boxes, batch_first=True).to(dtype), (0, 0, 0, more)),
        pad(pad_sequence(labels, batch_first=True, padding_value=-1).long(), (0, more), value=-1),
        pad(pad_sequence(scores, batch_first=True).to(dtype), (0, more)),
    )


def _of_rows(boxes: Tensor, rows: Tensor) -> Tensor:
    """Boxes [4], [B,4] or [B,T,4] for rows [n]: [n,T,4]."""
    if boxes.dim() == 1:
        return boxes.expand(len(rows), 1, 4)
    return of_rows(boxes if boxes.dim() == 3 else boxes[:, None], rows)


def _check_boxes(boxes: Tensor, place: Place) -> None:
    """Raise unless these are boxes of the inputs, as far as the host knows."""
    expected = (
        "boxes must be (x0, y0, x1, y1) in pixels of the model's input, [4], [B,4] or [B,T,4]"
    )
    if boxes.is_complex() or boxes.dtype == torch.bool:
        raise TypeError(f"{expected}, got {boxes.dtype}")
    if boxes.dim() not in (1, 2, 3) or boxes.shape[-1] != 4 or 0 in boxes.shape:
        raise ValueError(f"{expected}, got {list(boxes.shape)}")
    if boxes.dim() > 1:
        check_batch(boxes, "boxes", place)
    if boxes.device.type != "cpu":
        return
    for box in boxes.reshape(-1, 4).tolist():
        check_box(box, place.size)


def check_box(box: list[float], size: tuple[int, ...] | None) -> None:
    """Raise unless a box holds pixels of images of ``size`` (H, W); None is not checked."""
    x0, y0, x1, y1 = box
    told = f"the box ({', '.join(f'{number:g}' for number in box)})"
    if not (x0 < x1 and y0 < y1):
        raise ValueError(
            f"{told} is empty: it must be (x0, y0, x1, y1) with x0 < x1 and y0 < y1, not x, y, "
            "width and height"
        )
    if size is not None and not (x0 < size[1] and y0 < size[0] and x1 > 0 and y1 > 0):
        raise ValueError(
            f"{told} lies outside the images, which are {size[1]} wide and {size[0]} high"
        )
