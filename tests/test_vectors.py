"""Vectors through the same pipeline, against known answers and scikit-learn."""

import dataclasses
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn import datasets, ensemble, linear_model, pipeline, preprocessing, svm
from torch import nn

import torchlime
from torchlime import Explanation, _row_blocks, explain_vector, metrics, plot
from torchlime.masks import Bernoulli
from torchlime.noise import Gaussian
from torchlime.surrogates import Lasso, LeastSquares, Ridge
from torchlime.weights import Exponential, InverseDistance, Uniform

IID = Gaussian(antithetic=False)


def vectors(batch, *shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *shape, generator=g, dtype=torch.float64)


def network(width, classes=4, dtype=torch.float64):
    torch.manual_seed(1)
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(width, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, classes)
    )
    return layers.to(dtype).eval()


def nonlinear(z):
    """Scores [n,2] of vectors [n,F]."""
    return torch.stack(
        [z.sin().sum(1) + z[:, 0] * z[:, -1], (z.square().mean(1) - z[:, 0]).exp()], 1
    )


# ---- known answers -------------------------------------------------------------------------------

SCALES = [0.1, torch.tensor([0.1, 2.0, 0.5, 1e-3, 1.0, 7.0]), torch.rand(3, 6) + 0.1]


@pytest.mark.parametrize("scale", SCALES, ids=["number", "each feature", "each entry"])
@pytest.mark.parametrize("surrogate", [LeastSquares(), Ridge(1e-9)], ids=repr)
@pytest.mark.parametrize("sampler", [Gaussian(), IID], ids=repr)
@pytest.mark.parametrize("kernel", [None, Uniform(), InverseDistance("euclidean")], ids=repr)
def test_a_linear_model_gives_its_coefficients(scale, surrogate, sampler, kernel):
    x, slopes = vectors(3, 6), vectors(6, 2, seed=1)
    e = explain_vector(
        lambda z: z @ slopes + 5, x, torch.tensor([[0, 1]] * 3), scale=scale, num_samples=40,
        sampler=sampler, kernel=kernel, surrogate=surrogate,
    ).check()  # fmt: skip
    assert e.coefficients.shape == e.standard_errors.shape == (3, 2, 6)
    assert e.coefficients.allclose(slopes.T.expand(3, -1, -1), rtol=0, atol=1e-7)
    assert e.intercepts.allclose(torch.tensor(5.0).double(), rtol=0, atol=1e-6)
    assert e.fidelity.allclose(torch.ones(3, 2).double(), rtol=0, atol=1e-9)
    assert e.local_predictions.allclose(e.scores, rtol=0, atol=1e-8)
    assert e.scores.allclose(x @ slopes + 5, rtol=0, atol=1e-12)
    assert e.standard_errors.abs().max() < 1e-6


def test_exactly_in_float64():
    x, slopes = vectors(5, 30), vectors(30, 1, seed=1)
    e = explain_vector(lambda z: z @ slopes, x, surrogate=LeastSquares()).check()
    assert e.coefficients.allclose(slopes[:, 0].expand_as(e.coefficients), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.1, torch.tensor([0.3, 0.1, 1.0, 0.2, 0.05])])
@pytest.mark.parametrize("kernel", [Uniform(), None], ids=repr)
def test_the_gradient_of_a_quadratic_in_the_limit(scale, kernel):
    """Stein's lemma: E[ε f(x + σε)] = σ E[∇f(x + σε)], which for a quadratic is σ ∇f(x)."""
    x, curvature = vectors(1, 5), vectors(5, 5, seed=1)
    e = explain_vector(
        lambda z: ((z @ curvature) * z).sum(1), x, scale=scale, num_samples=20_000, sampler=IID,
        kernel=kernel, surrogate=LeastSquares(),
    ).check()  # fmt: skip
    gradient = x @ (curvature + curvature.T)
    off = (e.coefficients[:, 0] - gradient).abs()
    assert (off < 4 * e.standard_errors[:, 0]).all()
    assert (off > 0).all()
    assert (e.standard_errors[:, 0] < 0.1 * gradient.abs().max()).all()


