"""Samples by need from the command line, in jobs, on the page and in the logger."""

import json
import re
from pathlib import Path

import pytest
import torch

from tests import estimators
from tests.test_cli import save_photo
from torchlime import Explanation, Lime, cli
from torchlime.fills import Constant
from torchlime.masks import Bernoulli
from torchlime.rounds import Until
from torchlime.segments import Grid
from torchlime.training import ExplanationLogger

PHOTO = ["--model", "tests.tiny:bright", "--segments", "4", "--segmenter", "grid", "--fill", "0"]
BERNOULLI = ["--sampler", "bernoulli"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explain(*arguments):
    return cli.main(["explain", *PHOTO, *BERNOULLI, *map(str, arguments), save_photo("red.png")])


def test_a_photo_takes_what_it_needs(capsys):
    assert explain("--until", 0.25, "--save", "e.npz", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    (photo,) = document["photos"]
    assert document["settings"]["until"] == 0.25
    assert document["settings"]["most-samples"] == 4096
    saved = Explanation.load("e.npz")
    assert photo["samples_used"] == saved.samples_used.item()
    assert photo["samples_used"] % 32 == 1
    assert photo["sure"] is True
    assert explain("--samples", 16, "--json") == 0
    (fixed,) = json.loads(capsys.readouterr().out)["photos"]
    assert (fixed["samples_used"], fixed["sure"]) == (16, True)


def test_a_photo_that_is_not_sure_is_explained_all_the_same(capsys):
    assert explain("--until", 1e-9, "--most-samples", 70) == 0
    captured = capsys.readouterr()
    assert "65 samples, which are too few to be as sure as was asked" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--until", "0"], "--until: 0 is not a finite number above 0"),
        (["--until", "much"], "--until: 'much' is not a number"),
        (["--until", "0.2", "--most-samples", "1"], "--most-samples: .* at least 2"),
    ],
)
def test_bad_flags(capsys, flags, sentence):
    assert explain(*flags) == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_the_most_samples_may_be_below_the_first_look(capsys):
    assert explain("--until", 0.2, "--most-samples", 20) == 1
    assert "most=20 is below the first look, after 65 rows" in capsys.readouterr().err


def test_rows_and_texts(capsys):
    estimators.write_all()
    Path("t.txt").write_text("A good & cheap film")
    people = ["people.csv", "--model", "people.skops", "--target-column", "label"]
    table = ["explain-table", *people, "--rows", "0:3", "--until", "0.4", "--json"]
    assert cli.main(table) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert all(row["samples_used"] % 32 == 1 and row["sure"] for row in rows)
    text = ["explain-text", "t.txt", "--model", "texts.skops", "--until", "1e-9"]
    assert cli.main([*text, "--most-samples", "100"]) == 0
    assert "(97 samples, which are too few" in capsys.readouterr().out


def test_jobs_tell_the_samples_of_every_row():
    pytest.importorskip("pyarrow")
    from torchlime import jobs

    Path("photos").mkdir()
    for place in range(3):
        save_photo(f"photos/{place}.png", (255, 80 * place, 0))
    job = ["job", "photos", "--out", "out", *PHOTO, *BERNOULLI]
    assert cli.main([*job, "--until", "1e-9", "--most-samples", "100"]) == 0
    found = jobs.read("out")
    assert len(found) == 3
    for explanation in found.values():
        assert explanation.samples_used.tolist() == [97]
        assert explanation.sure.tolist() == [False]
        assert explanation.reasons() != [[]]


def test_the_logger_tells_the_mean_and_the_unsure():
    images = torch.rand(3, 1, 8, 8, generator=torch.manual_seed(0))
    lines = []
    settings = {"segmenter": Grid(2, 2), "fill": Constant(0.0), "sampler": Bernoulli()}
    explainer = Lime(**settings, rounds=Until(error=1e-9, most=70))

    def model(x):
        return (20 * x.mean((2, 3))).sin()

    ExplanationLogger(explainer, images, 0, lambda *line: lines.append(line)).log(model, 0)
    numbers = lines[0][2]
    assert (numbers["samples"], numbers["unsure"], numbers["unwell"]) == (65, 3, 0)
    assert numbers["fidelity"] == numbers["fidelity"]  # unsure images count


def test_the_page_offers_three_grades():
    pytest.importorskip("streamlit")
    from torchlime.app import explaining, panels

    assert panels.UNTIL.keys() == panels.SURE.keys()
    for until in panels.UNTIL.values():
        choices = {"until": until, "samples": 32, "segments": 20, "sampler": "bernoulli"}
        rounds = explaining.explainer_with(choices).rounds
        assert getattr(rounds, "error", None) == until
    assert explaining.explainer_with({"until": 0.2, "samples": 32, "segments": 50}).rounds.error
    with pytest.raises(ValueError, match="32 samples are too few for 50 segments"):
        explaining.explainer_with({"samples": 32, "segments": 50})


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--until", "0.2", "--samples", "100"], "--until and --samples exclude each other"),
        (["--most-samples", "100"], "--most-samples goes with --until"),
        (["--until", "0.2", "--surrogate", "lasso"], "^torchlime: Until needs standard errors"),
    ],
)
def test_flags_that_do_not_go_together(capsys, flags, sentence):
    assert explain(*flags) == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_a_flag_is_stronger_than_the_file(capsys):
    Path("c.toml").write_text("samples = 100\nmost-samples = 200\n")
    assert explain("--config", "c.toml", "--until", "0.25", "--json") == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["until"], settings["most-samples"]) == (0.25, 200)
    assert explain("--config", "c.toml", "--json") == 0
    (photo,) = json.loads(capsys.readouterr().out)["photos"]
    assert photo["samples_used"] == 100
