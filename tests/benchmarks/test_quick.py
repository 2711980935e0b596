"""Every benchmark runs, tiny: what it records and renders, never how long it took."""

import importlib
import json
from functools import partial

import pytest
import torch

from benchmarks import memory, overhead, results, scale, superpixels
from benchmarks.__main__ import NAMES, main
from benchmarks.report import block
from benchmarks.settings import Settings
from torchlime.segments import Slic


@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run_records_what_the_report_renders(name, tmp_path, capsys):
    pytest.importorskip("skimage")
    assert main([name, "--quick", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    (path,) = tmp_path.glob(f"*/{name}.json")
    result = json.loads(path.read_text())
    assert result["command"] == f"python -m benchmarks {name} --quick --out {tmp_path}"
    assert result["settings"]["quick"] is True
    assert {"torchlime", "torch", "python"} <= result["versions"].keys()
    assert result["hardware"].keys() == {"cpu", "cores", "threads", "gpu", "tf32"}
    assert result["commit"]
    assert all("dtype" in row for row in result["rows"])
    table = importlib.import_module(f"benchmarks.{name}").table(result["rows"])
    assert table in printed
    assert table in block(name, tmp_path)


def test_a_quick_run_is_not_kept_unless_asked(tmp_path, monkeypatch):
    from benchmarks import settings

    monkeypatch.setattr(settings, "RESULTS", tmp_path)
    assert main(["stages", "--quick"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_run_has_five_rounds():
    assert Settings(torch.device("cpu")).timer().repetitions >= 5
    assert Settings(torch.device("cpu"), repetitions=9).timer().repetitions == 9


def test_the_commit_is_that_of_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "commit", lambda: "abc1234")

    def run(settings):
        monkeypatch.setattr(results, "commit", lambda: "later")
        return [{"dtype": "float32", "model": "none"}]

    monkeypatch.setattr(scale, "run", run)
    monkeypatch.setattr(scale, "table", lambda rows: "")
    assert main(["scale", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/scale.json")
    assert json.loads(path.read_text())["commit"] == "abc1234"


def test_one_that_fails_does_not_lose_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "run", lambda settings: 1 / 0)
    assert main(["scale", "stages", "--quick", "--out", str(tmp_path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert [path.stem for path in tmp_path.glob("*/*.json")] == ["stages"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("stages report", "report goes alone"),
        ("stages --check", "--check goes with report"),
        ("stages --device foo", "invalid choice: 'foo'"),
        ("stages --device cuda", "there is no CUDA device"),
        ("stages --repetitions 4", "at least 5 --repetitions"),
        ("stages --threads 0", "--threads: invalid positive value: '0'"),
        ("samples --only until", "--only goes with designs alone"),
        ("samples --photos 0", "--photos: invalid positive value: '0'"),
        ("samples --photos 99", "there are 8 --photos"),
        ("samples --reference 127", "--reference is at least 128"),
        ("overhead --models resnet18 nonsense", "unknown --models: nonsense"),
        ("stages --out {file}", "is no folder"),
        ("nonsense", "invalid choice: 'nonsense'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SystemExit) as exit:
        main(arguments.format(file=file).split())
    assert exit.value.code == 2
    assert sentence in capsys.readouterr().err


def test_what_only_a_gpu_is_asked_for_runs_on_a_cpu_too():
    settings = Settings(torch.device("cpu"), quick=True)
    row = overhead.measure(settings, "resnet18", overhead.Case("bfloat16 weights", batch=2), 128)
    assert row["rows"] * row["chunks"] >= 2 * 128
    assert overhead.images_per_second(row) > 0


@pytest.mark.parametrize("kind", [superpixels.batched, superpixels.captured])
def test_slic_of_a_batch(kind):
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    ((_, side),) = kind(images, 9).items()
    alone, shown = superpixels.one_by_one(Slic(9), images)
    assert torch.equal(side[0](), alone())
    assert side[1] is shown is images


def hold(size):
    """(warm up, call): the call holds ``size`` MiB for a moment."""
    return (lambda: None), (lambda: torch.ones(size, 2**20, dtype=torch.uint8))


def test_peak_memory_of_a_fresh_process():
    taken = memory.peak_memory(torch.device("cpu"), partial(hold, 200))
    assert 190 < taken / 2**20 < 260


def hold_less_than_before(size):
    return hold(2 * size)[1], hold(size)[1]


def test_what_the_warm_up_took_is_not_the_calls():
    taken = memory.peak_memory(torch.device("cpu"), partial(hold_less_than_before, 100))
    assert 90 < taken / 2**20 < 160


def test_peak_memory_of_a_gpu_is_its_allocators(monkeypatch):
    log = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda d: log.append("sync"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda d: log.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda d: 30)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda d: log.append("read") or 130)

    def prepare():
        return (lambda: log.append("warm")), (lambda: log.append("call"))

    assert memory.peak_memory(torch.device("cuda"), prepare) == 100
    assert log == ["warm", "sync", "reset", "call", "sync", "read"]
