"""Run: a Streamlit script behind the guard, until a signal stops it."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from torchlime._extras import imported
from torchlime.server.guard import App, Guard, local_hosts
from torchlime.server.work import WORK

ADDRESS = "127.0.0.1"
FIRST_PORT, PORTS = 8501, 100
SECONDS_TO_CLOSE = 3  # for connections to close
SECONDS_TO_STOP = 10.0  # for the work in progress to stop
SETTINGS = {  # of Streamlit
    "global.developmentMode": False,
    "server.headless": True,  # asks nothing on stdin and opens no browser
    "server.fileWatcherType": "none",
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "browser.gatherUsageStats": False,
    "browser.serverAddress": ADDRESS,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
}


def serve(
    script: Path,
    arguments: Sequence[str],
    *,
    port: int | None = None,
    hosts: Collection[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Serve a script on this machine's own address, until SIGINT or SIGTERM; then end the process.

    Args:
        script: the page; ``arguments`` become its ``sys.argv``.
        port: None = 8501, or the next that is free.
        hosts: allowed values of Host beyond this machine's own names, as ``name:port`` in lower
            case.
        settings: more settings of Streamlit than :data:`SETTINGS`.

    Raises:
        ImportError: Streamlit is not installed, or cannot be guarded.
        OSError: no such port is free, or the server could not be started.
    """
    with listening(port) as link:
        chosen = link.getsockname()[1]
        sys.argv = [str(script), *arguments]
        wanted = {**SETTINGS, **(settings or {}), "server.port": chosen}
        app = Guard(streamlit_app(script, wanted), local_hosts(chosen) | set(hosts))
        print(f"The page is at http://{ADDRESS}:{chosen} (stop it with Ctrl+C)", flush=True)
        run(app, link)
    leave()


def listening(port: int | None) -> socket.socket:
    """A socket on this machine's own address.

    Raises:
        OSError: the port, or each of those that are tried, is in use.
    """
    tried = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]
    for one in tried:
        with contextlib.suppress(OSError):
            return socket.create_server((ADDRESS, one), backlog=128)
    numbers = str(port) if port else f"{tried[0]} to {tried[-1]}"
    raise OSError(f"the page's server could not be started: port {numbers} is not free")


def streamlit_app(script: Path, settings: Mapping[str, Any]) -> App:
    """Streamlit with a script, as an ASGI application that can be guarded.

    Raises:
        ImportError: Streamlit is not installed, or does not offer this.
    """
    streamlit = imported("streamlit", "the page", "app")
    config = imported("streamlit.config", "the page", "app")
    try:
        import uvicorn  # noqa: F401, it must be installed
        from streamlit.starlette import App as Streamlit
    except ImportError as error:
        raise ImportError(
            f"Streamlit {streamlit.__version__} cannot be served safely: torchlime checks requests "
            "in front of streamlit.starlette.App, which is not there. "
            "pip install --upgrade 'torchlime[app]'"
        ) from error
    for name, value in settings.items():
        config.set_option(name, value)  # not public, so the result is checked
        if streamlit.get_option(name) != value:
            raise ImportError(f"Streamlit {streamlit.__version__} did not take {name} = {value}")
    app: App = Streamlit(script)
    return app


def run(app: App, link: socket.socket) -> None:
    """Serve on a socket until SIGINT or SIGTERM, and close all connections.

    Raises:
        OSError: the server could not be started.
    """
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.should_exit = True  # uvicorn's own breaks off at a second signal, with a traceback

    server = Server(_configuration(app))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)  # for good: none tears down what threads use
    server.run(sockets=[link])
    if not server.started:
        raise OSError("the page's server could not be started")


def _configuration(app: App) -> Any:
    from uvicorn import Config
    from uvicorn.config import WS_PROTOCOLS

    newest = "websockets-sansio"  # "auto" takes an older one, which warns
    return Config(
        app,
        ws=newest if newest in WS_PROTOCOLS else "auto",
        lifespan="on",
        proxy_headers=False,  # no proxy may say who asks
        server_header=False,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=SECONDS_TO_CLOSE,
    )


def leave() -> NoReturn:
    """End the process with exit code 0, without tearing down what threads may still use."""
    WORK.stop(SECONDS_TO_STOP)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)
