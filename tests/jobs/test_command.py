"""``torchlime job``: its words, its exit codes, and what becomes of it when it is stopped."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.jobs.folder import alive, assert_same_rows, children, good, rows
from tests.pictures import read_png
from torchlime import cli, jobs
from torchlime.cli.job import JOB_OPTIONS, Meter
from torchlime.cli.options import OPTIONS

pytest.importorskip("pyarrow")
FAST = ["--samples", "16", "--segments", "4", "--segmenter", "grid", "--workers", "0"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(*arguments, model="bright"):
    model = ["--model", f"tests.tiny:{model}"]
    return cli.main(["job", "photos", "--out", "out", *model, *FAST, *map(str, arguments)])


def test_a_job_and_its_summary(capsys):
    good("photos")
    assert job("--label", "red") == 0
    assert capsys.readouterr().out.splitlines() == [
        "4 photos of 'red'; explaining 'Red, crimson' (0)",
        "4 explained; wrote out",
    ]
    assert job("--label", "red", "--target", "green", "--overwrite", "--pictures") == 0
    assert "explaining 'green' (1)" in capsys.readouterr().out
    assert len(list(Path("out/_pictures").rglob("*.png"))) == 4
    assert job("--target", "green") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "6 explained; 4 were there already; wrote out"
    )


def test_limits_of_ones_own_hold_for_every_picture(capsys, monkeypatch):
    good("photos", 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # of photos of 600
    monkeypatch.setattr("torchlime.models.headers.is_cheap", lambda data: False)
    assert job("--strict", "--max-pixels", 600, "--workers", 1) == 0
    assert job("--pictures", "--max-pixels", 599) == 0
    drawn = {path: read_png(path).shape for path in Path("out/_pictures").rglob("*.png")}
    assert set(drawn.values()) != {(3, 20, 30)}  # the coefficients alone
    for path in drawn:
        path.unlink()
    assert job("--pictures", "--max-pixels", 600) == 0
    assert {read_png(path).shape for path in drawn} == {(3, 20, 30)}
    pages = []
    for pixels in (599, 600):
        command = ["report", "out", "--out", "it.html", "--max-pixels", str(pixels)]
        assert cli.main(command) == 0
        pages.append(Path("it.html").read_text().count('width="30" height="20"'))
    assert pages == [0, 3]
    assert cli.main(["report", "out", "--out", "it.html", "--max-pixels", "0"]) == 2
    assert "--max-pixels" in capsys.readouterr().err


def test_exit_codes(capsys):
    good("photos")
    Path("photos/red/bad.png").write_text("no image")
    assert job() == 0
    told = "10 explained; 1 could not be explained, their rows say why; wrote out"
    assert told in capsys.readouterr().out
    assert job("--strict") == 1  # nothing is left to do, but one failed
    assert job("--strict", "--label", "green", "--target", "0", "--overwrite") == 0
    assert job("--samples", "32") == 2
    error = capsys.readouterr().err
    assert "(targets: 0, not the best; --samples: 16, not 32)" in error
    assert len(error.splitlines()) == 1


BAD_COMMANDS = {
    "--engine spark": "--engine: 'spark' is none of local, ray",
    "--workers -1": "--workers: '-1' is not a whole number of at least 0",
    "--address ray://head:1": "--address: goes with --engine ray",
    "--label yellow": "no folder in photos is called 'yellow' ('blue', 'green', 'red')",
    "--target yellow": "--target: unknown category 'yellow'",
    "--top 2 --label red": "--top and --label exclude each other",
    "--any-class": "--any-class goes with --label",
    "--top 4": "--top: the model has only 3 classes, not 4",
    "--strongest 3": "unrecognized arguments: --strongest 3",
    "--out=": "--out: it needs a value, and got an empty one",
    "--config bad.toml": "the configuration bad.toml has an unknown key 'photos'",
    "--out photos/red/000.png": "photos/red/000.png is a file: name a folder",
    "--out photos": "photos holds other things than a job's results",
    "--out /proc/out": "[Errno 2] No such file or directory: '/proc/out'",
}


@pytest.mark.parametrize("words", BAD_COMMANDS)
def test_bad_commands(capsys, words):
    if "/proc" in words and not Path("/proc/self").exists():
        pytest.skip("needs a folder that nobody can write")
    good("photos", 3)
    Path("bad.toml").write_text("photos = 'x'")
    assert job(*words.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"torchlime: {BAD_COMMANDS[words]}")
    assert len(captured.err.splitlines()) == 1
    assert not Path("out").exists()


def test_a_job_of_any_number_of_workers_with_limits_and_damaged_results(capsys):
    good("photos", 3)
    settings = ["--workers", "99999999", "--target", "0"]
    assert job(*settings, "--max-pixels", 100) == 0
    assert "3 could not be explained" in capsys.readouterr().out
    assert job(*settings, "--retry") == 0
    (part,) = Path("out").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-99])
    assert job(*settings) == 2
    assert f"{part} is damaged" in capsys.readouterr().err
    assert job(*settings, "--repair") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith(f"_damaged-{part.name} was damaged and was set aside")
    assert told[2] == "3 explained; wrote out"


def test_no_output_and_no_photos(capsys):
    assert cli.main(["job", "photos"]) == 2
    assert "--out: name a folder for the results" in capsys.readouterr().err
    assert job() == 2
    assert "there is no folder photos" in capsys.readouterr().err
    os.mkdir("photos")
    assert job() == 2
    assert "there are no photos in photos" in capsys.readouterr().err


def test_a_configuration(capsys):
    good("photos", 3)
    Path("run.toml").write_text("samples = 32\nout = 'out'\nlabel = 'green'\ntarget = ['blue']")
    command = ["job", "photos", "--config", "run.toml", "--model", "tests.tiny:bright"]
    assert cli.main([*command, *FAST[2:]]) == 0
    (row,) = rows("out").values()
    assert (row["class"], row["target_names"]) == ("green", ["navy blue, blue"])
    assert '"num_samples": "32"' in row["settings"]


def test_random_weights_are_the_same_again(capsys):
    good("photos", 1)
    flags = ["--weights", "none", "--model", "squeezenet1_1", *FAST]
    for _ in range(2):
        assert cli.main(["job", "photos", "--out", "out", *flags]) == 0
    assert "1 were there already" in capsys.readouterr().out


def test_every_option_of_one_photo_is_kept_or_left_out_on_purpose():
    assert set(OPTIONS) - set(JOB_OPTIONS) == {"page", "strongest", "save", "max-side"}


def test_the_meter():
    now, log, screen = [0.0], io.StringIO(), io.StringIO()
    screen.isatty = lambda: True
    meters = [Meter(stream, lambda: now[0]) for stream in (log, screen)]
    for done in (8, 16, 24):
        now[0] += 20
        for meter in meters:
            meter(done, 100)
    for meter in meters:
        meter.close()
    assert log.getvalue() == "torchlime: 16 of 100 photos, 0.4 images/s, 4 min left\n"
    assert screen.getvalue().split("\r\x1b[K")[1:] == [
        "8 of 100 photos, 0.4 images/s, 4 min left",
        "16 of 100 photos, 0.4 images/s, 4 min left",
        "24 of 100 photos, 0.4 images/s, 3 min left",
        "",
    ]


# Real processes, stopped


def hear_interrupts():
    """What runs in the background of a shell script is started deaf to them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(*arguments, workers="1", pace="0.05", preexec_fn=hear_interrupts):
    command = [sys.executable, "-m", "torchlime", "job", "photos", "--out", "out"]
    flags = ["--model", "tests.tiny:slow", *FAST, "--workers", workers, *arguments]
    return subprocess.Popen(
        [*command, *flags], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TINY_SECONDS": pace}, start_new_session=True,
        preexec_fn=preexec_fn if os.name == "posix" else None,
    )  # fmt: skip


