"""The page's server: who may ask, that nothing outside is asked, and how it stops."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.page_client import SAMPLE, Server, explaining, request
from torchlime import cli
from torchlime.server import Stopping, Work, run
from torchlime.server.guard import Guard, local_hosts

pytest.importorskip("streamlit", reason="pip install 'torchlime[app]'")
HEAVY = "tests.page_client:heavy"
HOST = "127.0.0.1:8501"
FOREIGN = [
    "evil.example:8501", "evil.example", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8502", "localhost",
    "127.0.0.1.evil.example:8501", "evil.example@127.0.0.1:8501", "127.0.0.1:8501@evil.example",
    "127.0.0.1:8501.", "127.1:8501", "0.0.0.0:8501", "2130706433:8501", "0x7f.1:8501", "[::]:8501",
    "[::1]", "[::ffff:127.0.0.1]:8501", "::1:8501", "192.168.0.1:8501", "localhost.:8501",
    "LOCALHOST.evil:8501", "127.0.0.1:8501, evil.example", "127.0.0.1:08501",
    "xn--lcalhost-5pf:8501", "", " ", "127.0.0.1:", "127.0.0.1:8501/", "http://127.0.0.1:8501",
    "127.0.0.1\t:8501", "null",
]  # fmt: skip


def asked(headers, kind="http", method="GET"):
    """What a guard does with a request: hands it "in", or its answer."""
    sent = []

    async def inner(scope, receive, send):
        sent.append("in")

    async def send(message):
        sent.append(message)

    pairs = [(name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in headers]
    scope = {"type": kind, "headers": pairs} | ({"method": method} if kind == "http" else {})
    asyncio.run(Guard(inner, local_hosts(8501) | {"lab.example"})(scope, None, send))
    return sent


def refused(*request):
    sent = asked(*request)
    assert "in" not in sent
    if sent[0]["type"] == "websocket.close":
        return sent == [{"type": "websocket.close", "code": 1008}]
    return sent[0]["status"] == 403 and sent[1]["type"] == "http.response.body"


# ---- The guard ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost:8501", "[::1]:8501", "lab.example"])
def test_own_names_come_through(host):
    assert asked([("host", host)]) == ["in"]
    for scheme in ("http", "https"):  # the second of a proxy with a certificate
        headers = [("host", host), ("origin", f"{scheme}://{host}")]
        assert asked(headers) == ["in"]
        assert asked(headers, "http", "PUT") == ["in"]
        assert asked(headers, "websocket") == ["in"]


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_do_not(host):
    for kind in ("http", "websocket"):
        assert refused([("host", host), ("origin", f"http://{host}")], kind)
        assert refused([("host", host), ("origin", f"http://{HOST}")], kind)
        assert refused([("host", HOST), ("origin", f"http://{host}")], kind)
        assert refused([("host", host)], kind)


@pytest.mark.parametrize("origin", ["null", "", f"ftp://{HOST}", f"http://{HOST}/", HOST, "*",
                                    "http://localhost:8501", "http://lab.example",
                                    "http://localhost:3000", "file://"])  # fmt: skip
def test_other_pages_do_not(origin):
    for kind in ("http", "websocket"):
        assert refused([("host", HOST), ("origin", origin)], kind)


def test_headers_that_are_missing_or_doubled():
    own, origin = ("host", HOST), ("origin", f"http://{HOST}")
    assert refused([])
    assert refused([origin])
    assert refused([own, own])
    assert refused([own, ("host", "evil.example")])
    assert refused([own, origin, origin])
    assert refused([own, origin, ("Origin", "http://evil.example")])
    assert refused([own], "websocket")  # every browser names the page
    for method in ("POST", "PUT", "DELETE", "PATCH", "CONNECT"):
        assert refused([own], "http", method)
    for method in ("GET", "HEAD", "OPTIONS"):
        assert asked([own], "http", method) == ["in"]


@given(st.text(), st.text(), st.sampled_from(["http", "websocket"]))
def test_nothing_but_the_allowed_comes_through(host, origin, kind):
    if host in local_hosts(8501) | {"lab.example"}:
        return
    assert refused([("host", host), ("origin", origin)], kind)
    assert refused([("host", host), ("origin", f"http://{host}")], kind)


def test_port_80_is_left_out_by_browsers():
    assert "localhost" in local_hosts(80)
    assert "localhost" not in local_hosts(8080)


# ---- The server ---------------------------------------------------------------------------------

WEBSOCKET = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]  # fmt: skip
PATHS = ["/", "/_stcore/health", "/_stcore/host-config", "/_stcore/script-health-check", "/media/x",
         "/_stcore/metrics", "/component/x", "/static/js/x", "/oauth2callback", "/auth/login",
         "//evil.example/", "/..%2f..%2fetc/passwd", "http://evil.example/"]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    arguments = ["--model", HEAVY, "--allow-host", "Lab.example"]
    with Server(tmp_path_factory.mktemp("server"), *arguments) as server:
        yield server


def hostile(server):
    """Requests that no page of ours makes."""
    own = f"Host: {server.host}"
    foreign = [name.replace("8501", str(server.port)) for name in FOREIGN]
    for path in PATHS:
        yield request(path, "Host: evil.example")
        yield request(path, own, "Origin: http://evil.example")
        yield request(path, own, own)
        yield request(path)
        for method in ("POST", "PUT", "DELETE"):
            yield request(path, own, method=method)
            yield request(path, own, "Origin: http://evil.example", method=method)
    for name in foreign:
        yield request("/", f"Host: {name}")
        yield request("/_stcore/stream", *WEBSOCKET, f"Host: {name}", f"Origin: http://{name}")
        yield request("/_stcore/stream", *WEBSOCKET, own, f"Origin: http://{name}")
    yield request("/_stcore/stream", *WEBSOCKET, own)
    yield request("/_stcore/stream", *WEBSOCKET, own, "Origin: null")
    yield request("/_stcore/stream", *WEBSOCKET, own, "X-Forwarded-Host: evil.example",
                  "Forwarded: host=evil.example", "Origin: http://evil.example")  # fmt: skip


def test_hostile_requests_are_refused_and_nothing_outside_is_asked(server):
    for one in hostile(server):
        assert server.status(one) in (400, 403), one
    own, origin = f"Host: {server.host}", f"Origin: {server.address}"
    assert server.status(request("/", own)) == 200  # right values
    assert server.status(request("/", "Host: lab.example")) == 200
    for host in (server.host, f"localhost:{server.port}", f"[::1]:{server.port}", "lab.example"):
        names = f"Host: {host}", f"Origin: http://{host}"
        assert server.status(request("/_stcore/stream", *WEBSOCKET, *names)) == 101
        assert server.status(request("/_stcore/host-config", *names)) == 200
    assert server.status(request("/", own, origin, "X-Forwarded-For: 8.8.8.8")) == 200
    heard = server.heard()
    assert heard == [f"socket.bind ('127.0.0.1', {server.port})"]


def test_its_witness_would_hear_of_a_question_outside(server, tmp_path):
    code = (
        "import socket; link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "link.connect(('127.0.0.1', 9)); socket.getaddrinfo('localhost', 1)"
    )
    site = server.witness.parent / "site"
    names = {"PYTHONPATH": str(site), "WITNESS": str(tmp_path / "heard")}
    subprocess.run([sys.executable, "-c", code], env=names, check=True)
    heard = (tmp_path / "heard").read_text()
    assert heard == "socket.connect ('127.0.0.1', 9)\nsocket.getaddrinfo localhost\n"


def test_a_streamlit_that_cannot_be_guarded_is_not_served(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "streamlit.starlette", types.ModuleType("starlette"))
    monkeypatch.setattr(run, "run", None)
    monkeypatch.setattr(sys, "argv", [])
    assert cli.main(["app", "--model", HEAVY]) == 2
    assert "cannot be served safely" in capsys.readouterr().err


def test_a_setting_that_streamlit_does_not_take(monkeypatch, tmp_path):
    import streamlit

    monkeypatch.setattr(streamlit, "get_option", lambda _: "else")
    monkeypatch.setattr(streamlit.config, "set_option", lambda *_: None)
    with pytest.raises(ImportError, match=r"did not take global.developmentMode"):
        run.streamlit_app(tmp_path, run.SETTINGS)


def test_a_port_that_is_taken():
    with run.listening(None) as first, run.listening(None) as second:
        ports = [link.getsockname()[1] for link in (first, second)]
        assert ports[0] < ports[1]
        with pytest.raises(OSError, match=f"port {ports[0]} is not free"):
            run.listening(ports[0])


# ---- Its stop -----------------------------------------------------------------------------------


def test_a_stop_waits_for_work_and_lets_none_begin():
    work, begun, seen = Work(), threading.Event(), []

    def loop():
        step = work.stepping(lambda *rows: seen.append(rows))
        try:
            with work.one():
                for done in range(10**9):
                    step(done, 10**9)
                    begun.set()
        except Stopping:
            seen.append("stopped")

    thread = threading.Thread(target=loop)
    thread.start()
    assert begun.wait(60)
    assert work.stop(60)
    thread.join()
    assert seen[0] == (0, 10**9)
    assert seen[-1] == "stopped"
    with pytest.raises(Stopping), work.one():
        pass


def test_a_stop_does_not_wait_for_ever():
    work = Work()
    with work.one():
        assert not work.stop(0.01)
    assert work.stop(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_of_an_explanation_is_plain(number, tmp_path):
    with Server(tmp_path, "--model", HEAVY) as server, explaining(server):
        code, said = server.stop(number)
    assert code == 0
    assert said == f"The page is at {server.address} (stop it with Ctrl+C)\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_is_as_plain_as_one(number, tmp_path):
    with Server(tmp_path, "--model", HEAVY) as server, explaining(server):
        server.process.send_signal(number)
        for pause in (0.02, 0.1, 0.1):  # at whatever the stop is then
            time.sleep(pause)
            server.process.send_signal(number)
        code, said = server.stop(number)
    assert code == 0
    assert said == f"The page is at {server.address} (stop it with Ctrl+C)\n"


def test_the_page_has_a_stop_that_ends_an_explanation(tmp_path):
    with Server(tmp_path, "--model", HEAVY) as server, explaining(server) as visitor:
        visitor.send(SAMPLE | {"Stop": ("trigger_value", True)})
        visitor.until(lambda page: any("Stopped" in text for text in page.texts))
        assert not [text for text in visitor.texts if text.startswith("2048 of")]
        visitor.texts.clear()
        visitor.send(SAMPLE)  # and whatever is kept is shown again
        visitor.until(lambda page: any(text.startswith("The model sees") for text in page.texts))
        assert "Picture (.png)" not in visitor.widgets  # nothing is shown
        assert server.stop(signal.SIGTERM)[0] == 0
