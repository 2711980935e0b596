"""The whole pipeline against known answers."""

import dataclasses
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import torchlime
from tests import oracles
from torchlime import Lime, explain
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, Exhaustive, FixedCount, Orthogonal
from torchlime.segments import Grid, Slic
from torchlime.surrogates import Lasso, LeastSquares, Ridge
from torchlime.weights import Exponential, InverseDistance, Uniform


class LinearInPixels(nn.Module):
    """A convolution and a linear head, float64: f(x) = <λ, x> + b for every class."""

    def __init__(self, size, classes=3):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.convolution = nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64)
        self.head = nn.Linear(4 * size[0] * size[1], classes, dtype=torch.float64)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=g, dtype=torch.float64)

    def forward(self, x):
        return self.head(self.convolution(x).flatten(1))

    def gradient(self, image):
        """λ for every class: [K,C,H,W]."""
        return torch.autograd.functional.jacobian(lambda x: self(x[None])[0], image)


def photo_like(batch, size, seed=0):
    """Smooth images with edges, so that Slic has something to follow: [B,3,H,W] in [0,1]."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 5, 5, generator=g, dtype=torch.float64)
    smooth = nn.functional.interpolate(coarse, size, mode="bilinear")
    return (smooth + 0.5 * (smooth > 0.5)).clamp(0, 1) + 0.01 * torch.rand(
        batch, 3, *size, generator=g, dtype=torch.float64
    )


FILLS = [SegmentMean(), ImageMean(), Constant((0.1, 0.9, 0.4)), Blur(3.0)]


@pytest.mark.parametrize("fill", FILLS, ids=repr)
@pytest.mark.parametrize("surrogate", [Ridge(alpha=1e-9), LeastSquares()], ids=repr)
@pytest.mark.parametrize(
    ("sampler", "num_samples"), [(Orthogonal(), 128), (Orthogonal(), 150), (Bernoulli(0.7), 60)]
)
def test_a_model_linear_in_the_pixels_is_given_back(fill, surrogate, sampler, num_samples):
    images = photo_like(2, (40, 33))
    model = LinearInPixels((40, 33))
    explainer = Lime(
        segmenter=Slic(20),
        sampler=sampler,
        num_samples=num_samples,
        fill=fill,
        kernel=Exponential(0.5),
        surrogate=surrogate,
        chunk_size=17,
    )
    e = explainer.explain(model, images, top=3, keep_samples=True).check()
    filled = fill(images, torchlime.segments.Segments(e.segments, e.segment_count, e.ok, 20))
    for b in range(2):
        count = int(e.segment_count[b])
        design = np.hstack([np.ones((num_samples, 1)), e.masks[b, :, :count].numpy()])
        assert np.linalg.matrix_rank(design) == count + 1
        contribution = (model.gradient(images[b]) * (images[b] - filled[b])).sum(1)
        for t in range(3):
            here = contribution[e.targets[b, t]]
            expected = torch.stack([here[e.segments[b] == s].sum() for s in range(count)])
            error = (e.coefficients[b, t, :count] - expected).abs().max() / expected.abs().max()
            assert error < 1e-8
            assert e.fidelity[b, t].item() == pytest.approx(1.0, abs=1e-9)
            assert e.local_predictions[b, t].item() == pytest.approx(e.scores[b, t].item())
        hidden = model(filled).detach()[b]
        assert e.intercepts[b].allclose(hidden[e.targets[b]], 0, 1e-8 * hidden.abs().max().item())


def test_exhaustive_is_weighted_least_squares_over_all_masks():
    images = photo_like(2, (12, 12))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)).double()
    segments = Grid(2, 5)(images)
    explainer = Lime(
        segmenter=Grid(2, 5), sampler=Exhaustive(), num_samples=1024, surrogate=LeastSquares()
    )
    e = explainer.explain(model, images, 2).check()
    masks = oracles.all_masks(10)
    for b in range(2):
        fill = oracles.segment_mean(images[b].numpy(), segments.labels[b].numpy())
        rows = [
            oracles.perturbed_image(images[b].numpy(), fill, segments.labels[b].numpy(), mask)
            for mask in masks
        ]
        with torch.no_grad():
            y = model(torch.from_numpy(np.stack(rows)))[:, 2].numpy()
        w = np.exp([-(oracles.distance("cosine", mask) ** 2) / (2 * 0.25**2) for mask in masks])
        intercept, slopes = oracles.weighted_least_squares(masks, y, w)
        np.testing.assert_allclose(e.coefficients[b, 0].numpy(), slopes, atol=1e-10)
        assert e.intercepts[b, 0].item() == pytest.approx(intercept, abs=1e-10)


@pytest.mark.parametrize("sampler", [Bernoulli(), Orthogonal()], ids=repr)
@pytest.mark.parametrize("d", [12, 40])
def test_the_limit_of_lime_for_known_functions(sampler, d):
    """Garreau & Mardaoui 2021: a shape detector and a random sparse polynomial of the segments."""
    rng = np.random.default_rng(d)
    shape = {frozenset({1, 4, 7}): 1.0}
    polynomial = {
        frozenset(rng.choice(d, size, replace=False).tolist()): rng.normal()
        for size in [0, 1, 1, 2, 2, 2, 3, 3, 4]
    }
    n = 20_000
    masks = sampler(torch.tensor([d]), d, n, seed=d)
    for moments in (shape, polynomial):
        scores = sum(m * masks[:, :, sorted(s)].all(-1).double() for s, m in moments.items())[
            ..., None
        ]
        fit = LeastSquares()(
            masks, scores, Exponential()(masks, torch.tensor([d])), torch.tensor([d])
        )
        intercept, slopes = oracles.limit_of_lime(moments, d)
        errors = fit.standard_errors[0, 0].numpy()
        assert (np.abs(fit.coefficients[0, 0].numpy() - slopes) < 4 * errors).all()
        assert abs(fit.intercepts[0, 0].item() - intercept) < 4 * errors.max() * math.sqrt(d)


def test_a_shape_detector_on_real_pixels():
    """The detector fires only where its three squares are all shown: Garreau's d and p = 3."""
    images = torch.ones(1, 1, 15, 15, dtype=torch.float64)
    squares = [3, 12, 20]  # of a 5 × 5 grid

    def detector(x):
        cells = nn.functional.avg_pool2d(x, 3).flatten(1)
        return (cells[:, squares] > 0.5).all(1).double()

    explainer = Lime(
        segmenter=Grid(5, 5),
        sampler=Bernoulli(),
        num_samples=20_000,
        fill=Constant(0.0),
        surrogate=LeastSquares(),
    )
    e = explainer.explain(detector, images).check()
    _, slopes = oracles.limit_of_lime({frozenset(squares): 1.0}, 25)
    off = np.abs(e.coefficients[0, 0].numpy() - slopes)
    assert (off < 4 * e.standard_errors[0, 0].numpy()).all()
    assert sorted(e.top(3)[0][0, 0].tolist()) == squares


