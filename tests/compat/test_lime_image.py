"""Against the installed lime 0.2.0.1: the same arguments, the same numbers."""

import itertools
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lime import lime_image as lime
from sklearn.base import BaseEstimator
from sklearn.linear_model import BayesianRidge, ElasticNet, Lasso, LinearRegression, Ridge

from tests.compat.side_by_side import (
    Recorder,
    assert_same,
    assert_same_batches,
    explain,
    explain_both,
    label_map,
    picture,
)
from torchlime.compat import lime_image as ours

DTYPES = (np.uint8, np.int64, np.float32, np.float64, np.float16, np.uint16, np.bool_)
METHODS = ("auto", "none", "highest_weights", "forward_selection", "lasso_path")
GENERATOR = np.random.default_rng(0)
QUIET = {"progress_bar": False}


@st.composite
def calls(draw):
    """Arguments of one explanation that has a defined answer."""
    count = draw(st.integers(1, 11))
    classes = draw(st.integers(1, 6))
    method = draw(st.sampled_from(METHODS))
    samples = draw(st.integers(3 * count + 6, 80))
    image = picture(draw(st.sampled_from(DTYPES[:4])), seed=draw(st.integers(0, 99)))
    segments = label_map(count, seed=draw(st.integers(0, 99)))
    hide = draw(st.sampled_from(["mean", "number", "colour", "picture"]))
    some_labels = st.lists(st.integers(-classes, classes - 1), min_size=1, max_size=4)
    return {
        "image": image,
        "recorder": Recorder(
            classes, draw(st.integers(0, 99)), draw(st.sampled_from([np.float32, np.float64]))
        ),
        "init": {
            "random_state": draw(st.integers(0, 2**32 - 1)),
            "kernel_width": draw(st.sampled_from([0.25, 0.5, 1, 5])),
            "feature_selection": method,
        },
        "segmentation_fn": lambda _: segments,
        "hide_color": {
            "mean": None, "number": 0, "colour": (1, 0, 1), "picture": image[::-1].copy(),
        }[hide],
        "labels": draw(some_labels),
        "top_labels": draw(st.sampled_from([None, 0, 1, 2, 5, 20, -1])),
        "num_features": draw(st.sampled_from([1, 6, 7, count, 100000])),
        "num_samples": samples,
        "batch_size": draw(st.sampled_from([None, 0, 1, 7, 10, samples, 1000])),
        "distance_metric": draw(st.sampled_from(["cosine", "hamming", "euclidean"])),
        "random_seed": draw(st.sampled_from([None, 3])),
    }  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(calls())
def test_explanations_are_limes(call):
    if call["distance_metric"] == "euclidean":  # its distances are of another size
        call["init"]["kernel_width"] *= 8
    theirs, mine = explain_both(**call)
    assert_same(theirs, mine)
    assert mine.image is call["image"]


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    hide=st.sampled_from([None, 0, 0.5, (9, 1, 200), "array"]),
    count=st.integers(1, 12),
    samples=st.integers(1, 23),
    batch_size=st.sampled_from([1, 4, 10, None]),
    seed=st.integers(0, 1000),
)
def test_the_masked_images_are_limes_bit_for_bit(dtype, hide, count, samples, batch_size, seed):
    image = picture(dtype, size=(19, 23), seed=seed)
    segments = label_map(count, size=(19, 23), seed=seed)
    mirrored = image[:, ::-1]
    results = []
    for module in (lime, ours):
        recorder = Recorder(classes=1)
        explainer = module.LimeImageExplainer(random_state=seed)
        fudged = image.copy()
        if isinstance(hide, str):
            fudged[:] = mirrored
        elif hide is not None:
            fudged[:] = hide
        data, labels = explainer.data_labels(image, fudged, segments, recorder, samples, batch_size)
        results.append((data, labels, recorder.batches))
        # explain_instance makes the fudged image itself
        explain(
            module, image, recorder, {"random_state": seed}, segmentation_fn=lambda _: segments,
            hide_color=mirrored if isinstance(hide, str) else hide, num_samples=samples,
            batch_size=batch_size, top_labels=1,
        )  # fmt: skip
    (data, labels, batches), (our_data, our_labels, our_batches) = results
    assert data.dtype == our_data.dtype
    np.testing.assert_array_equal(data, our_data)
    assert labels.dtype == our_labels.dtype
    np.testing.assert_array_equal(labels, our_labels)
    assert_same_batches(batches, our_batches)


