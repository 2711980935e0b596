"""What editors and ``mypy --strict`` know of a call of the drop-in."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALL = """
from typing import Any, assert_type
import numpy as np
import torch
from PIL.Image import Image
from torchlime.compat.lime_image import ImageExplanation, LimeImageExplainer

def explained(array: np.ndarray[Any, Any], tensor: torch.Tensor, photo: Image) -> None:
    explainer = LimeImageExplainer(random_state=0)
    def fn(images: Any) -> Any: ...
    {}
"""
RIGHT = """
    for image in (array, tensor, photo):
        one = explainer.explain_instance(image, fn, top_labels=2, hide_color=0)
        assert_type(one, ImageExplanation)
        assert_type(one.score, float)
        assert_type(one.local_preds, dict[Any, float])
    assert_type(explainer.explain_instance(array, fn, (0,), None, None), ImageExplanation)
    assert_type(explainer.explain_instance([photo], fn), list[ImageExplanation])
    assert_type(explainer.explain_instance((tensor, array), fn), list[ImageExplanation])
"""
WRONG = {
    "explainer.explain_instance(array, fn, num_sample=9)": "call-overload",
    'explainer.explain_instance([array], fn, num_samples="many")': "call-overload",
    "explainer.explain_instance([array], fn).score": "attr-defined",
    "explainer.explain_instance(array, fn)[0]": "index",
}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What mypy says of all of them, in one run."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "right.py").write_text(CALL.format(RIGHT.strip()))
    for number, call in enumerate(WRONG):
        (folder / f"wrong{number}.py").write_text(CALL.format(call))
    command = ["mypy", "--config-file", str(ROOT / "pyproject.toml"), *map(str, folder.iterdir())]
    run = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT)
    return run.stdout + run.stderr


def test_one_image_gives_one_explanation_and_a_list_a_list(output):
    assert not [line for line in output.splitlines() if "right.py" in line], output


@pytest.mark.parametrize("number", range(len(WRONG)), ids=list(WRONG))
def test_mistakes_are_found(output, number):
    code = list(WRONG.values())[number]
    errors = [line for line in output.splitlines() if f"wrong{number}.py" in line]
    assert any(f"[{code}]" in line for line in errors), output
