"""Masked images → scores: by a function, called as lime does, or by a module on its device."""

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torchlime._checks import device_of
from torchlime._given_masks import score_masks
from torchlime._labelmap import Segments
from torchlime.black_box import Forward
from torchlime.compat.arrays import Array, to_numpy
from torchlime.compat.photos import upload

LIME_BATCH_SIZE = 10


class MaskedImage(NamedTuple):
    """One image, what its hidden segments show, and which are hidden in each row."""

    image: Array  # [P…,…], of any rank and dtype
    fudged: Array  # [P…,…] in the image's dtype
    columns: Array  # [P…], the mask column of each position; one without is never hidden
    data: Array  # [n,M] int64, 1 = kept


def masked_image(image: Any, fudged: Any, columns: Any, data: Array) -> MaskedImage:
    """Arrays or tensors, in any shape and dtype that lime takes through NumPy's indexing.

    Raises:
        IndexError: the label map is not as large as the image's first axes.
        ValueError: ``fudged`` does not broadcast to the image.
    """
    image, fudged, columns = (np.asarray(to_numpy(values)) for values in (image, fudged, columns))
    image = image.astype(image.dtype.newbyteorder("="), copy=False)  # as NumPy does for lime
    if image.shape[: columns.ndim] != columns.shape:
        raise IndexError(
            f"segments must have the shape of the image's first axes, got {list(columns.shape)} "
            f"for an image {list(image.shape)}"
        )
    try:
        fudged = np.broadcast_to(fudged, image.shape)
    except ValueError:
        raise ValueError(
            f"fudged_image must broadcast to the image's {list(image.shape)}, "
            f"got {list(fudged.shape)}"
        ) from None
    return MaskedImage(image, fudged.astype(image.dtype, copy=False), columns, data)


def check_classifier(classifier_fn: Any) -> None:
    """Raise unless it can be called.

    Raises:
        TypeError: it cannot; the message says what to pass instead.
    """
    if callable(classifier_fn):
        return
    got, remedy = type(classifier_fn).__name__, "pass predict, not predict(images)"
    if isinstance(classifier_fn, np.ndarray | Tensor):
        got = f"{got} {list(classifier_fn.shape)}, which looks like its result"
    if hasattr(classifier_fn, "predict_proba"):
        remedy = "pass its predict_proba"
    raise TypeError(
        "classifier_fn must be the function itself, from images [n,H,W,C] to scores [n,classes], "
        f"or an nn.Module, got {got}; {remedy}"
    )


def scores_of(
    images: list[MaskedImage],
    classifier_fn: Any,
    batch_size: Any,
    progress_bar: bool,
    autocast: torch.dtype | None,
    check_classes: Callable[[int], object] = lambda classes: None,
) -> list[Any]:
    """Scores [n,classes] of every image; images of one shape and dtype share batches.

    ``check_classes`` is called with the number of classes as soon as it is known.

    Raises:
        TypeError: the classifier cannot be called, or is a module that does not take such images.
        ValueError: ``autocast`` is given with a function, or the scores have another shape.
    """
    check_classifier(classifier_fn)
    module = isinstance(classifier_fn, nn.Module)
    if autocast is not None and not module:
        raise ValueError("autocast needs an nn.Module; classifier_fn is a function")
    samples = [len(image.data) for image in images]
    scores: list[Any] = []
    with _progress(sum(samples), progress_bar) as advance:
        for group in _alike(images):
            start = sum(samples[: len(scores)])
            rows = samples[len(scores)]
            report = partial(lambda start, done, *_: advance(start + done), start)
            if module:
                size = None if batch_size == "auto" else _rows_of_a_call(batch_size, rows)
                found = _module_scores(group, classifier_fn, size, report, autocast)
                check_classes(found[0].shape[1])
                scores.extend(found)
            else:
                size = LIME_BATCH_SIZE if batch_size == "auto" else batch_size
                size = _rows_of_a_call(size, rows)
                scores.extend(_function_scores(group, classifier_fn, size, report, check_classes))
    return scores


def _rows_of_a_call(batch_size: float | None, samples: int) -> int:
    """The rows of a call. For lime, 0, None and numbers that are no count of rows mean no limit."""
    if not batch_size or batch_size < 0 or batch_size != int(batch_size):
        return samples
    return int(batch_size)


def _alike(images: list[MaskedImage]) -> Iterator[list[MaskedImage]]:
    """Consecutive images of one shape and dtype, as lists."""
    key = lambda one: (one.image.shape, one.image.dtype.str)  # noqa: E731
    for _, group in itertools.groupby(images, key):
        yield list(group)


def _module_scores(
    images: list[MaskedImage],
    module: nn.Module,
    chunk_size: int | None,
    progress: Callable[..., object],
    autocast: torch.dtype | None,
) -> list[Tensor]:
    """Scores [n,classes] on the module's device; only this function calls torchlime's pipeline."""
    device = device_of(module) or torch.device("cpu")
    pairs = [_index_and_masks(image) for image in images]
    bound = max(masks.shape[1] for _, masks in pairs)
    labels = [index for index, _ in pairs]
    masks = [np.pad(masks, ((0, 0), (0, bound - masks.shape[1]))) for _, masks in pairs]
    counts = torch.full((len(images),), bound, device=device)
    segments = Segments(upload(labels, device), counts, counts > 0, bound)
    scores = score_masks(
        module,
        _pixels([one.image for one in images], device),
        segments,
        _pixels([one.fudged for one in images], device),
        upload(masks, device),
        "all",
        forward=Forward(chunk_size=chunk_size, autocast=autocast, progress=progress),
    )
    return list(scores)


