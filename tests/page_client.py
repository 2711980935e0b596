"""A client of the page's server that is no browser: it speaks Streamlit's messages."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import nn

from tests.tiny import SMALL
from torchlime.models import Classifier

ROOT = Path(__file__).parents[1]
WITNESS = """
import os, sys
HEARD = {"socket.bind": 1, "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1,
         "socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}
def heard(event, arguments):
    if event in HEARD:
        with open(os.environ["WITNESS"], "a") as file:
            print(event, arguments[HEARD[event]], file=file)
sys.addaudithook(heard)
"""


SAMPLE = {"Use the sample photo of a cat": ("bool_value", True)}


class Heavy(nn.Module):
    """Keeps all its threads busy, without the interpreter's lock."""

    def forward(self, images):
        wide = images.repeat(1, 1, 4, 4)
        product = wide @ wide.mT
        for _ in range(8):
            product = (product @ wide).tanh() @ wide.mT
        return images.mean((2, 3)) + product.mean((2, 3)) * 1e-9


def heavy():
    return Classifier(Heavy(), SMALL, ["red", "green", "blue"])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def request(path, *headers, method="GET"):
    """The bytes of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode("latin-1")


class Server:
    """``torchlime app`` in a process of its own, whose use of sockets is written down.

    Args:
        folder: where the process runs, and its witness lies.
        arguments: of the command.
        names: environment variables.
    """

    def __init__(self, folder, *arguments, root=ROOT, **names):
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.address = f"http://{self.host}"
        self.witness = folder / "witness.txt"
        (folder / "site").mkdir(exist_ok=True)
        (folder / "site/sitecustomize.py").write_text(WITNESS)
        python = f"{folder / 'site'}:{root}:{os.environ.get('PYTHONPATH', '')}"
        names = {"PYTHONPATH": python, "WITNESS": str(self.witness)} | names
        command = [sys.executable, "-m", "torchlime", "app", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *arguments], env=os.environ | names, cwd=folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self):
        while self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.status(request("/_stcore/health", f"Host: {self.host}")) == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(self.process.communicate()[1])

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def stop(self, signal):
        """Its exit code, and what it wrote."""
        self.process.send_signal(signal)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out + err

    def heard(self):
        """Lines of what it did with sockets."""
        return self.witness.read_text().splitlines() if self.witness.exists() else []

    def ask(self, request):
        """The answer to the bytes of an HTTP request, until the connection ends or is silent."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as link:
            link.sendall(request)
            with contextlib.suppress(OSError):
                while b"\r\n\r\n" not in answer:
                    part = link.recv(65536)
                    if not part:
                        break
                    answer += part
        return answer

    def status(self, request):
        """The status of the answer to a request; 0 where there is none."""
        found = re.match(rb"HTTP/1\.[01] (\d+)", self.ask(request))
        return int(found[1]) if found else 0


class Visitor:
    """Somebody's page: presses what its labels name."""

    def __init__(self, server):
        from websockets.sync.client import connect

        opened = connect(
            f"ws://{server.host}/_stcore/stream", origin=server.address, max_size=None,
            subprotocols=["streamlit"],
        )  # fmt: skip
        self.closing = contextlib.ExitStack()
        self.link = self.closing.enter_context(opened)
        self.widgets = {}
        self.texts = []
        self.send()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.closing.close()

    def send(self, values=None):
        """Run the page, with values of widgets by their labels."""
        from streamlit.proto.BackMsg_pb2 import BackMsg

        message = BackMsg()
        message.rerun_script.query_string = ""
        for label, (kind, value) in (values or {}).items():
            state = message.rerun_script.widget_states.widgets.add()
            state.id = self.widgets[label]
            if kind == "string_array_value":
                state.string_array_value.data.append(value)
            else:
                setattr(state, kind, value)
        self.link.send(message.SerializeToString())

    def until(self, seen, seconds=60):
        """Read on until ``seen(self)``."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        end = time.monotonic() + seconds
        while not seen(self):
            message = ForwardMsg.FromString(self.link.recv(timeout=end - time.monotonic()))
            if message.WhichOneof("type") == "delta":
                self._take(message.delta)
        return self

    def _take(self, delta):
        if delta.WhichOneof("type") != "new_element":
            return
        kind = delta.new_element.WhichOneof("type")
        element = getattr(delta.new_element, kind)
        if getattr(element, "id", "") and getattr(element, "label", ""):
            self.widgets[element.label] = element.id
        for name in ("text", "body"):
            if isinstance(getattr(element, name, None), str):
                self.texts.append(getattr(element, name))


def explaining(server, samples="2048"):
    """Somebody for whom the sample is being explained, and the first chunk is through."""
    pytest.importorskip("skimage", reason="its cat")
    from torchlime.app.panels import SURE

    visitor = Visitor(server)
    visitor.until(lambda page: "Use the sample photo of a cat" in page.widgets)
    visitor.send(SAMPLE)
    visitor.until(lambda page: "Explain" in page.widgets)
    asked = {
        "How sure": ("string_value", SURE["fixed"]),
        "Samples": ("string_array_value", samples),
        "Explain": ("trigger_value", True),
    }
    visitor.send(SAMPLE | asked)
    return visitor.until(lambda page: any("perturbed copies" in text for text in page.texts))