def test_means_of_large_segments_are_limes_bit_for_bit():
    """Sums of more than 128 numbers depend on their order, float16 and float32 above all."""
    segments = label_map(3, size=(60, 70))
    for dtype in DTYPES:
        image = picture(dtype, size=(60, 70))
        explain_both(image, segmentation_fn=lambda _: segments, num_samples=12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_features", [1, 6, 7, 12, 100000])
def test_feature_selection(method, num_features):
    theirs, mine = explain_both(
        picture(), init={"feature_selection": method}, num_features=num_features,
        segmentation_fn=lambda _: label_map(12), num_samples=150, top_labels=3,
    )  # fmt: skip
    assert_same(theirs, mine)


@pytest.mark.parametrize("top_labels", [None, 0, 1, 3, 4, 9, -1])
@pytest.mark.parametrize("labels", [(1,), [0, 2], np.array([3, 1]), (-1, 2), ()])
def test_labels(labels, top_labels):
    theirs, mine = explain_both(
        picture(), labels=labels, top_labels=top_labels, num_samples=40,
        segmentation_fn=lambda _: label_map(5),
    )  # fmt: skip
    assert_same(theirs, mine)
    assert [type(k) for k in theirs.local_exp] == [type(k) for k in mine.local_exp]
    assert type(getattr(theirs, "top_labels", None)) is type(getattr(mine, "top_labels", None))


def test_labels_may_be_a_generator():
    one, two = (
        explain(
            module, picture(), Recorder(), {"random_state": 1}, labels=(i for i in (2, 0)),
            top_labels=None, num_samples=20, segmentation_fn=lambda _: label_map(4),
        )
        for module in (lime, ours)
    )  # fmt: skip
    assert_same(one, two)
    assert list(two.local_exp) == [2, 0]


def test_a_label_list_beside_top_labels_is_announced_to_have_no_effect():
    explainer = ours.LimeImageExplainer(random_state=0)
    arguments = {"segmentation_fn": lambda _: label_map(3), "num_samples": 9, **QUIET}
    with pytest.warns(UserWarning, match="labels has no effect beside top_labels=2"):
        explanation = explainer.explain_instance(
            picture(), Recorder(), labels=[0], top_labels=2, **arguments
        )
    assert len(explanation.local_exp) == 2


@pytest.mark.parametrize(("count", "samples"), [(5, 1), (12, 2), (12, 6), (30, 20)])
def test_fewer_samples_than_segments(count, samples):
    theirs, mine = explain_both(
        picture(), segmentation_fn=lambda _: label_map(count), num_samples=samples
    )
    assert_same(theirs, mine)
    assert samples > 1 or np.isnan(mine.score)


def test_a_constant_score_is_explained_perfectly():
    def fn(images):
        return np.full((len(images), 2), 0.5)

    for module in (lime, ours):
        explanation = explain(
            module, picture(), fn, {"random_state": 0}, num_samples=30, top_labels=None,
            segmentation_fn=lambda _: label_map(4),
        )  # fmt: skip
        assert explanation.local_exp[1] == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0)]
        assert explanation.score == 1.0
        assert explanation.intercept[1] == 0.5


@pytest.mark.parametrize(
    "metric",
    ["cosine", "euclidean", "l1", "hamming", "sqeuclidean", lambda a, b: np.abs(a - b).mean()],
)
def test_distance_metrics(metric):
    theirs, mine = explain_both(
        picture(), init={"kernel_width": 3}, distance_metric=metric, num_samples=60,
        segmentation_fn=lambda _: label_map(6),
    )  # fmt: skip
    assert_same(theirs, mine)


def test_a_kernel_of_ones_own_gets_the_distances_that_lime_gives_it():
    seen = []

    def kernel(d, kernel_width):
        seen.append((d.copy(), kernel_width))
        return 1 / (1 + d / kernel_width)

    theirs, mine = explain_both(
        picture(), init={"kernel": kernel, "kernel_width": 2}, num_samples=50,
        segmentation_fn=lambda _: label_map(6), top_labels=1,
    )  # fmt: skip
    assert_same(theirs, mine)
    (d, width), (our_d, our_width) = seen[0], seen[-1]
    assert d.dtype == our_d.dtype == np.float64
    assert width == our_width == 2.0
    np.testing.assert_allclose(our_d, d, 0, 1e-15)


