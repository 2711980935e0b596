import dataclasses
import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlime import Explanation, Lime, explain, explain_vector, metrics, plot
from torchlime._names import BinNames
from torchlime.explanation import Problem
from torchlime.fills import Constant
from torchlime.masks import Bernoulli, Exhaustive
from torchlime.segments import Grid
from torchlime.surrogates import Lasso, LeastSquares, Ridge
from torchlime.targets import Region
from torchlime.weights import Exponential, InverseDistance, Uniform


def model(x):
    return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3)), x[:, 0, 0, 0]], 1)


@pytest.fixture
def images():
    return torch.rand(3, 2, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def explanation(images):
    return Lime(segmenter=Grid(2, 3), num_samples=64).explain(
        model, images, top=2, keep_samples=True
    )


def with_coefficients(values, count):
    """An explanation of one image and target with given coefficients, segments in a row."""
    values = torch.tensor(values, dtype=torch.float64)[None, None]
    zeros = torch.zeros(1, 1, dtype=torch.float64)
    return Explanation(
        coefficients=values, standard_errors=torch.zeros_like(values), intercepts=zeros,
        fidelity=zeros, targets=zeros.long(), scores=zeros, local_predictions=zeros,
        segments=torch.arange(count)[None, None], segment_count=torch.tensor([count]),
        effective_samples=torch.ones(1), problems=torch.zeros(1, dtype=torch.int64), settings={},
    )  # fmt: skip


def test_shapes_and_dtypes(explanation):
    e = explanation
    assert e.coefficients.shape == e.standard_errors.shape == (3, 2, 6)
    for name in ("intercepts", "fidelity", "targets", "scores", "local_predictions"):
        assert getattr(e, name).shape == (3, 2), name
    assert e.segments.shape == (3, 12, 12)
    assert e.segment_count.tolist() == [6, 6, 6]
    assert {e.targets.dtype, e.segments.dtype, e.problems.dtype} == {torch.int64}
    assert e.coefficients.dtype == e.scores.dtype == torch.float64
    assert e.masks.shape == (3, 64, 6)
    assert e.sample_scores.shape == (3, 64, 2)
    assert not e.masks[:, 0].all()  # the images are beside the design
    assert e.ok.all()
    assert len(e) == 3
    weights = e.weights
    expected = weights.sum(1) ** 2 / (weights**2).sum(1)
    assert torch.equal(e.effective_samples, expected)


def test_samples_are_kept_only_on_request(images):
    e = Lime(segmenter=Grid(2, 3), num_samples=64).explain(model, images)
    assert e.masks is e.sample_scores is e.weights is e.energy is None


def test_top_orders_by_strength_and_ties_to_the_lower_id():
    e = with_coefficients([0.5, -2.0, 0.0, 2.0, -0.5, 9.0], count=5)  # 9.0 is beyond the count
    ids, values = e.top(7)
    assert ids[0, 0].tolist() == [1, 3, 0, 4, 2, -1, -1]
    assert values[0, 0].tolist() == [-2.0, 2.0, 0.5, -0.5, 0.0, 0.0, 0.0]
    assert e.top(2)[0].tolist() == [[[1, 3]]]


@pytest.mark.parametrize(
    ("top", "sign", "expected"),
    [
        (2, "positive", {3, 0}),
        (1, "positive", {3}),
        (9, "positive", {0, 3}),
        (1, "negative", {1}),
        (9, "negative", {1, 4}),
        (3, "both", {1, 3, 0}),
        (9, "both", {0, 1, 3, 4}),
    ],
)
def test_mask(top, sign, expected):
    e = with_coefficients([0.5, -2.0, 0.0, 2.0, -0.5], count=5)
    mask = e.mask(top, sign)
    assert mask.shape == (1, 1, 1, 5)
    assert set(mask[0, 0, 0].nonzero().flatten().tolist()) == expected


def test_heatmap(explanation):
    heatmap = explanation.heatmap()
    assert heatmap.dtype == torch.float32
    for b in range(3):
        for t in range(2):
            expected = explanation.coefficients[b, t][explanation.segments[b]].float()
            assert torch.equal(heatmap[b, t], expected)


def test_indexing_keeps_the_batch_axis(explanation):
    assert len(explanation[1]) == 1
    assert torch.equal(explanation[-1].coefficients, explanation.coefficients[2:])
    assert torch.equal(explanation[1:].masks, explanation.masks[1:])
    with pytest.raises(IndexError):
        explanation[3]
    assert [len(e) for e in explanation] == [1, 1, 1]


@pytest.mark.parametrize("kernel", [None, Exponential(1.0), InverseDistance(), Uniform()], ids=repr)
@pytest.mark.parametrize("surrogate", [None, LeastSquares(), Lasso(fraction=0.1)], ids=repr)
def test_refit_is_a_new_explanation_without_forwards(images, explanation, kernel, surrogate):
    again = explanation.refit(kernel=kernel, surrogate=surrogate)
    fresh = Lime(
        segmenter=Grid(2, 3), num_samples=64, kernel=kernel or Exponential(0.25),
        surrogate=surrogate or Ridge(),
    ).explain(model, images, top=2, keep_samples=True)  # fmt: skip
    for field in dataclasses.fields(Explanation):
        ours, theirs = getattr(again, field.name), getattr(fresh, field.name)
        if isinstance(ours, torch.Tensor):
            assert ours.double().allclose(theirs.double(), equal_nan=True), field.name
        else:
            assert ours == theirs, field.name


def test_refit_needs_the_samples(images, explanation, tmp_path):
    with pytest.raises(ValueError, match=r"refit needs the samples: explain\(..., keep_samples"):
        Lime(segmenter=Grid(2, 3), num_samples=64).explain(model, images).refit(kernel=Uniform())
    explanation.save(tmp_path / "e.npz")
    loaded = Explanation.load(tmp_path / "e.npz")
    with pytest.raises(ValueError, match=r"needs refit\(surrogate=...\)"):
        loaded.refit(kernel=Uniform())
    assert loaded.refit(surrogate=Ridge()).coefficients.allclose(explanation.coefficients)


def test_refit_keeps_the_problems_of_the_samples(images):
    images[0] = float("nan")
    explainer = Lime(
        segmenter=Grid(2, 3), sampler=Bernoulli(), num_samples=7, kernel=Exponential(0.01)
    )
    e = explainer.explain(model, images, 0, keep_samples=True)
    assert e.problems[1] == Problem.TOO_FEW_EFFECTIVE_SAMPLES
    again = e.refit(kernel=Uniform())
    assert again.problems[1] == 0
    assert again.problems[0] & Problem.NON_FINITE_IMAGE


@pytest.mark.parametrize("keep_samples", [False, True])
def test_save_and_load(images, tmp_path, keep_samples):
    e = Lime(segmenter=Grid(2, 3), num_samples=64).explain(
        model, images, top=2, keep_samples=keep_samples
    )
    path = tmp_path / "explanation.npz"
    e.save(path)
    e.save(str(path))  # overwrites
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    loaded = Explanation.load(path)
    for field in dataclasses.fields(Explanation):
        ours, theirs = getattr(loaded, field.name), getattr(e, field.name)
        if isinstance(theirs, torch.Tensor):
            assert torch.equal(ours, theirs), field.name
            assert ours.dtype == theirs.dtype, field.name
    assert loaded.masks is None or keep_samples
    assert loaded.settings["num_samples"] == 64
    assert loaded.settings["segmenter"] == "Grid(rows=2, cols=3)"
    with np.load(path, allow_pickle=False) as file:  # no pickle inside
        assert json.loads(str(file["record"]))["format"] == 4


def test_nothing_half_written_is_left(explanation, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        explanation.save(tmp_path / "missing" / "e.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        explanation.save(tmp_path / "folder")

    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="No space left"):
        explanation.save(tmp_path / "e.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_loading_something_else(tmp_path):
    with pytest.raises(FileNotFoundError):
        Explanation.load(tmp_path / "missing.npz")
    for name, content in (("empty", b""), ("text", b"hello"), ("zip", b"PK\x03\x04 cut short")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not a saved explanation"):
            Explanation.load(tmp_path / name)
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.savez(tmp_path / "newer.npz", record=np.array('{"format": 99, "settings": {}}'))
    np.save(tmp_path / "array.npy", np.ones(3))
    pickle.dump({}, (tmp_path / "pickle").open("wb"))
    for name in ("other.npz", "newer.npz", "array.npy", "pickle"):
        with pytest.raises(ValueError, match="is not a saved explanation"):
            Explanation.load(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_one_kind_of_error(place, byte, cut):
    e = with_coefficients([0.5, -2.0], count=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.npz"
        e.save(path)
        content = bytearray(path.read_bytes())
        at = int(place * len(content))
        content[at] = byte
        path.write_bytes(content[: at + 1] if cut else content)
        try:
            loaded = Explanation.load(path)
        except ValueError as error:
            assert "is not a saved explanation" in str(error)
        else:  # the byte was in a name or stamp that nobody reads
            assert torch.equal(loaded.coefficients, e.coefficients)


def test_arrays_that_do_not_fit_together_are_no_explanation(tmp_path):
    e = with_coefficients([0.5, -2.0], count=2)
    for name in ("fidelity", "segments", "coefficients", "problems"):
        wrong = dataclasses.replace(e, **{name: torch.zeros(7)})
        wrong.save(tmp_path / "wrong.npz")
        with pytest.raises(ValueError, match="is not a saved explanation"):
            Explanation.load(tmp_path / "wrong.npz")


def test_refit_under_inference_mode_gives_normal_tensors(explanation):
    with torch.inference_mode():
        again = explanation.refit(kernel=Uniform())
    assert not again.coefficients.is_inference()


def test_a_kernel_in_low_precision(images, tmp_path):
    e = Lime(segmenter=Grid(2, 3), num_samples=64, kernel=lambda m, c, energy: m.new_ones(
        m.shape[:2], dtype=torch.bfloat16)).explain(model, images, keep_samples=True)  # fmt: skip
    e.save(tmp_path / "e.npz")
    assert Explanation.load(tmp_path / "e.npz").weights.dtype == torch.float64


def test_to_pickle_and_identity(explanation):
    moved = explanation.to("cpu")
    assert moved.settings == explanation.settings
    assert torch.equal(moved.masks, explanation.masks)
    copy = pickle.loads(pickle.dumps(explanation))
    assert torch.equal(copy.coefficients, explanation.coefficients)
    assert copy != explanation  # tensors have no single truth value: identity is equality
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.scores = None


def test_check_returns_the_explanation_or_all_reasons(explanation):
    assert explanation.check() is explanation
    bits = Problem.NON_FINITE_SCORES | Problem.SEGMENTS_NOT_CONVERGED
    bad = dataclasses.replace(explanation, problems=torch.tensor([0, int(bits), 32]))
    with pytest.raises(RuntimeError) as caught:
        bad.check()
    for part in ("image 1: the segmentation did not", "; the model returned NaN", "image 2: the e"):
        assert part in str(caught.value)
    assert "image 0" not in str(caught.value)
    assert bad.ok.tolist() == [True, False, False]


def test_bad_arguments(explanation):
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        explanation.top(0)
    with pytest.raises(ValueError, match=r"sign must be one of .* got 'pos'"):
        explanation.mask(3, "pos")
    with pytest.raises(ValueError, match="top must be at least 1"):
        explanation.mask(0)


def test_reasons_are_given_without_raising(explanation):
    bad = dataclasses.replace(explanation, problems=torch.tensor([0, 4 | 16, 1]))
    nothing, two, one = bad.reasons()
    assert nothing == []
    assert [sentence.split()[0] for sentence in two] == ["the", "the"]
    assert one == ["the image holds NaN or infinite values"]
    assert explanation.reasons() == [[], [], []]


DAMAGE = {
    "coefficients": lambda t: t.to(torch.complex128),
    "standard_errors": lambda t: t[..., :2],
    "intercepts": lambda t: t.long(),
    "fidelity": lambda t: t[:, :1],
    "targets": lambda t: t.double(),
    "scores": lambda t: t[0],
    "local_predictions": lambda t: t.bool(),
    "segments": lambda t: t.double(),
    "segment_count": lambda t: t * 10**15,
    "effective_samples": lambda t: t[:1],
    "problems": lambda t: t + 10**6,
    "masks": lambda t: t.long(),
    "sample_scores": lambda t: t[:, :5],
    "weights": lambda t: t[:, :, None],
    "energy": lambda t: t[:, :2],
}
RANGES = {
    "targets": lambda t: t - 5,
    "effective_samples": lambda t: -t,
    "standard_errors": lambda t: t - 1,
    "fidelity": lambda t: t + 7,
    "weights": lambda t: -t,
    "energy": lambda t: t - 10,
    "coefficients": lambda t: t.half(),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [*DAMAGE.items(), *RANGES.items()],
    ids=[*DAMAGE, *(f"{n} range" for n in RANGES)],
)
def test_every_field_is_checked_when_it_is_loaded(images, tmp_path, name, damage):
    kernel = Exponential(1.0, "pixel_euclidean")
    e = Lime(segmenter=Grid(2, 3), num_samples=64, kernel=kernel).explain(
        model, images, top=2, keep_samples=True
    )
    wrong = dataclasses.replace(e, **{name: damage(getattr(e, name))})
    wrong.save(tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match=f"wrong.npz is not a saved explanation: {name} must"):
        Explanation.load(tmp_path / "wrong.npz")


@pytest.mark.parametrize("value", [-2, 6, 10**12])
def test_ids_out_of_range_are_refused(explanation, tmp_path, value):
    segments = explanation.segments.clone()
    segments[1, 2, 3] = value
    dataclasses.replace(explanation, segments=segments).save(tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match="segments must hold ids 0…count−1"):
        Explanation.load(tmp_path / "wrong.npz")


def rewritten(path, **changes):
    """The file again, with other arrays; None drops one."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def test_missing_and_unknown_fields_are_named(explanation, tmp_path):
    explanation.save(tmp_path / "e.npz")
    rewritten(tmp_path / "e.npz", fidelity=None)
    with pytest.raises(ValueError, match="explanation: fidelity is missing"):
        Explanation.load(tmp_path / "e.npz")
    explanation.save(tmp_path / "e.npz")
    rewritten(tmp_path / "e.npz", surprise=np.ones(3))
    with pytest.raises(ValueError, match="explanation: surprise is no field of an explanation"):
        Explanation.load(tmp_path / "e.npz")


def test_files_are_written_without_the_keyword_of_newer_numpys(explanation, tmp_path, monkeypatch):
    """Before numpy 2.2 ``allow_pickle=`` became an array of that name, which load refused."""
    save = np.savez_compressed
    given = []
    monkeypatch.setattr(
        np, "savez_compressed", lambda file, **arrays: (given.extend(arrays), save(file, **arrays))
    )
    explanation.save(tmp_path / "e.npz")
    assert "allow_pickle" not in given
    assert Explanation.load(tmp_path / "e.npz").targets.tolist() == explanation.targets.tolist()
    rewritten(tmp_path / "e.npz", allow_pickle=np.array(False))  # of an older torchlime and numpy
    assert Explanation.load(tmp_path / "e.npz").targets.tolist() == explanation.targets.tolist()
    np.savez(tmp_path / "objects.npz", coefficients=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="objects.npz is not a saved explanation"):
        Explanation.load(tmp_path / "objects.npz")


def test_files_of_version_1_load(explanation, tmp_path):
    explanation.save(tmp_path / "e.npz")
    record = np.array(json.dumps({"format": 1, "settings": {"num_samples": 64}}))
    rewritten(tmp_path / "e.npz", record=record)
    loaded = Explanation.load(tmp_path / "e.npz")
    assert torch.equal(loaded.heatmap(), explanation.heatmap())
    vectors = explain_vector(lambda z: z, torch.rand(2, 3), num_samples=20)
    vectors.save(tmp_path / "v.npz")
    rewritten(tmp_path / "v.npz", record=record, segments=np.zeros((2, 0, 0), np.int64))
    loaded = Explanation.load(tmp_path / "v.npz")
    assert loaded.segments is None
    assert loaded.kind == vectors.kind
    assert loaded[0].as_list() == vectors[0].as_list()


KIND = {"design": "masks", "part": "a", "input": "image", "beside": True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": ["ab"]}, "settings must map names to texts and numbers"),
        ({"settings": {"a": {"b": 1}}}, "settings must map names"),
        (
            {"kind": {**KIND, "part": "x" * 10**5}},
            "must be short texts",
        ),
        ({"kind": {**KIND, "part": "a\nb"}}, "must be short texts"),
        ({"kind": {**KIND, "design": "else"}}, "design of kind must be one of"),
        ({"kind": {**KIND, "beside": 1}}, "beside of kind must be true or false"),
        ({"kind": {**KIND, "design": "noise", "beside": False}}, "noise has the input beside"),
        ({"kind": {}}, "kind must name"),
        ({"format": 0}, "its format is 0, known ones are 1 to 4"),
        ({"format": 1.5}, "its format is 1.5"),
    ],
)
def test_the_record_is_checked(explanation, tmp_path, changes, message):
    explanation.save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as archive:
        record = json.loads(str(archive["record"])) | changes
    rewritten(tmp_path / "e.npz", record=np.array(json.dumps(record)))
    with pytest.raises(ValueError, match=f"e.npz is not a saved explanation: .*{message}"):
        Explanation.load(tmp_path / "e.npz")


def test_label_maps_take_little_room_and_come_back_as_they_were(tmp_path):
    labels = torch.arange(90_000).view(300, 300) // 225
    e = explain(model, torch.rand(1, 3, 300, 300), segments=labels, num_samples=16)
    e.save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as archive:
        assert archive["segments"].dtype == np.uint16
    loaded = Explanation.load(tmp_path / "e.npz", max_bytes=300_000)
    assert torch.equal(loaded.segments, e.segments)
    assert loaded.segments.dtype == torch.int64
    with pytest.raises(ValueError, match="more than 100000"):
        Explanation.load(tmp_path / "e.npz", max_bytes=100_000)


def test_a_bomb_is_refused_before_it_is_inflated(explanation, tmp_path):
    explanation.save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez_compressed(
        tmp_path / "bomb.npz", **(arrays | {"masks": np.zeros((3, 2**24, 36), bool)})
    )
    with pytest.raises(
        ValueError, match=r"bomb.npz is not a saved explanation: .* bytes of memory"
    ):
        Explanation.load(tmp_path / "bomb.npz")


# What it says of itself


class Named(torch.nn.Module):
    """Says of its scores what a Classifier says."""

    unit = "probability"
    categories = ("tench, fish", "<b>crane</b>", "ant")

    def forward(self, x):
        return model(x).softmax(1)


SAID = Lime(segmenter=Grid(2, 3), num_samples=64)


def test_its_repr_is_a_few_lines(images):
    e = SAID.explain(Named(), images, torch.tensor([[2, 0]] * 3))
    first, *lines = repr(e).splitlines()
    assert first == "Explanation of 3 images: coefficients [3,2,6], scores are probabilities"
    assert [line.strip() for line in lines[::5]] == [f"image {i}, 6 segments" for i in range(3)]
    ids, values = (found[0, 0].tolist() for found in e.top(5))
    strongest = ", ".join(f"{i}: {value:+.3g}" for i, value in zip(ids, values, strict=True))
    assert lines[1].strip() == (
        f"ant (2): probability {e.scores[0, 0]:.4g}, fidelity {e.fidelity[0, 0]:.2f}"
    )
    assert lines[2].strip() == f"strongest segments {strongest}"
    assert lines[3].strip().startswith("tench (0): probability ")
    assert str(e) == repr(e)


def test_its_repr_does_not_grow_with_inputs_and_targets():
    many = SAID.explain(lambda x: x[:, 0, 0, :10], torch.rand(40, 1, 6, 12), "all")
    lines = repr(many).splitlines()
    assert len(lines) == 1 + 4 * 8 + 1
    assert lines[8].strip() == "and targets 3, 4, 5 ..."
    assert lines[-1].strip() == "images 4 to 39 are in explanation[4:]"
    assert repr(many[:5]).splitlines()[-1].strip() == "image 4 is in explanation[4:]"


def test_its_repr_says_which_input_has_a_segment():
    a, b = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 6, 6)
    maps = tuple(torch.arange(x.shape[3]).expand(x.shape[2:]) // 2 for x in (a, b))
    tuple_, named = (
        explain(lambda *x, **k: sum(i.mean((2, 3)) for i in (*x, *k.values())), inputs,
                segments=segments, num_samples=32)
        for inputs, segments in (((a, b), maps), ({"a": a, "b": b}, {"a": maps[0], "b": maps[1]}))
    )  # fmt: skip
    for e, first, second in ((tuple_, "[0]", "[1]"), (named, "['a']", "['b']")):
        strongest = repr(e).splitlines()[-1]
        assert "2 of input" + second + ":" in strongest
        assert f"0 of input{first} and input{second}:" in strongest


def test_its_repr_keeps_names_apart_from_numbers_and_short():
    names = BinNames((("x" * 60 + "\x1b[31m\ntail of it",), ("a > 2",)), ("?", "?"))
    e = explain_vector(lambda z: z @ z.new_tensor([1.0, 2.0]), torch.ones(1, 2).double(),
                       surrogate=LeastSquares(), num_samples=20)  # fmt: skip
    bins = torch.zeros(1, 2, dtype=torch.int64)
    e = dataclasses.replace(e, categories=["7"], named=names, bins=bins)
    _, target, strongest = repr(e).splitlines()
    assert target.strip().startswith("class 7 (0): score 3, ")
    assert strongest.strip() == f"strongest features a > 2: +2, {'x' * 27}...tail of it: +1"


@pytest.mark.parametrize(
    ("network", "targets", "words"),
    [
        (Named(), None, "scores are probabilities"),
        (torch.compile(Named(), backend="eager"), None, "scores are probabilities"),
        (model, None, "scores as the model gives them"),
        (Named(), lambda outputs, rows: outputs[:, 0], "scores by the caller's function"),
    ],
)
def test_it_says_what_the_scores_are(network, targets, words, images, tmp_path):
    e = SAID.explain(network, images, targets)
    e.save(tmp_path / "e.npz")
    for one in (e, Explanation.load(tmp_path / "e.npz"), e[1]):
        assert repr(one).splitlines()[0].endswith(words)


def test_its_names_come_back_from_a_file(images, tmp_path):
    e = SAID.explain(Named(), images[:1], [[1, 0]])
    e.save(tmp_path / "e.npz")
    loaded = Explanation.load(tmp_path / "e.npz")
    assert loaded.unit == "probability"
    assert loaded.categories == {0: "tench, fish", 1: "<b>crane</b>"}
    assert (loaded.category(0), loaded.category(2)) == ("tench, fish", "class 2")
    assert repr(loaded) == repr(e)


def test_its_repr_says_what_is_wrong(images):
    e = SAID.explain(lambda x: model(x) * torch.nan, images[:1])
    assert "not to be trusted: the model returned NaN or infinite scores" in repr(e)


def test_what_a_notebook_shows(images):
    e = SAID.explain(Named(), images[:1], [[1, 0]])
    html = e._repr_html_()
    assert html.count("<img ") == 4  # the segments and the bars of two classes
    assert html.count("data:image/png;base64,") == 4
    assert len(html) < 60_000
    assert "&lt;b&gt;crane&lt;/b&gt; (1): probability" in html
    assert not any(bad in html for bad in ("<b>", "<script", "http", "url("))


def test_what_a_notebook_shows_of_vectors():
    e = explain_vector(lambda z: z.sum(1), torch.rand(6, 4), num_samples=16)
    html = e._repr_html_()
    assert html.count("<img ") == 4  # bars, of the first four
    assert "vectors 4 to 5 are in explanation[4:]" in html


def test_a_callers_ids_and_background_come_back(tmp_path):
    image = torch.tensor([[[[1.0, 2, 3], [4, 7, 6]]]])
    labels = torch.tensor([[30, 10, -1], [30, -7, -1]])
    e = explain(
        lambda x: x.sum((2, 3)), image, segments=labels, fill=Constant(0.0), num_samples=8,
        sampler=Exhaustive(), surrogate=LeastSquares(),
    ).check()  # fmt: skip
    assert e.ids.tolist() == [[-7, 10, 30]]
    assert e.segments.tolist() == [[[2, 1, -1], [2, 0, -1]]]
    ids, values = e.top(4)
    assert ids.tolist() == [[[-7, 30, 10, -1]]]
    assert values.allclose(torch.tensor([7.0, 5.0, 2.0, 0.0]).double())
    assert [name for name, _ in e.as_list()] == ["-7", "30", "10"]
    assert [name for name, _ in e.as_list(["a", "b", "c"])] == ["a", "c", "b"]
    heat = torch.tensor([[[[5.0, 2, 0], [5, 7, 0]]]])
    assert e.heatmap().allclose(heat)
    assert e.mask(1).tolist() == (heat == 7).tolist()
    e.save(tmp_path / "e.npz")
    again = Explanation.load(tmp_path / "e.npz")
    assert torch.equal(again.ids, e.ids)
    assert torch.equal(again.segments, e.segments)
    picture = plot.heatmap_picture(e)
    assert torch.equal(picture[:, :, 2], picture.new_full((3, 2), picture.max()))  # white
    assert torch.equal(metrics.overlap([e, e], top=1), torch.ones(1, 1).double())


def test_a_heatmap_with_channels_is_that_of_every_channel():
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    explanation = explain(lambda x: x.mean((2, 3)), image, top=2, segmenter=Grid(2, 2))
    wide = explanation.heatmap(channels=3)
    assert wide[:, 0].shape == image.shape
    assert (wide == explanation.heatmap()[:, :, None]).all()
    with pytest.raises(ValueError, match="channels must be at least 1"):
        explanation.heatmap(channels=0)


SHOWN = {
    "several inputs": lambda x: explain(
        lambda a, b: a.mean((1, 2, 3)) + b.mean((1, 2, 3)), (x, x), segmenter=Grid(2, 2),
        num_samples=32,
    ),
    "a volume": lambda x: explain(
        lambda z: z.mean((2, 3, 4)), x[:, :, None], segmenter=Grid(1, 2, 2), num_samples=32
    ),
    "series": lambda x: explain(
        lambda z: z.mean(2), x.flatten(2), segmenter=Grid(4), num_samples=32
    ),
    "soft masks": lambda x: explain(
        model, x, segments=torch.rand(3, *x.shape[2:]), num_samples=32
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SHOWN)
def test_a_notebook_shows_what_has_no_picture_as_bars(images, what):
    html = SHOWN[what](images)._repr_html_()
    assert html.count("<img") == len(images)


def test_it_names_the_kind_of_scores_that_were_explained(images):
    inside = torch.ones(images.shape[2:], dtype=torch.bool)
    e = explain(lambda x: x, images, Region(inside), segmenter=Grid(2, 2), num_samples=32)
    assert repr(e).splitlines()[0].endswith("scores by Region")
