"""Decoding: separate processes read photos, and may die or hang without harm.

A decoder reads one photo at a time, over a socket that nobody else holds. So it is known which
photo ended it, no lock can be left locked, and half a message blocks nobody for longer than the
limit.
"""

import builtins
import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torchlime.models import wire
from torchlime.models.geometry import Geometry
from torchlime.models.limits import Limits
from torchlime.models.processes import POSSIBLE, ending, kill, started

__all__ = ["AT_ONCE", "POSSIBLE", "Decoder", "NoDecoder", "Picture"]

Context = Callable[[], contextlib.AbstractContextManager[object]]

_PROGRAM = Path(__file__).with_name("decoder.py")
_SECONDS_OF_A_START = 10.0
_SECONDS_OF_READING = 300.0  # a file, before the seconds of the limits begin
_NOT_STARTED = "a process that decodes photos did not start"
_TRIES = 2  # of a photo that ends its decoder, or takes too long
_TRIES_FROM_OUTSIDE = 4  # of one whose decoder somebody kills, such as an out-of-memory killer
_BROKEN = (EOFError, ConnectionError, wire.Nonsense)
_PAUSE = 0.2  # seconds before such a try, doubled for the next
_ERRORS = ("ValueError", "OSError", "FileNotFoundError", "IsADirectoryError", "ImportError")


class Picture(NamedTuple):
    """Pixels (uint8 [H,W,3] as flat bytes), their (height, width), and the upright photo's (width,
    height)."""

    pixels: bytearray
    shape: tuple[int, int]
    size: tuple[int, int]


class NoDecoder(RuntimeError):
    """No process that decodes can be started; no photo is to blame."""


class _Lost(Exception):
    """A decoder ended, or had to be ended.

    Args:
        reason: what to say of the photo where that happens each time.
        outside: whether the photo is not to blame, so that there are more tries.
    """

    def __init__(self, reason: str, *, outside: bool = False) -> None:
        super().__init__(reason)
        self.outside = outside

    def told(self, name: str) -> Exception:
        """What to raise where that happens each time."""
        return ValueError(f"{name} cannot be decoded: {self}")


class _NotStarted(_Lost):
    """A decoder ended, or had to be ended, before it got a photo."""

    def told(self, name: str) -> Exception:
        """What to raise where that happens each time: it is no photo's fault."""
        return NoDecoder(str(self))