class SmallNet(nn.Module):
    def __init__(self, channels=3, classes=7, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.3),
            nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3),
        )  # fmt: skip
        self.head = nn.Linear(144, classes)
        self.to(dtype)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


EXPLAINERS = [
    Lime(segmenter=Slic(20), num_samples=96),
    Lime(
        segmenter=Slic(20),
        sampler=FixedCount(0.2),
        num_samples=96,
        fill=ImageMean(),
        kernel=InverseDistance(),
        surrogate=Lasso(fraction=0.2),
    ),
    Lime(
        segmenter=Grid(4, 4),
        sampler=Bernoulli(),
        num_samples=96,
        fill=Blur(2.0),
        kernel=Exponential(1.0, "pixel_euclidean"),
    ),
    Lime(
        segmenter=Slic(12, blur=False),
        sampler=Orthogonal(),
        num_samples=96,
        fill=Constant(0.5),
        kernel=Uniform(),
        surrogate=LeastSquares(),
    ),
]


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_alone_in_a_batch_and_in_any_chunk(explainer, dtype, tolerance):
    images = photo_like(4, (37, 44)).to(dtype)
    model = SmallNet(dtype=dtype).eval()
    batch = explainer.explain(model, images, top=3, keep_samples=True).check()
    for chunk_size in (7, 64):
        chunked = dataclasses.replace(explainer, chunk_size=chunk_size)
        assert_same(chunked.explain(model, images, top=3, keep_samples=True), batch, tolerance)
    for b in range(4):
        alone = explainer.explain(model, images[b : b + 1], top=3, keep_samples=True)
        assert_same(alone, batch[b], tolerance)


