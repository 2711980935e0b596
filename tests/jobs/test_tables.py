"""Jobs of tables: the numbers of explain_table, whatever stops them, and a report with bars."""

import json
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from tests import estimators
from tests.jobs.folder import rows
from torchlime import Background, Explanation, TableLime, cli, explain_table, jobs
from torchlime.jobs import parts, report, tables
from torchlime.surrogates import Lasso, MarginalMean

pytest.importorskip("pyarrow")
INPUTS = ["age", "town", "income"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explainer(**settings):
    background = Background.of(estimators.people()[INPUTS])
    return TableLime(**{"background": background, "num_samples": 300} | settings)


def run(out="out", table=None, model=None, lime=None, **settings):
    table = estimators.people()[INPUTS] if table is None else table
    return jobs.run_table(
        table, out, model or estimators.of_people(), lime or explainer(), **settings
    )


def assert_same_results(ours, theirs):
    assert ours.keys() == theirs.keys()
    for number, row in ours.items():
        other = theirs[number]
        for name, value in row.items():
            if name in ("coefficients", "standard_errors", "scores", "intercepts", "fidelity"):
                np.testing.assert_allclose(value, other[name], atol=1e-9)
            elif isinstance(value, float):
                assert value == pytest.approx(other[name], abs=1e-9)
            else:
                assert value == other[name], name


class Stopping:
    """An estimator that fails in its second call of many rows."""

    def __init__(self):
        self.calls = 0
        self.classes_ = estimators.of_people().classes_

    def predict(self, frame):
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]

    def predict_proba(self, frame):
        self.calls += 1
        if self.calls > 6:
            raise RuntimeError("out of order")
        return estimators.of_people().predict_proba(frame)


def test_the_results_are_those_of_explain_table():
    table = estimators.people()
    labels = table["label"].tolist()
    assert run(labels=labels, top=2) == jobs.Summary(200, 0, 0, 0)
    expected = explain_table(
        estimators.of_people(), table[INPUTS], Background.of(table[INPUTS]), num_samples=300, top=2
    )
    found = jobs.read("out")
    assert list(found) == [str(number) for number in range(200)]
    for number in (0, 17, 199):
        ours, theirs = found[str(number)], expected[number]
        for name in ("coefficients", "standard_errors", "intercepts", "fidelity", "scores",
                     "local_predictions", "effective_samples", "targets"):  # fmt: skip
            torch.testing.assert_close(
                getattr(ours, name), getattr(theirs, name), atol=1e-9, rtol=0
            )
        assert ours.names() == theirs.names()
        assert (ours.unit, ours.kind) == (theirs.unit, theirs.kind)
        assert dict(ours.as_list()) == pytest.approx(dict(theirs.as_list()))
        row = found.row(str(number))
        assert row["class"] == labels[number]
        assert row["columns"] == INPUTS
        assert row["predicted_name"] == row["target_names"][0]
        ours.save("one.npz")
        assert Explanation.load("one.npz").as_list() == ours.as_list()


def test_numbers_without_bins_come_back():
    table = estimators.people().dropna()[["age", "income"]]
    lime = TableLime(background=Background.of(table, bins=None), num_samples=300)
    model = estimators.of_numbers().fit(table, (table["age"] > 50).to_numpy())
    run(table=table, model=model, lime=lime, rows=[3])
    ours, theirs = jobs.read("out")["3"], lime.explain(model, table[3:4])
    for name in ("coefficients", "vectors", "scale", "local_predictions"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-9, rtol=0)
    assert ours.kind == theirs.kind
    report.write("out", "page.html")
    assert "What counts" not in Path("page.html").read_text()


def test_a_job_in_pieces_is_as_one_of_a_piece(monkeypatch):
    run("whole")
    monkeypatch.setattr(tables, "AT_ONCE", 60)
    assert run(rows=[5, 199, 5]) == jobs.Summary(2, 0, 0, 0)
    with pytest.raises(RuntimeError, match="out of order"):
        run(model=Stopping())
    done = len(rows("out"))
    assert 2 < done < 200
    assert run() == jobs.Summary(200 - done, 0, done, 0)
    assert_same_results(rows("out"), rows("whole"))
    assert run() == jobs.Summary(0, 0, 200, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "another"}, "model: "),
        ({"weights": "12ab"}, "weights: "),
        ({"targets": [1]}, "targets: "),
        ({"lime": {"seed": 1}}, "seed: 0, not 1"),
        ({"lime": {"surrogate": Lasso(fraction=0.5)}}, "surrogate: "),
        ({"lime": {"background": Background.of(estimators.people(99)[INPUTS])}}, "background: "),
        ({"table": estimators.people(seed=3)[INPUTS]}, "table: "),
        ({"table": estimators.people()[INPUTS][::-1]}, "table: "),
    ],
)
def test_another_job_is_refused(change, told):
    run(rows=range(3))
    before = rows("out")
    if "lime" in change:
        change = change | {"lime": explainer(**change["lime"])}
    with pytest.raises(ValueError, match=f"made with other settings .*{told}"):
        run(rows=range(3), **change)
    assert rows("out") == before
    assert run(rows=range(3), overwrite=True, **change).explained == 3


