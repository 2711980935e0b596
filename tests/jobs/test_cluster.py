"""The Ray engine, on a real Ray of this machine: the same rows, whatever happens to its actors."""

import contextlib
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.jobs.folder import SETTINGS, assert_same_rows, children, good, photo, rows, run
from tests.pictures import bomb
from torchlime import jobs
from torchlime.jobs.cluster import Ray, _connected

pytestmark = [
    pytest.mark.ray,  # and not yet imported, since a Ray that is may listen to other machines
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray"),
]


@pytest.fixture(scope="module")
def ray():
    with _connected(None) as connected:
        yield connected


@pytest.fixture
def root(tmp_path):
    root = good(tmp_path / "photos", 30)
    (root / "red/bomb.png").write_bytes(bomb())
    (root / "red/text.png").write_text("no image")
    (root / "truncated.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    photo(50, size=(90, 40)).save(root / "0.png")
    odd = os.path.join(os.fsencode(root), b"a\n\xff")
    os.mkdir(odd)
    os.rename(root / "0.png", os.path.join(odd, b"\xfe.png"))
    return root


def actors():
    """Ids of the actors that this process started, Linux alone."""
    found, family = [], children(os.getpid())
    while family:
        pid = family.pop()
        with contextlib.suppress(OSError):  # it may have ended
            family += children(pid)
            if b"ray::MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


class Stop(Exception):
    pass


class Heavy(tiny.Bright):
    """As large as real networks are, which Ray keeps outside its actors' own arguments."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(2**20))


@pytest.fixture
def heavy(monkeypatch):
    monkeypatch.setattr(tiny, "Bright", Heavy)


def test_the_same_rows_everywhere(ray, heavy, root, tmp_path):
    """By the local engine, by one actor, and by both: stopped, then finished with one killed."""
    run(root, tmp_path / "local")
    expected = rows(tmp_path / "local")
    assert sum(row["status"] == "error" for row in expected.values()) == 3

    run(root, tmp_path / "one", Ray(1), pictures=True)
    assert_same_rows(rows(tmp_path / "one"), expected)
    assert len(list((tmp_path / "one/_pictures/green").iterdir())) == 10

    def stop(done, total):
        if done >= 4:
            raise Stop

    killed = []

    def kill(done, total):
        if not killed:
            killed.extend([pid for pid in actors() if pid not in earlier][:1])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(Stop):
        run(root, tmp_path / "two", jobs.Local(workers=0, at_once=4), progress=stop)
    earlier = actors()
    engine = Ray(2, at_once=2)
    assert run(root, tmp_path / "two", engine, progress=kill).before == 4
    assert len(killed) == 1
    assert_same_rows(rows(tmp_path / "two"), expected)


def test_a_worker_that_fails_stops_the_job_in_a_sentence(ray, root, tmp_path):
    classifier = tiny.bright()
    classifier.network = OutOfMemory()
    with pytest.raises(RuntimeError, match="a Ray worker failed: .*no room at all") as raised:
        jobs.run(root, tmp_path / "out", classifier, SETTINGS, engine=Ray(1))
    assert len(str(raised.value).splitlines()) == 1


class OutOfMemory(torch.nn.Module):
    def forward(self, images):
        raise MemoryError("no room at all")


def test_nobody_listens_beyond_this_machine_and_nothing_is_reported(ray):
    psutil = pytest.importorskip("psutil")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [
        connection.laddr.ip
        for process in family
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert all(ip.removeprefix("::ffff:").startswith("127.") for ip in listening), listening


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'torchlime\[ray\]'"):
        Ray()


def test_arguments():
    with pytest.raises(ValueError, match="workers must be at least 1"):
        Ray(0)
    with pytest.raises(ValueError, match="at_once must be at least 1"):
        Ray(at_once=0)
