"""The rows of a job under attack: full disks, kills at any point, two writers, flipped bits."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from tests import tiny
from tests.jobs.folder import SETTINGS, good, photo, rows, run
from torchlime import cli, jobs
from torchlime.jobs import parts, report
from torchlime.jobs.parts import Damaged
from torchlime.jobs.record import record_of
from torchlime.jobs.store import Store, picture_path

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq


@pytest.fixture
def root(tmp_path):
    return good(tmp_path / "photos", 6)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


class Killed(BaseException):
    """The process ends here: nothing handles it, and nothing is cleaned up after it."""


class Watch:
    """Counts what changes a disk, and kills or refuses the n-th change."""

    def __init__(self, monkeypatch, at, error):
        self.count, self.at, self.error = 0, at, error
        self.dead = False
        for module, name in ((os, "replace"), (os, "fsync"), (os, "unlink"), (Path, "unlink"),
                             (Path, "mkdir")):  # fmt: skip
            self.wrap(monkeypatch, module, name)

    def wrap(self, monkeypatch, module, name):
        real = getattr(module, name)

        def watched(*arguments, **settings):
            if self.dead:  # a dead process cleans nothing up
                raise self.error
            self.count += 1
            if self.count == self.at:
                self.dead = isinstance(self.error, Killed)
                raise self.error
            return real(*arguments, **settings)

        monkeypatch.setattr(module, name, watched)


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left on device")])
def test_overwriting_keeps_every_row_until_all_new_ones_stand(tmp_path, monkeypatch, error):
    root = good(tmp_path / "photos", 3)
    settings = {"targets": (1,), "pictures": True, "engine": jobs.Local(workers=0, at_once=1)}
    run(root, tmp_path / "new", **settings)
    new, at, changes, gone_on = rows(tmp_path / "new"), 0, None, []
    while changes is None or at < changes:
        at += 1
        out = tmp_path / str(at)
        run(root, out, targets=(0,), pictures=True)
        old = rows(out)
        with monkeypatch.context() as patch:
            watch = Watch(patch, at, error)
            try:
                run(root, out, overwrite=True, **settings)
                changes = watch.count
            except (Killed, OSError):
                pass
        kept = rows(out)
        assert kept == old or (kept.keys(), {r["targets"][0] for r in kept.values()}) == (
            new.keys(), {1},
        )  # fmt: skip
        begun = (out / "_next/_job.json").exists()
        if kept == old:
            run(root, out, targets=(0,), pictures=True)  # which takes nothing from the new job
            assert rows(out) == old
            gone_on.append(0)
        if kept != old or begun:
            gone_on.append(run(root, out, **settings).before)
        else:
            run(root, out, overwrite=True, **settings)
        assert rows(out).keys() == new.keys()
        assert {row["targets"][0] for row in rows(out).values()} == {1}
        assert pq.read_table(out).num_rows == 3  # nothing of the old rows is left
        assert not (out / "_next").exists()
        for photo_id in new:
            ours, theirs = (picture_path(o, photo_id) for o in (out, tmp_path / "new"))
            assert ours.read_bytes() == theirs.read_bytes()
    assert set(gone_on) == {0, 1, 2, 3}
    assert at > 15


def test_a_model_that_fails_on_all_overwrites_nothing(root, out):
    run(root, out, pictures=True)
    (root / "bad.png").write_text("no image")
    before, engine = rows(out), jobs.Local(workers=0, at_once=2)
    with pytest.raises(RuntimeError, match="could explain none of"):
        jobs.run(root, out, tiny.broken(), SETTINGS, engine=engine, overwrite=True)
    assert rows(out) == before
    assert all(picture_path(out, photo_id).is_file() for photo_id in before)


def test_a_run_that_can_read_no_photo_overwrites_nothing(root, out):
    run(root, out)
    before, said = rows(out), []
    for path in root.rglob("*.png"):
        path.write_text("no image")
    assert run(root, out, overwrite=True, say=said.append).failed == 6
    assert said[-1] == "no photo could be explained again, so the rows from before are kept"
    assert rows(out) == before


def test_a_stopped_overwriting_goes_on_by_its_settings_and_readers_see_the_old_rows(root, out):
    run(root, out, targets=(0,))
    before = rows(out)

    def stop(done, total):
        assert rows(out) == before
        assert pq.read_table(out).num_rows == 6
        if done == 4:
            raise KeyboardInterrupt

    engine = jobs.Local(workers=0, at_once=1)
    with pytest.raises(KeyboardInterrupt):
        run(root, out, engine, targets=(1,), overwrite=True, progress=stop)
    assert rows(out) == before
    assert run(root, out, targets=(0,)).before == 6
    assert run(root, out, targets=(1,)) == jobs.Summary(2, 0, before=4, failures=0)
    assert {row["targets"][0] for row in rows(out).values()} == {1}
    assert run(root, out, targets=(1,)).before == 6


def test_a_damaged_part_of_a_stopped_overwriting_is_set_aside(root, out):
    run(root, out)
    before = rows(out)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, out, targets=(1,), overwrite=True, progress=stop)
    (part,) = (out / "_next").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-200])
    with pytest.raises(Damaged, match="repair=True"):
        run(root, out, targets=(1,))
    assert rows(out) == before
    assert run(root, out, targets=(1,), repair=True).explained == 6
    assert {row["targets"][0] for row in rows(out).values()} == {1}


def test_two_threads_do_not_write_to_one_folder(root, out):
    inside, leave, said = threading.Event(), threading.Event(), []

    def first():
        def wait(done, total):
            inside.set()
            leave.wait(60)

        said.append(run(root, out, progress=wait))

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    for folder in (out, out.parent / "photos/../out"):
        with pytest.raises(OSError, match="another job is writing to"):
            run(root, folder)
    leave.set()
    thread.join()
    assert said == [jobs.Summary(6, 0, before=0, failures=0)]
    assert len(rows(out)) == 6
    assert run(root, out).before == 6  # the lock is free again


def test_a_finished_job_in_a_folder_that_cannot_be_written(root, out, monkeypatch):
    run(root, out)
    opened = Path.open

    def refuse(path, mode="r", *arguments, **settings):
        if "r" not in mode and path.parent == out:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, mode, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refuse)
    assert run(root, out) == jobs.Summary(0, 0, before=6, failures=0)
    photo(9).save(root / "red/new.png")
    for settings in ({}, {"overwrite": True}, {"repair": True}, {"pictures": True}):
        with pytest.raises(OSError, match="Read-only file system"):
            run(root, out, **settings)
    assert len(rows(out)) == 6


# Damage


def flips(data, count):
    """Bytes with one bit flipped, at places all over them."""
    for number in range(count):
        place = number * 8 * len(data) // count + number % 8
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


def test_no_flipped_bit_changes_a_number_silently(root, out):
    run(root, out)
    (path,) = out.glob("*.parquet")
    data, whole, found = path.read_bytes(), repr(rows(out)), 0
    for damaged in flips(data, 150):
        path.write_bytes(damaged)
        try:
            assert repr(rows(out)) == whole
        except Damaged as error:
            assert str(error).startswith(f"{path} is damaged (")
            assert "\n" not in str(error)
            found += 1
    assert found > 60


def test_no_flipped_bit_changes_the_record_silently(root, out):
    run(root, out)
    path = out / "_job.json"
    data, whole, found = path.read_bytes(), record_of(out), 0
    for damaged in flips(data, 150):
        path.write_bytes(damaged)
        try:
            assert record_of(out) == whole
        except ValueError as error:
            assert str(path) in str(error) or "newer version" in str(error)
            found += 1
    assert found > 120


def test_rows_without_digests_are_read_too(root, out):
    run(root, out)
    (path,) = out.glob("*.parquet")
    before = rows(out)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    record = json.loads((out / "_job.json").read_text())
    plain = {name: record[name] for name in ("format", "settings", "photos")}
    (out / "_job.json").write_text(json.dumps(plain))
    assert rows(out) == before
    assert run(root, out).before == 6


def test_a_damaged_part_is_set_aside_and_done_again_on_request(root, out, tmp_path, capsys):
    run(root, out, label="red", targets=(0,))
    run(root, out, targets=(0,))  # a second part
    first, _ = sorted(out.glob("*.parquet"))
    before = rows(out)
    first.write_bytes(first.read_bytes()[:-200])
    with pytest.raises(Damaged, match=rf"{first.name} is damaged .*repair=True \(--repair\)"):
        run(root, out, targets=(0,))
    page = tmp_path / "page.html"
    assert cli.main(["report", str(out), "--out", str(page)]) == 2
    error = capsys.readouterr().err
    assert f"{first} is damaged" in error
    assert "page.html" not in error
    said = []
    assert run(root, out, targets=(0,), repair=True, say=said.append).explained == 2
    assert (
        said[1] == "_damaged-part-00000000.parquet was damaged and was set aside; "
        "its photos are explained again"
    )
    assert rows(out).keys() == before.keys()
    assert pq.read_table(out).num_rows == 6


@pytest.mark.parametrize("column", ["coefficients", "segments", "probability"])
def test_damage_that_only_reading_all_shows_is_set_aside(root, out, column):
    run(root, out)
    (path,) = out.glob("*.parquet")
    group = pq.read_metadata(path).row_group(0)
    chunks = (group.column(place) for place in range(group.num_columns))
    chunk = next(one for one in chunks if one.path_in_schema.split(".")[0] == column)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size * 2 // 3] ^= 4
    path.write_bytes(data)
    assert run(root, out).before == 6  # which looks at ids alone
    with pytest.raises(Damaged):
        rows(out)
    run(root, out, repair=True)
    assert len(rows(out)) == 6


def test_a_damaged_record_is_written_anew_for_the_same_settings_alone(root, out):
    run(root, out)
    before = rows(out)
    (out / "_job.json").write_text("{")
    with pytest.raises(Damaged, match=r"_job.json is damaged: run the same job again with repair"):
        run(root, out)
    for change in ({"model": "other"}, {"targets": (1,)}):
        with pytest.raises(Damaged):
            run(root, out, repair=True, **change)
    assert run(root, out, repair=True).before == 6
    assert rows(out) == before


def test_an_error_of_another_file_is_not_the_pages(root, out, tmp_path, monkeypatch):
    run(root, out)

    def broken(path, columns=None):
        raise OSError(errno.EIO, "Input/output error", str(path))

    found = jobs.read(out)
    monkeypatch.setattr(report, "Explanations", lambda folder: found)
    monkeypatch.setattr(found, "_table", broken)
    with pytest.raises(OSError, match="Input/output error") as raised:
        report.write(out, tmp_path / "page.html")
    assert raised.value.filename.endswith(".parquet")


def test_what_is_no_regular_file_is_no_part(root, out):
    run(root, out)
    os.mkfifo(out / "part-00000001.parquet")
    assert len(rows(out)) == 6
    (out / "_job.json").unlink()
    os.mkfifo(out / "_job.json")
    with pytest.raises(ValueError, match="is damaged"):
        jobs.read(out)


def test_the_names_of_parts(tmp_path):
    for name in ("part-00000002.parquet", "part-0001-00000000.parquet", "part-x.parquet",
                 "_damaged-part-00000000.parquet"):  # fmt: skip
        (tmp_path / name).touch()
    assert [part[:2] for part in parts.parts_in(tmp_path)] == [(0, 2), (1, 0)]
    assert parts.next_file(tmp_path, 0).name == "part-00000003.parquet"
    assert parts.next_file(tmp_path, 2).name == "part-0002-00000000.parquet"
    with Store(tmp_path / "new") as store:
        assert store.status == {}


# What killed processes leave


def test_what_a_killed_report_left_is_swept_and_what_is_written_now_is_not(root, out, tmp_path):
    import fcntl

    run(root, out)
    names = [".0123456789abcdef.part", ".0000000000000001.part", ".0000000000000002.part"]
    dead, young, live = (tmp_path / name for name in names)
    for path in (dead, young, live):
        path.write_text("half")
    for path in (dead, live):
        os.utime(path, (1, 1))
    with live.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        report.write(out, tmp_path / "page.html")
    assert [path.exists() for path in (dead, young, live)] == [False, True, True]


# What is no photo


def test_pictures_that_a_link_brings_are_no_photos(root, out, tmp_path):
    run(root, out, pictures=True)
    (root / "again").symlink_to(out)
    (root / "drawn").symlink_to(out / "_pictures/red")
    (root / "one.png").symlink_to(next((out / "_pictures").rglob("*.png")))
    (root / "mine.png").symlink_to(root / "red/000.png")
    assert run(root, tmp_path / "other").explained == 7
    assert run(root, out).before == 6
    assert run(out / "_pictures", tmp_path / "pictures").explained == 6  # asked for by name


def test_probabilities_do_not_vary_with_the_batch(root, tmp_path):
    from torchlime import Lime, models
    from torchlime.segments import Grid

    classifier = models.load("squeezenet1_1", weights=None)
    explainer = Lime(segmenter=Grid(2, 2), num_samples=8)
    found = []
    for at_once in (1, 5):
        engine = jobs.Local(workers=0, at_once=at_once)
        jobs.run(root, tmp_path / str(at_once), classifier, explainer, engine=engine)
        found.append({i: row["probability"] for i, row in rows(tmp_path / str(at_once)).items()})
    assert found[0] == found[1]
