"""The shape of the package: what it loads, which way its imports run, what its texts promise."""

import ast
import importlib.metadata
import re
import subprocess
import sys
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


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]])
def test_the_linters_are_content(command):
    run = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