def test_the_mean_gradient_of_a_sine_in_the_limit():
    """Of sin(a·z) Stein's E[∇f] is a cos(a·x) exp(−σ²|a|²/2)."""
    x, a = vectors(1, 4), torch.tensor([3.0, -2.0, 1.0, 0.0]).double()
    e = explain_vector(lambda z: (z @ a).sin(), x, scale=0.4, num_samples=50_000, sampler=IID,
                       kernel=Uniform(), surrogate=LeastSquares())  # fmt: skip
    expected = a * (x @ a).cos() * math.exp(-0.08 * (a @ a))
    assert ((e.coefficients[0, 0] - expected).abs() < 4 * e.standard_errors[0, 0]).all()


@pytest.mark.parametrize("num_samples", [14, 15, 100, 1001])
@pytest.mark.parametrize("kernel", [Uniform(), None], ids=repr)
def test_antithetic_pairs_remove_the_even_part_of_a_quadratic(num_samples, kernel):
    x, curvature = vectors(2, 7), vectors(7, 7, seed=1)

    def gradient(of, at):
        return explain_vector(of, at, num_samples=num_samples, kernel=kernel,
                              surrogate=LeastSquares()).coefficients[:, 0]  # fmt: skip

    def quadratic(z):
        return ((z @ curvature) * z).sum(1)

    expected = x @ (curvature + curvature.T)
    assert gradient(quadratic, x).allclose(expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("num_samples", [2, 3, 9, 40, 1001])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_pure_quadratic_has_coefficients_of_0_at_any_number_of_samples(num_samples, dtype):
    x = torch.zeros(2, 7, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer pairs than features
        e = explain_vector(lambda z: z.square() * torch.arange(1, 8), x, 3, scale=1.0,
                           num_samples=num_samples, surrogate=LeastSquares())  # fmt: skip
    assert e.coefficients.abs().max() < 1e-13  # of scores up to some 50


ODD_AND_EVEN = {"cubic": lambda z: z**3, "sine": lambda z: (2 * z).sin(), "exp": torch.exp}


@pytest.mark.parametrize("name", ODD_AND_EVEN)
@pytest.mark.parametrize(
    ("kernel", "surrogate"), [(Uniform(), LeastSquares()), (None, Ridge())], ids=["plain", "lime"]
)
@pytest.mark.parametrize("num_samples", [24, 101, 1000])
@pytest.mark.parametrize("sampler", [Gaussian(), IID], ids=["pairs", "iid"])
def test_intervals_cover_the_mean_over_seeds(name, kernel, surrogate, num_samples, sampler):
    runs = 400
    e = explain_vector(
        lambda z: ODD_AND_EVEN[name](z).sum(1), torch.zeros(runs, 5).double(), scale=1.0,
        num_samples=num_samples, sampler=sampler, kernel=kernel, surrogate=surrogate,
        seed=torch.arange(runs),
    )  # fmt: skip
    off = (e.coefficients - e.coefficients.mean(0)).abs()
    coverage = (off <= 1.96 * e.standard_errors).double().mean().item()
    assert 0.89 <= coverage <= 0.99, coverage


@pytest.mark.parametrize("num_samples", [20, 21])
@pytest.mark.parametrize("kernel", [Uniform(), None], ids=repr)
@pytest.mark.parametrize("surrogate", [LeastSquares(), Ridge(0.5)], ids=repr)
def test_standard_errors_of_pairs_by_leaving_each_out(num_samples, kernel, surrogate, monkeypatch):
    """HC3's: β − β₍ᵢ₎ of the fits without pair i, Σ (β − β₍ᵢ₎)², by refitting."""
    e = explain_vector(nonlinear, vectors(1, 4), 1, scale=1.0, num_samples=num_samples,
                       kernel=kernel, surrogate=surrogate, keep_samples=True)  # fmt: skip
    variance = torch.zeros(4).double()
    for pair in range(num_samples // 2):
        left = torch.ones(num_samples, dtype=torch.bool)
        left[2 * pair : 2 * pair + 2] = False
        data = (e.masks[:, left], e.sample_scores[:, left], e.weights[:, left], e.segment_count)
        variance += (surrogate(*data).coefficients[0, 0] - e.coefficients[0, 0]).square()
    assert e.standard_errors[0, 0].allclose(variance.sqrt(), rtol=1e-9)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 1)
    assert e.refit().standard_errors.allclose(e.standard_errors, rtol=1e-9)


def test_the_scores_of_an_even_model_have_errors_of_0():
    e = explain_vector(lambda z: z.square().sum(1), torch.zeros(2, 5).double(), scale=1.0)
    assert e.standard_errors.max() < 1e-14


@pytest.mark.parametrize("surrogate", [LeastSquares(), Ridge(1e-6)], ids=repr)
@pytest.mark.parametrize(
    ("num_samples", "flagged", "defined"),
    [(8, True, False), (12, True, False), (13, True, False), (14, False, True)],
)
def test_fewer_pairs_than_features_plus_one_are_flagged(surrogate, num_samples, flagged, defined):
    """Between F and 2F the fit is perfect and its slopes are wrong: nothing else shows it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        e = explain_vector(nonlinear, vectors(2, 6), 0, num_samples=num_samples, kernel=Uniform(),
                           surrogate=surrogate, keep_samples=True)  # fmt: skip
    for shown in (e, e.refit()):
        assert shown.problems.tolist() == [32 * flagged] * 2
        assert shown.standard_errors.isfinite().all() == defined
        assert shown.standard_errors.isnan().all() != defined
    if flagged:
        with pytest.raises(
            RuntimeError, match=r"effective samples \(or antithetic pairs\) are few"
        ):
            e.check()
    iid = explain_vector(nonlinear, vectors(2, 6), 0, num_samples=num_samples, kernel=Uniform(),
                         surrogate=surrogate, sampler=IID)  # fmt: skip
    assert iid.ok.all()


def test_the_warning_of_few_pairs_names_the_callers_line():
    with pytest.warns(UserWarning, match="samples in pairs span") as caught:
        explain_vector(nonlinear, vectors(2, 6), num_samples=8)
    assert caught[0].filename == __file__


def test_the_documents_recipe_is_one_call():
    """100 samples, σ = 0.1, no weights, plain least squares: NumPy's, literally."""
    x = vectors(1, 8)
    e = explain_vector(
        nonlinear, x, 1, scale=0.1, num_samples=100, sampler=Gaussian(antithetic=False),
        kernel=Uniform(), surrogate=LeastSquares(), keep_samples=True,
    ).check()  # fmt: skip
    samples = x.numpy() + 0.1 * e.masks[0].double().numpy()
    predictions = nonlinear(torch.from_numpy(samples))[:, 1].numpy()
    design = np.hstack([np.ones((100, 1)), samples])
    expected = np.linalg.lstsq(design, predictions, rcond=None)[0]
    np.testing.assert_allclose(e.coefficients[0, 0].numpy(), expected[1:], rtol=0, atol=1e-10)
    assert e.intercepts.item() == pytest.approx(expected[0], abs=1e-10)
    assert len(np.unique(samples)) == 800  # x itself is not among them


SURROGATES = [
    (LeastSquares(), linear_model.LinearRegression()),
    (Ridge(1.0), linear_model.Ridge(1.0, solver="svd")),
    (Lasso(alpha=0.2), linear_model.Lasso(0.2, tol=1e-15, max_iter=10**6)),
]


@pytest.mark.parametrize(("surrogate", "theirs"), SURROGATES, ids=repr)
@pytest.mark.parametrize("scale", [0.3, torch.linspace(0.1, 0.9, 12).double()])
@pytest.mark.parametrize("num_samples", [300, 9])
def test_the_same_draws_through_scikit_learn(surrogate, theirs, scale, num_samples):
    x = vectors(2, 12)
    e = explain_vector(
        nonlinear, x, torch.tensor([[0, 1], [1, 0]]), scale=scale, num_samples=num_samples,
        sampler=IID, surrogate=surrogate, keep_samples=True, seed=torch.tensor([4, 5]),
    )  # fmt: skip
    assert not torch.equal(e.masks[0], e.masks[1])
    for b in range(2):
        noise = e.masks[b].double()
        width = 0.75 * math.sqrt(12)  # and lime's kernel
        weights = np.sqrt(np.exp(-((np.linalg.norm(noise, axis=1) / width) ** 2)))
        np.testing.assert_allclose(e.weights[b].numpy(), weights, rtol=1e-12)
        scores = nonlinear(x[b] + scale * noise).numpy()
        for t, target in enumerate(e.targets[b].tolist()):
            fit = theirs.fit(noise.numpy(), scores[:, target], sample_weight=weights)
            expected = torch.from_numpy(fit.coef_) / scale
            size = expected.abs().max()
            assert (e.coefficients[b, t] - expected).abs().max() < 1e-10 * size
            intercept = fit.intercept_ - (expected @ x[b]).item()
            assert e.intercepts[b, t].item() == pytest.approx(intercept, abs=1e-8)
            predicted = fit.predict(np.zeros((1, 12)))[0]
            assert e.local_predictions[b, t].item() == pytest.approx(predicted, abs=1e-9)
            r2 = fit.score(noise.numpy(), scores[:, target], weights)
            assert e.fidelity[b, t].item() == pytest.approx(r2, abs=1e-9)


# ---- what does not change an explanation ---------------------------------------------------------


@pytest.mark.parametrize(
    "surrogate", [Ridge(), LeastSquares(), Lasso(fraction=0.1)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("num_samples", [100, 10])
@pytest.mark.parametrize("seed", [3, torch.tensor([3, 9, 3, 5])])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.filterwarnings("ignore:.* samples in pairs span:UserWarning")
def test_alone_in_a_batch_and_in_any_chunk(surrogate, num_samples, seed, dtype, tolerance):
    model = network(12, dtype=dtype)
    x = vectors(4, 3, 4).to(dtype)
    settings = {"top": 2, "num_samples": num_samples, "surrogate": surrogate, "keep_samples": True}
    batch = explain_vector(model, x, seed=seed, **settings)
    for chunk_size in (7, 64):
        same(
            explain_vector(model, x, seed=seed, chunk_size=chunk_size, **settings), batch, tolerance
        )
    for b in range(4):
        own = seed if isinstance(seed, int) else seed[b : b + 1]
        same(explain_vector(model, x[b : b + 1], seed=own, **settings), batch[b], tolerance)


def same(one, other, tolerance):
    for name in ("masks", "targets", "problems", "vectors", "scale"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name in ("coefficients", "intercepts", "standard_errors", "weights"):
        ours, theirs = getattr(one, name), getattr(other, name)
        limit = tolerance * max(1e-3, theirs.nan_to_num().abs().max().item())
        assert ours.allclose(theirs, rtol=0, atol=limit, equal_nan=True), name


def test_one_draw_for_all_is_factorised_once(monkeypatch):
    sizes = []
    cholesky = torch.linalg.cholesky_ex

    def counted(gram):
        sizes.append(list(gram.shape))
        return cholesky(gram)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", counted)
    explain_vector(nonlinear, vectors(50, 6))
    explain_vector(nonlinear, vectors(2, 6), seed=torch.tensor([0, 1]))
    assert sizes == [[1, 6, 6], [2, 6, 6]]


def test_one_bad_vector_leaves_the_others_alone():
    x = vectors(3, 5)
    x[1, 2] = math.nan
    for surrogate in (Ridge(), LeastSquares(), Lasso(fraction=0.1)):
        e = explain_vector(nonlinear, x, 0, surrogate=surrogate)
        assert e.ok.tolist() == [True, False, True]
        good = explain_vector(nonlinear, x[::2], 0, surrogate=surrogate)
        assert e.coefficients[::2].allclose(good.coefficients, rtol=1e-12)


def test_the_callers_state_and_x_come_back():
    model = network(6, dtype=torch.float32).train()
    x = vectors(2, 6).float()
    before, state = x.clone(), torch.get_rng_state()
    calls = []
    with torch.inference_mode():
        e = explain_vector(model, x, 1, num_samples=30, chunk_size=25,
                           progress=lambda *rows: calls.append(rows))  # fmt: skip
    assert not e.coefficients.is_inference()
    assert model.training
    assert model[3].training
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert calls[-1] == (62, 62)  # 2·(30 + 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_models(dtype):
    x = vectors(2, 6)
    exact = explain_vector(network(6), x, 1, scale=0.5)
    rough = explain_vector(network(6, dtype=dtype), x, 1, scale=0.5)
    assert rough.coefficients.dtype == torch.float64
    error = (rough.coefficients - exact.coefficients).abs().max()
    assert error < 0.05 * exact.coefficients.abs().max()


def test_gradients_flow_to_the_models_parameters():
    x = vectors(2, 4)
    parameters = vectors(4, 3, seed=1).requires_grad_()

    def explained(parameters, field):
        e = explain_vector(lambda z: (z @ parameters).tanh(), x, 1, num_samples=20, scale=0.7,
                           chunk_size=9, differentiable=True)  # fmt: skip
        return getattr(e, field)

    for field in ("coefficients", "intercepts", "local_predictions", "scores"):
        assert torch.autograd.gradcheck(lambda p, f=field: explained(p, f), parameters)


# ---- the explanation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explanation():
    return explain_vector(nonlinear, vectors(3, 6), top=2, num_samples=50, keep_samples=True)


def test_the_fields(explanation):
    e = explanation.check()
    assert e.segments is None
    assert e.segment_count.tolist() == [6, 6, 6]
    assert e.vectors.shape == e.scale.shape == (3, 6)
    assert (e.scale == 0.1).all()
    assert e.masks.shape == (3, 50, 6)
    assert e.sample_scores.shape == (3, 50, 2)
    assert e.energy is None
    assert e.settings["kernel"] == repr(Exponential(0.75 * math.sqrt(6), "euclidean"))
    assert (e.settings["scale"], e.settings["seed"]) == (0.1, 0)
    seeds = torch.tensor([1, 2, 3])
    own = explain_vector(nonlinear, vectors(3, 6), scale=torch.ones(6), seed=seeds)
    assert (own.settings["scale"], own.settings["seed"]) == ("a tensor [6]", "a tensor [3]")
    assert own.masks is None


def test_top_and_as_list(explanation):
    one = explanation[1]
    names = ["a", "b", "c", "d", "e", "f"]
    ids, values = one.top(6)
    for row, target in enumerate(one.targets[0].tolist()):
        expected = [
            (names[i], v) for i, v in zip(ids[0, row], values[0, row].tolist(), strict=True)
        ]
        assert one.as_list(names, target) == expected
    assert one.as_list(names) == one.as_list(names, one.targets[0, 0].item())
    assert [name for name, _ in one.as_list()] == [str(i) for i in ids[0, 0].tolist()]
    with pytest.raises(ValueError, match="feature_names must be 6 names, got 2"):
        one.as_list(["a", "b"])
    assert one.as_list(iter(names)) == one.as_list(np.array(names)) == one.as_list(names)
    with pytest.raises(TypeError, match="feature_names must be 6 names, got the str 'abcdef'"):
        one.as_list("abcdef")
    with pytest.raises(ValueError, match="target 7 was not explained; the explained ones are"):
        one.as_list(target=7)
    with pytest.raises(ValueError, match=r"holds 3 vectors; index one .*explanation\[i\]"):
        explanation.as_list()


def test_as_list_of_segments():
    image = torch.rand(1, 1, 4, 4)
    e = torchlime.explain(lambda x: x.mean((2, 3)), image, segmenter=torchlime.segments.Grid(2, 2))
    assert {name for name, _ in e.as_list()} == {"0", "1", "2", "3"}


def test_bars(explanation):
    picture = plot.bars(explanation[0])
    assert picture.shape[::2] == (3, 480)
    blue = torch.tensor(plot.FOR, dtype=torch.uint8)[:, None, None]
    assert (picture == blue).all(0).any() == (explanation[0].coefficients[0, 0] > 0).any()


@pytest.mark.parametrize(
    "show",
    [
        lambda e, i: e.heatmap(),
        lambda e, i: e.mask(),
        lambda e, i: plot.overlay(e, i),
        lambda e, i: plot.heatmap_picture(e),
        lambda e, i: plot.sheet(e, i),
        lambda e, i: metrics.deletion(None, i, e),
        lambda e, i: metrics.share_inside(e, i),
    ],
)
def test_what_needs_segments_says_so(explanation, show):
    with pytest.raises(
        ValueError, match=r"vectors has no pixels and no segments; top\(\), as_list"
    ):
        show(explanation[0], torch.rand(3, 4, 4))


def test_stability_of_vectors():
    runs = [explain_vector(nonlinear, vectors(2, 6), 0, seed=s, sampler=IID) for s in (0, 1)]
    assert (metrics.rank_correlation(runs) > 0.8).all()


@pytest.mark.parametrize("kernel", [None, Uniform(), Exponential(1.0, "euclidean")], ids=repr)
@pytest.mark.parametrize("surrogate", [None, LeastSquares(), Lasso(fraction=0.2)], ids=repr)
def test_refit(explanation, kernel, surrogate):
    again = explanation.refit(kernel=kernel, surrogate=surrogate)
    fresh = explain_vector(nonlinear, vectors(3, 6), top=2, num_samples=50, keep_samples=True,
                           kernel=kernel, surrogate=surrogate or Ridge())  # fmt: skip
    same(again, fresh, 1e-12)
    assert again.local_predictions.allclose(fresh.local_predictions, rtol=1e-12)


def test_save_load_move_and_pickle(explanation, tmp_path):
    explanation.save(tmp_path / "e.npz")
    loaded = Explanation.load(tmp_path / "e.npz")
    for other in (loaded, explanation.to("cpu"), pickle.loads(pickle.dumps(explanation))):
        same(other, explanation, 0)
        same(
            other.refit(surrogate=LeastSquares()), explanation.refit(surrogate=LeastSquares()), 1e-9
        )
        assert other[2].as_list() == explanation[2].as_list()
    assert loaded.settings["sampler"] == "Gaussian(antithetic=True)"
    dataclasses.replace(explanation, scale=torch.ones(3, 5)).save(tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match="is not a saved explanation: scale must be of shape"):
        Explanation.load(tmp_path / "wrong.npz")


# ---- models and strategies -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    features, labels = datasets.load_breast_cancer(return_X_y=True)
    return preprocessing.StandardScaler().fit_transform(features), labels


def test_an_estimator_is_a_model(table):
    features, labels = table
    x = torch.from_numpy(features[:5])
    logistic = linear_model.LogisticRegression().fit(features, labels)
    e = explain_vector(logistic, x, 1).check()

    def by_hand(z):
        logits = z @ torch.from_numpy(logistic.coef_[0]) + logistic.intercept_[0]
        return torch.stack([-logits, logits], 1).sigmoid()

    assert e.coefficients.allclose(explain_vector(by_hand, x, 1).coefficients, rtol=1e-9)
    best = torch.from_numpy(logistic.predict_proba(features[:5]).argmax(1))
    assert torch.equal(explain_vector(logistic, x).targets[:, 0], best)

    linear = pipeline.make_pipeline(preprocessing.MinMaxScaler(), linear_model.Ridge())
    linear.fit(features, features[:, 0] + labels)
    e = explain_vector(linear, x, surrogate=LeastSquares()).check()
    slopes = linear[-1].coef_ * linear[0].scale_
    np.testing.assert_allclose(e.coefficients[:, 0].numpy(), np.tile(slopes, (5, 1)), atol=1e-10)

    forest = ensemble.RandomForestClassifier(10, random_state=0).fit(features, labels)
    e = explain_vector(forest, x.float().unflatten(1, (5, 6)), top=2).check()
    assert e.coefficients.shape == (5, 2, 30)
    assert e.coefficients[:, 0].allclose(-e.coefficients[:, 1], rtol=0, atol=1e-9)


def test_an_estimator_without_scores_is_refused(table):
    features, labels = table
    x = torch.from_numpy(features[:2])
    machine = svm.LinearSVC().fit(features, labels)
    for given in (labels, labels.astype(float)):  # classes are no scores, whatever their dtype
        with pytest.raises(TypeError, match="LinearSVC predicts classes and has no predict_proba"):
            explain_vector(svm.LinearSVC().fit(features, given), x)
    wrapped = explain_vector(
        lambda z: torch.from_numpy(machine.decision_function(z.numpy())), x,
        surrogate=LeastSquares(),
    )  # fmt: skip
    np.testing.assert_allclose(wrapped.coefficients[0, 0].numpy(), machine.coef_[0], atol=1e-10)


def test_an_estimator_of_whole_numbers_of_16_bits_and_without_gradients(table):
    features, labels = table
    x = torch.from_numpy(features[:2])

    class Counts:
        def predict(self, rows):
            return np.rint(100 * rows.sum(1)).astype(int)

    assert (explain_vector(Counts(), x).check().coefficients - 100).abs().max() < 10
    logistic = linear_model.LogisticRegression().fit(features, labels)
    for dtype in (torch.bfloat16, torch.float16):
        rough = explain_vector(logistic, x.to(dtype), 1).check().coefficients
        exact = explain_vector(logistic, x.to(dtype).double(), 1).coefficients
        assert rough.allclose(exact, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="differentiable=True needs a model of torch, not an est"):
        explain_vector(logistic, x, differentiable=True)


def test_a_strategy_is_any_callable_of_its_signature():
    def steps(feature_count, num_features, num_samples, *, seed):
        """One step up and one down along each feature: central differences."""
        eye = torch.eye(num_features)
        return torch.cat([eye, -eye]).expand(len(feature_count), -1, -1)

    x = vectors(2, 5)
    e = explain_vector(
        nonlinear, x, 0, scale=1e-4, sampler=steps, surrogate=LeastSquares(),
        kernel=lambda noise, count, energy: torch.ones(noise.shape[:2]),
    ).check()  # fmt: skip
    gradient = torch.func.vmap(torch.func.grad(lambda z: nonlinear(z[None])[0, 0]))(x)
    assert e.coefficients[:, 0].allclose(gradient, rtol=0, atol=1e-6)


# ---- few data, many features ---------------------------------------------------------------------


def test_a_single_feature():
    x = vectors(3, 1)
    e = explain_vector(lambda z: 3 * z[:, 0] + 1, x, surrogate=LeastSquares()).check()
    assert e.coefficients.allclose(torch.tensor(3.0).double(), rtol=0, atol=1e-11)
    assert e.top(5)[0][0, 0].tolist() == [0, -1, -1, -1, -1]


@pytest.mark.parametrize(("surrogate", "theirs"), SURROGATES[:2], ids=repr)
def test_ten_thousand_features_and_fewer_samples(surrogate, theirs):
    x, slopes = vectors(2, 10_000), vectors(10_000, 1, seed=1)[:, 0]
    e = explain_vector(
        lambda z: z @ slopes, x, num_samples=60, sampler=IID, surrogate=surrogate,
        kernel=Uniform(), keep_samples=True,
    )  # fmt: skip
    noise = e.masks[0].double().numpy()
    scores = ((x[1] + 0.1 * e.masks[1].double()) @ slopes).numpy()
    expected = theirs.fit(noise, scores).coef_ / 0.1
    np.testing.assert_allclose(e.coefficients[1, 0].numpy(), expected, atol=1e-8)
    assert e.standard_errors.isnan().all()
    with pytest.raises(RuntimeError, match="fewer than the features plus one: raise num_samples"):
        e.check()


# ---- bad input -----------------------------------------------------------------------------------

X = vectors(2, 4)


def run(x=X, targets=None, model=nonlinear, **settings):
    return explain_vector(model, x, targets, **{"num_samples": 16, **settings})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: run((X * 9).long()), TypeError, r"x must be float.* torch.int64; pass x.float"),
        (lambda: run((X * 9).long().numpy()), TypeError, r"x must be float.* torch.int64; pass x"),
        (lambda: run(X[0]), ValueError, r"shape \[B,F\] or \[B,…\], got \[4\]; add .* x\[None\]"),
        (lambda: run(X[:0]), ValueError, "x must hold at least one vector and feature"),
        (lambda: run(X[:, :0]), ValueError, "x must hold at least one vector and feature"),
        (lambda: run(scale=0), ValueError, "scale must be a finite number above 0, got 0"),
        (lambda: run(scale=-0.1), ValueError, "scale must be a finite number above 0, got -0.1"),
        (lambda: run(scale=math.inf), ValueError, "scale must be a finite number above 0"),
        (lambda: run(scale=[0.1] * 4), TypeError, "scale must be a number, got list"),
        (lambda: run(scale=torch.ones(3)), ValueError, r"broadcast to x's \[2, 4\], got \[3\]"),
        (lambda: run(scale=torch.ones(4).long()), TypeError, "float tensor, got torch.int64"),
        (lambda: run(scale=torch.ones(4, device="meta")), ValueError, "scale is on meta, x is on"),
        (lambda: run(num_samples=1), ValueError, "num_samples must be at least 2, got 1"),
        (lambda: run(model=lambda z: nonlinear(z)[1:]), ValueError,
         r"the model must return a float tensor \[34,classes\] or \[34\], got \[33, 2\]"),
        (lambda: run(model=lambda z: z.argmax(1)), TypeError, "got torch.int64"),
        (lambda: run(model=nn.Linear(4, 2, device="meta")), ValueError,
         r"the model is on meta, x is on cpu; move one of them"),
        (lambda: run(model=None), TypeError, "model must be callable, or an estimator with .*None"),
        (lambda: run(targets=2), IndexError, "targets=2, but the model has 2 outputs"),
        (lambda: run(targets=torch.zeros(2, device="meta").long()), ValueError, "x is on cpu"),
        (lambda: run(targets=torch.zeros(3).long()), ValueError, r"with B = 2, got \[3\]"),
        (lambda: run(top=3), ValueError, "top=3, but the model has 2 outputs"),
        (lambda: run(seed=torch.tensor([1])), ValueError, "seed must be an int or an int64 tensor"),
        (lambda: run(seed="a"), TypeError, "seed must be an int or an int64 tensor"),
        (lambda: run(chunk_size=0), ValueError, "chunk_size must be at least 1"),
        (lambda: run(kernel=3), TypeError, "kernel must be callable, got 3"),
        (lambda: run(kernel=Exponential()), ValueError, "'cosine' is one of masks, .*'euclidean'"),
        (lambda: run(kernel=InverseDistance()), ValueError, "'pixel_euclidean' is one of masks"),
        (lambda: run(sampler=Bernoulli()), ValueError, "got torch.bool .*samplers of masks do not"),
        (lambda: run(sampler=lambda *a, seed: torch.ones(2, 9, 3)), ValueError, r"\[2, 9, 3\]"),
        (lambda: run(sampler=lambda *a, seed: None), TypeError, "sampler must return .* NoneType"),
        (lambda: run(progress=3), TypeError, "progress must be callable"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_vector_that_is_not_finite_is_flagged(value):
    x = X.clone()
    x[1, 3] = value
    with pytest.raises(RuntimeError, match="trusted. vector 1: the vector holds NaN or infinite"):
        run(x, 0).check()


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_the_scale_of_a_feature_that_is_not_above_0_is_flagged(value):
    scale = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.1, value, 0.1, 0.1]])
    e = run(targets=0, scale=scale)
    assert e.ok.tolist() == [True, False]
    with pytest.raises(RuntimeError, match="vector 1: .*scale of a feature is not a finite number"):
        e.check()


@pytest.mark.parametrize(
    ("value", "dtype", "model_dtype", "fine"),
    [
        (1e5, torch.float32, torch.float32, True),
        (1e7, torch.float32, torch.float32, False),
        (-1e7, torch.float64, torch.float32, False),
        (1e7, torch.float32, torch.float64, True),
        (1e7, torch.float64, torch.float64, True),
        (30.0, torch.float64, torch.bfloat16, False),
    ],
)
def test_a_scale_that_the_models_dtype_swallows_is_flagged(value, dtype, model_dtype, fine):
    x = torch.zeros(2, 3, dtype=dtype)
    x[1, 2] = value
    model = nn.Linear(3, 1, dtype=model_dtype)
    e = explain_vector(model, x, 0, surrogate=LeastSquares())
    assert e.ok.tolist() == [True, fine]
    if fine:
        error = (e.coefficients[1, 0] - model.weight[0]).abs().max().item()
        assert error < (0.1 if model_dtype == torch.float32 else 1e-6)
    else:
        with pytest.raises(RuntimeError, match="vector 1: .* too small .* the dtype of the model"):
            e.check()


@pytest.mark.parametrize("num_samples", [40, 49, 50])
@pytest.mark.parametrize("surrogate", [LeastSquares(), Ridge(0.0)], ids=repr)
@pytest.mark.parametrize("kernel", [None, Uniform()], ids=repr)
def test_the_minimum_norm_of_few_independent_samples(num_samples, surrogate, kernel):
    e = explain_vector(nonlinear, vectors(1, 50), 0, num_samples=num_samples, surrogate=surrogate,
                       kernel=kernel, sampler=IID, scale=1.0, keep_samples=True)  # fmt: skip
    z, y, w = (v[0].double().numpy() for v in (e.masks, e.sample_scores[..., 0], e.weights))
    root = np.sqrt(w)
    a, c = root[:, None] * (z - w @ z / w.sum()), root * (y - w @ y / w.sum())
    expected = np.linalg.lstsq(a, c, rcond=1e-10)[0]
    error = np.abs(e.coefficients[0, 0].numpy() - expected).max()
    assert error < 1e-10 * np.abs(expected).max()
    assert not e.problems.item() & 16
