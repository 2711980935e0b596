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


def test_the_code_runs_and_makes_the_committed_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in code_blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coffee.png", "recipe.png"]
    ours = read_png("recipe.png").float()
    committed = read_png(ROOT / ".github/pictures/recipe.png").float()
    assert ours.shape == committed.shape
    # Another processor rounds otherwise, which may swap two ranks, but not change the picture.
    assert (ours - committed).abs().mean() < 8
    explanation = names["explanation"]
    assert explanation.coefficients.shape[:2] == (1, 3)
    assert names["segments"].shape == (1, 3, 7)
    assert torch.isfinite(names["values"]).all()


def test_the_two_commands_are_the_issues():
    first, second = code_blocks("sh")
    assert first.strip() == "pip install '.[demo]' && torchlime explain"
    assert second.strip() == (
        "pip install '.[test]' && pip install --no-build-isolation fast-slic && pytest"
    )
    assert "^pip install '.\\[test\\]'" in (ROOT / ".ci/run").read_text()  # taken from here


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (ROOT / target).exists()
