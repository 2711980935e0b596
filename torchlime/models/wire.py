"""Wire: messages between a program and its decoders, over one socket for each decoder.

A message is a JSON object and some bytes. Nothing is unpickled, since a decoder may have been taken
over by the file that it reads. Importing this loads no torch.
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

_PREFIX = struct.Struct(">IQ")  # bytes of the object, and of what follows
_LARGEST_OBJECT = 2**20


class Nonsense(Exception):
    """The received bytes are not a message."""


def send(
    link: socket.socket,
    message: Mapping[str, Any],
    payload: Any = b"",
    deadline: float | None = None,
) -> None:
    """Send a message.

    Args:
        link: a socket that nobody else uses on this side.
        message: values that JSON knows.
        payload: bytes.
        deadline: a time of ``time.monotonic``; None waits for ever.

    Raises:
        TimeoutError: the other side does not read.
        OSError: there is no other side.
    """
    text = json.dumps(message).encode()
    link.settimeout(_left(deadline))
    link.sendall(_PREFIX.pack(len(text), len(payload)) + text)
    if payload:
        link.settimeout(_left(deadline))
        link.sendall(payload)


def receive(
    link: socket.socket, deadline: float | None = None, largest: int = 2**40
) -> tuple[dict[str, Any], bytearray]:
    """Receive a message; take no longer than the deadline, even if half of it has come.

    Raises:
        TimeoutError: the message does not come in time.
        EOFError: the other side has gone, perhaps in the middle of a message.
        Nonsense: it is not a message, or has more than ``largest`` bytes.
    """
    size, following = _PREFIX.unpack(_exactly(link, _PREFIX.size, deadline))
    if size > _LARGEST_OBJECT or following > largest:
        raise Nonsense(f"a message of {size} and {following} bytes is no message")
    try:
        message = json.loads(_exactly(link, size, deadline))
    except ValueError as error:
        raise Nonsense(str(error)) from error
    if not isinstance(message, dict):
        raise Nonsense(f"a message is an object, got {type(message).__name__}")
    return message, _exactly(link, following, deadline)


def _exactly(link: socket.socket, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        link.settimeout(_left(deadline))
        count = link.recv_into(view)
        if count == 0:
            raise EOFError("the other side has gone")
        view = view[count:]
    return data


def _left(deadline: float | None) -> float | None:
    """Seconds until a deadline: never 0, which would mean not to wait at all."""
    return None if deadline is None else max(deadline - time.monotonic(), 1e-3)
