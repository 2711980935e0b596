"""Samples by need from the command line, in jobs, on the page and in the logger."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from tests import estimators
from tests.jobs.folder import rows
from tests.test_cli import save_photo
from torchlime import Explanation, Lime, cli, jobs, methods
from torchlime._reading import mean_samples_in_words
from torchlime.cli.meanings import SURROGATES
from torchlime.cli.sentences import in_flags
from torchlime.fills import Constant
from torchlime.folders import RECORD
from torchlime.jobs.record import note, record_of
from torchlime.jobs.store import Store
from torchlime.masks import Bernoulli
from torchlime.models import load, read_photo
from torchlime.rounds import GOOD, MOST, Once, Until, UntilFirst
from torchlime.segments import Grid
from torchlime.training import ExplanationLogger

PHOTO = ["--model", "tests.tiny:bright", "--segments", "4", "--segmenter", "grid", "--fill", "0"]
IMAGE_METHODS = [name for name in methods.names() if methods.get(name).takes == "images"]
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
    assert document["settings"]["most-samples"] == MOST
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
    assert "65 samples, still less sure than asked" in captured.out
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


# ---- By default ----------------------------------------------------------------------------------


def settings_and_photo(capsys):
    document = json.loads(capsys.readouterr().out)
    (photo,) = document["photos"]
    told = document["settings"]
    return {name: told[name] for name in ("samples", "until", "most-samples")}, photo


def test_a_photo_takes_what_it_needs_where_nobody_says_how_many(capsys):
    assert explain("--save", "e.npz", "--json") == 0
    told, photo = settings_and_photo(capsys)
    assert told == {"samples": None, "until": GOOD.error, "most-samples": GOOD.most}
    settings = {"segmenter": Grid(2, 2), "sampler": Bernoulli(), "fill": Constant(0.0)}
    classifier = load("tests.tiny:bright")
    pixels = classifier.preprocess(read_photo("red.png"))
    expected = Lime(**settings, rounds=UntilFirst(**vars(GOOD))).explain(classifier, pixels, top=3)
    saved = Explanation.load("e.npz")
    assert torch.equal(saved.coefficients, expected.coefficients)
    assert photo["samples_used"] == expected.samples_used.item() == 65
    assert saved.settings["num_samples"] == GOOD.most  # not Lime's number, which is not used
    assert explain() == 0
    assert ", 65 samples):" in capsys.readouterr().out


def test_a_hard_photo_is_given_up_at_the_most(capsys):
    assert explain("--fill", "mean", "--most-samples", 97, "--target", 2, "--json") == 0
    told, photo = settings_and_photo(capsys)
    assert told == {"samples": None, "until": GOOD.error, "most-samples": 97}
    rule = Until(error=GOOD.error, most=97)
    settings = {"segmenter": Grid(2, 2), "sampler": Bernoulli()}
    classifier = load("tests.tiny:bright")
    pixels = classifier.preprocess(read_photo("red.png"))
    expected = Lime(**settings, rounds=rule).explain(classifier, pixels, 2)
    assert photo["samples_used"] == expected.samples_used.item()
    assert photo["sure"] == bool(expected.sure)


def test_the_classes_that_are_only_listed_need_not_be_sure(capsys):
    """The best class is nearly linear; it takes as many rows as it takes alone."""
    Path("uneven.py").write_text(
        "import torch\n"
        "class Uneven(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        g = x.mean((1, 2, 3))\n"
        "        return torch.stack([9 + g, (400 * g).sin(), (900 * g).sin()], dim=1)\n"
        "build = Uneven\n"
    )
    model = ["--model", "uneven:build", "--output", "none", "--save", "e.npz", "--json"]
    used, numbers = {}, {}
    for words in ("", "--target 0", "--top 3"):
        assert explain(*model, *words.split()) == 0
        (photo,) = json.loads(capsys.readouterr().out)["photos"]
        used[words], numbers[words] = photo["samples_used"], photo["targets"]
        assert photo["sure"]
    assert used[""] == used["--target 0"] < used["--top 3"]
    assert [len(numbers[words]) for words in used] == [3, 1, 3]
    sure = [[target["sure"] for target in numbers[words]] for words in used]
    assert sure == [[True, None, None], [True], [True, True, True]]
    (alone,) = numbers["--target 0"]
    first = {name: numbers[""][0][name] for name in ("coefficients", "standard_errors")}
    assert first == {name: alone[name] for name in first}
    del sys.modules["uneven"]


@pytest.mark.parametrize("surrogate", ["lasso", "lasso:0.3"])
def test_what_cannot_stop_early_takes_a_fixed_number(capsys, surrogate):
    assert explain("--surrogate", surrogate, "--json") == 0
    told, photo = settings_and_photo(capsys)
    assert told == {"samples": 512, "until": None, "most-samples": None}
    assert (photo["samples_used"], photo["sure"]) == (512, True)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("lime", "num_samples=1000, fill=Constant(value=0.0), .*rounds=Once()"),
        ("leave-one-out", "num_samples=4096, .*rounds=Once()"),
        ("bayeslime", "rounds=UntilFirst(error=0.25, top=None, absolute=None, most=2048"),
    ],
)
def test_a_method_keeps_its_own_number(capsys, name, part):
    command = ["explain", *PHOTO, "--method", name, "--json", save_photo("red.png")]
    assert cli.main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert re.search(re.escape(part).replace(r"\.\*", ".*"), document["explainer"])
    assert document["settings"]["samples"] is None


def test_several_photos_are_told_together(capsys):
    photos = [save_photo(f"{n}.png", (255, 100 * n, 0)) for n in range(3)]
    assert cli.main(["explain", *PHOTO, "--out", "o/", *photos, "--samples", "16"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 photos, 16 samples"
    assert cli.main(["explain", *PHOTO, "--out", "o/", *photos, "--fill", "mean"]) == 0
    used = [json.loads(path.read_text())["samples_used"] for path in Path("o").glob("*.json")]
    assert capsys.readouterr().out.splitlines()[-1] == f"3 photos, {mean_samples_in_words(used)}"


def test_every_help_says_how_many_samples(capsys):
    for command, words in {
        "explain": [
            "at most 25% of their length, 2048 at most",
            "512 with lasso",
            "(default: 2048",
        ],
        "job": ["at most 25% of their length, 2048 at most", "512 with lasso"],
        "explain-table": ["was not measured", "(default: 5000)", "(default: 2048)"],
        "explain-text": ["was not measured", "(default: 1000)", "(default: 2048)"],
        "job-table": ["was not measured", "(default: 5000)"],
    }.items():
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        for word in words:
            assert word in told, (command, word)


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
    assert "(97 samples, still less sure than asked" in capsys.readouterr().out


def job(*arguments):
    pytest.importorskip("pyarrow")
    if not Path("photos").exists():
        Path("photos").mkdir()
        for place in range(3):
            save_photo(f"photos/{place}.png", (255, 80 * place, 0))
    return cli.main(
        ["job", "photos", "--out", "out", "--workers", "0", *PHOTO, *map(str, arguments)]
    )


def test_jobs_tell_the_samples_of_every_row(capsys):
    assert job(*BERNOULLI, "--until", "1e-9", "--most-samples", "100") == 0
    assert (
        "the photos of this run took 97 samples, which were too few to be sure for 3 of 3"
        in capsys.readouterr().out
    )
    found = jobs.read("out")
    assert len(found) == 3
    for explanation in found.values():
        assert explanation.samples_used.tolist() == [97]
        assert explanation.sure.tolist() == [False]
        assert explanation.reasons() != [[]]
    assert cli.main(["report", "out", "--out", "r.html"]) == 0
    page = Path("r.html").read_text()
    assert "with 97 samples, which were too few to be sure for 3 of 3.</p>" in page
    assert page.count("97 samples, still less sure than asked") == 3


def test_a_job_takes_what_each_photo_needs(capsys):
    assert job() == 0
    told = capsys.readouterr().out
    found = jobs.read("out")
    used = [int(e.samples_used) for e in found.values()]
    assert f"the photos of this run took {mean_samples_in_words(used)}" in told
    assert max(used) < 512
    assert found.settings["rounds"] == repr(GOOD)
    assert "num_samples" not in found.settings  # it is not used
    assert {e.settings["num_samples"] for e in found.values()} == {str(GOOD.most)}
    assert job() == 0  # it goes on
    assert "0 explained; 3 were there already" in capsys.readouterr().out
    assert job("--samples", 64) == 2
    assert "--samples: as many as are needed, not 64" in capsys.readouterr().err
    assert cli.main(["report", "out", "--out", "r.html"]) == 0
    assert f"with {mean_samples_in_words(used)}.</p>" in Path("r.html").read_text()


def test_a_job_in_python_takes_what_each_photo_needs():
    assert job("--samples", 16) == 0
    classifier = load("tests.tiny:bright")
    jobs.run("photos", "py", classifier, engine=jobs.Local(workers=0))
    assert jobs.read("py").settings["rounds"] == repr(GOOD)
    lime = Lime()
    jobs.run("photos", "fixed", classifier, lime, engine=jobs.Local(workers=0))
    before = Path("fixed", RECORD).read_text()
    Path("photos/2.png").rename("photos/3.png")
    said = []
    jobs.run("photos", "fixed", classifier, engine=jobs.Local(workers=0), say=said.append)
    assert "each photo takes 512 samples, as when the job was begun" in said
    assert Path("fixed", RECORD).read_text() == before  # settings and photos as they were
    assert {int(e.samples_used) for e in jobs.read("fixed").values()} == {512}


def earlier(settings):
    """Let the record of the job be one of an earlier version, which had also such settings."""
    before = record_of(Path("out"))
    note(Path("out"), before._replace(settings={**before.settings, **settings}))


def begun_earlier():
    """A job whose number of samples nobody named, as an earlier version left it."""
    assert job("--samples", 512) == 0
    settings = record_of(Path("out")).settings
    assert settings["num_samples"] == "512"
    assert "rounds" not in settings
    Path("photos/2.png").rename("photos/3.png")


def test_a_job_of_an_earlier_version_goes_on_as_it_began(capsys):
    begun_earlier()
    capsys.readouterr()
    assert job() == 0
    out = capsys.readouterr().out
    assert "each photo takes 512 samples, as when the job was begun" in out
    assert "1 explained; 2 were there already" in out
    assert {int(e.samples_used) for e in jobs.read("out").values()} == {512}
    assert {json.loads(r["settings"])["rounds"] for r in rows("out").values()} == {"Once()"}
    assert job("--until", 0.2) == 2
    told = (
        "--samples: 512, not as many as are needed; --until: a fixed number of samples, not Until("
    )
    assert told in capsys.readouterr().err


def test_a_job_of_an_earlier_version_begun_anew_takes_what_photos_need(capsys, monkeypatch):
    begun_earlier()
    stop = Store.complete
    monkeypatch.setattr(Store, "complete", lambda self: 1 / 0)  # killed at the end
    assert job("--overwrite") == 2
    monkeypatch.setattr(Store, "complete", stop)
    assert {int(e.samples_used) for e in jobs.read("out").values()} == {512}
    capsys.readouterr()
    assert job() == 0  # goes on with what was begun anew, not with what is there
    assert "each photo takes 512" not in capsys.readouterr().out
    assert max(int(e.samples_used) for e in jobs.read("out").values()) < 512
    assert jobs.read("out").settings["rounds"] == repr(GOOD)


def test_a_damaged_record_of_an_earlier_version_is_repaired(capsys):
    begun_earlier()
    Path("out", RECORD).write_text("{")
    assert job("--repair") == 0
    assert "1 explained; 2 were there already" in capsys.readouterr().out
    assert record_of(Path("out")).settings["num_samples"] == "512"


def test_a_rule_of_an_earlier_version_goes_on(capsys):
    assert job("--until", 0.3) == 0
    Path("photos/2.png").rename("photos/3.png")
    earlier({"num_samples": "512"})  # Lime's number, which is not used
    assert job("--until", 0.3) == 0
    assert "1 explained; 2 were there already" in capsys.readouterr().out


def test_another_number_than_that_of_a_job_is_refused(capsys):
    assert job("--samples", 32) == 0
    assert job() == 2
    told = (
        "--samples: 32, not as many as are needed; --until: a fixed number of samples, not Until("
    )
    assert told in capsys.readouterr().err


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

    assert {*panels.UNTIL, "fixed"} == {*panels.SURE}
    for rule in panels.UNTIL.values():
        choices = {"until": rule.error, "most-samples": rule.most, "samples": 32, "segments": 20}
        assert explaining.explainer_with({**choices, "sampler": "bernoulli"}).rounds == rule
    assert explaining.explainer_with({"until": None, "samples": 64}).rounds == Once()
    good = panels.UNTIL["good"]
    assert explaining.explainer_with({}).rounds == good  # as the command line
    assert explaining.explainer_with({"until": 0.2, "samples": 32, "segments": 50}).rounds.error
    with pytest.raises(ValueError, match="32 samples are too few for 50 segments"):
        explaining.explainer_with({"samples": 32, "segments": 50})


@pytest.mark.parametrize("name", [None, *IMAGE_METHODS])
@pytest.mark.parametrize("surrogate", ["ridge", "lasso"])
def test_the_page_knows_what_stops_early(name, surrogate):
    pytest.importorskip("streamlit")
    from torchlime.app import explaining

    made = methods.get(name)() if name else Lime(surrogate=SURROGATES[surrogate]())
    stops = explaining.stops(name, "orthogonal", surrogate)
    if "rounds" in getattr(methods.get(name) if name else None, "fixes", ()):
        assert not stops
        return
    if isinstance(made.rounds, Until) and made.rounds.error is None:  # a rule of its own
        assert not stops
        choices = {"method": name, "samples": 64, "until": None, "most-samples": None}
        assert explaining.explainer_with(choices).rounds == made.rounds
        return
    try:
        dataclasses.replace(made, rounds=GOOD)
    except (TypeError, ValueError):
        assert not stops
    else:
        assert stops


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--until", "0.2", "--samples", "100"], "--until and --samples exclude each other"),
        (
            ["--samples", "100", "--most-samples", "100"],
            "--samples and --most-samples exclude each other",
        ),
        (
            ["--until", "0.2", "--surrogate", "lasso"],
            "--until needs standard errors, which lasso does not give",
        ),
        (
            ["--most-samples", "99", "--surrogate", "lasso"],
            "--most-samples needs standard errors, which lasso does not give",
        ),
        (["--config", "both.toml"], "--until and --samples exclude each other"),
        (["--config", "fixed.toml"], "--samples and --most-samples exclude each other"),
        (["--most-samples", "20"], "--most-samples 20 are too few for --segments 4: .* after 65 "),
        (
            ["--most-samples", "100", "--segments", "40", "--sampler", "orthogonal"],
            "--most-samples 100 are too few for --segments 40: .* after 128 ",
        ),
        (["--segments", "1100"], "--most-samples 2048 are too few for --segments 1100: .* 2209 "),
        (["--samples", "4"], "--samples 4 are too few for --segments 4"),
        (["--surrogate", "lasso", "--segments", "600"], "--samples 512 are too few for --segments"),
    ],
)
def test_flags_that_do_not_go_together(capsys, flags, sentence):
    Path("both.toml").write_text("samples = 100\nuntil = 0.2\n")
    Path("fixed.toml").write_text("samples = 100\nmost-samples = 200\n")
    assert explain(*flags) == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_a_flag_is_stronger_than_the_file(capsys):
    Path("c.toml").write_text("samples = 100\n")
    for flags, most in (("--until", "0.25"), MOST), (("--most-samples", "200"), 200):
        assert explain("--config", "c.toml", *flags, "--json") == 0
        told, _ = settings_and_photo(capsys)
        assert told == {"samples": None, "until": 0.25, "most-samples": most}
    assert explain("--config", "c.toml", "--json") == 0
    (photo,) = json.loads(capsys.readouterr().out)["photos"]
    assert photo["samples_used"] == 100
    Path("d.toml").write_text("until = 0.3\nmost-samples = 200\n")
    assert explain("--config", "d.toml", "--samples", "16", "--json") == 0
    told, photo = settings_and_photo(capsys)
    assert told == {"samples": 16, "until": None, "most-samples": None}
    assert photo["samples_used"] == 16
    Path("e.toml").write_text("most-samples = 100\n")
    assert explain("--config", "e.toml", "--json") == 0
    assert settings_and_photo(capsys)[0]["most-samples"] == 100


def test_tables_and_texts_have_no_rule_by_default(capsys):
    estimators.write_all()
    people = ["explain-table", "people.csv", "--model", "people.skops", "--target-column", "label"]
    assert cli.main([*people, "--rows", "0", "--most-samples", "100"]) == 2
    assert "--most-samples goes with --until" in capsys.readouterr().err
    assert cli.main([*people, "--rows", "0", "--samples", "300", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["samples_used"] == 300


PYTHON = re.compile(
    r"num_samples|max_segments|num_segments|\bmost=|raise most"
    r"|\bUntil\(|Grid\(|\btop=|targets=|wider kernel"
)


@pytest.mark.parametrize(
    "command",
    [
        "explain red.png --method bayeslime --most-samples 20",
        "explain red.png --method slime --most-samples 20",
        "explain red.png --method kernel-shap --until 0.2 --most-samples 20",
        "explain red.png --method occlusion --samples 3",
        "explain red.png --method leave-one-out --samples 3",
        "explain red.png --method belief --samples 5",
        "explain red.png --sampler bernoulli --samples 5",
        "explain red.png --surrogate lasso --until 0.2",
        "explain red.png --segments 1 --target 99999",
        "explain red.png --samples 10000000000000",
        "explain red.png --segmenter grid --segments 1000",
        "explain-table people.csv --until 0.2 --most-samples 20",
        "explain-table people.csv --samples 3",
        "explain-table people.csv --bins none",
        "explain-text t.txt --until 0.2 --most-samples 20",
        "explain-text t.txt --samples 3",
        "explain-text one.txt",
        "job-table people.csv --out o --until 0.2 --most-samples 5",
    ],
)
def test_errors_speak_of_flags(capsys, command):
    estimators.write_all()
    save_photo("red.png")
    Path("t.txt").write_text("A good & cheap film")
    Path("one.txt").write_text("good")
    kind = command.split()[0].partition("-")[2]
    model = {
        "table": "--model people.skops --target-column label",
        "text": "--model texts.skops",
        "": "--model tests.tiny:bright",
    }[kind]
    few = ["--segments", "4"] if not kind and "--segments" not in command else []
    assert cli.main([*command.split(), *model.split(), *few]) != 0
    told = capsys.readouterr().err
    assert told.startswith("torchlime: ")
    assert not PYTHON.search(told), told


def test_warnings_speak_of_flags(capsys):
    photo = save_photo("red.png")
    assert cli.main(["explain", photo, "--model", "tests.tiny:bright", "--segments", "1"]) == 0
    told = capsys.readouterr().err
    assert told.startswith("torchlime: warning: ")
    assert "--segments" in told
    assert not PYTHON.search(told), told


@pytest.mark.parametrize(
    "sentence",
    [
        "/runs/num_samples/photo.jpg: no such file",
        "runs/top=3/net.pt: no such file",
        r"C:\num_samples\photo.jpg: no such file",
        "num_samples.csv: no such file",
        "bins=None.csv: no such file",
        "people.csv has no column 'num_samples'",
        "/data/run (max_segments)/red.jpg: no such file",
    ],
)
def test_paths_and_quoted_names_stay_as_they_are(sentence):
    assert in_flags(sentence) == sentence
