"""Guard: lets through only requests for an allowed name, from a page under that name.

A page on 127.0.0.1 is within reach of every page that the same browser shows. Two headers, which no
page can forge, say who asks. Host is the name that the browser opened: it reveals a foreign name
that points to this machine (DNS rebinding). Origin is the page that the request comes from.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "[::1]")


def local_hosts(port: int) -> frozenset[str]:
    """This machine's own names with a port, as a browser writes them into Host.

    >>> sorted(local_hosts(8501))
    ['127.0.0.1:8501', '[::1]:8501', 'localhost:8501']
    """
    names = {f"{name}:{port}" for name in LOCAL}
    return frozenset(names | set(LOCAL) if port == 80 else names)  # browsers leave out port 80


class Guard:
    """An ASGI application that hands on what is allowed, and answers all else with 403.

    Args:
        app: what is guarded.
        hosts: allowed values of the Host header, in lower case.

    Convention:
        A request needs exactly one Host, which is in ``hosts``. An Origin has to be http:// or
        https:// and that same host. A WebSocket and a request that may change something need an
        Origin. No name is looked up.
    """

    def __init__(self, app: App, hosts: Iterable[str]) -> None:
        self.app = app
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan" or self.allows(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before accept: a 403
        else:
            await _refuse(send)

    def allows(self, scope: Message) -> bool:
        """Whether a request, as ASGI describes it, may come through."""
        host, origin = (_values(scope, name) for name in (b"host", b"origin"))
        if len(host) != 1 or host[0] not in self.hosts:
            return False
        own = [[f"{scheme}://{host[0]}"] for scheme in ("http", "https")]
        reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD", "OPTIONS")
        return origin in own or (reads and not origin)


def _values(scope: Message, name: bytes) -> list[str]:
    """All values of a header; it may be there twice."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def _refuse(send: Send) -> None:
    body = (
        b"403: this page is shown under the names of its own machine alone. "
        b"Start it with --allow-host NAME:PORT for another one.\n"
    )
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the rest of the request is not read
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
