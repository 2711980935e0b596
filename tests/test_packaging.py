"""What is published: wheel and sdist, their metadata, the citation, and the API reference."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

import torchlime
from tests.environments import EXTRAS, ROOT

FILES = ("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md",
         "pyproject.toml", "tests/test_readme.py", "benchmarks/README.md",
         ".github/pictures/chelsea.png", ".ci/run")  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist and the wheel that is made of it."""
    pytest.importorskip("build", reason="pip install build hatchling")
    pytest.importorskip("hatchling", reason="pip install build hatchling")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def test_the_sdist_holds_what_a_developer_needs(built):
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert set(FILES) <= names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith("build/")]


def test_the_wheel_holds_the_package_alone(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    info = f"torchlime-{torchlime.__version__}.dist-info/"
    assert {name.partition("/")[0] for name in names} == {"torchlime", info[:-1]}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "torchlime").rglob("*.py")}
    assert sources <= names
    assert {"torchlime/py.typed", "torchlime/models/imagenet.txt"} <= names
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in names)


def test_the_metadata(built):
    with zipfile.ZipFile(built[1]) as wheel:
        name = f"torchlime-{torchlime.__version__}.dist-info/METADATA"
        told = email.message_from_bytes(wheel.read(name))
    assert (told["Name"], told["Version"]) == ("torchlime", torchlime.__version__)
    assert told["License-Expression"] == "Apache-2.0"
    assert set(told.get_all("Provides-Extra")) == set(EXTRAS)
    assert told["Description-Content-Type"] == "text/markdown"
    urls = dict(one.split(", ", 1) for one in told.get_all("Project-URL"))
    assert urls == {"Paper": "https://arxiv.org/abs/1602.04938"}


def test_twine_is_content(built):
    pytest.importorskip("twine", reason="pip install twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_citation():
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert str(cited["version"]) == torchlime.__version__
    assert cited["license"] == "Apache-2.0"
    assert {"message", "title", "authors"} <= set(cited)
    assert re.fullmatch(r"10\.\d{4,}/\S+", cited["references"][0]["doi"])


def test_the_api_reference_is_made_without_a_warning(tmp_path):
    pytest.importorskip("pdoc", reason="pip install 'torchlime[docs]'")
    command = [sys.executable, "-W", "error", str(ROOT / ".github/reference.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    contents = (tmp_path / "torchlime.html").read_text()
    sentence = "features segments masks noise fills black_box predictions targets weights"
    for name in [*sentence.split(), "surrogates", "explanation", "local", "strategies"]:
        page = f"torchlime/{name}.html"
        assert (tmp_path / page).exists(), name
        assert f'href="{page}"' in contents, name
    pages = list(tmp_path.rglob("*.html"))
    assert not [page for page in pages if re.search(r":(class|func|meth|mod):", page.read_text())]


def test_the_command_of_the_reference_is_in_the_readme():
    command = "pip install '.[docs]' && python -W error .github/reference.py"
    assert command in (ROOT / "README.md").read_text()
    assert "build/" in (ROOT / ".gitignore").read_text().split()
