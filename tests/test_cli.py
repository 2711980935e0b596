"""The command line, in this process; with tiny models but for the default one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import torchlime
from tests import tiny
from tests.pictures import bomb, read_png
from torchlime import Explanation, cli, methods
from torchlime.cli.options import OPTIONS

FAST = ["--model", "tests.tiny:bright", "--samples", "16", "--segments", "4", "--segmenter", "grid"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_photo(name, color=(255, 0, 0), size=(30, 20), **settings):
    """Grey, with a coloured upper left quarter of what the tiny models see."""
    image = Image.new("RGB", size, (90, 90, 90))
    image.paste(color, (0, 0, size[0] // 2, size[1] // 2))
    image.save(name, **settings)
    return name


def run(*arguments):
    return cli.main(["explain", *FAST, *map(str, arguments)])


# The default: real weights, as the README's first command


def test_the_default_photo(capsys):
    assert cli.main(["explain", "--samples", "128"]) == 0
    captured = capsys.readouterr()
    assert "tiger cat" in captured.out.splitlines()[0]
    assert "segment" in captured.out
    assert "wrote explanation.png" in captured.out
    assert captured.err == ""
    assert sorted(os.listdir()) == ["explanation.json", "explanation.png"]
    picture = read_png("explanation.png")
    assert picture.shape[2] > 2 * 451  # the photo's own size, two in a row
    assert picture[:, 50:300, 50:450].float().std() > 30  # a photo, not a blank


def test_without_the_demo_packages(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert cli.main(["explain"]) == 2
    assert "pip install 'torchlime[demo]'" in capsys.readouterr().err


# What is written


def test_a_photo_its_picture_and_its_settings(capsys):
    assert run(save_photo("red.png"), "--out", "out.png", "--fill", "0") == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("Red, crimson")
    assert sorted(os.listdir()) == ["out.json", "out.png", "red.png"]
    record = json.loads(Path("out.json").read_text())
    assert record["settings"]["samples"] == 16
    assert record["settings"]["seed"] == 0
    assert record["settings"]["device"] in ("cpu", "cuda")
    assert set(record["settings"]) == {*OPTIONS, "photos"}
    assert "Grid(rows=2, cols=2)" in record["explainer"]
    assert (record["photo"], record["size"], record["box"]) == ("red.png", [30, 20], [7, 2, 23, 18])
    (target,) = record["targets"]
    assert target["strongest"][0] == 0  # the coloured quarter
    assert target["coefficients"][0] > 10 * max(map(abs, target["coefficients"][1:]))


def test_the_explanation_is_kept_with_its_settings():
    assert run(save_photo("red.png"), "--save", "red.npz", "--seed", "7") == 0
    explanation = Explanation.load("red.npz").check()
    assert explanation.targets.tolist() == [[0, 1, 2]]
    assert explanation.settings["seed"] == 7
    assert json.loads(explanation.settings["command"])["photos"] == ["red.png"]
    image = torchlime.models.read_photo("red.png")
    classifier = torchlime.models.load("tests.tiny:bright")
    ours = torchlime.explain(
        classifier, classifier.preprocess(image), top=3, num_samples=16, seed=7,
        segmenter=torchlime.segments.Grid(2, 2),
    )  # fmt: skip
    assert ours.coefficients.equal(explanation.coefficients)


def test_several_photos_are_explained_in_one_call(monkeypatch, capsys):
    calls = []
    original = torchlime.Lime.explain
    monkeypatch.setattr(
        torchlime.Lime, "explain",
        lambda self, model, images, *a, **k: calls.append(len(images)) or original(
            self, model, images, *a, **k),
    )  # fmt: skip
    photos = [save_photo(f"{i}.png", (255, 25 * i, 0)) for i in range(10)]
    assert run(*photos, "--json") == 0
    assert calls == [8, 2]
    together = json.loads(capsys.readouterr().out)["photos"]
    assert [photo["photo"] for photo in together] == photos
    assert run(photos[9], "--json") == 0
    (alone,) = json.loads(capsys.readouterr().out)["photos"]
    del alone["targets"][0]["picture"], together[9]["targets"][0]["picture"]
    assert alone == together[9]


def test_photos_of_different_sizes_for_a_model_that_takes_any():
    photos = [save_photo("a.png"), save_photo("b.png", size=(40, 24)), save_photo("c.png")]
    assert run("--model", "tests.tiny:uncropped", *photos) == 0
    assert len([name for name in os.listdir() if name.startswith("explanation.")]) == 6


@pytest.mark.parametrize(
    ("photos", "flags", "expected"),
    [
        (["a.png"], [], ["explanation"]),
        (["a.png", "b.png"], [], ["explanation.a", "explanation.b"]),
        (["a.png", "a.jpg", "sub/a.png"], [],
         ["explanation.a", "explanation.a-2", "explanation.a-3"]),
        (["a.png"], ["--top", "2"], ["explanation.0-red-crimson", "explanation.1-green"]),
        (["a.png"], ["--target", "1", "--target", "GREEN"], ["explanation.1-green"]),
        (["a.png"], ["--target", "blue"], ["explanation"]),
        (["a.png", "b.png"], ["--out", "sub"], ["sub/a.explanation", "sub/b.explanation"]),
        (["sub/a.png"], ["--out", "sub"], ["sub/a.explanation"]),
        (["a.png", "b.png"], ["--out", "sub/{target} of {photo}.png"],
         ["sub/0-red-crimson of a", "sub/0-red-crimson of b"]),
        (["a.png", "b.png"], ["--out", "{target}.png"], ["0-red-crimson.a", "0-red-crimson.b"]),
    ],
)  # fmt: skip
def test_names_of_pictures(photos, flags, expected):
    os.mkdir("sub")
    for photo in photos:
        save_photo(photo)
    if flags == ["--target", "1", "--target", "GREEN"]:
        expected = ["explanation.1-green"]
    before = {str(path) for path in Path().rglob("*.*")}
    assert run(*photos, *flags) == 0
    after = {str(path) for path in Path().rglob("*.*")}
    assert after - before == {
        f"{name}{suffix}" for name in expected for suffix in (".png", ".json")
    }


def test_one_bad_photo_does_not_stop_the_others(capsys):
    Path("bad.jpg").write_bytes(b"no photo")
    good, black = save_photo("good.png"), save_photo("black.png", (0, 255, 0))
    Image.new("RGB", (20, 20)).save(black)
    assert run("--model", "tests.tiny:nan", "bad.jpg", good, black, "gone.png", "--json") == 1
    captured = capsys.readouterr()
    photos = json.loads(captured.out)["photos"]
    assert [photo["photo"] for photo in photos] == ["bad.jpg", "good.png", "black.png", "gone.png"]
    assert ["error" in photo for photo in photos] == [True, False, True, True]
    errors = captured.err.splitlines()
    assert len(errors) == 3
    assert errors[0] == "torchlime: bad.jpg is not an image that Pillow can read"
    assert errors[1] == "torchlime: there is no image gone.png"
    assert "black.png: the explanation is not to be trusted. the model returned NaN" in errors[2]
    assert read_png("explanation.good.png").shape[0] == 3
    assert not [name for name in os.listdir() if "bad." in name and name != "bad.jpg"]


def test_segments_without_evidence_are_not_listed(capsys):
    Image.new("RGB", (30, 20), "grey").save("plain.png")  # hiding a part of it changes nothing
    assert run("plain.png") == 0
    assert "1. segment" not in capsys.readouterr().out
    assert json.loads(Path("explanation.json").read_text())["targets"][0]["strongest"] == []


def test_json_is_alone_on_stdout(capsys):
    assert run("--model", "tests.tiny:chatty", save_photo("a.png"), "--json", "--top", "1") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["photos"][0]["targets"][0]["picture"] == "explanation.png"
    assert "hello from a model" in captured.err


def test_standard_errors_that_are_undefined_are_null(capsys):
    assert run(save_photo("a.png"), "--surrogate", "lasso", "--json") == 0
    target = json.loads(capsys.readouterr().out)["photos"][0]["targets"][0]
    assert set(target["standard_errors"]) == {None}
    assert run("a.png", "--surrogate", "lasso") == 0
    assert "±" not in capsys.readouterr().out


def test_progress_is_for_terminals(monkeypatch, capsys):
    photo = save_photo("a.png")
    assert run(photo) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert run(photo) == 0
    assert "1 photo" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert run(photo) == 0
    assert capsys.readouterr().err == ""


def test_a_warning_is_one_line():
    whole = [*FAST[:4], "--segments", "1", "--segmenter", "grid"]
    command = [sys.executable, "-m", "torchlime", "explain", save_photo("a.png"), *whole]
    root = str(Path(__file__).parents[1])
    process = subprocess.run(
        [*command, "--kernel", "uniform"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert process.returncode == 0
    assert process.stderr.startswith("torchlime: warning: an image is one segment as a whole")
    assert len(process.stderr.splitlines()) == 1


# What can be asked


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--segmenter", "slic"], "Reduced(segmenter=Slic(num_segments=4"),
        (["--segmenter", "slic"], "max_side=1024"),
        (["--segmenter", "slic", "--segment-side", "300"], "max_side=300"),
        (["--segmenter", "slic", "--segment-side", "0"], "(segmenter=Slic(num_segments=4"),
        (["--segments", "7"], "Grid(rows=2, cols=3)"),
        (["--sampler", "bernoulli"], "Bernoulli(keep=0.5)"),
        (["--sampler", "bernoulli:0.7"], "Bernoulli(keep=0.7)"),
        (["--sampler", "fixed-count:0.5"], "FixedCount(remove=0.5)"),
        (["--fill", "mean"], "SegmentMean()"),
        (["--fill", "image-mean"], "ImageMean()"),
        (["--fill", "blur:3"], "Blur(sigma=3.0)"),
        (["--fill", "#ff0000"], "Constant(value=(1.0, 0.0, 0.0))"),
        (["--fill", "0.5"], "Constant(value=0.5)"),
        (["--kernel", "exponential:0.5"], "Exponential(width=0.5"),
        (["--kernel", "inverse-distance"], "InverseDistance("),
        (["--kernel", "without-unmasked"], "WithoutUnmasked(kernel=Exponential("),
        (["--kernel", "uniform"], "Uniform()"),
        (["--surrogate", "ridge:0.1"], "Ridge(alpha=0.1)"),
        (["--surrogate", "lasso:0.1"], "Lasso(alpha=None, fraction=0.1)"),
        (["--surrogate", "least-squares"], "LeastSquares()"),
        (["--samples", "32"], "num_samples=32"),
        (["--seed", "-3"], "seed=-3"),
        (["--dtype", "bf16"], "autocast=torch.bfloat16"),
    ],
)
def test_options_reach_the_explainer(capsys, flags, expected):
    assert run(save_photo("a.png"), *flags, "--json") == 0
    assert expected in json.loads(capsys.readouterr().out)["explainer"]


def test_fast_slic(capsys):
    pytest.importorskip("fast_slic")
    assert run(save_photo("a.png"), "--segmenter", "fast-slic", "--json") == 0
    assert "FastSlic(num_segments=4" in json.loads(capsys.readouterr().out)["explainer"]


def test_output_is_what_is_explained(capsys):
    Path("net.py").write_text(
        "import torch\ndef build():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),\n"
        "                               torch.nn.Linear(3, 4))\n"
    )
    sums = {}
    for output in ("softmax", "sigmoid", "logit", "none"):
        flags = ["--model", "net:build", "--output", output, "--top", "4", "--json"]
        assert run(save_photo("a.png"), *flags) == 0
        targets = json.loads(capsys.readouterr().out)["photos"][0]["targets"]
        sums[output] = sum(target["score"] for target in targets)
        assert targets[0]["category"] == f"class {targets[0]['index']}"
    assert abs(sums["softmax"] - 1) < 1e-5
    assert sums["logit"] == sums["none"]
    assert len({round(total, 3) for total in sums.values()}) == 3
    assert str(Path.cwd()) not in sys.path
    del sys.modules["net"]


def test_a_configuration_is_overridden_by_flags(capsys):
    save_photo("a.png")
    Path("run.toml").write_text(
        'photos = "a.png"\nsamples = 32\nfill = 0.5\ntarget = ["green", 2]\nseed = 5\n'
    )
    assert run("--config", "run.toml", "--seed", "6", "--json") == 0  # FAST says 16 samples
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["photos"] == ["a.png"]
    assert (settings["samples"], settings["seed"], settings["fill"]) == (16, 6, "0.5")
    assert settings["target"] == ["green", "2"]
    assert run("--config", "run.toml", "--target", "blue", "--json") == 0
    assert json.loads(capsys.readouterr().out)["settings"]["target"] == ["blue"]


def test_max_side_shrinks_the_picture():
    photo = save_photo("a.png", size=(300, 200))
    sides = {}
    for side in ("0", "2000", "150"):
        assert run(photo, "--max-side", side) == 0
        sides[side] = read_png("explanation.png").shape[2]
    assert sides["0"] == sides["2000"] > 600 > sides["150"]


def test_models_lists_names(capsys):
    assert cli.main(["models"]) == 0
    assert {"resnet34", "efficientnet_lite0"} <= set(capsys.readouterr().out.split())
    assert cli.main(["models", "resnet1"]) == 0
    assert capsys.readouterr().out.split() == [
        "resnet101", "resnet152", "resnet18", "wide_resnet101_2",
    ]  # fmt: skip
    assert cli.main(["models", "RESNET18"]) == 0
    assert capsys.readouterr().out.split() == ["resnet18"]
    assert cli.main(["models", "nothing-like-it"]) == 2
    assert capsys.readouterr().err.startswith("torchlime: no name contains")


def test_methods_are_listed_with_a_sentence_and_a_paper(capsys):
    assert cli.main(["methods"]) == 0
    listed = capsys.readouterr().out
    for name in methods.names():
        assert cli.main(["methods", name.replace("_", "-")]) == 0
        alone = capsys.readouterr().out
        assert all(part in listed for part in alone.strip().split("\n\n"))
        assert methods.get(name).sentence in " ".join(alone.split())
        assert methods.get(name).paper in " ".join(alone.split())
        assert max(map(len, alone.splitlines())) <= 100
    assert cli.main(["methods", "nothing-like-it"]) == 2
    assert capsys.readouterr().err.startswith("torchlime: no name contains 'nothing_like_it'")


METHODS = [name for name in methods.names() if methods.get(name).takes == "images"]


def by_method(name, *arguments):
    command = ["explain", "--model", "tests.tiny:bright", "--method", name, *map(str, arguments)]
    return cli.main(command)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_a_photo(name, capsys):
    free = "segmenter" not in methods.get(name).fixes
    grid = ["--segments", "4", "--segmenter", "grid"] if free else []
    most = ["--samples", "256"] if name in ("lime", "rise", "glime", "baylime") else []
    assert by_method(name, save_photo("red.png"), *grid, *most, "--save", "red.npz") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith("Red, crimson")
    record = json.loads(Path("explanation.json").read_text())
    assert record["settings"]["method"] == name
    without = name in ("rise", "leave_one_out", "occlusion")
    told = record["targets"][0]["fidelity"]
    assert told is None if without else told <= 1
    assert ("fidelity" in out) == (not without)
    assert "nan" not in out
    e = Explanation.load("red.npz").check(sure=False)
    if free:
        assert int(e.top(1)[0][0, 0, 0]) == 0  # the coloured quarter
    else:
        heat = e.heatmap()[0, 0]
        assert heat[:8, :8].mean() > 4 * heat[8:, 8:].abs().mean()


def test_what_is_given_holds_beside_a_method(capsys):
    photo = save_photo("red.png")
    own = ["--fill", "0.2", "--samples", "128", "--seed", "3", "--segments", "9"]
    assert by_method("kernel-shap", photo, *own, "--segmenter", "grid") == 0
    told = json.loads(Path("explanation.json").read_text())["explainer"]
    for part in ("SizeLaw(", "Constant(value=0.2)", "num_samples=128", "seed=3", "Grid(rows=3"):
        assert part in told
    assert by_method("rise", photo, "--segments", "9", "--samples", "64") == 0
    told = json.loads(Path("explanation.json").read_text())["explainer"]
    assert told.startswith("Rise(")
    assert "fill=Constant(value=0.0)" in told
    assert "difference=True" in told  # the picture says what hiding changes
    Path("method.toml").write_text('method = "banzhaf"\nsegments = 4\nsegmenter = "grid"\n')
    assert cli.main(["explain", "--model", "tests.tiny:bright", "--config", "method.toml",
                     "--out", "b.png", str(photo)]) == 0  # fmt: skip
    assert "Orthogonal()" in json.loads(Path("b.json").read_text())["explainer"]
    assert by_method("bayeslime", photo, "--most-samples", "512", "--segments", "4") == 0
    assert "most=512" in json.loads(Path("explanation.json").read_text())["explainer"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("banzaf", "there is no method 'banzaf'; did you mean banzhaf?"),
        ("banzhaf --kernel uniform", "--method banzhaf has its own kernel; leave --kernel out"),
        ("lime --sampler orthogonal", "--method lime has its own sampler; leave --sampler out"),
        ("rise --surrogate ridge", "--method rise has its own surrogate; leave --surrogate out"),
        ("rise --until 0.3", "--method rise has its own number of samples; leave --until out"),
        ("leave-one-out --until 0.3", "leave_one_out has its own number of samples; leave --until"),
        ("grid-lime --segments 9", "--method grid_lime has its own segments; leave --segments out"),
        ("slime --samples 99", "--method slime draws samples until it is sure; leave --samples"),
        ("dseg", "dseg takes label maps, which only Python can give: torchlime.methods.dseg"),
        ("glime_gauss", "torchlime.methods.glime_gauss"),
    ],
)
def test_options_that_contradict_a_method(arguments, reason, capsys):
    name, *rest = arguments.split()
    assert by_method(name, save_photo("red.png"), *rest) == 2
    assert reason in capsys.readouterr().err


def test_help_and_version_and_the_module():
    for arguments, code in ((["--version"], 0), ([], 2), (["explode"], 2), (["explain", "-x"], 2)):
        command = [sys.executable, "-m", "torchlime", *arguments]
        process = subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parents[1]
        )
        assert process.returncode == code, process.stderr
        assert "Traceback" not in process.stderr
        assert len(process.stderr.splitlines()) == (code == 2)
        assert (torchlime.__version__ in process.stdout) == (arguments == ["--version"])
    for arguments in (["--help"], ["explain", "--help"], ["models", "--help"], ["methods", "-h"]):
        with pytest.raises(SystemExit, match="0"):
            cli.main(arguments)


def test_debug_shows_the_traceback(capsys):
    assert run("--debug", "--out", "no/such/folder.png", save_photo("a.png")) == 2
    assert "Traceback" in capsys.readouterr().err
    assert run("--debug", "missing.png") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_had_enough():
    command = f"{sys.executable} -m torchlime models | head -n 1"
    process = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert (process.stdout, process.stderr) == ("alexnet\n", "")


def test_photos_on_both_sides_of_a_flag(capsys):
    a, b, c = (save_photo(name) for name in ("a.png", "b.png", "-c.png"))
    assert run(a, "--top", "1", b, "--json", "--", c) == 0
    document = json.loads(capsys.readouterr().out)
    assert [photo["photo"] for photo in document["photos"]] == [a, b, c]


def test_the_output_of_an_own_classifier_is_recorded(capsys):
    Path("own.py").write_text(
        "from tests.tiny import *\ndef build():\n"
        "    return Classifier(Bright(), SMALL, output='logit')\n"
    )
    photo = save_photo("a.png")
    for flags in ([], ["--output", "logit"]):
        assert run("--model", "own:build", photo, *flags, "--json") == 0
        assert json.loads(capsys.readouterr().out)["settings"]["output"] == "logit"
    del sys.modules["own"]


def test_a_terminal_that_knows_few_letters():
    command = [sys.executable, "-m", "torchlime", "explain", *FAST]
    root = str(Path(__file__).parents[1])
    process = subprocess.run(
        [*command, save_photo("日本.png"), "gone-é.png"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": root, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    assert "\\u65e5\\u672c.png:" in process.stdout
    assert process.stderr == "torchlime: there is no image gone-\\xe9.png\n"


def test_a_photo_that_fails_does_not_fail_its_group(capsys):
    photos = [save_photo("a.png"), "black.png", save_photo("b.png")]
    Image.new("RGB", (30, 20)).save("black.png")
    assert run("--model", "tests.tiny:picky", "--fill", "0.5", *photos, "--json") == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)["photos"]
    assert [photo.get("error") for photo in found] == [None, "black.png: no red", None]
    assert captured.err == "torchlime: black.png: no red\n"


def test_a_network_that_ends_the_program(capsys):
    assert run("--model", "tests.tiny:leaving", save_photo("a.png"), save_photo("b.png")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "torchlime: a.png: SystemExit: 0",
        "torchlime: b.png: SystemExit: 0",
    ]


@pytest.mark.parametrize("model", ["resnet18", "timm:resnet18", "hf:folder", "own:build"])
def test_the_current_folder_is_importable_for_own_models_only(monkeypatch, here, model):
    seen = []

    def load(*_, **__):
        seen.extend(sys.path)
        return tiny.bright()

    monkeypatch.setattr(torchlime.models, "load", load)
    assert run("--model", model, save_photo("a.png")) == 0
    assert [path for path in seen if path == str(here)] == [str(here)] * (model == "own:build")
    assert seen[0] != str(here)


def test_classes_are_counted_once(monkeypatch):
    calls = []
    forward = tiny.Bright.forward
    monkeypatch.setattr(tiny.Bright, "forward", lambda *a: calls.append(len(a[1])) or forward(*a))
    assert run(*(save_photo(f"{i}.png") for i in range(9))) == 0
    images = sum(calls)
    calls.clear()
    assert run(*(f"{i}.png" for i in range(9)), "--top", "1") == 0
    assert images == sum(calls) + 1


def test_a_folder_with_a_slash_is_made():
    assert run(save_photo("a.png"), "--out", "new/pictures/", "--save", "kept/") == 0
    assert sorted(os.listdir("new/pictures")) == ["a.explanation.json", "a.explanation.png"]
    assert os.listdir("kept") == ["a.explanation.npz"]
    assert run("gone.png", "--out", "unused/") == 1
    assert not Path("unused").exists()


# Bad input: what was given, what is printed


def make_inputs():
    """One file for each line of the tables below."""
    save_photo("good.png")
    whole = Path(save_photo("whole.jpg", size=(200, 100))).read_bytes()
    Path("truncated.jpg").write_bytes(whole[: len(whole) // 2])
    Path("empty.jpg").touch()
    Path("text.jpg").write_text("hello")
    Path("huge.png").write_bytes(bomb(30_000, 30_000))
    Path("large.png").write_bytes(bomb(10_000, 10_000))
    os.mkdir("folder")
    os.mkfifo("pipe.jpg")
    pages = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    pages[0].save("3.tif", save_all=True, append_images=pages[1:])
    torch.save(torch.nn.Linear(2, 2).state_dict(), "wrong.pt")
    Path("text.pt").write_text("hello")
    Path("unknown.toml").write_text("smaples = 3")
    Path("large.toml").write_text("#" * 2_000_000)
    Path("broken.toml").write_text("samples = ")
    Path("typed.toml").write_text("samples = [3]")
    Path("notes.json").write_text("{}")


BAD_PHOTOS = {
    "truncated.jpg": "truncated.jpg is damaged or cannot be converted to RGB: image file is trunc",
    "empty.jpg": "empty.jpg is empty (0 bytes)",
    "text.jpg": "text.jpg is not an image that Pillow can read",
    "huge.png": "huge.png is too large: 30000×30000 pixels are more than the 89478485 that are",
    "large.png": "large.png is too large: 10000×10000 pixels are more than the 89478485 that are",
    "folder": "folder is a folder, not an image",
    "missing.jpg": "there is no image missing.jpg",
    "pipe.jpg": "pipe.jpg is a pipe, not an image: copy its content to a file first",
    "/dev/zero": "/dev/zero is a device, not an image",
    "3.tif": "3.tif has 3 pages: choose one with page=N (--page N), from 1, or save it as a file",
}

BAD_COMMANDS = {
    "--model resnet43": "unknown model 'resnet43' (nearest: resnet34",
    "--model nowhere:build": "cannot import 'nowhere' of model 'nowhere:build': No module named",
    "--model tests.tiny:brihgt": "module tests.tiny has no function 'brihgt' (nearest: bright",
    "--model tests.tiny:fails": "KeyError: 'no such thing'",
    "--model timm:resent18": "unknown timm model 'resent18' (nearest: resnet18",
    "--model resnet18 --weights wrong.pt": "the checkpoint does not fit ResNet: missing conv1.wei",
    "--model resnet18 --weights text.pt": "text.pt is not a checkpoint: KeyError: 101",
    "--model resnet18 --weights gone.pt": "'gone.pt' is neither a file nor one of the weights of",
    "--model resnet18 --weights folder": "folder is a folder, not a checkpoint",
    "--target gren": "--target: unknown category 'gren' (nearest: green (1), Red (0))",
    "--target 3": "--target: there is no class 3 among 3",
    "--target -1": "--target: there is no class -1 among 3",
    "--model tests.tiny:unnamed --target red": "--target: the model's categories are not known",
    "--top 4": "--top: the model has only 3 classes, not 4",
    "--top 0": "--top: '0' is not a whole number of at least 1",
    "--top 1 --target 1": "--top and --target exclude each other",
    "--samples many": "--samples: 'many' is not a whole number of at least 2",
    "--samples 16 --segments 16": "--samples 16 are too few for --segments 16",
    "--segmenter slick": "--segmenter: 'slick' is none of slic, grid, fast-slic, scikit-slic; ",
    "--sampler bernoulli:2": "--sampler: keep must lie strictly between 0 and 1, got 2.0",
    "--sampler orthogonal:2": "--sampler: orthogonal takes no number, got 'orthogonal:2",
    "--fill #12": "--fill: '#12' is not a number",
    "--fill 255": "--fill: 255 is not a grey level in [0,1]",
    "--fill blurr": "--fill: 'blurr' is none of mean, image-mean, blur; did you mean blur?",
    "--kernel exponential:0": "--kernel: width must be a finite number above 0, got 0.0",
    "--surrogate ridge:x": "--surrogate: 'x' is not a number",
    "--output probability": "--output: 'probability' is none of softmax, logit, sigmoid, none",
    "--device cuda": "--device: there is no cuda device here (",
    "--device gpu": "--device: 'gpu' is none of auto, cpu, cuda, cuda:1, mps, xpu",
    "--dtype fp8": "--dtype: 'fp8' is none of fp32, bf16, fp16",
    "--out no/such.png": "cannot write no/such.png: there is no folder no",
    "--out good.png/": "cannot write good.png/good.explanation.png: there is no folder good.png",
    "--model tests.tiny:leaves": "tests.tiny:leaves ended the program when called (SystemExit(0))",
    "--output logit": "--output: tests.tiny:bright is a Classifier whose own output is softmax",
    "--out picture.jpg": "cannot write picture.jpg: --out takes a name that ends in .png, or an",
    "--out good.png": "cannot write good.png: this call reads that file, or wrote it already",
    "--save all.npy": "cannot write all.npy: --save takes a name that ends in .npz, or an",
    "--save {target}.npz": "--save: a file holds all targets of its photo, so there is no {target}",
    "--config gone.toml": "cannot read the configuration gone.toml: No such file or directory",
    "--config unknown.toml": "the configuration unknown.toml has an unknown key 'smaples'; did you",
    "--max-seconds 0": "--max-seconds: 0 is not a finite number above 0",
    "--page 0": "--page: '0' is not a whole number of at least 1",
    "--model resnet18 --weights /dev/zero": "/dev/zero is a device, not a checkpoint",
    "--config /dev/zero": "cannot read the configuration: /dev/zero is a device, not a config",
    "--config large.toml": "cannot read the configuration: large.toml has 2000000 bytes, more than",
    "--config broken.toml": "the configuration broken.toml is not TOML: ",
    "--config typed.toml": "the configuration typed.toml: samples cannot be [3]",
    "--colour red": "unrecognized arguments: --colour red (torchlime explain --help tells more)",
    "--samp 16": "unrecognized arguments: --samp 16 (torchlime explain --help tells more)",
    "--seed": "argument --seed: expected one argument (torchlime explain --help tells more)",
}


def test_a_page_and_limits_of_ones_own(capsys):
    make_inputs()
    for page, name in {1: "Red, crimson", 2: "green", 3: "navy blue, blue"}.items():
        assert run("3.tif", "--page", page) == 0
        assert name in capsys.readouterr().out.splitlines()[0]
    assert run("3.tif", "--page", 4) == 1
    assert "3.tif has 3 pages, not 4" in capsys.readouterr().err
    assert run("good.png", "--max-pixels", 100) == 1
    assert "30×20 pixels are more than the 100 that are allowed" in capsys.readouterr().err
    assert run("huge.png", "--max-pixels", 10**9) == 1
    assert "may take 17168 MiB to decode, more than the 2048 that" in capsys.readouterr().err


def test_a_photo_beyond_pillows_limit_within_ones_own(capsys, monkeypatch):
    save_photo("it.png", size=(200, 150))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 25_000)
    monkeypatch.setattr("torchlime.models.headers.is_cheap", lambda data: False)  # read elsewhere
    assert run("it.png", "--max-pixels", 30_000) == 0
    assert run("it.png", "--max-pixels", 29_999) == 1
    assert "200×150 pixels are more than the 29999" in capsys.readouterr().err


@pytest.mark.parametrize("photo", BAD_PHOTOS)
def test_bad_photos(capsys, photo):
    make_inputs()
    before = sorted(Path().rglob("*"))
    assert run(photo, "--out", "out.png", "--save", "out.npz") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"torchlime: {BAD_PHOTOS[photo]}")
    assert len(captured.err.splitlines()) == 1
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("command", BAD_COMMANDS)
def test_bad_commands(capsys, monkeypatch, command):
    if command.endswith("cuda") and torch.cuda.is_available():
        pytest.skip("there is one")
    if "timm" in command:
        pytest.importorskip("timm")
    make_inputs()
    before = sorted(Path().rglob("*"))
    assert run("good.png", *command.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"torchlime: {BAD_COMMANDS[command]}")
    assert len(captured.err.splitlines()) == 1
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    "flag", ["model", "weights", "out", "save", "config", "output", "target", "seed"]
)
@pytest.mark.parametrize("value", ["", "="])
def test_empty_values(capsys, flag, value):
    photo = save_photo("a.png")
    assert run(photo, *([f"--{flag}="] if value else [f"--{flag}", ""])) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"torchlime: --{flag}: it needs a ")
    assert len(error.splitlines()) == 1
    assert os.listdir() == ["a.png"]


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "P", "LA", "1"])
def test_photos_of_every_mode_are_explained(mode):
    image = Image.linear_gradient("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image, np.uint16) * 257)
    else:
        image = image.convert(mode)
    name = f"photo.{'tiff' if mode == 'CMYK' else 'png'}"
    image.save(name)
    assert run(name) == 0
    assert read_png("explanation.png").shape[2] > 2 * 256


def test_an_animation_and_a_single_pixel():
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "blue")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1), "red").save("pixel.png")
    assert run("moving.gif", "pixel.png", "--out", "{photo}.out.png") == 0
    assert read_png("pixel.out.png").shape[2] > 2 * 16  # enlarged, to be seen at all


def test_a_rotated_photo_is_drawn_upright(capsys):
    image = Image.new("RGB", (40, 20), "grey")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save("turned.jpg", exif=exif)
    assert run("turned.jpg", "--json") == 0
    assert json.loads(capsys.readouterr().out)["photos"][0]["size"] == [20, 40]


def test_an_output_that_fails_while_it_is_written(capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    photo = save_photo("a.png")
    monkeypatch.setattr(os, "replace", full)
    assert run(photo, "--out", "out.png") == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "out.png" in error
    assert os.listdir() == ["a.png"]


def test_a_model_that_fails_on_every_photo(capsys):
    assert run("--model", "tests.tiny:broken", save_photo("a.png"), save_photo("b.png")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "torchlime: a.png: KeyError: 'head'",
        "torchlime: b.png: KeyError: 'head'",
    ]
    assert sorted(os.listdir()) == ["a.png", "b.png"]


def test_a_folder_that_does_not_allow_writing(capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run(save_photo("a.png")) == 2
    assert "it is not a file name in a writable folder" in capsys.readouterr().err