def assert_same(one, other, tolerance):
    assert torch.equal(one.segments, other.segments)
    assert torch.equal(one.masks, other.masks)
    assert torch.equal(one.targets, other.targets)
    limit = tolerance * other.coefficients.abs().max().item()
    assert (one.coefficients - other.coefficients).abs().max().item() <= limit
    assert one.scores.allclose(other.scores, rtol=0, atol=tolerance * 10)


def test_four_images_with_three_targets_are_twelve_single_runs():
    images = photo_like(4, (24, 24))
    model = SmallNet(dtype=torch.float64).eval()
    explainer = Lime(segmenter=Grid(3, 3), num_samples=64)
    targets = torch.tensor([[0, 1, 2], [6, 5, 4], [3, 3, 3], [2, 0, 6]])
    together = explainer.explain(model, images, targets)
    for b in range(4):
        for t in range(3):
            single = explainer.explain(model, images[b : b + 1], int(targets[b, t]))
            assert together.coefficients[b, t].allclose(single.coefficients[0, 0], atol=1e-9)
            assert together.intercepts[b, t].item() == pytest.approx(single.intercepts.item())
            assert together.fidelity[b, t].item() == pytest.approx(single.fidelity.item())
            assert together.scores[b, t].item() == pytest.approx(single.scores.item())


def test_an_image_of_ten_segments_beside_one_of_sixty_keeps_its_masks():
    images = photo_like(2, (30, 30))
    few = torch.arange(900).view(30, 30) // 90
    many = torch.arange(900).view(30, 30) // 15
    explainer = Lime(num_samples=128)
    model = SmallNet(dtype=torch.float64).eval()
    settings = {"max_segments": 60, "keep_samples": True}
    alone = explainer.explain(model, images[:1], 1, segments=few, **settings)
    both = explainer.explain(model, images, 1, segments=torch.stack([few, many]), **settings)
    assert both.segment_count.tolist() == [10, 60]
    assert both.settings["segmenter"] == "given by the caller"
    assert torch.equal(alone.masks[0], both.masks[0])
    assert alone.coefficients[0].allclose(both.coefficients[0], atol=1e-9)
    assert (both.coefficients[0, :, 10:] == 0).all()


