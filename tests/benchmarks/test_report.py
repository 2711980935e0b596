"""The tables say what the committed results say."""

import json
import tomllib
from pathlib import Path

import pytest

from benchmarks import designs, report, results, scale
from benchmarks.__main__ import NAMES

ROOT = Path(__file__).parents[2]
ROW = {
    "axis": "samples", "model": "average", "samples": 128, "segments": 50, "batch": 1, "size": 224,
    "seconds": {"median": 0.0123, "spread": 0.0004, "values": [0.0123] * 5},
    "peak_bytes": 3 * 2**20, "bytes_aside": 2**20,
}  # fmt: skip


def put(results, folder, gpu=None, rows=(ROW,), commit="abc1234", tf32=False):
    result = {
        "command": "python -m benchmarks scale",
        "commit": commit,
        "versions": {"torchlime": folder.partition("-")[0], "torch": "2.11"},
        "hardware": {"cpu": "a cpu", "cores": 4, "threads": 2, "gpu": gpu, "tf32": tf32},
        "rows": list(rows),
    }
    (results / folder).mkdir()
    (results / folder / "scale.json").write_text(json.dumps(result))


def test_the_readmes_agree_with_the_committed_results():
    assert report.report(check=True) == 0, "run: python -m benchmarks report"


def test_every_benchmark_has_its_table_in_a_readme():
    found = [m[2] for path in report.READMES for m in report.BLOCK.finditer(path.read_text())]
    assert sorted(set(found)) == sorted([*NAMES, "estimate", "summary", "targets"])


def test_a_block_says_what_the_json_says(tmp_path):
    put(tmp_path, "0.1.0-a-cpu")
    text = report.block("scale", tmp_path)
    assert scale.table([ROW]) in text
    assert "| samples | average | 128 | 50 | 1 | 224² | 12.3 ± 0.4 | 3 | 1 |" in text
    for said in (
        "a cpu, 4 cores, 2 threads",
        "abc1234",
        "torch 2.11",
        "python -m benchmarks scale",
    ):
        assert said in text
    assert report.NO_GPU in text


def test_each_hardware_has_its_table_and_only_the_newest_version(tmp_path):
    put(tmp_path, "0.9.0-a-cpu", commit="old")
    put(tmp_path, "0.10.0-a-cpu", commit="new")
    put(tmp_path, "0.9.0-a-gpu", gpu="a gpu", commit="other")
    text = report.block("scale", tmp_path)
    assert "(new)" in text
    assert "(other)" in text
    assert "(old)" not in text
    assert report.NO_GPU not in text


def test_nothing_measured_is_said(tmp_path):
    assert report.block("scale", tmp_path) == report.NOT_MEASURED


def test_a_damaged_result_is_named(tmp_path):
    put(tmp_path, "0.1.0-a-cpu")
    (tmp_path / "0.1.0-a-cpu/scale.json").write_text("{")
    with pytest.raises(ValueError, match=r"0\.1\.0-a-cpu/scale\.json is no result"):
        report.block("scale", tmp_path)


def test_tf32_is_said(tmp_path):
    put(tmp_path, "0.1.0-a-gpu", gpu="a gpu", tf32=True)
    assert "float32 convolutions in TF32" in report.block("scale", tmp_path)


def test_the_newest_version_counts_whatever_the_hardware(tmp_path):
    put(tmp_path, "0.10.0-a-cpu", rows=[ROW])
    put(tmp_path, "0.9.0-b-cpu", rows=[])
    assert results.rows("scale", tmp_path) == [ROW]
    assert results.rows("stages", tmp_path) == []


def test_rows_of_other_kinds_stay_with_the_commit_that_measured_them(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    with pytest.raises(LookupError, match="scale: there is no committed result"):
        results.other_rows("scale", "until")
    first, second = ({"kind": kind, "at": 64} for kind in ("fixed", "until"))
    put(tmp_path, "0.1.0-a-cpu", rows=[first, second])
    put(tmp_path, "0.2.0-a-cpu", rows=[second, first, first | {"commit": "older"}], commit="newer")
    assert results.other_rows("scale", "until") == [
        first | {"commit": "newer"}, first | {"commit": "older"},
    ]  # fmt: skip
    (sentence,) = designs.sentence_of_commits([first | {"commit": "newer"}, second])
    assert "at commit newer" in sentence
    assert designs.sentence_of_commits([first, second]) == []


def test_targets_are_set_beside_what_was_measured(tmp_path):
    put(tmp_path, "0.1.0-a-cpu", rows=[ROW, ROW | {"bytes_over_fewest": 1.012}])
    text = report.block("targets", tmp_path)
    assert "| CPU | peak memory, N = 16 384 over N = 1000 | ≤ +5 % | +1.2 % |" in text
    lines = text.splitlines()
    assert sum(line.endswith("| not measured |") for line in lines) == len(lines) - 5


def test_check_finds_a_stale_table_and_report_mends_it(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n<!-- benchmarks:scale -->\nold\n<!-- /benchmarks -->\n\nafter\n")
    put(tmp_path, "0.1.0-a-cpu")
    assert report.report(True, tmp_path, (readme,)) == 1
    assert "python -m benchmarks report" in capsys.readouterr().out
    assert "old" in readme.read_text()
    assert report.report(False, tmp_path, (readme,)) == 0
    assert scale.table([ROW]) in readme.read_text()
    assert readme.read_text().startswith("before\n")
    assert readme.read_text().endswith("\n\nafter\n")
    assert report.report(True, tmp_path, (readme,)) == 0


def test_models_measured_one_by_one_come_together(tmp_path):
    def result(commit, *models, **settings):
        return {
            "settings": {"models": models, **settings},
            "benchmark": "overhead",
            "command": f"run {models}",
            "commit": commit,
            "versions": {"torchlime": "0.1.0"},
            "hardware": {"cpu": "A CPU", "cores": 4, "threads": 2, "gpu": None},
            "rows": [{"model": name, "commit": commit} for name in models],
        }

    def models_after(*written):
        path = [results.write(each, tmp_path) for each in written][-1]
        assert path == tmp_path / "0.1.0-a-cpu-4-cores/overhead.json"
        return [row["model"] for row in json.loads(path.read_text())["rows"]]

    assert models_after(result("aa", "a"), result("aa", "b")) == ["a", "b"]
    assert models_after(result("aa", "a")) == ["b", "a"]
    assert models_after(result("aa", "c", repetitions=9)) == ["c"]  # nor another run's
    assert models_after(result("bb", "c")) == ["c"]  # another commit's figures do not mix
    assert models_after(result("bb-dirty", "d")) == ["d"]  # whatever was changed
    assert models_after(result("bb-dirty", "e")) == ["e"]


def test_committed_results_are_full_runs():
    for path in report.RESULTS.glob("*/*.json"):
        result = json.loads(path.read_text())
        assert not result["settings"]["quick"]
        assert result["benchmark"] == path.stem
        assert path.parent.name.startswith(result["versions"]["torchlime"])


def test_the_wheel_holds_no_benchmarks():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["packages"] == ["torchlime"]