class Median(BaseEstimator):
    """A regressor with nothing but what lime asks for."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, x, y, sample_weight):
        self.coef_ = self.factor * (x * (y * sample_weight)[:, None]).mean(axis=0)
        self.intercept_ = np.median(y)

    def predict(self, x):
        return x @ self.coef_ + self.intercept_

    def score(self, x, y, sample_weight):
        return -np.average(np.abs(y - self.predict(x)), weights=sample_weight)


@pytest.mark.parametrize(
    "regressor",
    [
        Ridge(), Ridge(alpha=3), Ridge(alpha=0), Ridge(solver="svd"), Ridge(fit_intercept=False),
        Ridge(positive=True), Ridge(solver="lsqr"), LinearRegression(),
        LinearRegression(positive=True), Lasso(alpha=0.01), Lasso(alpha=0.001), Lasso(alpha=1.0),
        Lasso(alpha=0.01, positive=True), Lasso(alpha=0.003, tol=1e-10),
        Lasso(alpha=0.01, max_iter=2), Lasso(alpha=0.02, selection="random", random_state=0),
        ElasticNet(alpha=0.01), BayesianRidge(), Median(factor=2.0),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("num_features", [4, 100000])
def test_regressors(regressor, num_features):
    before = dict(vars(regressor))
    for samples in (20, 150):
        theirs, mine = explain_both(
            picture(), model_regressor=_Copied(regressor), num_features=num_features,
            num_samples=samples, segmentation_fn=lambda _: label_map(15), top_labels=2,
        )  # fmt: skip
        assert_same(theirs, mine, 1e-7)
    assert vars(regressor) == before


class _Copied:
    """Gives lime, which refits in place, something else than the caller's object."""

    def __new__(cls, regressor):
        from sklearn.base import clone

        return clone(regressor)


def test_a_regressor_is_never_refitted_in_place():
    for regressor in (BayesianRidge(), Ridge(), Lasso(), LinearRegression(), Median()):
        before = dict(vars(regressor))
        explain(
            ours, picture(), Recorder(), {"random_state": 0}, model_regressor=regressor,
            segmentation_fn=lambda _: label_map(4), num_samples=30,
        )  # fmt: skip
        assert vars(regressor) == before


