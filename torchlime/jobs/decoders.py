"""Decoders: processes that turn photos into pixels, and may die or hang without harm to the job."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from torchlime import models
from torchlime.folders import PhotoFile
from torchlime.jobs.rows import reason_of

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


class Decoded(NamedTuple):
    """A photo's pixels [3,H,W] float32 in [0,1] and its (width, height); or why there are none."""

    photo: PhotoFile
    pixels: np.ndarray[Any, Any] | None
    size: tuple[int, int]
    error: str | None


@dataclass(frozen=True)
class Decode:
    """Turns a photo into the pixels that the network sees, on the CPU.

    An error that is due to the photo is returned, not raised.

    Args:
        geometry: the network's.
        cut: the function that cuts photos: ``geometry.cut``, or the caller's own.
        limits: those of each photo.
    """

    geometry: models.Geometry
    cut: "Callable[[Image.Image], Tensor]"
    limits: models.Limits

    def __call__(self, photo: PhotoFile) -> Decoded:
        """Read and cut the photo, in this process if its header shows that it is cheap."""
        return self._told(photo, lambda: self._cut(self._read(photo), photo))

    def by(
        self,
        decoder: models.Decoder,
        photo: PhotoFile,
        alone: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> Decoded:
        """The same, but ``decoder``, another process, reads the photo, and cuts it if it can."""

        def read() -> Decoded:
            path = str(photo.path)
            made = decoder.read(path, path, alone=alone)
            pixels = np.frombuffer(made.pixels, np.uint8).reshape(*made.shape, 3)
            if decoder.geometry is None:
                return self._cut(_image(pixels), photo)
            scaled = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
            return Decoded(photo, scaled, made.size, None)

        return self._told(photo, read)

    def decoder(self) -> models.Decoder:
        """A process that reads photos; it also cuts them, unless the caller's own function does."""
        own = getattr(self.cut, "__func__", None) is models.Geometry.cut
        same = own and getattr(self.cut, "__self__", None) == self.geometry
        plain = type(self.geometry) is models.Geometry
        return models.Decoder(self.limits, self.geometry if same and plain else None)

    def _read(self, photo: PhotoFile) -> "Image.Image":
        return models.read_photo_within(photo.path, self.limits)

    def _cut(self, image: "Image.Image", photo: PhotoFile) -> Decoded:
        pixels = models.cut_photo(image, self.geometry, self.cut, photo.id, self.limits).numpy()
        return Decoded(photo, pixels, image.size, None)

    def _told(self, photo: PhotoFile, read: Callable[[], Decoded]) -> Decoded:
        try:
            return read()
        except (MemoryError, models.NoDecoder):
            raise
        except Exception as error:  # a photo may hold anything
            return Decoded(photo, None, (0, 0), reason_of(error, photo))


def _image(pixels: np.ndarray[Any, Any]) -> "Image.Image":
    from PIL import Image

    return Image.fromarray(pixels)


class Decoders:
    """Processes that decode; a thread asks each of them. As a context, it ends them.

    A photo that ends its decoder, or is too slow, is tried a second time while no other is decoded.

    Args:
        decode: what the processes do.
        count: the number of processes.
    """

    def __init__(self, decode: Decode, count: int) -> None:
        self.decode = decode
        self._all = [decode.decoder() for _ in range(count)]
        self._free: queue.SimpleQueue[models.Decoder] = queue.SimpleQueue()
        for decoder in self._all:
            self._free.put(decoder)
        self._threads = ThreadPoolExecutor(count, "torchlime-decoder")
        self._turns = _Turns()

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in self._all:
            decoder.stop()
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._all:
            decoder.close()

    def __call__(self, photos: Iterable[PhotoFile], ahead: int) -> Generator[Decoded]:
        """The photos in their order; ``ahead`` of them are decoded before they are asked for."""
        waiting: deque[Future[Decoded]] = deque()
        for photo in photos:
            waiting.append(self._threads.submit(self._decoded, photo))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _decoded(self, photo: PhotoFile) -> Decoded:
        decoder = self._free.get()
        try:
            with self._turns.together():
                return self.decode.by(decoder, photo, self._turns.alone)
        finally:
            self._free.put(decoder)


class _Turns:
    """Lets many threads work together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._alone = threading.Lock()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Work beside other threads; first wait for any thread that wants to be alone."""
        with self._alone:
            self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside :meth:`together`: wait until the others are done, and keep them out."""
        self._add(-1)
        try:
            with self._alone:
                with self._changed:
                    self._changed.wait_for(lambda: self._working == 0)
                yield
        finally:
            self._add(1)

    def _add(self, change: int) -> None:
        with self._changed:
            self._working += change
            self._changed.notify_all()
