"""Rows of tables against known answers, literal definitions and lime."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from lime.lime_tabular import LimeTabularExplainer
from sklearn import compose, datasets, linear_model, pipeline, preprocessing

from benchmarks.memory import peak_memory
from torchlime import Background, Explanation, TableLime, explain_table, explain_vector, plot
from torchlime.background import Deciles, Edges, Entropy, Quantiles
from torchlime.background.columns import bin_texts
from torchlime.plot._evidence import evidence_of
from torchlime.plot._words import axis_title
from torchlime.surrogates import LeastSquares, Ridge
from torchlime.weights import Uniform

IRIS = datasets.load_iris()
EXACT = {"surrogate": LeastSquares(), "kernel": Uniform(), "num_samples": 2000}


def numbers(rows=400, columns=4, seed=0):
    return torch.randn(
        rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def people(rows=300, seed=0):
    """A table of words, whole numbers, a group and missing values."""
    draw = np.random.default_rng(seed)
    color = draw.integers(0, 3, rows)
    age = draw.normal(40, 12, rows).round(1)
    age[::17] = np.nan
    city = draw.choice(["Rome", "Oslo", "Lima"], rows, p=[0.5, 0.3, 0.2]).astype(object)
    city[::23] = None
    return pd.DataFrame(
        {
            "age": age,
            "city": city,
            "color_red": (color == 0).astype(int),
            "color_blue": (color == 1).astype(int),
            "member": draw.integers(0, 2, rows),
            "visits": draw.integers(0, 90, rows),
        }
    )


class Seen:
    """A model that keeps the rows that it saw."""

    def __init__(self, function):
        self.function, self.rows = function, []

    def __call__(self, x):
        self.rows.append(x)
        return self.function(x)


# ---- known answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [Quantiles(4), Deciles(), Quantiles(2)], ids=repr)
def test_effects_of_bins_are_found_exactly(bins):
    data = numbers()
    background, x = Background.of(data, bins=bins), data[:3]
    edges = [torch.tensor(column.edges) for column in background.columns]
    effects = torch.tensor([3.0, -2.0, 0.0, 0.5], dtype=torch.float64)

    def places(rows):
        return torch.stack([torch.bucketize(rows[:, j], e) for j, e in enumerate(edges)], 1)

    for row in range(3):
        own = places(x[row : row + 1])
        e = explain_table(
            lambda rows, own=own: (places(rows) == own).double() @ effects + 7, x[row : row + 1],
            background, **EXACT,
        ).check()  # fmt: skip
        assert e.coefficients[0, 0].allclose(effects, atol=1e-9)
        assert e.intercepts.item() == pytest.approx(7, abs=1e-9)
        assert e.fidelity.item() == pytest.approx(1)


@pytest.mark.parametrize("around", [False, True])
def test_a_linear_model_of_numbers_gives_its_slopes(around):
    data, slopes = numbers() * 5 + 2, torch.tensor([3.0, -2.0, 0.0, 0.5], dtype=torch.float64)
    background = Background.of(data, bins=None)
    e = explain_table(
        lambda z: z @ slopes + 7, data[:3], background, around=around, **EXACT
    ).check()
    assert e.coefficients.allclose(slopes.expand(3, 1, 4), atol=1e-9)
    assert e.intercepts.allclose(torch.tensor(7.0, dtype=torch.float64), atol=1e-8)
    assert e.local_predictions.allclose(e.scores, atol=1e-8)


@pytest.mark.parametrize("around", [False, True])
def test_categories_beside_plain_numbers(around):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"age": draw.normal(40, 9, 300), "sex": draw.choice(["f", "m"], 300)})
    background = Background.of(frame, bins=None)
    x = pd.DataFrame({"age": [30.0, 50.0], "sex": ["f", "m"]})

    def model(rows):
        return 0.5 * rows[:, 0] + 4 * (rows[:, 1] == 1)  # "m" is word 1

    e = explain_table(model, x, background, around=around, **EXACT).check()
    assert e.coefficients[0, 0].tolist() == pytest.approx([0.5, -4.0])  # to be "f" costs 4
    assert e.coefficients[1, 0].tolist() == pytest.approx([0.5, 4.0])
    assert e.names() == [["age", "sex=f"], ["age", "sex=m"]]


def test_a_constant_model_has_no_effects():
    data = numbers()
    e = explain_table(lambda z: torch.full((len(z),), 0.3), data[:2], data, num_samples=200)
    assert e.coefficients.abs().max() < 1e-12
    assert e.fidelity.eq(0).all()


# ---- the definition ------------------------------------------------------------------------------


def test_masks_say_which_values_are_in_the_bin_of_the_row():
    data = numbers(columns=3)
    background, x = Background.of(data), data[:4]
    model = Seen(lambda rows: rows.sum(1))
    e = TableLime(background=background, num_samples=500, chunk_size=64).explain(
        model, x, keep_samples=True
    )
    rows = torch.cat(model.rows)
    assert torch.equal(rows[:4], x)  # the rows as they are come first
    drawn = rows[4:][:499].numpy() if len(model.rows[0]) >= 4 else None
    for j, column in enumerate(background.columns):
        place = np.searchsorted(column.edges, drawn[:, j], side="left")
        own = np.searchsorted(column.edges, x[:, j].numpy(), side="left")
        expected = torch.from_numpy(place[None] == own[:, None])
        assert torch.equal(e.masks[:, 1:, j], expected)
    assert e.masks[:, 0].all()
    assert e.bins.tolist() == [
        [int(np.searchsorted(c.edges, v, side="left")) for c, v in
         zip(background.columns, row, strict=True)] for row in x.tolist()
    ]  # fmt: skip


def test_values_are_those_of_normal_distributions_cut_off_at_their_bins():
    data = torch.cat([numbers(columns=2), numbers(columns=1).exp()], dim=1)
    background = Background.of(data)
    model = Seen(lambda rows: rows.sum(1))
    explain_table(model, data[:1], background, num_samples=40_001)
    drawn = torch.cat(model.rows)[1:40_001].numpy()
    for j, column in enumerate(background.columns):
        place = np.searchsorted(column.edges, drawn[:, j], side="left")
        for number, found in enumerate(column.bins):
            values = drawn[place == number, j]
            assert len(values) / len(drawn) == pytest.approx(found.share, abs=0.01)
            assert values.min() >= found.least
            assert values.max() <= found.most
            a, c = ((v - found.mean) / found.deviation for v in (found.least, found.most))
            mass = 0.5 * (math.erf(c / 2**0.5) - math.erf(a / 2**0.5))
            density = [math.exp(-z * z / 2) / (2 * math.pi) ** 0.5 for z in (a, c)]
            mean = found.mean + found.deviation * (density[0] - density[1]) / mass
            assert values.mean() == pytest.approx(mean, abs=5 * values.std() / len(values) ** 0.5)


def test_the_mean_over_seeds_is_that_of_lime():
    x, labels = IRIS.data, IRIS.target
    model = linear_model.LogisticRegression(max_iter=500).fit(x, labels)
    background = Background.of(x, names=IRIS.feature_names)
    ours, theirs = [], []
    for seed in range(30):
        e = explain_table(model, x[:1], background, 0, num_samples=300, seed=seed)
        ours.append(e.coefficients[0, 0].numpy())
        lime = LimeTabularExplainer(x, feature_names=IRIS.feature_names, random_state=seed)
        found = lime.explain_instance(x[0], model.predict_proba, labels=(0,), num_samples=300)
        theirs.append([value for _, value in sorted(found.local_exp[0])])
    ours, theirs = np.array(ours), np.array(theirs)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / 30)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
    assert ours.std(0) == pytest.approx(theirs.std(0), rel=0.6)


def test_names_of_bins_are_those_of_lime():
    lime = LimeTabularExplainer(IRIS.data, feature_names=IRIS.feature_names)
    background = Background.of(IRIS.data, names=IRIS.feature_names)
    for j, column in enumerate(background.columns):
        assert [b.text for b in column.bins] == lime.discretizer.names[j]


def test_names_tell_close_edges_apart():
    assert bin_texts("a", [0.001, 0.002])[1] == "0.001 < a <= 0.002"


# ---- many rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [Quantiles(4), None], ids=["bins", "plain"])
def test_all_rows_share_their_samples(bins):
    data = numbers()
    background = Background.of(data, bins=bins)
    model = Seen(lambda rows: rows.tanh().sum(1))
    many = explain_table(model, data[:7], background, num_samples=500, chunk_size=50)
    true_rows = 7 + (500 if bins is None else 499)
    assert true_rows <= sum(map(len, model.rows)) < true_rows + 100  # the last chunks are padded
    for row in range(7):
        one = explain_table(model.function, data[row : row + 1], background, num_samples=500)
        assert one.coefficients.allclose(many.coefficients[row], rtol=0, atol=1e-12)
        assert one.standard_errors.allclose(many.standard_errors[row], rtol=0, atol=1e-10)


def test_shared_samples_are_scored_like_samples_of_each_row():
    data, weights = numbers(), numbers(3, 4, seed=1)

    def model(rows):
        return rows @ weights.T

    shared = explain_table(model, data[:4], data, num_samples=300, top=2)
    targets = shared.targets
    own = explain_table(
        model, data[:4], data, lambda outputs, rows: outputs.gather(1, targets[rows]),
        num_samples=300,
    )  # fmt: skip
    assert own.coefficients.allclose(shared.coefficients, atol=1e-12)
    every = explain_table(model, data[:4], data, "all", num_samples=300)
    assert every.targets.tolist() == [[0, 1, 2]] * 4
    chosen = every.coefficients.gather(1, targets[..., None].expand(-1, -1, 4))
    assert chosen.allclose(shared.coefficients, atol=1e-12)


@pytest.mark.parametrize("bins", [Quantiles(4), None], ids=["bins", "plain"])
@pytest.mark.parametrize("targets", [None, 1, torch.arange(9) % 3, "all"], ids=str)
def test_a_few_rows_at_a_time_give_what_all_give_at_once(bins, targets, monkeypatch):
    data, weights = numbers(), numbers(3, 4, seed=1)
    background = Background.of(data, bins=bins)
    found, seen = [], []
    for elements in (1 << 30, 4000):
        monkeypatch.setattr("torchlime._row_blocks.ELEMENTS_ON_CPU", elements)
        model = Seen(lambda rows: (rows @ weights.T).softmax(1))
        e = explain_table(model, data[:9], background, targets, top=2, num_samples=3000)
        found.append(e)
        seen.append(sum(map(len, model.rows)))
    whole, parts = found
    assert seen[0] == seen[1] == 3000 + 9 - (bins is not None)
    assert whole.settings == parts.settings
    assert whole.tensors().keys() == parts.tensors().keys()
    for name, values in whole.tensors().items():
        assert parts.tensors()[name].dtype == values.dtype
        assert parts.tensors()[name].allclose(values, rtol=1e-14, atol=1e-12), name


def explain_rows(count):
    """(warm up, a call of ``count`` rows), for a process of its own."""
    data = torch.randn(500, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    background = Background.of(data)
    x = data[torch.arange(count) % len(data)]

    def explain(rows):
        return lambda: explain_table(lambda z: z.tanh().sum(1), rows, background)

    return explain(x[:2]), explain(x)


def test_memory_does_not_grow_with_the_rows():
    few, many = (peak_memory(torch.device("cpu"), partial(explain_rows, b)) for b in (100, 400))
    masks, scores_and_weights = 300 * 5000 * 30, 300 * 5000 * 2 * 8
    assert many - few < (masks + scores_and_weights) / 4


def test_a_seed_for_each_row_gives_it_a_draw_of_its_own():
    data = numbers()
    seeds = torch.tensor([5, 6, 5])
    x = data[:1].expand(3, -1)
    model = Seen(lambda rows: rows.tanh().sum(1))
    e = explain_table(model, x, data, num_samples=200, seed=seeds)
    assert torch.equal(e.coefficients[0], e.coefficients[2])
    assert not torch.equal(e.coefficients[0], e.coefficients[1])
    alone = explain_table(model.function, x[:1], data, num_samples=200, seed=6)
    assert alone.coefficients[0].allclose(e.coefficients[1], atol=1e-12)


def test_progress_counts_the_rows_that_the_model_gets():
    seen = []
    data = numbers()
    explain_table(
        lambda z: z.sum(1), data[:3], data, num_samples=100, chunk_size=40,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (102, 102)
    assert all(total == 102 for _, total in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_gradients_reach_the_model():
    data = numbers()
    layer = torch.nn.Linear(4, 2).double()
    e = explain_table(layer, data[:3], data, 1, num_samples=100, differentiable=True)
    e.coefficients.square().sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    assert layer.weight.grad[0].abs().sum() == 0


# ---- frames, words, groups, missing values -------------------------------------------------------


def test_an_estimator_of_frames_is_explained_in_the_words_of_its_table():
    frame = people()
    known = frame.dropna()
    label = (known.city == "Oslo") ^ (known.age > 45)
    model = pipeline.make_pipeline(
        compose.make_column_transformer(
            (preprocessing.OneHotEncoder(handle_unknown="ignore"), ["city"]),
            remainder="passthrough",
        ),
        linear_model.LogisticRegression(max_iter=2000),
    ).fit(known, label)
    background = Background.of(
        known, one_hot={"color": ["color_red", "color_blue"]}, bins=Edges({"age": [45]})
    )
    row = known[known.city == "Oslo"].iloc[:1]
    e = explain_table(model, row, background, 1, num_samples=1000).check()
    names = e.names()[0]
    assert [name.split("=")[0].split(" ")[0] for name in names[1:4]] == ["city", "color", "member"]
    assert e.as_list()[0][0] == "city=Oslo"
    assert e.as_list(["a", "b", "c", "d", "e"])[0][0] in "abcde"
    series = explain_table(model, row.iloc[0], background, 1, num_samples=1000)
    assert torch.equal(series.coefficients, e.coefficients)


def test_a_method_of_an_estimator_is_its_estimator():
    data = numbers().numpy()
    model = linear_model.LogisticRegression().fit(data, data[:, 0] > 0)
    whole = explain_table(model, data[:2], data, 1, num_samples=100)
    method = explain_table(model.predict_proba, data[:2], data, 1, num_samples=100)
    assert torch.equal(whole.coefficients, method.coefficients)
    assert method.unit == "probability"
    vector = explain_vector(model.predict_proba, data[:2], 1, num_samples=100)
    assert torch.equal(
        vector.coefficients, explain_vector(model, data[:2], 1, num_samples=100).coefficients
    )


def test_the_model_sees_rows_as_the_table_has_them():
    frame = people()
    background = Background.of(frame, one_hot={"color": ["color_red", "color_blue"]})
    model = Seen(lambda rows: rows["visits"].to_numpy())
    e = explain_table(model, frame[1:4], background, num_samples=400, frames=True)
    seen = pd.concat(model.rows)
    assert list(seen.columns) == list(frame.columns)
    assert seen.dtypes["color_red"] == frame.dtypes["color_red"]
    assert set(seen.city.dropna()) == {"Rome", "Oslo", "Lima"}
    assert seen.city.isna().any()
    assert seen.age.isna().any()
    assert (seen.color_red + seen.color_blue).isin([0, 1]).all()
    assert (seen.visits % 1 == 0).all()
    pd.testing.assert_frame_equal(
        seen[:3].reset_index(drop=True), frame[1:4].reset_index(drop=True), check_dtype=False
    )
    assert any("color" in name for name in e.names()[0])


def test_a_missing_value_is_a_bin_of_its_own():
    frame = people()
    background = Background.of(frame)
    row = frame[frame.age.isna() & frame.city.isna()][:1]

    def model(rows):
        return torch.isnan(rows[:, 0]).double() * 2 + torch.isnan(rows[:, 1]).double()

    e = explain_table(model, row, background, **EXACT).check()
    assert dict(e.as_list())["age is missing"] == pytest.approx(2)
    assert dict(e.as_list())["city is missing"] == pytest.approx(1)


def test_few_whole_numbers_are_categories_unless_told_otherwise():
    frame = people()
    kinds = {c.name: bool(c.words) for c in Background.of(frame).columns}
    assert kinds["member"]
    assert not kinds["visits"]
    told = {c.name: bool(c.words) for c in Background.of(frame, categorical=["visits"]).columns}
    assert told["visits"]
    assert not told["member"]
    assert told["city"]  # words always are


def test_labels_split_a_column_where_they_change():
    data = numbers()
    labels = data[:, 0] > 0.3
    column = Background.of(data, bins=Entropy(depth=1), labels=labels).columns[0]
    assert len(column.edges) == 1
    assert column.edges[0] == pytest.approx(0.3, abs=0.05)


def test_arrays_lists_and_tensors_are_one_table():
    data = numbers()
    of_tensor = explain_table(lambda z: z.sum(1), data[:2], data, num_samples=100)
    for form in (lambda t: t.numpy(), lambda t: t.tolist(), lambda t: pd.DataFrame(t.numpy())):
        found = explain_table(lambda z: z.sum(1), form(data[:2]), form(data), num_samples=100)
        assert torch.equal(found.coefficients, of_tensor.coefficients)


# ---- the result ----------------------------------------------------------------------------------


def test_names_follow_an_explanation(tmp_path):
    frame = people()
    e = explain_table(lambda z: z[:, 5], frame[1:5], Background.of(frame), num_samples=200)
    assert e[2].names() == [e.names()[2]]
    assert e.to("cpu").names() == e.names()
    e.save(tmp_path / "table.npz")
    loaded = Explanation.load(tmp_path / "table.npz")
    assert loaded.names() == e.names()
    assert loaded[1].as_list() == e[1].as_list()
    assert loaded.kind.input == "row"
    assert torch.equal(loaded.bins, e.bins)
    assert "Background(6 features, 4 of them categories)" in str(e.settings["background"])


def test_bars_have_the_names():
    frame = people()
    e = explain_table(lambda z: z[:, 5], frame[1:2], Background.of(frame), num_samples=200)
    named = plot.bars(e, names=e.names()[0])
    assert torch.equal(plot.bars(e), named)
    assert axis_title(evidence_of(e, None, pixels=False)) == "score of class 0"
    plain = explain_table(lambda z: z[:, 0], numbers()[:1], Background.of(numbers(), bins=None))
    assert axis_title(evidence_of(plain, None, pixels=False)).endswith("per unit of the feature")


def test_a_refit_has_the_names_and_other_coefficients():
    data = numbers()
    e = explain_table(lambda z: z.tanh().sum(1), data[:2], data, num_samples=200, keep_samples=True)
    again = e.refit(surrogate=Ridge(100.0))
    assert again.names() == e.names()
    assert not torch.equal(again.coefficients, e.coefficients)


def test_errors_can_be_left_out():
    data = numbers()
    e = explain_table(
        lambda z: z.tanh().sum(1), data[:2], data, num_samples=200, surrogate=Ridge(errors=False)
    )
    full = explain_table(lambda z: z.tanh().sum(1), data[:2], data, num_samples=200)
    assert e.standard_errors.isnan().all()
    assert e.coefficients.allclose(full.coefficients, rtol=0, atol=1e-12)
    assert e.fidelity.allclose(full.fidelity, rtol=0, atol=1e-12)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "keywords", "message"),
    [
        (torch.zeros(0, 2), {}, "at least one row"),
        (torch.zeros(3), {}, "got the shape"),
        ("table.csv", {}, "must be a DataFrame"),
        ([[1.0, 2.0], [3.0]], {}, "rows, columns"),
        ([[math.inf, 1.0]], {}, "infinite"),
        ([[math.nan, 1.0]] * 3, {"names": ["a", "b"]}, "'a' has no value"),
        ([[1.5], [math.nan], [2.5]], {"bins": None}, "values of the column '0' are missing"),
        (numbers(), {"names": ["a"]}, "4 different names"),
        (numbers(), {"categorical": ["age"]}, "no column 'age'"),
        (numbers(), {"bins": 4}, "bins must be Quantiles"),
        (numbers(), {"bins": Entropy()}, "labels="),
        (numbers(), {"bins": Entropy(), "labels": [1, 2]}, "one class for each"),
        (numbers(), {"one_hot": {"g": [0, 1]}}, "at most a single 1"),
        (pd.DataFrame({"day": pd.to_datetime(["2020-01-01"])}), {}, "holds times"),
    ],
)  # fmt: skip
def test_bad_backgrounds_have_a_sentence(data, keywords, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Background.of(data, **keywords)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 5), "as many columns"),
        (torch.zeros(6), "add an axis"),
        (torch.zeros(1, 6, dtype=torch.long), "floating point"),
        (people()[["age", "city"]][:2], "it lacks"),
        (people().assign(more=1)[:2], "beside them"),
        (people().assign(city="Paris")[:1], "'Paris' is not in the column 'city'"),
        (people().assign(age="old")[:1], "must hold numbers"),
        (people().assign(visits=np.nan)[:1], "is missing, but the background"),
    ],
)
def test_bad_rows_have_a_sentence(x, message):
    with pytest.raises((TypeError, ValueError), match=message):
        explain_table(lambda z: z[:, 0], x, Background.of(people()), num_samples=50)


def test_an_unknown_value_of_a_tensor_is_a_problem():
    background = Background.of(people())
    x = background.rows(people()[1:3])
    x[1, 1] = 9.0
    e = explain_table(lambda z: z[:, 5], x, background, num_samples=50)
    assert e.reasons()[0] == []
    assert "a category, or a missing value, that the background" in e.reasons()[1][0]
    assert e[1].names()[0][1] == "city is unknown"


def test_bad_settings_have_a_sentence():
    data = numbers()
    with pytest.raises(ValueError, match="bins=None"):
        explain_table(lambda z: z[:, 0], data[:1], data, around=True)
    with pytest.raises(TypeError, match="Background.of"):
        TableLime(background=data)
    with pytest.raises(TypeError, match="did you mean 'num_samples'"):
        explain_table(lambda z: z[:, 0], data[:1], data, num_sample=3)
    with pytest.raises(TypeError, match="predict_proba"):
        explain_table(
            linear_model.RidgeClassifier().fit(data, data[:, 0] > 0), data[:1], data, num_samples=50
        )