def test_the_size_of_a_call_is_no_other_job():
    run(rows=range(3))
    assert run(rows=range(3), lime=explainer(chunk_size=50)).before == 3


def test_a_row_that_cannot_be_read_is_an_error_and_is_tried_again():
    table = estimators.people(6)[INPUTS]
    table.loc[2, "town"] = "Rome"
    known = {"background": Background.of(estimators.people()[INPUTS])}
    assert run(table=table, lime=explainer(**known)) == jobs.Summary(5, 1, 0, 1)
    found = jobs.read("out")
    assert found.failures["2"].startswith("'Rome' is not in the column 'town'")
    assert run(table=table, lime=explainer(**known), retry=True) == jobs.Summary(0, 1, 5, 1)


def nowhere_near(table, row):
    """A model that gives NaN for one row, which no sample repeats."""
    return lambda frame: np.where(frame["income"] == table["income"][row], np.nan, frame["age"])


def test_what_is_not_to_be_trusted_is_an_error():
    table = estimators.people()[INPUTS]
    model, lime = nowhere_near(table, 3), explainer(frames=True)
    assert run(model=model, lime=lime, rows=range(5)) == jobs.Summary(4, 1, 0, 1)
    assert "not to be trusted" in jobs.read("out").failures["3"]
    assert jobs.read("out").row("0")["target_names"] == ["output 0"]
    assert run(model=model, lime=lime, rows=[3], retry=True).failures == 1  # others are explained


def test_a_model_that_can_explain_none_of_the_rows_writes_nothing():
    table = estimators.people()[INPUTS]
    model, lime = nowhere_near(table, 3), explainer(frames=True)
    with pytest.raises(RuntimeError, match="could explain none of 1 rows; row 3: the explanation"):
        run(model=model, lime=lime, rows=[3])
    assert not Path("out/_job.json").exists()
    assert run(model=model, lime=lime, rows=[3, 4]).explained == 1


def test_a_damaged_file_is_set_aside():
    run(rows=range(4))
    before = rows("out")
    (part,) = Path("out").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is damaged"):
        run(rows=range(4))
    said = []
    assert run(rows=range(4), repair=True, say=said.append).explained == 4
    assert said[0].endswith("was set aside; its rows are explained again")
    assert_same_results(rows("out"), before)


def test_a_damaged_record_is_written_anew():
    run(rows=range(4), targets=[1])
    Path("out/_job.json").write_text("{")
    assert run(rows=range(4), targets=[1], repair=True).before == 4


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_arrays_and_tensors(kind):
    x = np.random.default_rng(0).normal(size=(40, 2))
    lime = TableLime(background=Background.of(x), num_samples=200)
    assert run(table=kind(x), model=estimators.of_numbers(), lime=lime).explained == 40
    expected = lime.explain(estimators.of_numbers(), x[:1])
    ours = jobs.read("out")["0"]
    torch.testing.assert_close(ours.coefficients, expected.coefficients, atol=1e-9, rtol=0)