def wait_for_rows(process, least):
    for _ in range(1200):
        assert process.poll() is None, process.stderr.read()
        if Path("out/_job.json").exists():
            count = len(list(jobs.read("out").rows("id")))
            if count >= least:
                return count
        time.sleep(0.05)
    raise AssertionError("no rows came")


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_process_loses_eight_photos_at_most_and_goes_on(how, here):
    good("photos", 60)
    process = start(pace="0.3")  # so slowly that it is stopped before it is done
    seen = wait_for_rows(process, 8)
    helpers = children(process.pid)
    os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
    error = process.communicate(timeout=60)[1]
    before = rows("out")
    assert seen <= len(before) < 60
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert error == "torchlime: stopped; the same command continues from here\n"
    assert job("--overwrite", "--out", "whole", model="slow") == 0
    assert job(model="slow") == 0
    after = rows("out")
    assert {photo_id: after[photo_id] for photo_id in before} == before
    assert_same_rows(after, rows("whole"))
    deadline = time.monotonic() + 30
    while any(map(alive, helpers)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(alive, helpers))


@pytest.mark.skipif(os.name != "posix", reason="limits of Unix")
def test_a_disk_that_is_full_stops_the_process_with_one_sentence():
    import resource

    good("photos", 40)
    assert job("--out", "whole", model="slow") == 0
    (whole,) = Path("whole").glob("*.parquet")
    limit = whole.stat().st_size - 100

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(workers="0", preexec_fn=limited)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert len(error.splitlines()) == 1
    kept = len(rows("out"))
    assert 0 < kept < 40
    assert f"File too large; the {kept} rows before are kept" in error
    assert job(model="slow") == 0
    assert len(rows("out")) == 40