class Decoder:
    """A process that reads photos; it is started when it is needed, and again when it is lost.

    It serves one thread at a time. As a context, it ends the process.

    Args:
        limits: those of each photo.
        geometry: cuts what it reads; None = whole photos.
    """

    def __init__(self, limits: Limits, geometry: Geometry | None = None) -> None:
        self.limits = limits
        self.geometry = geometry
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._closed = threading.Event()

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:
        """End the process, whatever it does; it is started no more. Any thread may call this."""
        self._closed.set()
        if (process := self._process) is not None:
            kill(process)

    def close(self) -> None:
        """Do the same, once no other thread uses the process."""
        self.stop()
        self._end()

    def read(
        self,
        photo: str | os.PathLike[str] | bytes,
        name: str,
        *,
        page: int | None = None,
        formats: Sequence[str] | None = None,
        alone: Context = contextlib.nullcontext,
    ) -> Picture:
        """Read a photo; one whose decoder is lost is tried again.

        Args:
            photo: its path, or the bytes of its file.
            name: what to call it in a sentence.
            page: which of several pages, from 1.
            formats: Pillow's names of the formats that are read; None = all.
            alone: gives a context in which no other decoder works, for the second try.

        Raises:
            ValueError: it cannot be read, or ended its decoder twice, or was too slow twice.
            OSError: it may not be read.
            NoDecoder: no process that reads it can be started.
        """
        data, path = (photo, None) if isinstance(photo, bytes) else (b"", os.path.abspath(photo))
        message = {
            "path": None if path is None else os.fsencode(path).decode("latin-1"),
            "name": name,
            "page": page,
            "formats": None if formats is None else list(formats),
        }
        again: Context = contextlib.nullcontext
        tries, left = 0, _TRIES
        while True:
            tries += 1
            try:
                with again():
                    return self._asked(message, data)
            except _Lost as error:
                again = alone
                left -= not error.outside
                if left == 0 or tries == _TRIES_FROM_OUTSIDE:
                    raise error.told(name) from error
                if error.outside:
                    self._closed.wait(_PAUSE * 2 ** (tries - 1))

    def _asked(self, message: dict[str, Any], data: bytes) -> Picture:
        """One try."""
        if self._process is None:
            self._start()
        assert self._link is not None  # since there is a process
        self._await_reading(self._link, message, data)
        deadline = time.monotonic() + self.limits.seconds
        try:
            answer, pixels = wire.receive(self._link, deadline, self._largest)
            picture = None if "error" in answer else _picture(answer, pixels)
        except TimeoutError:
            self._end()
            raise _Lost(
                f"it takes more than the {self.limits.seconds:g} s that are allowed (seconds=, "
                "--max-seconds)"
            ) from None
        except _BROKEN as error:
            raise self._loss() from error
        if picture is None:
            raise self._error(answer)
        return picture

    def _await_reading(self, link: socket.socket, message: dict[str, Any], data: bytes) -> None:
        """Ask for a photo, and wait until its file was read: a slow drive is no fault of it."""
        deadline = time.monotonic() + _SECONDS_OF_READING
        try:
            wire.send(link, message, data, deadline)
            wire.receive(link, deadline)
        except TimeoutError:
            self._end()
            raise _Lost(
                f"its file was not read within {_SECONDS_OF_READING:g} s, as from a drive that "
                "does not answer; try again later (retry=True, --retry)"
            ) from None
        except _BROKEN as error:
            raise self._loss() from error

    def _loss(self) -> _Lost:
        """That the process has gone while it had a photo."""
        reason, outside = ending(self._code())
        return _Lost(f"the process that decodes it {reason}", outside=outside)

    @property
    def _largest(self) -> int:
        """The largest number of bytes of pixels."""
        crop = (self.geometry and self.geometry.crop) or (0, 0)
        return 3 * (self.limits.pixels + crop[0] * crop[1])

    def _error(self, answer: dict[str, Any]) -> Exception:
        """The error that a decoder reports about a photo."""
        kind, text = str(answer["error"]), str(answer.get("message"))
        if "strerror" in answer:
            return OSError(int(answer["errno"]), str(answer["strerror"]))
        if kind in _ERRORS:
            return getattr(builtins, kind)(text)
        self._end()  # it may be in any state
        if kind == "MemoryError":
            return _Lost(
                f"it takes more than the {self.limits.memory} MiB of memory that are allowed "
                "(memory=, --max-memory)"
            )
        return _Lost(f"it ends the process that decodes it ({kind}: {text})")

    def _start(self) -> None:
        if self._closed.is_set():
            raise NoDecoder("the decoders were stopped")
        link, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = started(_PROGRAM, theirs)
            except OSError as error:
                link.close()
                raise NoDecoder(f"{_NOT_STARTED}: {error}") from error
        self._link = link
        settings = {
            "path": sys.path,
            "limits": dataclasses.asdict(self.limits),
            "reading": _SECONDS_OF_READING,
            "geometry": None if self.geometry is None else dataclasses.asdict(self.geometry),
        }
        deadline = time.monotonic() + _SECONDS_OF_A_START
        try:
            wire.send(link, settings, deadline=deadline)
            wire.receive(link, deadline)
        except TimeoutError as error:
            self._end()
            reason = f"{_NOT_STARTED} within {_SECONDS_OF_A_START:g} s"
            raise _NotStarted(reason, outside=True) from error
        except (EOFError, OSError, wire.Nonsense) as error:
            reason, outside = ending(self._code())
            failure = _NotStarted(f"{_NOT_STARTED}: it {reason}", outside=outside)
            raise (failure if outside else failure.told("")) from error
        if self._closed.is_set():
            self._end()
            raise NoDecoder("the decoders were stopped")

    def _code(self) -> int | None:
        """What the process ended with; it is ended if it did not."""
        process = self._process
        with contextlib.suppress(subprocess.TimeoutExpired):
            if process is not None:
                process.wait(1)
        code = None if process is None else process.returncode
        self._end()
        if self._closed.is_set():
            raise NoDecoder("the decoders were stopped")
        return code

    def _end(self) -> None:
        process, link = self._process, self._link
        self._process = self._link = None
        if process is not None:
            kill(process)
            process.wait()
        if link is not None:
            link.close()


def _picture(answer: dict[str, Any], pixels: bytearray) -> Picture:
    """The picture that a decoder sent, checked."""
    shape, size = (tuple(answer.get(name) or ()) for name in ("shape", "size"))
    if not all(type(one) is int and one > 0 for one in (*shape, *size)):
        raise wire.Nonsense(f"{answer} tells no sizes")
    if (len(shape), len(size)) != (2, 2) or len(pixels) != 3 * shape[0] * shape[1]:
        raise wire.Nonsense(f"{len(pixels)} bytes are no picture of {shape} pixels")
    return Picture(pixels, shape, size)


AT_ONCE = threading.BoundedSemaphore(max(1, min(4, (os.cpu_count() or 1) // 2)))
"""Photos that :func:`torchlime.models.read_photo_within` reads in processes at once."""
