"""Decoder: the process that reads photos for another process; a photo may kill it.

It is run as a script, ``python -I decoder.py DESCRIPTOR``, and loads Pillow alone: torchlime's own
``__init__`` would load torch, which takes seconds and hundreds of MiB.
"""

import contextlib
import io
import os
import signal
import socket
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LIBRARIES = 64  # MiB of code that a photo may need, such as numpy
_MOST_AHEAD, _CHUNK = 2**30, 2**20  # bytes of a file that are read before it is decoded
_IDLE = 5.0  # seconds between two looks at whether the parent is still there


def main() -> None:
    """Answer requests until the parent has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the parent's to handle
    parent, link = os.getppid(), socket.socket(fileno=int(sys.argv[1]))
    _stub_packages()
    from torchlime.models import wire

    try:
        settings, _ = wire.receive(link)
        sys.path[:] = settings["path"]
        answer = _answers(settings)
        wire.send(link, {"ready": True})
        while True:
            _wait(link, parent)
            message, payload = wire.receive(link)
            _end_in(settings["reading"] + _IDLE)  # if nobody else does
            _read_ahead(message)
            wire.send(link, {"read": True})
            wire.send(link, *answer(message, payload))
            _end_in(0)
    except (EOFError, OSError):  # the parent has gone
        return


def _stub_packages() -> None:
    """Make modules importable without the ``__init__`` of the packages that they are in."""
    here = Path(__file__).resolve().parent
    for name, folder in (("torchlime", here.parent), ("torchlime.models", here)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def _answers(settings: Mapping[str, Any]) -> Any:
    """Set the limits; return a function that answers a request with a message and pixels."""
    import PIL.AvifImagePlugin
    from PIL import Image

    from torchlime.models.geometry import Geometry
    from torchlime.models.limits import Limits
    from torchlime.models.reading import refuse_bombs

    limits = Limits(**settings["limits"])
    geometry = None if settings["geometry"] is None else Geometry(**settings["geometry"])
    Image.init()  # loads the plug-ins before memory is counted
    Image.MAX_IMAGE_PIXELS = None  # the limits are checked instead
    PIL.AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there are other decoders beside this one
    refuse_bombs()
    _hold_to((limits.memory + _LIBRARIES) * 2**20)

    def answer(message: Mapping[str, Any], payload: bytearray) -> tuple[dict[str, Any], Any]:
        _end_in(limits.seconds + _IDLE)  # if no other process ends it
        try:
            return _pixels(message, payload, limits, geometry)
        except BaseException as error:  # SystemExit also ends this process, after the answer
            return _told(error), b""

    return answer


def _pixels(
    message: Mapping[str, Any], payload: bytearray, limits: Any, geometry: Any
) -> tuple[dict[str, Any], Any]:
    from torchlime.models.headers import check_scans
    from torchlime.models.reading import check_photo, read_file

    name, data = message["name"], bytes(payload)
    file: Any = None
    if message["path"] is not None:
        file = _path_in(message)
        check_photo(file)
        data = _jpeg(file)
    if data:
        check_scans(data, name)
        file = io.BytesIO(data)
    photo = read_file(file, name, limits, page=message["page"], formats=message["formats"])
    size = photo.size
    if geometry is not None:
        limits.check(*geometry.resized(size), f"{name} resized for the network")
        photo = geometry.picture(photo)
    return {"size": size, "shape": [photo.height, photo.width]}, photo.tobytes()


def _path_in(message: Mapping[str, Any]) -> Path:
    return Path(os.fsdecode(message["path"].encode("latin-1")))


def _read_ahead(message: Mapping[str, Any]) -> None:
    """Let the system have a file at hand, so that decoding it does not wait for a drive."""
    from torchlime.models.reading import check_photo

    if message["path"] is None:
        return
    with contextlib.suppress(OSError, ValueError):  # which decoding it will tell
        check_photo(path := _path_in(message))
        with path.open("rb", buffering=0) as file:
            for _ in range(_MOST_AHEAD // _CHUNK):
                if not file.read(_CHUNK):
                    break


def _jpeg(path: Path) -> bytes:
    """All bytes of a JPEG file, whose scans have to be counted; none of another file."""
    with path.open("rb") as file:
        start = file.read(2)
        return start + file.read() if start == b"\xff\xd8" else b""


def _told(error: BaseException) -> dict[str, Any]:
    told: dict[str, Any] = {"error": type(error).__name__, "message": str(error)[:2000]}
    if isinstance(error, OSError) and error.strerror:
        told |= {"error": "OSError", "errno": error.errno, "strerror": error.strerror}
    return told


def _wait(link: socket.socket, parent: int) -> None:
    """Wait for a request; exit if the parent was killed while others hold its sockets."""
    link.settimeout(_IDLE)
    while True:
        with contextlib.suppress(TimeoutError):
            link.recv(1, socket.MSG_PEEK)
            return
        if os.getppid() != parent:
            raise EOFError


def _hold_to(memory: int) -> None:
    """Let the system refuse more memory, where it can; no core is dumped."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _end_in(seconds: float) -> None:
    """Let the system end this process after ``seconds``; 0 cancels that."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main()
