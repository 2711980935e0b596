"""What the README says is run: its code, its commands, its pictures, its links.

Every section runs in a Python that finds no more than the extras that the section names.
"""

import json
import os
import re
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch

from tests.environments import EXTRAS, ROOT, command, installed, modules_of
from tests.pictures import read_png

README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
INSTALL = re.compile(r"pip install ('\.\[[\w,]+\]')((?: [a-z][\w-]+)*)")
DEVELOP = (
    "pip install '.[test]' && "
    "pip install --no-build-isolation --no-deps fast-slic foolbox && pytest"
)


class Section(NamedTuple):
    title: str
    text: str

    @property
    def blocks(self):
        return [(language, code) for language, code in BLOCK.findall(self.text)]

    @property
    def extras(self):
        """The extras that the section names, and the packages that it installs beside them."""
        found = INSTALL.findall(self.text)
        extras = {e for names, _ in found for e in re.findall(r"\w+", names)}
        return extras, {one for _, packages in found for one in packages.split()}


SECTIONS = [
    Section(title, text)
    for title, text in re.findall(
        r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE
    )
]
RUN = [s for s in SECTIONS if s.title not in ("Install", "Develop") and s.blocks]

# Runs the blocks one after another, as a reader does.
DRIVER = """
import json, os, re, subprocess, sys
blocks, absent = json.loads(sys.argv[1])
names = {"__name__": "__main__"}
def shell(code):
    start = 'python() { "$PY" "$@"; }; torchlime() { "$PY" -c "$HIDDEN" "$@"; }\\n'
    code = re.sub(r"^pip install .*$", "", code, flags=re.MULTILINE)
    run = subprocess.run(["bash", "-euc", start + code], capture_output=True, text=True)
    if run.returncode or "Traceback" in run.stderr:
        sys.exit(code + run.stdout + run.stderr)
sys.path.insert(0, "")
for language, code in blocks:
    file = re.match(r"# ([\\w.]+\\.\\w+)\\n", code)
    if re.search(rf"^(from|import) ({'|'.join(absent) or '-'})\\b", code, re.MULTILINE):
        print("left out:", code.splitlines()[0])
    elif file:
        open(file[1], "w").write(code)
    elif language == "sh":
        shell(code)
    elif language == "python":
        exec(compile(code, "README.md", "exec"), names)
"""
# As the command does, without what the section does not install.
COMMAND = """
import sys
from torchlime.cli import main
sys.exit(main(sys.argv[1:]))
"""
MODULES = {"grad-cam": "pytorch_grad_cam"}
# glibc keeps what was freed. No number changes, and forward passes take less time (the
# advice of the README's last section).
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """What a reader has: a photo, a folder of photos, and the weights of a network."""
    from PIL import Image
    from torchvision.models import resnet18

    data = pytest.importorskip("skimage.data", reason="its photos")
    folder = tmp_path_factory.mktemp("own")
    for name, photo in (("tabby cat", data.chelsea()), ("espresso", data.coffee())):
        (folder / "photos" / name).mkdir(parents=True)
        Image.fromarray(photo).save(folder / "photos" / name / "1.jpg")
    Image.fromarray(data.chelsea()).save(folder / "photo.jpg")
    torch.manual_seed(0)
    torch.save(resnet18(num_classes=2).state_dict(), folder / "pets.pth")
    return folder


def run(section, folder, own):
    """Run a section's blocks in a folder of its own, and return what was left out."""
    for path in own.iterdir():
        (folder / path.name).symlink_to(path)
    extras, packages = section.extras
    if missing := [e for e in extras for one in brought(e) if not installed(one)]:
        pytest.skip(f"pip install '.[{','.join(sorted(set(missing)))}]'")
    absent = [MODULES.get(one, one) for one in packages if not installed(one)]
    words = command(DRIVER, extras, json.dumps([section.blocks, absent]), packages=packages)
    environment = (
        os.environ
        | KEEP_MEMORY
        | {
            "PYTHONPATH": str(ROOT),
            "PY": sys.executable,
            "HIDDEN": command(COMMAND, extras, packages=packages)[-1],
            "OMP_NUM_THREADS": "1",
        }
    )
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return [line for line in done.stdout.splitlines() if line.startswith("left out:")]


def brought(extra):
    """The distributions that an extra names itself."""
    return [
        one
        for one in (re.split(r"[<>=\[ ;]", line)[0] for line in EXTRAS[extra])
        if one != "torchlime"
    ]


def assert_similar(ours, name):
    """Another processor rounds otherwise, which may swap two ranks, but not change a picture."""
    committed = read_png(ROOT / ".github/pictures" / name)
    assert ours.shape == committed.shape
    assert (ours.float() - committed.float()).abs().mean() < 8