def _function_scores(
    images: list[MaskedImage],
    function: Callable[[Array], Any],
    batch_size: int,
    progress: Callable[[int], object],
    check_classes: Callable[[int], object],
) -> list[Array]:
    """Call it as lime does: each time with a new array [b,H,W,C] of the image's dtype."""
    samples = len(images[0].data)
    total = samples * len(images)
    maskers = [_Masker(image) for image in images]
    rows: list[Array] = []
    for start in range(0, total, batch_size):
        stop = min(start + batch_size, total)
        parts = [
            maskers[i](max(start - i * samples, 0), min(stop - i * samples, samples))
            for i in range(start // samples, -(-stop // samples))
        ]
        batch = parts[0] if len(parts) == 1 else np.concatenate(parts)
        rows.append(_as_rows(function(batch), stop - start))
        if not start:
            check_classes(rows[0].shape[1])
        progress(stop)
    return np.split(np.concatenate(rows), len(images))


class _Masker:
    """Makes the masked images of an image of any rank and dtype, from arrays to arrays.

    It works on bits: image ^ (hidden & (image ^ fudged)), where ``hidden`` is all ones or all
    zeros. It writes one run of equal labels at a time. That is 2 to 5 times as fast as torch's
    gather and where, and wakes no threads between two calls of the function. Objects have no bits,
    so their indices are masked instead.
    """

    def __init__(self, masked: MaskedImage) -> None:
        self.shape, self.dtype = masked.image.shape, masked.image.dtype
        pair, self.objects = (masked.image, masked.fudged), None
        if self.dtype.hasobject:
            self.objects = np.concatenate([values.reshape(-1) for values in pair])
            pair = tuple(np.arange(2 * masked.image.size).reshape(2, *self.shape))
        self.bits = pair[0].dtype
        size = self.bits.itemsize
        carrier = f"i{size if size in (1, 2, 4, 8) else 1}"
        self.image, fudged = (values.copy().reshape(-1).view(carrier) for values in pair)
        self.difference = self.image ^ fudged
        labels, masks = _index_and_masks(masked)
        flat = labels.reshape(-1)
        starts = np.flatnonzero(np.diff(flat, prepend=-1))
        self.lengths = np.diff(starts, append=flat.size) * (self.image.size // flat.size)
        self.hidden = -(~masks).astype(carrier)
        self.runs = flat[starts]

    def __call__(self, start: int, stop: int) -> Array:
        """The rows ``start`` … ``stop``: [b,…]."""
        rows = np.empty((stop - start, self.image.size), self.image.dtype)
        for row, hidden in zip(rows, self.hidden[start:stop], strict=True):
            np.bitwise_and(np.repeat(hidden[self.runs], self.lengths), self.difference, out=row)
            row ^= self.image
        values = rows.view(self.bits) if self.objects is None else self.objects[rows]
        return values.reshape(stop - start, *self.shape)


def _index_and_masks(masked: MaskedImage) -> tuple[Array, Array]:
    """The mask column of every position int64, and masks [n,S] bool.

    S is M, or M + 1 where some labels stand for no column; the last column is then always kept.
    """
    masks = masked.data != 0
    index = masked.columns.astype(np.int64)
    stands = (index == masked.columns) & (index >= 0) & (index < masks.shape[1])
    if stands.all():
        return index, masks
    kept = np.ones((len(masks), 1), dtype=bool)
    return np.where(stands, index, masks.shape[1]), np.concatenate([masks, kept], axis=1)


def _as_rows(outputs: Any, count: int) -> Array:
    """A function's outputs as an array [count,classes] of their own dtype."""
    if hasattr(outputs, "__array__") and not isinstance(outputs, Tensor):
        outputs = np.asarray(outputs)  # such as a data frame, whose iteration gives no rows
    if not isinstance(outputs, Tensor | np.ndarray):
        outputs = [to_numpy(row) for row in outputs]
    scores = np.asarray(to_numpy(outputs))
    scores = scores.astype(np.float64) if scores.dtype.kind == "O" else scores
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or len(scores) != count:
        raise ValueError(
            f"classifier_fn must return scores [{count},classes] or [{count}] for {count} images, "
            f"got {list(scores.shape)}"
        )
    return scores


@contextlib.contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of rows done."""
    if not shown:
        yield lambda done: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield lambda done: print(f"\r{done}/{total}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        return
    with tqdm(total=total) as bar:
        yield lambda done: bar.update(done - bar.n)


def _pixels(images: list[Array], device: torch.device) -> Tensor:
    """The input of a module [B,C,H,W]: 8-bit images in [0,1], floats as they are."""
    dtype = images[0].dtype
    if images[0].ndim != 3:
        raise TypeError(
            f"a module takes images [H,W,C], got {list(images[0].shape)}; "
            "write a function around it, which takes them as they are"
        )
    if dtype.kind != "f" and dtype.itemsize > 1:
        raise TypeError(
            f"a module takes 8-bit images (scaled to [0,1]) or floats (as they are), got {dtype}"
        )
    pixels = upload(images, device).permute(0, 3, 1, 2)
    if pixels.is_floating_point():
        return pixels
    return pixels.float() / (1 if dtype.kind == "b" else 255)