def test_known_regressors_are_solved_without_scikit_learn(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("fitted by scikit-learn")

    for kind in (Ridge, Lasso, LinearRegression):
        monkeypatch.setattr(kind, "fit", fail)
    for regressor in (None, Ridge(2), Ridge(0), Lasso(0.01), LinearRegression()):
        explain(
            ours, picture(), Recorder(), {"random_state": 0}, model_regressor=regressor,
            segmentation_fn=lambda _: label_map(6), num_samples=60,
        )  # fmt: skip


def test_an_explainer_goes_on_with_its_stream():
    segments = label_map(6)
    shared = [np.random.RandomState(5), np.random.RandomState(5)]
    explainers = [
        m.LimeImageExplainer(random_state=s) for m, s in zip((lime, ours), shared, strict=True)
    ]
    for random_seed in (None, 4, None):
        batches = []
        for explainer in explainers:
            recorder = Recorder()
            explainer.explain_instance(
                picture(), recorder, segmentation_fn=lambda _: segments, num_samples=11,
                random_seed=random_seed,
            )  # fmt: skip
            batches.append(recorder.batches)
        assert_same_batches(*batches)
    assert shared[0].randint(2**31) == shared[1].randint(2**31)


@pytest.mark.parametrize("regressor", [None, Lasso(alpha=0.01), Ridge(), LinearRegression()])
def test_the_global_seed_decides_where_no_other_is_given(regressor):
    results = []
    for module in (lime, ours):
        np.random.seed(123)  # noqa: NPY002
        explainer = module.LimeImageExplainer()
        batches = []
        for _ in range(2):
            recorder = Recorder()
            explainer.explain_instance(
                picture(), recorder, segmentation_fn=lambda _: label_map(5), num_samples=13,
                model_regressor=regressor,
            )  # fmt: skip
            batches += recorder.batches
        results.append((batches, np.random.rand()))  # noqa: NPY002
    assert_same_batches(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_large_samples_approach_the_exact_explanation():
    """All masks of six segments, each once: what lime estimates by sampling."""
    count, segments, image = 6, label_map(6), picture()
    model = Recorder(classes=1, seed=3)
    model(image[None])  # fixes its scale
    masks = np.array(list(itertools.product([1, 0], repeat=count)))
    fudged = image.copy()
    for s in range(count):
        fudged[segments == s] = image[segments == s].mean(axis=0)
    scores = model(np.where(masks[:, segments][..., None] == 1, image, fudged))[:, 0]
    weights = np.exp(-((1 - np.sqrt(masks.mean(axis=1))) ** 2) / (2 * 0.25**2))
    design = np.c_[np.ones(len(masks)), masks] * np.sqrt(weights)[:, None]
    exact = np.linalg.lstsq(design, scores * np.sqrt(weights), rcond=None)[0][1:]

    explanation = explain(
        ours, image, model, {"random_state": 0}, segmentation_fn=lambda _: segments,
        num_samples=30000, batch_size=None, top_labels=1,
    )  # fmt: skip
    found = dict(explanation.local_exp[0])
    error = np.abs([found[s] - exact[s] for s in range(count)]).max()
    assert error < 0.02 * np.abs(exact).max()


# ---- get_image_and_mask -------------------------------------------------------------------------


def twins(image, segments, weights):
    """An explanation of each kind with these weights."""
    pair = lime.ImageExplanation(image, segments), ours.ImageExplanation(image, segments)
    ranked = sorted(enumerate(weights), key=lambda pair: abs(pair[1]), reverse=True)
    for explanation in pair:
        explanation.local_exp[3] = [(np.int64(f), np.float64(w)) for f, w in ranked]
    return pair


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    labels_dtype=st.sampled_from([np.int64, np.int32, np.uint8, np.float64]),
    signs=st.sampled_from([(True, False), (False, True), (False, False), (1, 0), (0, 0)]),
    hide_rest=st.booleans(),
    num_features=st.sampled_from([0, 1, 2, 3, 5, 100, -1]),
    weights=st.lists(st.sampled_from([-0.5, -0.25, -0.0, 0.0, 0.125, 0.25, 0.5, 1.0]),
                     min_size=1, max_size=7),
    min_weight=st.sampled_from([0.0, 0.25, 0.5, 0.3, -1.0]),
)  # fmt: skip
def test_image_and_mask_are_limes_bit_for_bit(
    dtype, labels_dtype, signs, hide_rest, num_features, weights, min_weight
):
    image = picture(dtype)
    segments = label_map(len(weights)).astype(labels_dtype)
    pair = twins(image, segments, weights)
    before = image.copy(), segments.copy()
    arguments = {
        "positive_only": signs[0], "negative_only": signs[1], "hide_rest": hide_rest,
        "num_features": num_features, "min_weight": min_weight,
    }  # fmt: skip
    results = [outcome(e.get_image_and_mask, 3, **arguments) for e in pair]
    unsigned = labels_dtype == np.uint8 and not any(signs)  # lime's mask has no -1 then
    if isinstance(results[0], Exception):
        if isinstance(results[0], OverflowError) and unsigned:
            pair = twins(image, segments.astype(np.int64), weights)
            results[0] = pair[0].get_image_and_mask(3, **arguments)
        else:
            assert repr(results[0]) == repr(results[1])
            return
    for expected, found in zip(*results, strict=True):
        assert expected.dtype == found.dtype or (unsigned and found.dtype == np.int64)
        np.testing.assert_array_equal(expected, found)
        assert not np.shares_memory(found, image)
        assert not np.shares_memory(found, segments)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(segments, before[1])


def outcome(function, *arguments, **more):
    """What it returns, or the exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*arguments, **more)
        except Exception as error:
            return error


# ---- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda m: twins_of(m).get_image_and_mask(7),
        lambda m: twins_of(m).get_image_and_mask(3, True, True),
        lambda m: m.LimeImageExplainer(kernel_width=None),
        lambda m: m.LimeImageExplainer(random_state=GENERATOR),
        lambda m: m.LimeImageExplainer(random_state="seven"),
        lambda m: run(m, top_labels=None, labels=5),
        lambda m: run(m, image=picture(np.uint8), hide_color=300),
        lambda m: run(m, num_features=0),
        lambda m: run(m, num_samples=0),
        lambda m: run(m, num_samples=2.5),
        lambda m: run(m, fn=lambda x: np.full((len(x), 2), np.nan)),
    ],
)
def test_errors_have_limes_type_and_message(use):
    theirs, mine = (outcome(use, module) for module in (lime, ours))
    assert isinstance(theirs, Exception)
    assert type(mine) is type(theirs)
    first = str(theirs).splitlines()[0]
    if "float()" not in first:  # Python's own words differ with the release
        assert str(mine).splitlines()[0] == first


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: run(m, init={"feature_selection": "best"}), "feature_selection must be one of"),
        (
            lambda m: run(m, top_labels=None, labels=(0, 9)),
            "no label 9: classifier_fn has 4 outputs, labels 0…3",
        ),
        (
            lambda m: run(m, top_labels=None, labels=("cat",)),
            r"labels must be integers, .* got 'cat'; .* names.index\('cat'\)",
        ),
        (
            lambda m: run(m, top_labels=None, fn=Recorder(classes=1)),
            r"no label 1: classifier_fn has one output, label 0; pass labels=\(0,\)",
        ),
        (lambda m: run(m, segmentation_fn=lambda _: label_map(2, (3, 3))), "must return labels"),
        (lambda m: run(m, fn=lambda x: np.zeros((len(x) + 1, 2))), r"must return scores \[9,"),
    ],
)
def test_errors_that_lime_leaves_to_chance_have_its_type_and_say_what_to_do(use, message):
    assert type(outcome(use, ours)) is type(outcome(use, lime))
    with pytest.raises((ValueError, IndexError), match=message):
        use(ours)


def twins_of(module):
    return twins(picture(), label_map(2), [1.0, -0.5])[module is ours]


def run(module, image=None, fn=None, init=None, **arguments):
    arguments = {"segmentation_fn": lambda _: label_map(4), "num_samples": 9} | arguments
    image = picture() if image is None else image
    return explain(module, image, fn or Recorder(), init or {}, **arguments)


def test_verbose_prints_what_lime_prints(capsys):
    printed = []
    for module in (lime, ours):
        run(module, init={"verbose": True, "random_state": 2}, num_samples=30)
        printed.append(capsys.readouterr().out.splitlines())
    assert [line.split()[0] for line in printed[0]] == [line.split()[0] for line in printed[1]]
    numbers = [[float(line.split()[-1].strip("[]")) for line in lines] for lines in printed]
    np.testing.assert_allclose(numbers[0], numbers[1], 0, 1e-8)


def test_a_grey_image_becomes_three_channels():
    for dtype in (np.uint8, np.float64):
        image = picture(dtype, channels=None)
        theirs, mine = explain_both(image, segmentation_fn=lambda _: label_map(5), num_samples=30)
        assert_same(theirs, mine)
        assert mine.image.shape == (8, 10, 3)
        assert mine.image.dtype == dtype


@pytest.mark.parametrize("width", [0.001, 0.02, 0.03, 0.25])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_kernels_that_underflow(width, metric):
    """lime's coefficients, unless none of them would be anything but 0: that is said."""
    arguments = {"segmentation_fn": lambda _: label_map(7), "distance_metric": metric}
    arguments |= {"num_samples": 60}
    theirs = explain(
        lime, picture(), Recorder(), {"kernel_width": width, "random_state": 7}, **arguments
    )
    largest = max(abs(w) for weights in theirs.local_exp.values() for _, w in weights)
    if largest > 1e-12:
        assert_same(*explain_both(picture(), None, {"kernel_width": width}, **arguments))
        return
    with pytest.raises(ValueError, match="every masked image has weight 0") as caught:
        explain(ours, picture(), Recorder(), {"kernel_width": width}, **arguments)
    assert f"distance_metric='{metric}'" in str(caught.value)
    assert f"kernel_width={width} is too narrow" in str(caught.value)
    advice = float(re.search(r"LimeImageExplainer\(kernel_width=(.*?)\)", str(caught.value))[1])
    explain(ours, picture(), Recorder(), {"kernel_width": advice}, **arguments)


def test_least_squares_sees_weights_that_a_ridge_would_not():
    """Weights of 1e-12 to 1e-90 beside the image's own 1: the scale is nothing to it."""
    arguments = {"segmentation_fn": lambda _: label_map(5), "distance_metric": "euclidean"}
    arguments |= {"num_samples": 60, "top_labels": 1}
    width = {"kernel_width": 0.1}
    with pytest.raises(ValueError, match="distance_metric='cosine'"):
        explain(ours, picture(), Recorder(), width, **arguments)
    theirs, mine = explain_both(
        picture(), None, width, model_regressor=LinearRegression(), **arguments
    )
    largest = max(abs(w) for _, w in next(iter(theirs.local_exp.values())))
    assert largest > 0.01
    assert_same(theirs, mine, 1e-6 * largest)


def test_a_kernel_that_takes_roots_meets_no_negative_distance():
    root = {"kernel": lambda d, kernel_width: np.exp(-np.sqrt(d))}
    segments = {"segmentation_fn": lambda _: label_map(3)}
    assert_same(*explain_both(picture(), None, root, num_samples=60, **segments))


@pytest.mark.parametrize("regressor", [Ridge(-1), Lasso(-1.0)])
def test_a_regressor_that_scikit_learn_refuses_is_refused(regressor):
    arguments = {"segmentation_fn": lambda _: label_map(7), "model_regressor": regressor}
    for module in (lime, ours):
        with pytest.raises(ValueError, match="alpha"):
            explain(module, picture(), Recorder(), {"random_state": 7}, num_samples=60, **arguments)
