"""Optional packages: each belongs to an extra, and a missing one is answered by one line."""

import ast
import subprocess
import sys

import pytest

from tests.environments import ROOT, brought_by, command, modules_of

# What fails in an environment without any extra, and the extra that the answer names.
CALLS = {
    "cli.main(['explain'])": "demo",
    "cli.main(['explain', 'photo.png'])": "demo",
    "cli.main(['job', '.', '--out', 'out', '--model', 'alexnet', '--weights', 'none'])": "jobs",
    "cli.main(['app'])": "app",
    "cli.main(['explain-table', 'x.csv', '--model', 'm.skops'])": "tables",
    "cli.main(['explain-text', 'own.safetensors', '--model', 'own.joblib', '--trust'])": "tables",
    "cli.main(['explain-text', 'own.safetensors', '--model', 'own.skops'])": "tables",
    "cli.main(['explain-text', 'own.safetensors', '--model', 'hf:folder'])": "models",
    "models.sample_photo()": "demo",
    "models.load('efficientnet_lite0')": "demo",
    "models.load('timm:resnet18')": "models",
    "models.load('hf:folder')": "models",
    "models.read_checkpoint('own.safetensors')": "models",
    "plot.figure(EXPLANATION, IMAGE)": "plot",
    "jobs.run('.', 'out', CLASSIFIER)": "jobs",
    "jobs.rows.schema()": "jobs",
    "cluster.Ray()": "ray",
    "training.LightningCallback": "training",
    "training.TransformersCallback": "training",
    "example.digits()": "training",
    "scikit_image.SegmentationAlgorithm('quickshift')": "lime",
    "lime_image.LimeImageExplainer(feature_selection='lasso_path').explain_instance("
    "PIXELS, SCORES, segmentation_fn=CELLS, num_samples=9, progress_bar=False)": "lime",
    "lime_image.LimeImageExplainer().explain_instance(PIXELS, SCORES, segmentation_fn=CELLS, "
    "num_samples=9, progress_bar=False, distance_metric='jaccard')": "lime",
    "Background.of(np.eye(4), bins=Entropy(), labels=[0, 0, 1, 1], categorical=[])": "tables",
    "Background.of(np.eye(4)).frame(torch.eye(4))": "tables",
}
START = """
import contextlib, io, sys, warnings
import numpy as np, torch, torchlime
from pathlib import Path
from PIL import Image
from torchlime import cli, jobs, models, plot, training
from torchlime.background import Background, Entropy
from torchlime.compat import lime_image, scikit_image
from torchlime.examples import right_for_the_right_reason as example
from torchlime.jobs import cluster
from torchlime.segments import Grid
Path("own.safetensors").write_bytes(b"x")
Path("own.joblib").write_bytes(b"x")
Path("own.skops").write_bytes(b"x")
Image.new("RGB", (8, 8)).save("photo.png")
IMAGE = torch.rand(1, 3, 4, 4)
EXPLANATION = torchlime.explain(lambda x: x.mean((2, 3)), IMAGE, segmenter=Grid(2, 2))
CLASSIFIER = models.Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(2)))
PIXELS = np.zeros((4, 4, 3))
SCORES = lambda images: np.ones((len(images), 2)) / 2
CELLS = lambda image: np.arange(16).reshape(4, 4) // 4
for call in sys.argv[1:]:
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(err):
        try:
            eval(call)
            said = err.getvalue()
        except ImportError as error:
            said = str(error)
    print(" ".join(said.split()))
"""


def test_a_missing_package_is_answered_by_the_line_that_installs_its_extra(tmp_path):
    run = subprocess.run(command(START, [], *CALLS), cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 0, run.stderr
    answers = dict(zip(CALLS, run.stdout.splitlines(), strict=True))
    ends = {call: answers[call].partition("pip install ")[2] for call in CALLS}
    assert ends == {call: f"'torchlime[{extra}]'" for call, extra in CALLS.items()}, answers


def wanted(path):
    """(package, extra) of each call of imported() or missing() in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        name = getattr(getattr(node, "func", None), "id", None)
        if name in ("imported", "missing") and len(node.args) == 3:
            module, _, extra = node.args
            if isinstance(module, ast.Constant):
                yield module.value.partition(".")[0], ast.literal_eval(extra)


ALWAYS = modules_of(brought_by([])) | set(sys.stdlib_module_names) | {"torchlime"}
SOURCES = [path for path in (ROOT / "torchlime").rglob("*.py") if path.stem != "_extras"]


def test_the_extra_that_an_answer_names_brings_the_package():
    pairs = {pair for path in SOURCES for pair in wanted(path)}
    assert len({extra for _, extra in pairs}) == len(set(CALLS.values()))
    for package, extra in sorted(pairs):
        assert package in modules_of(brought_by([extra])), (package, extra)


# Optional packages that a file may import by itself: it does without them, or they are there.
KNOWN = {
    "app": {"streamlit"},  # Streamlit runs these files
    "cli/explaining.py": {"tqdm"},
    "compat/captum/scoring.py": {"tqdm"},
    "compat/explanation.py": {"IPython"},  # a notebook has it
    "compat/row_explanations.py": {"scipy"},  # the caller's rows are sparse ones of scipy
    "compat/scores.py": {"tqdm"},
    "jobs/cluster.py": {"pyarrow", "ray"},  # behind Ray()
    "plot/figures.py": {"matplotlib"},  # behind imported()
    "segments/fast_slic.py": {"fast_slic"},  # of no extra; its own sentence
    "server/run.py": {"uvicorn", "streamlit"},  # behind imported()
}


def runtime_imports(tree):
    """The modules that a file imports when it runs, by their first name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
        yield from runtime_imports(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_imports_an_optional_package_by_itself(path):
    own = path.relative_to(ROOT / "torchlime")
    known = KNOWN.get(str(own)) or KNOWN.get(own.parts[0]) or set()
    assert set(runtime_imports(ast.parse(path.read_text()))) - ALWAYS <= known
