"""Decoders that die, hang or are killed: every photo gets its row, and the right one."""

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.jobs.folder import alive, assert_same_rows, children, good, photo, rows, run
from tests.test_decoding import CRASHING, pages
from torchlime import jobs, models
from torchlime.folders import PhotoFile
from torchlime.jobs.decoders import Decode, Decoders, _Turns
from torchlime.models import Limits, decoding

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.skipif(not decoding.POSSIBLE, reason="needs processes of Unix")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def decoders_of(pid):
    """The processes that decode for another."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            if b"decoder.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def test_bad_photos_are_rows_and_the_others_are_explained(monkeypatch, tmp_path, out):
    monkeypatch.setattr(decoding, "_PROGRAM", CRASHING)
    root = good(tmp_path / "photos", 12)
    bad = {"segv": "SIGSEGV", "exit": "SystemExit", "memory": "MiB of memory", "hang": "the 2 s",
           "half": "the 2 s", "kill": "SIGKILL", "leave": "code 7"}  # fmt: skip
    for number, word in enumerate(bad):
        photo(number).save(root / f"red/{word} it.png")
        photo(number).save(root / f"blue/once {word}.png")
    summary = run(root, out, jobs.Local(workers=2, at_once=3), limits=Limits(seconds=2))
    assert summary == jobs.Summary(19, 7, before=0, failures=7)
    failures = jobs.read(out).failures
    assert failures.keys() == {f"red/{word}%20it.png" for word in bad}
    for word, reason in bad.items():
        sentence = failures[f"red/{word}%20it.png"]
        assert sentence.startswith(f"red/{word}%20it.png cannot be decoded: ")
        assert reason in sentence


def test_decoders_that_are_killed_cost_no_photo(tmp_path, out):
    root = good(tmp_path / "photos", 30)
    run(root, tmp_path / "whole")
    killed = []

    def kill(done, total):
        for pid in decoders_of(os.getpid()):
            killed.append(pid)
            os.kill(pid, random.Random(done).choice([signal.SIGKILL, signal.SIGTERM]))

    summary = run(root, out, jobs.Local(workers=2, at_once=2), progress=kill)
    assert summary == jobs.Summary(30, 0, before=0, failures=0)
    assert len(set(killed)) > 4
    assert_same_rows(rows(out), rows(tmp_path / "whole"))
    assert not any(map(alive, killed))


@pytest.mark.parametrize("workers", [0, 2])
def test_photos_beyond_their_limits_are_rows(tmp_path, out, workers):
    root = good(tmp_path / "photos", 3)
    (root / "red/13.tif").write_bytes(pages(13))
    photo(5, (200, 100)).save(root / "red/large.png")
    limits = Limits(pixels=10_000)
    run(root, out, jobs.Local(workers=workers), limits=limits, pictures=True)
    failures = jobs.read(out).failures
    assert failures.keys() == {"red/13.tif", "red/large.png"}
    assert "red/13.tif has 13 pages: choose one" in failures["red/13.tif"]
    assert "200×100 pixels are more than the 10000" in failures["red/large.png"]
    assert run(root, out, retry=True).failures == 1


def test_a_cut_of_the_callers_is_made_of_the_whole_photo(tmp_path, out):
    root = good(tmp_path / "photos", 4)
    flipped = models.Classifier(
        tiny.Bright(), tiny.SMALL, cut=lambda image: tiny.SMALL.cut(image).flip(2)
    )
    found = []
    for workers in (0, 2):
        decode = Decode(flipped.geometry, flipped.cut, Limits())
        engine = jobs.Local(workers=workers)
        photos = [PhotoFile(path, path.name, None) for path in sorted(root.rglob("*.png"))]
        found.append(list(engine._decoded(type("Work", (), {"decode": decode}), photos)))
    for here, there in zip(*found, strict=True):
        assert (here.pixels == there.pixels).all()
        assert here.size == there.size == (30, 20)
        expected = flipped.preprocess(here.photo.path)[0]
        assert torch.equal(torch.from_numpy(here.pixels), expected)


def test_no_decoder_stays_when_a_job_ends_early(tmp_path, out):
    root, seen = good(tmp_path / "photos", 12), []

    def stop(done, total):
        seen.extend(decoders_of(os.getpid()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, out, jobs.Local(workers=2), progress=stop)
    assert seen
    assert not any(map(alive, seen))
    assert not [t for t in threading.enumerate() if t.name.startswith("torchlime-decoder")]


def test_a_decoder_that_cannot_start_stops_the_job(monkeypatch, tmp_path, out):
    root = good(tmp_path / "photos", 3)
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: b"/no/python")
    with pytest.raises(models.NoDecoder, match="did not start"):
        run(root, out, jobs.Local(workers=2))
    assert os.listdir(out) == ["_lock"]


def test_photos_keep_their_order_and_few_are_ahead(tmp_path):
    root = good(tmp_path / "photos", 20)
    photos = [PhotoFile(path, path.name, None) for path in sorted(root.rglob("*.png"))]
    taken = []

    def noted():
        for one in photos:
            taken.append(one)
            yield one

    with Decoders(Decode(tiny.SMALL, tiny.SMALL.cut, Limits()), 2) as decoders:
        for number, decoded in enumerate(decoders(noted(), ahead=4)):
            assert decoded.photo == photos[number]
            assert len(taken) <= number + 5
    assert number == 19


def test_one_is_alone_and_the_others_go_on_afterwards():
    turns, log, ready = _Turns(), [], threading.Barrier(3)

    def beside(name):
        with turns.together():
            ready.wait()
            time.sleep(0.05)
            log.append(name)
        with turns.together():
            log.append(name + " again")

    def alone():
        with turns.together():
            ready.wait()
            for _ in range(2):
                with turns.alone():
                    log.append("alone")
                    time.sleep(0.05)
                    log.append("still alone")

    threads = [threading.Thread(target=beside, args=(n,)) for n in "ab"]
    threads.append(threading.Thread(target=alone))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(log) == sorted(["a", "b", "a again", "b again", *["alone", "still alone"] * 2])
    for place, entry in enumerate(log):
        if entry == "alone":
            assert log[place + 1] == "still alone"
    assert log.index("alone") > max(log.index("a"), log.index("b"))