def test_the_weights_of_a_network_are_known():
    x = torch.randn(40, 2, dtype=torch.float64)
    lime, network = TableLime(background=Background.of(x), num_samples=200), torch.nn.Linear(2, 2)
    run(table=x, model=network, lime=lime, rows=[0])
    torch.nn.init.zeros_(network.bias)
    with pytest.raises(ValueError, match="weights: "):
        run(table=x, model=network, lime=lime, rows=[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": [200]}, "0 to 199, and there is no row 200"),
        ({"rows": [-1]}, "there is no row -1"),
        ({"rows": []}, "there is none"),
        ({"labels": ["a"]}, "labels must be one for each of 200 rows"),
        ({"table": estimators.people()}, "table must be rows of the background's 3 columns"),
        ({"table": np.zeros((4, 2))}, "table must be rows of the background's 3 columns"),
        ({"top": 0}, "top must be"),
        ({"top": 3}, "top=3, but the model has 2 outputs"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(**settings)
    assert not Path("out/_job.json").exists()


def test_rows_of_photos_that_know_nothing_of_tables_are_read(monkeypatch):
    from tests.jobs import folder

    folder.good("photos", 1)
    folder.run("photos", "cats")
    (part,) = Path("cats").glob("*.parquet")
    old = parts.schema()
    new = ("features", "columns", "unit", "vectors", "scale")
    for name in new:
        old = old.remove(old.get_field_index(name))
    (photo,) = rows("cats")
    row = {name: value for name, value in rows("cats")[photo].items() if name not in new}
    monkeypatch.setattr(parts, "schema", lambda: old)
    parts.write(part, [row])
    assert jobs.read("cats")[photo].segments is not None
    report.write("cats", "cats.html")


# The report


def test_the_report():
    table = estimators.people(12)
    table.loc[3, "town"] = "<b>Rome</b>"
    named = table[INPUTS].rename(columns={"age": "<i>age & more"})
    known = Background.of(estimators.people()[INPUTS].rename(columns={"age": "<i>age & more"}))
    labels = ["<script>"] * 6 + [None] * 6
    run(table=named, model=lambda f: (f["<i>age & more"] > 50).to_numpy() * 1.0, labels=labels,
        lime=explainer(background=known, frames=True), name="<model>")  # fmt: skip
    report.write("out", "page.html", most=5)
    page = Path("page.html").read_text()
    assert not re.search(r"<script|<b>Rome|<i>age|<model>|https?:|src=", page)
    assert "&lt;i&gt;age &amp; more" in page
    assert "&#x27;&lt;b&gt;Rome&lt;/b&gt;&#x27; is no" in page
    assert "row 0</b>" in page
    assert page.index("no class") < page.index("&lt;script&gt;")
    assert page.count("<figure") == 10
    assert "the first 5 of 6 rows" in page
    assert "What counts over the rows" in page
    counted = page[page.index('id="means"') : page.index("<main>")]
    assert re.findall(r"width: ([\d.]+)%", counted)[0] == "100.0"


def test_no_fidelity_is_told_where_no_line_predicts_the_scores():
    run(rows=range(2), targets=[1], lime=explainer(surrogate=MarginalMean()))
    report.write("out", "page.html")
    page = Path("page.html").read_text()
    assert page.count("<figure") == 2
    assert not re.search("fidelity|nan", page)


def test_the_means_are_those_of_the_rows():
    run(rows=range(20), targets=[1])
    report.write("out", "page.html")
    page = Path("page.html").read_text()
    found = jobs.read("out")
    means = torch.stack([e.coefficients[0, 0].abs() for e in found.values()]).mean(dim=0)
    for name, value in zip(INPUTS, means.tolist(), strict=True):
        assert re.search(rf'<span dir="auto">{name}</span><div>.*?</div><span>{value:.3g}<', page)


def test_rows_are_in_the_order_of_their_numbers():
    run(rows=[10, 9, 100])
    report.write("out", "page.html")
    assert re.findall(r'id="row-(\d+)"', Path("page.html").read_text()) == ["9", "10", "100"]


# The command


def command(*arguments):
    return cli.main(["job-table", "people.csv", "--model", "people.skops", "--target-column",
                     "label", "--samples", "300", *map(str, arguments)])  # fmt: skip


def test_the_command(capsys):
    estimators.write_all()
    assert command("--out", "out", "--rows", "0:5") == 0
    assert command("--out", "out") == 0
    assert capsys.readouterr().out.splitlines() == [
        "5 explained; wrote out",
        "195 explained; 5 were there already; wrote out",
    ]
    run("whole", labels=estimators.people()["label"].tolist())
    known = {"model", "weights", "settings"}  # the name of the file, its hash
    ours, theirs = (
        {n: {k: v for k, v in row.items() if k not in known} for n, row in rows(out).items()}
        for out in ("out", "whole")
    )
    assert_same_results(ours, theirs)
    assert cli.main(["report", "out", "--out", "page.html"]) == 0
    assert Path("page.html").read_text().count("<figure") == 100  # 50 of each class


def test_a_changed_model_file_is_another_job(capsys):
    estimators.write_all()
    assert command("--out", "out", "--rows", 0) == 0
    with open("people.skops", "ab") as file:
        file.write(b"\0")
    assert command("--out", "out", "--rows", 0) == 2
    assert "weights: " in capsys.readouterr().err


def test_failed_rows_and_what_is_strict(capsys):
    table = estimators.people(4)
    table.loc[1, "town"] = "Rome"
    estimators.write_all()
    Path("train.csv").write_text(estimators.people().to_csv(index=False))
    table.to_csv("people.csv", index=False)
    arguments = ("--out", "out", "--background", "train.csv")
    assert command(*arguments) == 0
    assert "1 could not be explained, their rows say why" in capsys.readouterr().out
    assert command(*arguments, "--strict") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--out: name a folder for the results"),
        (["--out", "out", "--rows", "900"], "--rows: there is no row 900"),
        (["--out", "out", "--target", "maybe"], "--target: there is no class 'maybe'"),
        (["--out", "."], ". holds other things than a job's results: name a new folder"),
        (["--out", "out", "--model", "people.joblib"], "can run any code of whoever wrote"),
    ],
)
def test_a_sentence_each(arguments, expected, capsys):
    estimators.write_all()
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert expected in captured.err


def test_the_page_shows_no_table(capsys):
    from torchlime.app.gallery import Gallery

    run(rows=[0])
    with pytest.raises(ValueError, match="holds results of a table, which has no photos"):
        Gallery(Path("out"))


def test_the_dataset_is_read_by_pandas():
    run(rows=range(3))
    frame = pandas.read_parquet("out")
    assert frame["features"][0].tolist() == jobs.read("out")["0"].names()[0]
    assert json.loads(frame["settings"][0])["seed"] == "0"
