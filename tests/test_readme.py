"""What the README says is run: its code, its commands, its pictures, its links."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.pictures import read_png

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def assert_similar(ours, name):
    """Another processor rounds otherwise, which may swap two ranks, but not change a picture."""
    committed = read_png(ROOT / ".github/pictures" / name)
    assert ours.shape == committed.shape
    assert (ours.float() - committed.float()).abs().mean() < 8


def test_the_code_runs_and_makes_the_committed_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in code_blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "cat.png",
        "coffee.png",
        "patient.png",
        "pictures",
        "recipe.png",
    ]
    assert_similar(read_png("recipe.png"), "recipe.png")
    steps = [read_png(path) for path in sorted(Path("pictures").glob("*.png"))]
    between = torch.full_like(steps[0][:, :8], 255)
    rows = [part for step in steps for part in (step, between)][:-1]
    assert_similar(torch.cat(rows, dim=1), "training.png")
    explanation = names["explanation"]
    assert explanation.coefficients.shape[:2] == (1, 3)
    assert names["segments"].shape == (1, 3, 7)
    assert torch.isfinite(names["values"]).all()
    strongest = names["patients"][81].as_list(names["cancer"].feature_names)[:2]
    assert [(name, round(value, 2)) for name, value in strongest] == [
        ("worst texture", -0.29),
        ("radius error", -0.28),
    ]


def test_one_command_makes_the_gallery(tmp_path):
    (tmp_path / ".github/pictures").mkdir(parents=True)
    names = {"PY": sys.executable, "PYTHONPATH": str(ROOT)}
    start = 'python() { "$PY" "$@"; }; torchlime() { python -m torchlime "$@"; }\n'
    command = start + code_blocks("sh")[0]
    run = subprocess.run(
        ["bash", "-euc", command],
        cwd=tmp_path,
        env=os.environ | names,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    for name in ("chelsea", "coffee", "astronaut", "rocket"):
        picture = Path(f".github/pictures/{name}.png")
        assert picture.name in run.stdout
        ours, committed = (read_png(folder / picture).float() for folder in (tmp_path, ROOT))
        assert ours.shape == committed.shape
        assert (ours - committed).abs().mean() < 8


def test_the_two_commands_are_the_issues():
    _, first, _, second = code_blocks("sh")
    assert first.strip() == "pip install '.[demo]' && torchlime explain"
    assert second.strip() == (
        "pip install '.[test]' && "
        "pip install --no-build-isolation --no-deps fast-slic foolbox && pytest"
    )
    assert "^pip install '.\\[test\\]'" in (ROOT / ".ci/run").read_text()  # taken from here


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (ROOT / target).exists()