def test_targets_none_are_the_best_classes():
    images = photo_like(3, (20, 20))
    model = SmallNet(dtype=torch.float64).eval()
    e = explain(model, images, top=4, segmenter=Grid(2, 2), num_samples=32, chunk_size=2)
    with torch.no_grad():
        scores, classes = model(images).sort(dim=1, descending=True)
    assert torch.equal(e.targets, classes[:, :4])
    assert e.scores.allclose(scores[:, :4], atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_any_channels_and_any_range(channels, scale):
    images = photo_like(2, (24, 31))[:, :1].expand(-1, channels, -1, -1) * scale - scale / 2
    e = explain(SmallNet(channels, dtype=torch.float64), images, segmenter=Slic(10)).check()
    assert e.coefficients.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_models(dtype):
    images = photo_like(1, (24, 24)).to(dtype)
    e = explain(SmallNet(dtype=dtype).eval(), images, segmenter=Grid(3, 3), num_samples=64)
    reference = explain(SmallNet().eval(), images.float(), segmenter=Grid(3, 3), num_samples=64)
    assert e.coefficients.dtype == torch.float64
    assert torch.equal(e.targets, reference.targets)
    scale = reference.coefficients.abs().max()
    assert (e.coefficients - reference.coefficients).abs().max() < 0.2 * scale


def test_a_tensor_is_a_fill_and_images_are_not_modified():
    images = photo_like(2, (24, 24)).float()
    before = images.clone()
    model = SmallNet().eval()
    settings = {"segmenter": Grid(3, 3), "num_samples": 64}
    gray = explain(model, images, 0, fill=torch.full((3, 1, 1), 0.5), **settings)
    assert torch.equal(gray.coefficients, explain(model, images, 0, fill=Constant(0.5), **settings)
                       .coefficients)  # fmt: skip
    assert torch.equal(images, before)


def test_a_strategy_is_any_callable_of_its_signature():
    def leave_one_out(segment_count, max_segments, num_samples, *, seed):
        masks = ~torch.eye(max_segments, dtype=torch.bool)
        keep_all = torch.ones(1, max_segments, dtype=torch.bool)
        return torch.cat([keep_all, masks]).expand(len(segment_count), -1, -1)

    images = photo_like(2, (24, 24))
    model = LinearInPixels((24, 24))
    e = explain(
        model, images, 0, sampler=leave_one_out, segmenter=lambda x: Grid(3, 3)(x).labels,
        kernel=lambda masks, count, energy: torch.ones(masks.shape[:2]),
        surrogate=LeastSquares(), fill=lambda x, segments: torch.zeros_like(x),
    )  # fmt: skip
    expected = explain(model, images, 0, segmenter=Grid(3, 3), fill=Constant(0.0),
                       surrogate=LeastSquares())  # fmt: skip
    assert e.coefficients.allclose(expected.coefficients, rtol=1e-7)


def test_seeds():
    images = photo_like(2, (24, 24))
    model = SmallNet(dtype=torch.float64).eval()
    explainer = Lime(segmenter=Grid(3, 3), num_samples=64, seed=5)
    first = explainer.explain(model, images, 0, keep_samples=True)
    assert torch.equal(first.masks[0], first.masks[1])
    assert torch.equal(explainer.explain(model, images, 0).coefficients, first.coefficients)
    own = explainer.explain(model, images, 0, seed=torch.tensor([5, 6]), keep_samples=True)
    assert torch.equal(own.masks[0], first.masks[0])
    assert not torch.equal(own.masks[1], first.masks[1])
    assert first.settings["seed"] == 5
    assert explainer.explain(model, images, 0, seed=6).settings["seed"] == 6
    settings = {"segmenter": Grid(3, 3), "num_samples": 64}
    by_function = explain(model, images, 0, seed=torch.tensor([5, 6]), **settings)
    assert torch.equal(by_function.coefficients, own.coefficients)
    by_default = explain(model, images, 0, seed=None, **settings)
    assert torch.equal(by_default.coefficients, explain(model, images, 0, seed=0, **settings)
                       .coefficients)  # fmt: skip


def test_numbers_of_numpy_and_small_integer_targets():
    images = photo_like(2, (24, 24))
    model = SmallNet(dtype=torch.float64).eval()
    e = explain(model, images, np.int64(3), segmenter=Grid(np.int32(3), 3), seed=np.int64(1),
                num_samples=np.int64(64))  # fmt: skip
    targets = torch.tensor([3, 3], dtype=torch.int32)
    same = explain(model, images, targets, segmenter=Grid(3, 3), seed=1, num_samples=64)
    assert torch.equal(e.coefficients, same.coefficients)
    assert same.targets.dtype == torch.int64


def test_energy_is_computed_only_for_a_kernel_that_needs_it(monkeypatch):
    images = photo_like(1, (24, 24))
    given = []

    def kernel(masks, count, energy=None):
        given.append(energy)
        return torch.ones(masks.shape[:2])

    settings = {"segmenter": Grid(3, 3), "num_samples": 64, "kernel": kernel}
    explain(SmallNet(dtype=torch.float64), images, **settings)
    explain(SmallNet(dtype=torch.float64), images, keep_samples=True, **settings)
    assert given[0] is None
    assert given[1].shape == (1, 9)


@pytest.mark.parametrize(("samples", "enough"), [(10, True), (9, False)])
def test_effective_samples_are_enough_from_the_number_of_unknowns_on(samples, enough):
    e = explain(SmallNet(dtype=torch.float64), photo_like(1, (24, 24)), segmenter=Grid(3, 3),
                sampler=Bernoulli(), num_samples=samples, kernel=Uniform())  # fmt: skip
    assert bool(e.ok) == enough


def test_settings_pickle_compare_and_print():
    for explainer in (Lime(), *EXPLAINERS):
        assert pickle.loads(pickle.dumps(explainer)) == explainer
        names = {**vars(torchlime.lime), **vars(torchlime.fills), **vars(torchlime.masks)}
        names |= {**vars(torchlime.weights), **vars(torchlime.surrogates)}
        names |= vars(torchlime.segments)
        assert eval(repr(explainer), names) == explainer


# ---- bad input -----------------------------------------------------------------------------------

IMAGES = torch.rand(2, 3, 16, 16)


class OnlyBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones((), device="meta"))

    def forward(self, x):
        return x.mean((2, 3)) * self.scale


