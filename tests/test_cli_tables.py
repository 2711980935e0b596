"""``torchlime explain-table``: what is printed and written, and a sentence for what is wrong."""

import json
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pandas
import pytest
import skops.io
from sklearn import linear_model, svm

from tests import estimators
from tests.environments import ROOT, command
from tests.pictures import read_png
from torchlime import Background, Explanation, cli, explain_table
from torchlime.cli.csvs import chosen, rows_of

PEOPLE = ("people.csv", "--model", "people.skops", "--target-column", "label", "--samples", 400)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimators.write_all()
    return tmp_path


def run(*arguments):
    return cli.main(["explain-table", *map(str, arguments)])


def refused(capsys, *arguments):
    """The sentence that refuses the arguments."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert not Path("explanations").exists()
    return line.removeprefix("torchlime: ")


# What is printed and written


def test_rows_their_pictures_and_their_settings(capsys):
    assert run(*PEOPLE, "--rows", "0:3,7", "--out", "found/here") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert [line.split(" ")[1] for line in lines] == ["0", "1", "2", "7", "found/here"]
    assert sorted(os.listdir("found/here")) == sorted(
        f"row-{row}.{kind}" for row in (0, 1, 2, 7) for kind in ("png", "npz", "json")
    )
    record = json.loads(Path("found/here/row-7.json").read_text())
    table = estimators.people()
    assert (record["row"], record["label"]) == (7, table["label"][7])
    assert record["values"]["town"] == table["town"][7]
    assert record["settings"]["samples"] == 400
    (target,) = record["targets"]
    assert record["features"][1] == f"town={table['town'][7]}"
    assert lines[3].endswith(": " + ", ".join(
        f"{record['features'][i]} {target['coefficients'][i]:+.3g}" for i in target["strongest"]
    ))  # fmt: skip
    assert read_png("found/here/row-7.png").float().std() > 10


def test_the_numbers_are_those_of_explain_table(capsys):
    assert run(*PEOPLE, "--target", "yes", "--rows", "3", "--seed", 5, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    table = estimators.people().drop(columns="label")
    expected = explain_table(
        estimators.of_people(), table[3:4], Background.of(table), 1, num_samples=400, seed=5
    )
    (target,) = document["rows"][0]["targets"]
    assert target["category"] == "yes"
    np.testing.assert_allclose(target["coefficients"], expected.coefficients[0, 0], atol=1e-12)
    saved = Explanation.load("explanations/row-3.npz")
    assert saved.names() == expected.names()
    assert json.loads(saved.settings["command"])["target-column"] == "label"


def test_several_targets_have_files_of_their_own(capsys):
    assert run(*PEOPLE, "--target", "yes", "--target", "0", "--rows", "0") == 0
    pictures = {path.name for path in Path("explanations").glob("*.png")}
    assert pictures == {"row-0.1-yes.png", "row-0.0-no.png"}
    values = [
        json.loads(Path(f"explanations/row-0.{name}.json").read_text())["targets"][0][
            "coefficients"
        ]
        for name in ("1-yes", "0-no")
    ]
    np.testing.assert_allclose(values[0], np.negative(values[1]), atol=1e-9)
    assert run(*PEOPLE, "--top", 2, "--rows", "1") == 0
    assert len(list(Path("explanations").glob("row-1.*.png"))) == 2


def test_a_missing_value_is_null_and_a_bin(capsys):
    assert run(*PEOPLE, "--rows", "17") == 0
    record = json.loads(Path("explanations/row-17.json").read_text())
    assert record["values"]["income"] is None
    assert record["features"][2] == "income is missing"


def test_training_data_of_ones_own(capsys):
    estimators.people(50, seed=1).drop(columns="label").to_csv("new.csv", index=False)
    arguments = ("--model", "people.skops", "--target-column", "label", "--samples", 300)
    assert run("new.csv", *arguments, "--background", "people.csv", "--rows", 4, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    table = estimators.people(50, seed=1).drop(columns="label")
    background = Background.of(estimators.people().drop(columns="label"))
    best = int(estimators.of_people().predict_proba(table[4:5]).argmax())
    expected = explain_table(estimators.of_people(), table[4:5], background, best, num_samples=300)
    np.testing.assert_allclose(
        row["targets"][0]["coefficients"], expected.coefficients[0, 0], atol=1e-12
    )
    assert row["label"] is None


def test_words_that_look_like_numbers_in_one_of_the_files(capsys):
    """A column of words stays one where the few rows to explain hold digits alone."""
    table = pandas.DataFrame({"plan": ["12", "7", "free"] * 20, "first": np.arange(60.0)})
    table.to_csv("train.csv", index=False)
    table[:2].to_csv("new.csv", index=False)
    assert run("new.csv", "--background", "train.csv", "--model", "tests.estimators:first_column",
               "--samples", 100) == 0  # fmt: skip
    assert "plan=12" in capsys.readouterr().out


@pytest.mark.parametrize("bins", ["quartiles", "deciles", "entropy", "none"])
def test_every_kind_of_bins(bins, capsys):
    estimators.people().dropna().to_csv("people.csv", index=False)
    assert run(*PEOPLE, "--bins", bins, "--rows", "0", "--target", "yes") == 0
    record = json.loads(Path("explanations/row-0.json").read_text())
    named = "age" in record["features"]
    assert named == (bins == "none")
    assert run(*PEOPLE, "--bins", bins, "--categorical", "age", "--rows", "0") == 0
    record = json.loads(Path("explanations/row-0.json").read_text())
    assert record["features"][0] == f"age={record['values']['age']}" or bins == "none"


@pytest.mark.parametrize(
    ("model", "frames"),
    [("network", False), ("first_column", False), ("older", True), ("fitted", False)],
)
def test_models_of_ones_own(model, frames, capsys):
    data = estimators.numbers_csv()
    if frames:
        estimators.people().dropna().to_csv(data, index=False)
    flags = ["--frames", "--target-column", "label"] if frames else []
    assert run(data, "--model", f"tests.estimators:{model}", "--rows", "0:2", *flags,
               "--samples", 200) == 0  # fmt: skip
    assert capsys.readouterr().out.count("\n") == 3


def test_a_configuration_file(capsys):
    Path("run.toml").write_text(
        'model = "people.skops"\ntarget-column = "label"\nsamples = 200\nrows = "2"\n'
    )
    assert run("people.csv", "--config", "run.toml") == 0
    assert {path.stem for path in Path("explanations").iterdir()} == {"row-2"}


def test_a_semicolon(capsys):
    table = estimators.people()
    table.to_csv("semi.csv", sep=";", index=False)
    arguments = ("--model", "people.skops", "--target-column", "label", "--samples", 200)
    assert "--separator ';'" in refused(capsys, "semi.csv", *arguments)
    assert run("semi.csv", *arguments, "--separator", ";", "--rows", 0) == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"first,second\n1,2,3\n4,5,6\n", "its rows have more values than its head has names"),
        (b"first,second\n1,2\n4,5,6\n", "Expected 2 fields in line 3, saw 3"),
        (b"first,first\n1,2\n4,5\n", "two of its columns are called 'first'"),
        (b"\xef\xbb\xbffirst,first\n1,2\n", "two of its columns are called 'first'"),
        ("first,zweite Größe\n1,2\n".encode("latin-1"), "it is not UTF-8; save it as UTF-8"),
    ],
)
def test_values_that_would_come_under_other_names(content, expected, capsys):
    Path("table.csv").write_bytes(content)
    sentence = refused(capsys, "table.csv", "--model", "tests.estimators:first_column")
    assert sentence.startswith("table.csv cannot be read as a table: ")
    assert expected in sentence


@pytest.mark.parametrize("end", ["\n", ",\n"])
def test_a_byte_order_mark_and_a_comma_at_the_end_of_each_row(end, capsys):
    rows = "".join(f"{n},{n % 3}{end}" for n in range(20))
    Path("table.csv").write_text(f"first,second\n{rows}", encoding="utf-8-sig")
    arguments = ("--model", "tests.estimators:first_column", "--samples", 100, "--rows", 7)
    assert run("table.csv", *arguments, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["values"] == {"first": 7, "second": 1}
    assert row["targets"][0]["score"] == 7


def test_a_row_without_a_label(capsys):
    table = estimators.people()
    table.loc[0, "label"] = None
    table.to_csv("people.csv", index=False)
    assert run(*PEOPLE, "--rows", "0:2", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["label"] for row in rows] == [None, table["label"][1]]


def test_a_column_whose_words_come_late(capsys):
    late = pandas.DataFrame({"first": range(1200), "word": [None] * 1100 + ["1", "x"] * 50})
    late.to_csv("late.csv", index=False)
    pandas.DataFrame({"first": [3], "word": [1]}).to_csv("new.csv", index=False)
    arguments = ("--background", "late.csv", "--model", "tests.estimators:first_column")
    assert run("new.csv", *arguments, "--samples", 100, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["features"][1] == "word=1"


def test_a_label_that_is_a_number_comes_before_a_place(capsys):
    x = np.random.default_rng(0).normal(size=(90, 2))
    model = linear_model.LogisticRegression().fit(x, np.repeat([1, 2, 3], 30))
    skops.io.dump(model, "m.skops")
    arguments = (estimators.numbers_csv(), "--model", "m.skops", "--rows", 0, "--samples", 100)
    assert run(*arguments, "--target", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["targets"][0]["index"] == 0
    assert run(*arguments, "--target", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["targets"][0]["category"] == "1"


# Trust


def test_no_pickle_is_loaded_without_trust(capsys):
    for name in ("evil.joblib", "evil.pkl", "EVIL.PICKLE"):
        with open(name, "wb") as file:
            pickle.dump(estimators.Evil(), file)
        said = refused(capsys, "people.csv", "--model", name)
        assert "can run any code of whoever wrote" in said
        assert "--trust" in said
        assert not Path("evil").exists()
    assert run("people.csv", "--model", "evil.pkl", "--trust") == 2
    assert Path("evil").exists()  # it is what the sentence says


def test_a_pickle_that_is_trusted_is_as_the_skops_file(capsys):
    assert run(*PEOPLE, "--rows", "0") == 0
    first = capsys.readouterr().out
    assert run(*PEOPLE, "--rows", "0", "--model", "people.joblib", "--trust") == 0
    assert capsys.readouterr().out == first


def test_types_of_a_skops_file_are_checked(capsys):
    skops.io.dump(estimators.forest(), "forest.skops")
    data = estimators.numbers_csv()
    arguments = (data, "--model", "forest.skops", "--samples", 100)
    said = refused(capsys, *arguments)
    assert "sklearn.tree._tree.Tree" in said
    assert "--trust-type" in said
    refused(capsys, *arguments, "--trust-type", "another.Type")
    assert run(*arguments, "--trust-type", "sklearn.tree._tree.Tree") == 0
    assert run(*arguments, "--trust") == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", pickle.dumps([1])])
def test_a_file_that_is_no_skops_file(content, capsys):
    Path("m.skops").write_bytes(content)
    said = refused(capsys, "people.csv", "--model", "m.skops", "--trust")
    assert said.startswith("m.skops is no skops file, or is damaged")


def test_a_pickle_that_is_none(capsys):
    Path("m.joblib").write_bytes(b"nothing")
    said = refused(capsys, "people.csv", "--model", "m.joblib", "--trust")
    assert said.startswith("m.joblib could not be loaded as a pickle")


# What is wrong


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.csv"], "there is no table none.csv"),
        (["."], ". is a folder, not a table"),
        (["empty.csv"], "empty.csv cannot be read as a table: No columns to parse"),
        (["head.csv"], "head.csv has no rows below its head"),
        (["ragged.csv"], "ragged.csv cannot be read as a table: Error tokenizing data"),
        (["latin.csv"], "latin.csv cannot be read as a table: it is not UTF-8"),
        (["people.csv", "--rows", "200"], "--rows: there is no row 200; the table has the rows 0"),
        (["people.csv", "--rows", "300:400"], "--rows: there is no row 300:400"),
        (["people.csv", "--rows", "a:b"], "--rows: 'a:b' is no row and no range"),
        (["people.csv", "--target", "maybe"], "--target: there is no class 'maybe'"),
        (["people.csv", "--target", "7"], "--target: there is no class 7 among 2"),
        (["people.csv", "--top", "3"], "--top: the model has only 2 classes"),
        (["people.csv", "--top", "1", "--target", "no"], "--top and --target exclude each other"),
        (["people.csv", "--target-column", "lable"],
         "--target-column: there is no column 'lable'; did you mean label?"),
        (["people.csv", "--drop", "x"], "--drop: there is no column 'x'"),
        (["people.csv", "--categorical", "x"], "--categorical: there is no column 'x'"),
        (["people.csv", "--drop", "town"],
         "the model takes other columns than the table has: it lacks 'town'"),
        (["people.csv", "--background", "other.csv"],
         "people.csv has other columns than other.csv: it lacks 'weight', it has besides 'town'"),
        (["people.csv", "--bins", "thirds"], "--bins: 'thirds' is none of quartiles, deciles"),
        (["people.csv", "--bins", "none"],
         "--background: people.csv: values of the column 'income' are missing"),
        (["people.csv", "--model", "people.h5"], "the model of a table or of texts must be a"),
        (["people.csv", "--model", "none.skops"], "there is no model none.skops"),
        (["people.csv", "--model", "tests.estimators:nothing"],
         "tests.estimators:nothing returned a int, which is no model"),
        (["people.csv", "--model", "tests.estimators:nobody"],
         "module tests.estimators has no function 'nobody'"),
        (["people.csv", "--out", "people.csv"], "--out: people.csv is a file"),
        (["people.csv", "--separator", ", "], "--separator: ', ' is not one sign"),
    ],
)  # fmt: skip
def test_a_sentence_each(arguments, expected, capsys):
    Path("empty.csv").write_text("")
    Path("head.csv").write_text("a,b\n")
    Path("ragged.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    Path("latin.csv").write_bytes("a,b\nZürich,1\n".encode("latin-1"))
    table = estimators.people().rename(columns={"town": "weight"})
    table.to_csv("other.csv", index=False)
    flags = ["--model", "people.skops", "--target-column", "label"]
    if arguments[0] not in ("people.csv",):
        flags = flags[:2]
    said = refused(capsys, arguments[0], *flags, *arguments[1:])
    assert expected in said


def test_a_model_has_to_be_named(capsys):
    assert refused(capsys, "people.csv") == "--model: name a model"


def test_entropy_needs_the_classes(capsys):
    flags = ("--model", "tests.estimators:first_column", "--bins", "entropy")
    assert "--target-column" in refused(capsys, estimators.numbers_csv(), *flags)


def test_a_model_without_probabilities(capsys):
    skops.io.dump(estimators.of_numbers(svm.LinearSVC), "svc.skops")
    said = refused(capsys, estimators.numbers_csv(), "--model", "svc.skops")
    assert said.startswith("LinearSVC predicts classes and has no predict_proba")


def test_a_model_that_ends_the_program(capsys):
    flags = ("--model", "tests.estimators:ends")
    said = refused(capsys, estimators.numbers_csv(), *flags)
    assert said == "the model ended the program when called (SystemExit(3))"
    assert cli.main(["job-table", "numbers.csv", *flags, "--out", "out"]) == 2
    assert said in capsys.readouterr().err


def test_a_model_of_no_classes_has_outputs(capsys):
    flags = ("--model", "tests.estimators:first_column", "--samples", 100, "--rows", 0)
    assert run(estimators.numbers_csv(), *flags) == 0
    assert " output 0: " in capsys.readouterr().out
    skops.io.dump(estimators.of_numbers(linear_model.Ridge), "ridge.skops")
    assert run("numbers.csv", *flags, "--model", "ridge.skops") == 0
    assert " output 0: " in capsys.readouterr().out


def test_an_unknown_category_fails_its_row_alone(capsys):
    table = estimators.people(4, seed=2)
    table.loc[1, "town"] = "Rome"
    table.to_csv("new.csv", index=False)
    arguments = ("--model", "people.skops", "--background", "people.csv", "--samples", 200)
    assert run("new.csv", *arguments, "--target-column", "label", "--json") == 1
    captured = capsys.readouterr()
    rows = json.loads(captured.out)["rows"]
    assert [row["row"] for row in rows] == [0, 1, 2, 3]
    assert [("error" in row) for row in rows] == [False, True, False, False]
    assert captured.err == (
        "torchlime: row 1: 'Rome' is not in the column 'town' of the background, "
        "which has Bern, Graz, Ulm\n"
    )
    assert not Path("explanations/row-1.npz").exists()


def test_a_folder_that_cannot_be_made(capsys):
    Path("file").touch()
    assert run(*PEOPLE, "--rows", 0, "--out", "file/inside") == 2
    line = "torchlime: cannot make the folder file/inside: Not a directory\n"
    assert capsys.readouterr().err == line


def test_no_file_that_is_read_is_overwritten(capsys):
    os.mkdir("explanations")
    os.rename("people.csv", "explanations/row-0.json")
    Path("people.csv").symlink_to("explanations/row-0.json")
    before = Path("people.csv").read_bytes()
    assert run(*PEOPLE, "--rows", "0") == 2
    assert "this call reads that file" in capsys.readouterr().err
    assert Path("people.csv").read_bytes() == before


def test_rows_that_are_asked_for_twice():
    assert chosen(rows_of("3, 2:5,:1"), 10) == [3, 2, 4, 0]
    assert chosen(rows_of(":"), 3) == [0, 1, 2]
    assert chosen(rows_of("8:100"), 10) == [8, 9]


def test_with_the_extra_of_tables_alone():
    code = "import sys; from torchlime import cli; sys.exit(cli.main(sys.argv[1:]))"
    arguments = command(code, ["tables"], "explain-table", *map(str, PEOPLE), "--rows", "0")
    run = subprocess.run(arguments, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert Path("explanations/row-0.png").exists()
