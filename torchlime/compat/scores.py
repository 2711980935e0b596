"""Masked images → scores, by a function called as lime calls it or by a module on its device."""

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
from torchlime._labelmap import Segments
from torchlime.black_box import Forward
from torchlime.compat.lime_base import Array, to_numpy
from torchlime.compat.photos import upload
from torchlime.lime import score_masks

LIME_BATCH_SIZE = 10


class Photo(NamedTuple):
    """One image, ready to be masked."""

    image: Array  # [H,W,C]
    fudged: Array  # [H,W,C], what hidden segments show
    segments: Array  # [H,W]
    data: Array  # [n,M] int64, 1 = kept


def scores_of(
    photos: list[Photo],
    classifier_fn: Any,
    batch_size: Any,
    progress_bar: bool,
    autocast: torch.dtype | None,
) -> list[Any]:
    """Scores [n,classes] of every photo; photos of one shape and dtype share batches."""
    module = isinstance(classifier_fn, nn.Module)
    if autocast is not None and not module:
        raise ValueError("autocast goes with an nn.Module; classifier_fn is a function")
    samples = [len(photo.data) for photo in photos]
    scores: list[Any] = []
    with _progress(sum(samples), progress_bar) as advance:
        for group in _alike(photos):
            start = sum(samples[: len(scores)])
            rows = samples[len(scores)]
            report = partial(lambda start, done, *_: advance(start + done), start)
            if module:
                size = None if batch_size == "auto" else _rows_of_a_call(batch_size, rows)
                scores.extend(_module_scores(group, classifier_fn, size, report, autocast))
            else:
                size = LIME_BATCH_SIZE if batch_size == "auto" else batch_size
                size = _rows_of_a_call(size, rows)
                scores.extend(_function_scores(group, classifier_fn, size, report))
    return scores


def _rows_of_a_call(batch_size: float | None, samples: int) -> int:
    """lime takes None, 0 and what no count of rows ever equals for no limit."""
    if not batch_size or batch_size < 0 or batch_size != int(batch_size):
        return samples
    return int(batch_size)


def _alike(photos: list[Photo]) -> Iterator[list[Photo]]:
    """Runs of photos of one shape and dtype."""
    key = lambda photo: (photo.image.shape, photo.image.dtype.str)  # noqa: E731
    for _, group in itertools.groupby(photos, key):
        yield list(group)


def _module_scores(
    photos: list[Photo],
    module: nn.Module,
    chunk_size: int | None,
    progress: Callable[..., object],
    autocast: torch.dtype | None,
) -> list[Tensor]:
    device = device_of(module) or torch.device("cpu")
    pairs = [_index_and_masks(photo) for photo in photos]
    bound = max(masks.shape[1] for _, masks in pairs)
    labels = [index for index, _ in pairs]
    masks = [np.pad(masks, ((0, 0), (0, bound - masks.shape[1]))) for _, masks in pairs]
    counts = torch.full((len(photos),), bound, device=device)
    segments = Segments(upload(labels, device), counts, counts > 0, bound)
    scores = score_masks(
        module,
        _pixels([photo.image for photo in photos], device),
        segments,
        _pixels([photo.fudged for photo in photos], device),
        upload(masks, device),
        "all",
        forward=Forward(chunk_size=chunk_size, autocast=autocast, progress=progress),
    )
    return list(scores)


def _function_scores(
    photos: list[Photo],
    function: Callable[[Array], Any],
    batch_size: int,
    progress: Callable[[int], object],
) -> list[Array]:
    """As lime calls it: a fresh array [b,H,W,C] of the image's dtype each time, the last short."""
    samples = len(photos[0].data)
    total = samples * len(photos)
    maskers = [_Masker(photo) for photo in photos]
    rows: list[Array] = []
    for start in range(0, total, batch_size):
        stop = min(start + batch_size, total)
        parts = [
            maskers[i](max(start - i * samples, 0), min(stop - i * samples, samples))
            for i in range(start // samples, -(-stop // samples))
        ]
        batch = parts[0] if len(parts) == 1 else np.concatenate(parts)
        rows.append(_as_rows(function(batch), stop - start))
        progress(stop)
    return np.split(np.concatenate(rows), len(photos))


class _Masker:
    """Masked images of a photo of any dtype, arrays from arrays.

    On bits: image ^ (hidden & (image ^ fudged)), with hidden all ones or zeros, written out run by
    run of equal labels. That is 2 to 5 times as fast as torch's gather and where, and wakes no
    threads between two calls of the function.
    """

    def __init__(self, photo: Photo) -> None:
        self.shape, self.dtype = photo.image.shape, photo.image.dtype
        labels, masks = _index_and_masks(photo)
        carrier = f"i{self.dtype.itemsize if self.dtype.itemsize <= 8 else 1}"
        self.image, fudged = (
            pixels.copy().reshape(-1).view(carrier) for pixels in (photo.image, photo.fudged)
        )
        self.difference = self.image ^ fudged
        flat = labels.reshape(-1)
        starts = np.flatnonzero(np.diff(flat, prepend=-1))
        self.lengths = np.diff(starts, append=flat.size) * (self.image.size // flat.size)
        self.hidden = -(~masks).astype(carrier)
        self.runs = flat[starts]

    def __call__(self, start: int, stop: int) -> Array:
        """The rows ``start`` … ``stop``: [b,H,W,C]."""
        rows = np.empty((stop - start, self.image.size), self.image.dtype)
        for row, hidden in zip(rows, self.hidden[start:stop], strict=True):
            np.bitwise_and(np.repeat(hidden[self.runs], self.lengths), self.difference, out=row)
            row ^= self.image
        return rows.view(self.dtype).reshape(stop - start, *self.shape)


def _index_and_masks(photo: Photo) -> tuple[Array, Array]:
    """The mask column of every pixel [H,W] int64, and masks [n,S] bool.

    S is M, and one more that is always kept where labels stand for no column.
    """
    masks = photo.data != 0
    index = photo.segments.astype(np.int64)
    stands = (index == photo.segments) & (index >= 0) & (index < masks.shape[1])
    if stands.all():
        return index, masks
    kept = np.ones((len(masks), 1), dtype=bool)
    return np.where(stands, index, masks.shape[1]), np.concatenate([masks, kept], axis=1)


def _as_rows(outputs: Any, count: int) -> Array:
    """A function's outputs as an array [count,classes] of their own dtype."""
    if hasattr(outputs, "__array__") and not isinstance(outputs, Tensor):
        outputs = np.asarray(outputs)  # a data frame, say, whose rows do not iterate
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
    """Yields what to call with the number of rows done."""
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
    """What a module takes [B,C,H,W]: 8-bit images in [0,1], floats as they are."""
    dtype = images[0].dtype
    if dtype.kind != "f" and dtype.itemsize > 1:
        raise TypeError(
            f"a module takes 8-bit images (scaled to [0,1]) or floats (as they are), got {dtype}"
        )
    pixels = upload(images, device).permute(0, 3, 1, 2)
    if pixels.is_floating_point():
        return pixels
    return pixels.float() / (1 if dtype.kind == "b" else 255)