def run(images=IMAGES, targets=None, model=None, settings=None, **arguments):
    settings = {"segmenter": Grid(2, 2), "num_samples": 16, **(settings or {})}
    return Lime(**settings).explain(model or SmallNet().eval(), images, targets, **arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: run([[1]]), TypeError, "arrays or PIL images, got list"),
        (lambda: run((IMAGES * 255).byte()), TypeError, "point .*got torch.uint8; .*/ 255"),
        (lambda: run(IMAGES[0]), ValueError, r"\[3, 16, 16\]; add the batch axis: images\[None\]"),
        (lambda: run(IMAGES[None]), ValueError, r"2 axes behind the channels, got \[1, 2, 3, 16"),
        (lambda: run(IMAGES[:0]), ValueError, "at least one image, channel and pixel"),
        (lambda: run(settings={"num_samples": 1}), ValueError, "num_samples must be at least 2"),
        (lambda: run(settings={"num_samples": 2.5}), TypeError, "num_samples must be an int"),
        (lambda: run(settings={"seed": 0.5}), TypeError, "seed must be an int, got float"),
        (lambda: run(settings={"segmenter": 50}), TypeError, "segmenter must be callable, got 50"),
        (lambda: run(settings={"fill": 0.5}), TypeError, "fill must be callable or a tensor"),
        (lambda: run(settings={"chunk_size": 0}), ValueError, "chunk_size must be at least 1"),
        (lambda: run(settings={"autocast": torch.int8}), ValueError, "autocast must be"),
        (lambda: run(settings={"segmenter": Grid(17, 2)}), ValueError, "does not fit images of 16"),
        (lambda: run(settings={"fill": torch.zeros(2, 2)}), ValueError,
         r"fill must broadcast to the images' \[2, 3, 16, 16\], got \[2, 2\]"),
        (lambda: run(segments=torch.zeros(8, 16, dtype=torch.int64)), ValueError,
         r"segments must be \[16, 16\], \[2 or 1, 16, 16\] or .* got \[8, 16\]"),
        (lambda: run(segments=torch.zeros(16, 16)), TypeError, "or soft masks .* got torch.fl"),
        (lambda: run(segments=Grid(2, 2)(IMAGES[:1])), ValueError, r"got \[1, 16, 16\]"),
        (lambda: run(max_segments=9), ValueError, "max_segments goes with segments="),
        (lambda: run(top=0), ValueError, "top must be at least 1, got 0"),
        (lambda: run(top=8), ValueError, "top=8, but the model has 7 outputs"),
        (lambda: run(targets=7), IndexError, "targets=7, but the model has 7 outputs"),
        (lambda: run(targets=-1), IndexError, "targets=-1, but the model has 7 outputs"),
        (lambda: run(targets=["a", "b"]), TypeError, "targets must be None, an int or an int te"),
        (lambda: run(targets=True), TypeError, "got bool"),
        (lambda: run(targets=torch.zeros(2)), TypeError, "got torch.float32"),
        (lambda: run(targets=torch.zeros(3).long()), ValueError, r"with B = 2, got \[3\]"),
        (lambda: run(targets=torch.zeros(2, device="meta").long()), ValueError,
         r"targets is on meta, the images are on cpu; move one of them with .to\(device\)"),
        (lambda: run(model=SmallNet().to("meta")), ValueError,
         r"the model is on meta, the images are on cpu; move one of them with .to\(device\)"),
        (lambda: run(model=lambda x: x), ValueError, "the model must return a float tensor"),
        (lambda: run(seed=torch.tensor([1])), ValueError, "seed must be an int or an int64 tensor"),
        (lambda: explain(SmallNet(), IMAGES, samples=3), TypeError, "samples"),
        (lambda: run(progress=3), TypeError, "progress must be callable, got int"),
        (lambda: run(IMAGES.to(torch.float8_e4m3fn)), TypeError, "16, 32 or 64 bits"),
        (lambda: run(segments=Grid(2, 2)(IMAGES), max_segments=4), ValueError, "has its own bound"),
        (lambda: run(segments=Grid(2, 2)(IMAGES)._replace(bound=3)), ValueError, "exceed its b"),
        (lambda: run(segments=Grid(2, 2)(IMAGES)._replace(count=torch.tensor([4, 3]))), ValueError,
         "labels of segments must lie in 0…count-1"),
        (lambda: run(segments=Grid(2, 2)(IMAGES)._replace(count=torch.tensor([4]))), ValueError,
         r"the count of segments must have shape \[2\] as the images, got \[1\]"),
        (lambda: run(segments=Grid(2, 2)(IMAGES)._replace(labels=torch.zeros(2, 16, 16).int())),
         TypeError, "the labels of segments must be torch.int64"),
        (lambda: run(model=OnlyBuffers()), ValueError, "the model is on meta, the images"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_problems_are_flagged_and_check_names_them():
    images = IMAGES.clone()
    images[1, 0, 3, 3] = math.nan
    e = run(images)
    assert e.ok.tolist() == [True, False]
    with pytest.raises(RuntimeError, match="image 1: the image holds NaN or infinite values"):
        e.check()
    assert e[0].check().coefficients.allclose(run(IMAGES[:1]).coefficients)

    e = run(model=lambda x: torch.full((len(x), 3), math.nan))
    with pytest.raises(RuntimeError, match=r"image 0: the model returned NaN.*image 1: the model"):
        e.check()

    e = run(targets=torch.tensor([3, 70]))
    assert e.ok.tolist() == [True, False]
    with pytest.raises(RuntimeError, match="image 1: a target is not a class of the model"):
        e.check()

    e = run(settings={"kernel": Exponential(0.25, "euclidean")})
    with pytest.raises(RuntimeError, match=r"effective samples are fewer.*raise num_samples"):
        e.check()

    def forgets_the_first_row(segment_count, max_segments, num_samples, *, seed):
        masks = Bernoulli()(segment_count, max_segments, num_samples, seed=seed)
        masks[1, 0, 2] = False
        return masks

    e = run(settings={"sampler": forgets_the_first_row})
    with pytest.raises(RuntimeError, match=r"trusted. image 1: the sampler's first row hides"):
        e.check()

    split = Grid(2, 2)(IMAGES)._replace(ok=torch.tensor([True, False]))
    with pytest.raises(RuntimeError, match="trusted. image 1: the segmentation did not converge"):
        run(segments=split).check()

    many = torch.arange(256).view(16, 16)
    e = run(settings={"surrogate": Ridge(0.0), "sampler": Bernoulli()}, segments=many)
    with pytest.raises(RuntimeError, match="surrogate could not be solved"):
        e.check()


def test_defined_results_on_few_data():
    one = run(settings={"segmenter": Grid(1, 1), "kernel": Uniform()}).check()
    assert one.coefficients.shape == (2, 1, 1)
    constant = run(model=lambda x: torch.ones(len(x), 3)).check()
    assert (constant.coefficients == 0).all()
    assert (constant.fidelity == 0).all()
    assert (constant.local_predictions == 1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Orthogonal falls back to Bernoulli
        few = run(settings={"segmenter": Grid(8, 8), "num_samples": 10})
    assert few.coefficients.isfinite().all()
    assert few.standard_errors.isnan().all()
    with pytest.raises(RuntimeError, match="effective samples"):
        few.check()


def test_the_recipe_of_the_home_assignment_runs():
    """The 20 % Lasso recipe end to end, on a small network (on the real one: test_readme)."""
    recipe = Lime(
        segmenter=Slic(50), sampler=FixedCount(0.2), num_samples=100, kernel=InverseDistance(),
        surrogate=Lasso(fraction=0.2),
    )  # fmt: skip
    e = recipe.explain(SmallNet().eval(), photo_like(1, (64, 64)).float(), top=3).check()
    ids, values = e.top(7)
    assert ids.shape == (1, 3, 7)
    assert (values.abs().diff(dim=2) <= 0).all()
