"""The shape of the package: what it loads, which way its imports run, what its texts promise."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import torchlime

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "torchlime"

# A module may import from lower layers only; modules of one layer do not know each other.
LAYERS = [
    {"_several"},
    {
        "_precision",
        "_checks",
        "_row_blocks",
        "_atomic",
        "folders",
        "_undisturbed",
        "_errors",
        "_host",
        "_cholesky",
        "_html",
    }
    | {"_extras", "_problems", "_settings", "_warn", "_files", "_networks", "version"},
    {"_archives", "_softmap"},
    {"_batches", "_hash", "_antithetic", "_inputs", "_provenance", "_estimator"}
    | {"_names", "_words", "_size_laws", "_drawn_once"},
    {"_variance"},
    {"_labelmap", "fit", "black_box", "background"},
    {"_returns", "_jointmap", "_by_need", "_growing", "_some_columns"},
    {"_kinds"},
    {"strategies", "_saved", "_reading"},
    {"_row_groups"},
    # The stages: none knows another.
    {"features", "segments", "masks", "noise", "fills", "predictions", "targets", "weights"}
    | {"surrogates", "rounds"},
    {"_explained", "interactions", "_refitting"},
    {"explanation", "_shared_predictions"},
    {"_resuming", "_sampling", "_few_masks"},
    {"_taking"},
    {"local"},
    {"_row_by_row", "capture"},
    {"lime", "vectors", "tables", "texts", "tokens", "patches", "rise"},
    {"_given_masks", "methods"},
    {"metrics", "plot"},
    {"models"},
    {"jobs", "training", "compat", "examples", "server"},
    {"cli"},
    {"app"},
    {"__main__"},
]
PUBLIC = {"the package itself": "lime"} | dict.fromkeys(("explain", "Lime"), "lime")
PUBLIC |= {"explain_table": "tables", "TableLime": "tables", "Background": "background"}
PUBLIC |= {"explain_tokens": "tokens", "TokenLime": "tokens"}
PUBLIC |= {"Rise": "rise"}
PUBLIC |= {"explain_text": "texts", "TextLime": "texts"}
PUBLIC |= {"explain_patches": "patches", "PatchLime": "patches"}
PUBLIC |= {"explain_vector": "vectors", "VectorLime": "vectors", "Explanation": "explanation"}
LATE = {("explanation", "plot")}  # imported when a notebook shows an explanation
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports_of(path):
    """The torchlime modules that a file imports, by their first name; type-only ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            if node.module == "torchlime":
                names = [f"torchlime.{alias.name}" for alias in node.names]
            else:
                names = [node.module]
        own = [name for name in names if name.split(".")[0] == "torchlime"]
        yield from ([*name.split("."), "the package itself"][1] for name in own)


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for target in imports_of(path):
        if target != own and (own, target) not in LATE:
            assert LAYER[PUBLIC.get(target, target)] < LAYER[own], f"{own} imports {target}"


def test_every_module_has_a_layer():
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert names <= set(LAYER)


def sentences_of(path):
    """The texts of a file that people may read when it runs: strings of several words."""
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in told and " " in node.value:
            yield node.value


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_sentences_name_public_things_only(path):
    private = re.compile(r"""(?:^|(?<=[\s"'(`.]))_[A-Za-z]\w*""")
    parts = ("_interp_rep_transform, got",)  # the end of a public name of Captum
    found = [text for text in sentences_of(path) if private.search(text)]
    assert not [text for text in found if not text.startswith(parts)]


def test_importing_torchlime_loads_torch_and_nothing_slow():
    code = (
        "import sys, torch; before = set(sys.modules); import torchlime; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=ROOT)  # fmt: skip
    third_party = set(run.stdout.split()) - set(sys.stdlib_module_names)
    assert third_party == {"torchlime"}


def test_the_public_names():
    assert all(hasattr(torchlime, name) for name in torchlime.__all__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = [re.split(r"[<>=]", d)[0] for d in project["dependencies"]]
    assert packages == ["torch", "torchvision", "kornia", "numpy"]
    try:
        installed = importlib.metadata.version("torchlime")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("torchlime is not installed, only importable")
    assert installed == torchlime.__version__


def test_the_top_level_holds_what_the_design_names():
    run = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if run.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in run.stdout.splitlines()}
    allowed = {"torchlime", "benchmarks", "tests", "pyproject.toml", "README.md", "LICENSE"}
    allowed |= {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"}
    assert {name for name in top if not name.startswith(".")} <= allowed


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_is_content(command):
    words = [sys.executable, "-m", "ruff", *command]
    run = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


USER = """
import torch
import torchlime
from torchlime.segments import Grid
from torchlime.masks import Bernoulli

def own_kernel(masks: torch.Tensor, count: torch.Tensor,
               energy: torch.Tensor | None = None) -> torch.Tensor:
    return torch.ones(masks.shape[:2])

images = torch.rand(2, 3, 8, 8)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
explainer = torchlime.Lime(segmenter=Grid(2, 2), sampler=Bernoulli(), kernel=own_kernel)
explanation = explainer.explain(net, images, top=2).check()
again = torchlime.explain(net, images, 1, num_samples={number}, {keyword}=3)
vectors = torchlime.explain_vector(net, images, [0, 1], scale=0.2)
heat: torch.Tensor = explanation.heatmap()
names: list[tuple[str, float]] = vectors[0].as_list()
"""


def test_mypy_is_content_and_sees_a_users_wrong_keyword_and_wrong_type(tmp_path):
    """In one run, since it reads all of torch."""
    codes = {
        "right.py": USER.format(number=64, keyword="seed"),
        "keyword.py": USER.format(number=64, keyword="num_sample"),
        "type.py": USER.format(number='"many"', keyword="seed"),
    }
    for name, code in codes.items():
        (tmp_path / name).write_text(textwrap.dedent(code))
    paths = ["torchlime", "benchmarks", *map(str, map(tmp_path.joinpath, codes))]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *paths], capture_output=True, text=True, cwd=ROOT
    )
    lines = [line for line in run.stdout.splitlines() if "error:" in line]
    wrong = {name: [line for line in lines if f"{name}:" in line] for name in codes}
    assert any('"num_sample"' in line for line in wrong["keyword.py"]), run.stdout + run.stderr
    assert any('"num_samples"' in line for line in wrong["type.py"]), run.stdout
    assert sorted(lines) == sorted(wrong["keyword.py"] + wrong["type.py"]), run.stdout
