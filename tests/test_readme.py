"""What the README says is run: its code, its commands, its pictures, its links."""

import re
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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coffee.png", "pictures", "recipe.png"]
    assert_similar(read_png("recipe.png"), "recipe.png")
    steps = [read_png(path) for path in sorted(Path("pictures").glob("*.png"))]
    between = torch.full_like(steps[0][:, :8], 255)
    rows = [part for step in steps for part in (step, between)][:-1]
    assert_similar(torch.cat(rows, dim=1), "training.png")
    explanation = names["explanation"]
    assert explanation.coefficients.shape[:2] == (1, 3)
    assert names["segments"].shape == (1, 3, 7)
    assert torch.isfinite(names["values"]).all()


def test_the_two_commands_are_the_issues():
    first, _, second = code_blocks("sh")
    assert first.strip() == "pip install '.[demo]' && torchlime explain"
    assert second.strip() == (
        "pip install '.[test]' && pip install --no-build-isolation fast-slic && pytest"
    )
    assert "^pip install '.\\[test\\]'" in (ROOT / ".ci/run").read_text()  # taken from here


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (ROOT / target).exists()
