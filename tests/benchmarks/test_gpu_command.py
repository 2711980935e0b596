"""The command for the day of a GPU: its parts cost each other nothing, and its summary says all."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, overhead, results
from benchmarks.__main__ import main, parser
from benchmarks.gpu import LEAST, Part
from benchmarks.report import block
from benchmarks.settings import Settings


def code(name, text, share=1.0, **more):
    return Part(name, ("-c", text), share, **more)


@pytest.fixture
def soon(monkeypatch):
    """Parts are cut off after tenths of a second."""
    monkeypatch.setattr(gpu, "LEAST", 0.1)
    monkeypatch.setattr(gpu, "GRACE", 0.5)


@pytest.mark.usefixtures("soon")
def test_parts_that_fail_hang_or_miss_a_package_leave_the_others(tmp_path, capsys):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    parts = [
        code("fails", "print('the reason'); raise SystemExit(3)"),
        code("hangs", child + "; import time; time.sleep(60)", 0.05),
        code("lacks", "print('never')", needs=(("no_such_module", "no-such-package"),)),
        code("works", "print('it worked')"),
    ]
    begin = time.monotonic()
    assert gpu.run(parts, 1.0, tmp_path) == 1
    assert time.monotonic() - begin < 30
    text = (tmp_path / "summary.md").read_text()
    assert "| fails | failed | 0 | exit status 3, see fails.log |" in text
    assert "the reason" in text
    assert re.search(r"\| hangs \| cut off \| (\d+) \| after \1 s \|", text)
    assert "| lacks | skipped | 0 | without no-such-package |" in text
    assert "| works | done |" in text
    assert "it worked" in text
    assert not (tmp_path / "lacks.log").exists()
    assert capsys.readouterr().out.endswith(text + "\n")


def test_without_time_nothing_starts_and_the_summary_says_so(tmp_path):
    assert gpu.run([code("late", "print(1)")], (LEAST - 1) / 60, tmp_path) == 0
    assert "| late | no time | 0 |  |" in (tmp_path / "summary.md").read_text()


LISTENS = """
import signal, time
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("it says what it has")
    {}