# What each section leaves behind, beside what the reader had.
WRITTEN = {
    "First run": "explanation.json explanation.png",
    "Your own photo and network": "cat.json cat.png nets.py tiger-cat.json tiger-cat.png",
    "On a GPU": "",
    "Coming from lime": "lime.png",
    "Coming from Captum": "captum.png",
    "From Python": "both.npz cup.png recipe.png",
    "In a training loop": "pictures",
    "Any input, any output": "",
    "Tables and texts": "patient.png",
    "A whole folder": "all all.html cats run.toml",
    "Other models and tools": "pictures",
}


@pytest.mark.parametrize("section", RUN, ids=lambda s: s.title)
def test_a_section_runs_with_what_it_installs(section, tmp_path, own):
    before = subprocess.run(["git", "status", "--short"], cwd=ROOT, capture_output=True)
    left_out = run(section, tmp_path, own)
    there = {path.name for path in tmp_path.iterdir()} - {path.name for path in own.iterdir()}
    expected = set(WRITTEN[section.title].split())
    assert there - {"__pycache__", "pictures"} == expected - {"pictures"}
    if section.title == "From Python":
        assert_similar(read_png(tmp_path / "recipe.png"), "recipe.png")
    if section.title == "In a training loop":
        steps = [read_png(path) for path in sorted((tmp_path / "pictures").glob("*.png"))]
        between = torch.full_like(steps[0][:, :8], 255)
        rows = [part for step in steps for part in (step, between)][:-1]
        assert_similar(torch.cat(rows, dim=1), "training.png")
    after = subprocess.run(["git", "status", "--short"], cwd=ROOT, capture_output=True)
    assert after.stdout == before.stdout  # no tracked file was written
    if left_out:
        pytest.skip("; ".join(left_out))


def test_the_numbers_of_the_patient(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="its table")
    monkeypatch.chdir(tmp_path)
    (section,) = (s for s in SECTIONS if s.title.startswith("Tables"))
    names = {}
    exec(compile(section.blocks[0][1], "README.md", "exec"), names)
    name, value = names["patients"][0].as_list()[0]
    assert f"# [({name!r}, {value:.2f}), …" in section.text


def test_the_commands_make_the_pictures(tmp_path):
    (tmp_path / ".github/pictures").mkdir(parents=True)
    names = KEEP_MEMORY | {"PY": sys.executable, "PYTHONPATH": str(ROOT)}
    start = 'python() { "$PY" "$@"; }; torchlime() { python -m torchlime "$@"; }\n'
    ((_, commands),) = BLOCK.findall(CONTRIBUTING)
    done = subprocess.run(
        ["bash", "-euc", start + commands],
        cwd=tmp_path, env=os.environ | names, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = sorted(path.name for path in tmp_path.glob(".github/pictures/*.png"))
    assert made == ["astronaut.png", "chelsea.png", "coffee.png", "rocket.png", "samples.png",
                    "segments.png"]  # fmt: skip
    for name in made:
        assert_similar(read_png(tmp_path / ".github/pictures" / name), name)


def test_memory_is_kept_as_the_readme_says():
    assert " ".join(f"{name}={value}" for name, value in KEEP_MEMORY.items()) in README


def test_the_two_commands_are_the_issues():
    blocks = {section.title: section.blocks for section in SECTIONS}
    assert blocks["Install"] == [("sh", "pip install '.[demo]'\n")]
    assert blocks["First run"] == [("sh", "torchlime explain\n")]
    assert blocks["Develop"][0] == ("sh", f"{DEVELOP}\n")
    assert "^pip install '.\\[test\\]'" in (ROOT / ".ci/run").read_text()  # taken from here


def test_the_sections_are_in_the_issues_order():
    assert [section.title for section in SECTIONS] == [
        "Install", "First run", "Your own photo and network", "On a GPU", "Coming from lime",
        "Coming from Captum", "From Python", "Any input, any output", "In a training loop",
        "Tables and texts", "A whole folder", "A page to look at", "Other models and tools",
        "The stages", "Limits", "Develop", "Benchmarks",
    ]  # fmt: skip


def test_every_extra_is_named():
    assert [name for name in EXTRAS if f".[{name}]" not in README] == []
    assert {one for s in SECTIONS for one in s.extras[0]} <= set(EXTRAS)
    assert "torch" in modules_of({"torch"})


@pytest.mark.parametrize("target", sorted({
    *re.findall(r"\]\(([^)#]+)\)", README), *re.findall(r"\]\(([^)#]+)\)", CONTRIBUTING)
}))  # fmt: skip
def test_links_lead_somewhere(target):
    assert target.startswith("https://") or (ROOT / target).exists()