"""


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("then", ["pass", "time.sleep(60)"], ids=["ends", "goes on"])
def test_a_part_that_is_cut_off_may_say_what_it_has(tmp_path, then):
    begin = time.monotonic()
    gpu.run([code("talks", LISTENS.format(then))], 2.5 / 60, tmp_path)
    assert time.monotonic() - begin < 30
    text = (tmp_path / "summary.md").read_text()
    assert "| talks | cut off | 2 | after 2 s |" in text
    assert "begun\nit says what it has" in text


def test_what_a_part_leaves_goes_to_those_after_it():
    first, second, third = code("a", "", 3), code("b", "", 2), code("c", "", 1)
    lacks = code("d", "", 50, needs=(("no_such_module", "no-such-package"),))
    assert gpu.share_of(60, [first, second, lacks, third]) == 30
    assert gpu.share_of(50, [second, lacks, third]) == pytest.approx(100 / 3)
    assert gpu.share_of(50, [third, lacks]) == 50


def test_the_limits_fit_into_the_time(tmp_path):
    parts = gpu.parts(parser().parse_args(["gpu", "--out", str(tmp_path), "--device", "cuda"]))
    left, limits = 540.0, {}
    for place, part in enumerate(parts):
        limits[part.name] = gpu.share_of(left, parts[place:])
        left -= limits[part.name]
    assert left == pytest.approx(0)
    assert min(limits.values()) >= 30
    assert limits["overhead"] >= 200


def test_rows_that_miss_a_package_are_told(tmp_path):
    wants = (("no_such_module", "no-such-package"), ("json", "json"))
    assert gpu.run([code("works", "pass", wants=wants)], 1.0, tmp_path) == 0
    assert re.search(
        r"\| works \| done \| \d+ \| without no-such-package \|",
        (tmp_path / "summary.md").read_text(),
    )


GPU = "pytest.mark." + "gpu"  # in one piece, this file would be among them


def test_every_file_with_tests_that_need_a_gpu_is_run():
    files = {path for path in gpu.tests() if path.endswith(".py")}
    assert files == {
        str(path.relative_to(gpu.ROOT))
        for path in (gpu.ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == GPU
    }
    assert {"tests/test_gpu.py", "tests/test_plot.py", "tests/segments/test_slic.py"} <= files


def test_the_summary_is_there_before_the_last_part(tmp_path):
    path = tmp_path / "summary.md"
    text = f"assert '| second | to come |' in open({str(path)!r}).read()"
    assert gpu.run([code("first", "pass"), code("second", text)], 1.0, tmp_path) == 0


@pytest.mark.usefixtures("soon")
def test_a_part_that_was_cut_off_shows_the_rows_that_it_had(tmp_path):
    settings = Settings(torch.device("cpu"), quick=True, results=tmp_path)
    row = {"call": "eager", "batch": 7, "samples": 16, "dtype": "float32", "operators": 99}
    record = results.record("kernels", [row], settings, results.origin(settings, "a command"))
    results.write_partial(record, tmp_path)
    part = code("kernels", "import time; time.sleep(60)", benchmark="kernels")
    gpu.run([part], 1 / 60, tmp_path)
    assert "| eager | 7 | 16 | 99 | – | – | – |" in (tmp_path / "summary.md").read_text()
    text = block("kernels", tmp_path)
    assert "| eager | 7 | 16 | 99 | – | – | – |" in text
    assert "the run did not end, so rows are missing" in text
    assert not results.partial("kernels", tmp_path).exists()


def test_a_whole_result_is_not_lost_to_a_run_that_was_cut_off(tmp_path):
    settings = Settings(torch.device("cpu"), quick=True, results=tmp_path)
    origin = results.origin(settings, "a command")
    row = {"call": "eager", "batch": 7, "samples": 16, "dtype": "float32", "operators": 99}
    results.write(results.record("kernels", [row, row], settings, origin), tmp_path)
    results.write_partial(results.record("kernels", [row], settings, origin), tmp_path)
    results.keep("kernels", tmp_path)
    assert results.rows("kernels", tmp_path) == [row, row]
    assert results.partial("kernels", tmp_path).exists()


def test_a_row_that_cannot_be_measured_leaves_the_others(monkeypatch, capsys):
    def measure(settings, name, case, number):
        if case.precision == "float32":
            raise OSError("there is no compiler")
        return {"dtype": case.precision}

    monkeypatch.setattr(overhead, "measure", measure)
    rows = []
    with pytest.raises(RuntimeError, match="1 rows could not be measured"):
        rows.extend(overhead.run(Settings(torch.device("cpu"), quick=True)))
    assert rows == [{"dtype": "bfloat16 autocast"}]
    assert "there is no compiler" in capsys.readouterr().err


def test_large_batches_of_all_models_but_the_first_come_last():
    order = overhead.ordered(overhead.ON_GPU, ["first", "second", "third"])
    assert len({*order}) == len(order) == 3 * len(overhead.ON_GPU)
    assert [case for case, name in order if name == "first"] == list(overhead.ON_GPU)
    late = [name for case, name in order if case.batch == 32 and name != "first"]
    assert [name for _, name in order[-len(late) :]] == late == sorted(late)


def test_only_what_blurs_waits_for_kornia(tmp_path):
    parts = gpu.parts(parser().parse_args(["gpu", "--device", "cuda", "--out", str(tmp_path)]))
    needing = [part.name for part in parts if ("kornia", "kornia") in part.needs]
    assert needing == ["stages"]


def test_a_table_that_cannot_be_made_does_not_end_the_run(tmp_path):
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "kernels.json").write_text("{", encoding="utf-8")
    parts = [code("kernels", "pass", benchmark="kernels"), code("works", "print('it worked')")]
    assert gpu.run(parts, 1.0, tmp_path) == 0
    text = (tmp_path / "summary.md").read_text()
    assert "There is no table: ValueError: " in text
    assert "| works | done |" in text


def test_rows_of_a_run_are_replaced_as_a_whole(tmp_path, monkeypatch):
    """A part may be killed at any time."""
    results.write_partial({"benchmark": "kernels", "rows": []}, tmp_path)
    before = results.partial("kernels", tmp_path).read_text()

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        results.write_partial({"benchmark": "kernels", "rows": [1]}, tmp_path)
    assert results.partial("kernels", tmp_path).read_text() == before


WAITS = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open(sys.argv[1], "w") as file:
    file.write(str(child.pid))
child.wait()
"""
RUN = f"""
import sys
from pathlib import Path
from benchmarks.gpu import Part, run
parts = [
    Part("first", ("-c", "print('it worked')"), 1.0),
    Part("waits", ("-c", {WAITS!r}, sys.argv[1]), 1.0),
    Part("last", ("-c", "pass"), 1.0),
]
sys.exit(run(parts, 1.0, Path(sys.argv[2])))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_part_and_the_summary_says_so(tmp_path, number):
    told = tmp_path / "number"
    command = subprocess.Popen(
        [sys.executable, "-c", RUN, str(told), str(tmp_path / "out")], cwd=gpu.ROOT,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: told.exists() and told.read_text())
        command.send_signal(number)
        printed, _ = command.communicate(timeout=60)
    finally:
        command.kill()
    assert command.returncode == 128 + number
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "| first | done |" in text
    assert re.search(rf"\| waits \| interrupted \| \d+ \| by {number.name} \|", text)
    assert "| last | to come |" in text
    assert printed.endswith(text + "\n")
    wait_for(lambda: not is_running(int(told.read_text())))  # nor does what the part started


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or ") Z " not in state.read_text()  # that nobody has waited for


def test_a_part_that_a_signal_ended_says_which(tmp_path):
    text = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert gpu.run([code("dies", text)], 1.0, tmp_path) == 1
    assert "killed by SIGSEGV, see dies.log" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("name", ["a file", "a file/below"])
def test_a_folder_that_cannot_be_is_told_in_a_sentence(tmp_path, name):
    (tmp_path / "a file").write_text("")
    with pytest.raises(SystemExit, match="--out .*a file.* cannot be written: "):
        gpu.run([code("never", "pass")], 1.0, tmp_path / name)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "soon"])
def test_minutes_are_above_0(minutes, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["gpu", "--minutes", minutes])
    assert "--minutes" in capsys.readouterr().err


def test_the_command_runs_here(tmp_path):
    command = "gpu --device cpu --quick --minutes 2 --parts kernels overhead --out"
    pytest.importorskip("skimage")
    assert main([*command.split(), str(tmp_path)]) == 0
    text = (tmp_path / "summary.md").read_text()
    for name in ("kernels", "overhead"):
        (path,) = tmp_path.glob(f"*/{name}.json")
        assert json.loads(path.read_text())["settings"]["device"] == "cpu"
        assert f"## {name}" in text
    assert list(tmp_path.glob("partial/*")) == []


def test_every_part_is_a_command_that_exists(tmp_path):
    given = ["gpu", "--device", "cuda", "--out", str(tmp_path), "--commit", "abc1234"]
    parts = gpu.parts(parser().parse_args(given))
    assert [part.name for part in parts][:3] == ["tests", "kernels", "overhead"]
    for part in parts:
        if part.benchmark:
            options = parser().parse_args(list(part.arguments[2:]))
            assert options.names == [part.benchmark]
            assert (options.device, options.commit) == ("cuda", "abc1234")
            assert options.out == tmp_path
    with pytest.raises(SystemExit, match="unknown --parts: nonsense"):
        gpu.parts(parser().parse_args([*given, "--parts", "nonsense"]))


@pytest.mark.parametrize("arguments", [["gpu"], ["gpu", "stages", "--out", "x"]])
def test_it_goes_alone_and_into_a_folder(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "gpu goes alone, and with --out DIR" in capsys.readouterr().err


def test_without_a_gpu_no_part_starts(tmp_path, monkeypatch, capsys):
    """Else the tests would be skipped, which looks as if they had passed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main(["gpu", "--out", str(tmp_path)])
    assert "there is no CUDA device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["TF32", "float32"])
def test_a_captured_case(precision):
    pytest.importorskip("skimage")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    settings = Settings(torch.device("cpu"), quick=True)
    row = overhead.measure(settings, "resnet18", overhead.Case(precision, captured=True), 128)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert row["seconds"].keys() == {"explain", "forwards"}
    assert overhead.images_per_second(row) == 1 / row["seconds"]["explain"]["median"]
    assert f"| {precision}, captured |" in overhead.table([row])
    assert "in explain()" in overhead.table([row])
