"""Metrics against cases computed by hand and against literal definitions."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from tests import oracles
from torchlime import Explanation, Lime, explain, explain_vector, methods, metrics
from torchlime.fills import Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli
from torchlime.segments import Grid
from torchlime.surrogates import Lasso, LeastSquares
from torchlime.weights import Exponential, InverseDistance

FOUR = torch.tensor([[[[4.0, -1.0], [2.0, 0.0]]]], dtype=torch.float64)  # one pixel a segment
EXPLAINER = Lime(
    segmenter=Grid(2, 2),
    sampler=Bernoulli(),
    num_samples=64,
    fill=Constant(0.0),
    surrogate=LeastSquares(),
)


def total(x):
    return x.sum((2, 3))


def test_deletion_and_insertion_by_hand():
    e = EXPLAINER.explain(total, FOUR)
    assert e.coefficients[0, 0].allclose(FOUR.flatten(), atol=1e-12)
    # Hidden in the order 4, 2, 0, -1: the scores are 5, 1, -1, -1, 0.
    assert metrics.deletion(total, FOUR, e).item() == pytest.approx((5 / 2 + 1 - 1 - 1 + 0 / 2) / 4)
    # Shown in the same order: 0, 4, 6, 6, 5.
    assert metrics.insertion(total, FOUR, e).item() == pytest.approx(
        (0 / 2 + 4 + 6 + 6 + 5 / 2) / 4
    )
    # On white instead of black: 5, 2, 1, 2, 4.
    white = metrics.deletion(total, FOUR, e, fill=Constant(1.0))
    assert white.item() == pytest.approx((5 / 2 + 2 + 1 + 2 + 4 / 2) / 4)


def ragged():
    """A network, two images of 3 and 7 segments, their label maps, and an explanation of both."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 5 * 4, 5))
    images = torch.rand(2, 2, 7, 6).double()
    rows = torch.arange(7)[:, None].expand(7, 6)
    labels = torch.stack([rows.clamp(max=4) // 2, rows])
    explainer = Lime(
        num_samples=40, sampler=Bernoulli(), fill=ImageMean(), kernel=InverseDistance(),
        chunk_size=17,
    )  # fmt: skip
    settings = {"segments": labels, "max_segments": 9}
    return net.double().eval(), images, labels, explainer, settings


def literal_score(net, image, fill, labels, target):
    def score(mask):
        pixels = oracles.perturbed_image(image.numpy(), fill.numpy(), labels.numpy(), mask)
        with torch.no_grad():
            return net(torch.from_numpy(pixels)[None])[0, target].item()

    return score


def test_areas_are_the_literal_ones():
    net, images, labels, explainer, settings = ragged()
    e = explainer.explain(net, images, top=3, **settings)
    fill = ImageMean()(images, None)
    deletion, insertion = metrics.deletion(net, images, e), metrics.insertion(net, images, e)
    assert deletion.shape == insertion.shape == (2, 3)
    for b in range(2):
        for t in range(3):
            score = literal_score(net, images[b], fill[b], labels[b], e.targets[b, t])
            count = e.segment_count[b]
            expected = oracles.areas(score, e.coefficients[b, t, :count].numpy())
            assert (deletion[b, t].item(), insertion[b, t].item()) == pytest.approx(expected)


def test_a_good_order_beats_its_reverse():
    net, images, _, explainer, settings = ragged()
    e = explainer.explain(net, images, **settings)
    reversed_ = dataclasses.replace(e, coefficients=-e.coefficients)
    assert (metrics.deletion(net, images, e) < metrics.deletion(net, images, reversed_)).all()
    assert (metrics.insertion(net, images, e) > metrics.insertion(net, images, reversed_)).all()


def test_fidelity_by_hand():
    """The larger of two pixels under three masks, uniform weights and a given surrogate."""
    images = torch.ones(1, 1, 1, 2, dtype=torch.float64)

    def either(x):
        return x.amax(3).flatten(1)

    def all_masks(count, width, samples, *, seed):
        return torch.from_numpy(oracles.all_masks(2).copy())[None]

    explainer = Lime(
        segmenter=Grid(1, 2),
        sampler=all_masks,
        num_samples=4,
        fill=Constant(0.0),
        kernel=lambda z, *_: torch.ones(z.shape[:2]),
    )
    e = explainer.explain(either, images)
    given = dataclasses.replace(
        e, coefficients=torch.tensor([[[0.5, 0.5]]]).double(), intercepts=torch.zeros(1, 1).double()
    )
    # Without the first row y = 1, 1, 0 and g = ½, ½, 0: 1 − (¼ + ¼) / (1/9 + 1/9 + 4/9).
    assert metrics.fidelity(either, images, given, seed=1).item() == pytest.approx(1 / 4)


def test_fidelity_is_the_literal_one_and_at_most_that_of_the_fit():
    net, images, labels, explainer, settings = ragged()
    e = explainer.explain(net, images, top=2, **settings)
    fresh = metrics.fidelity(net, images, e, seed=9, num_samples=60)
    fill = ImageMean()(images, None)
    masks = Bernoulli()(e.segment_count, 9, 60, seed=9)
    for b in range(2):
        count = int(e.segment_count[b])
        z = masks[b, :, :count].numpy()
        squares = (images[b] - fill[b]).square().sum(0)
        energy = np.array([squares[labels[b] == s].sum() for s in range(count)])
        distance = np.array([oracles.distance("pixel_euclidean", row, energy) for row in z])
        w = 1 / np.maximum(distance, distance[distance > 0].min())
        for t in range(2):
            score = literal_score(net, images[b], fill[b], labels[b], e.targets[b, t])
            y = np.array([score(row) for row in z])
            predicted = e.intercepts[b, t].item() + z @ e.coefficients[b, t, :count].numpy()
            expected = oracles.weighted_r2(y[1:], predicted[1:], w[1:])  # without the whole image
            assert fresh[b, t].item() == pytest.approx(expected, rel=1e-9)
    many = metrics.fidelity(net, images, e, seed=9, num_samples=400)
    assert (many < e.fidelity).all()


def test_there_is_none_where_no_line_predicts_the_scores():
    for name in ("leave_one_out", "occlusion"):
        own = {"segmenter": Grid(2, 2)} if name == "leave_one_out" else {"grid": (2, 2)}
        own |= {"window": (1, 1)} if name == "occlusion" else {}
        e = methods.get(name)(**own, fill=Constant(0.0)).explain(total, FOUR)
        assert metrics.fidelity(total, FOUR, e, seed=3).isnan().all()


def test_fidelity_fits_nothing():
    fits = []

    def counting(*samples):
        fits.append(samples)
        return LeastSquares()(*samples)

    e = dataclasses.replace(EXPLAINER, surrogate=counting).explain(total, FOUR)
    metrics.fidelity(total, FOUR, e, seed=3)
    assert len(fits) == 1


def test_fidelity_of_linear_and_of_constant_models():
    e = EXPLAINER.explain(total, FOUR)
    assert metrics.fidelity(total, FOUR, e, seed=3).item() == pytest.approx(1.0)

    def constant(x):
        return torch.full((len(x), 1), 0.1)

    e = EXPLAINER.explain(constant, FOUR)
    assert metrics.fidelity(constant, FOUR, e, seed=3).item() == 0


def with_coefficients(*rows, count=None):
    """An explanation of one image, a target for each row; segments are single pixels of a row."""
    values = torch.tensor([rows], dtype=torch.float64)
    width = values.shape[2]
    explainer = Lime(segmenter=Grid(1, width), num_samples=64)
    targets = torch.arange(len(rows))[None]
    e = explainer.explain(total, torch.rand(1, len(rows), 1, width), targets)
    count = torch.tensor([count or width])
    return dataclasses.replace(e, coefficients=values, segment_count=count)


def test_rank_correlation_by_hand():
    one = with_coefficients([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0])
    two = with_coefficients([0.1, 0.2, 0.3, 9.0], [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0])
    assert metrics.rank_correlation([one, two])[0].tolist() == pytest.approx(
        [1.0, -1.0, float("nan")], nan_ok=True
    )
    # 1 − 6·Σd² / n(n²−1) with d = 0, 1, 1, 0.
    three = with_coefficients(*[[1.0, 3.0, 2.0, 4.0]] * 3)
    assert metrics.rank_correlation([one, three])[0, 0].item() == pytest.approx(0.8)
    pairs = [1.0, 0.8, 0.8]  # one–two, one–three, two–three
    mean = metrics.rank_correlation([one, two, three])[0, 0].item()
    assert mean == pytest.approx(sum(pairs) / 3)


@pytest.mark.parametrize("count", [2, 7, 12])
def test_rank_correlation_is_scipys(count):
    rng = np.random.default_rng(count)
    a, b = (rng.integers(-3, 4, 12).astype(float) for _ in range(2))  # with ties
    a[count:] = b[count:] = 0
    a[:2], b[:2] = (1, 2), (3, 1)
    pair = [with_coefficients(row.tolist(), count=count) for row in (a, b)]
    expected = scipy.stats.spearmanr(a[:count], b[:count]).statistic
    assert metrics.rank_correlation(pair).item() == pytest.approx(expected)


def test_overlap_by_hand():
    one = with_coefficients([5.0, -4.0, 3.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4)
    two = with_coefficients([5.0, 1.0, 3.0, 2.0], [1.0, 2.0, 0.0, 0.0], [0.0] * 4)
    # {0, 1} and {0, 2}; {0} and {0, 1}; nothing and nothing.
    assert metrics.overlap([one, two], top=2)[0].tolist() == pytest.approx([1 / 3, 1 / 2, 1])


@pytest.mark.parametrize("top", [1, 3, 20])
@pytest.mark.parametrize("count", [4, 12])
def test_overlap_is_the_literal_one(count, top):
    rng = np.random.default_rng(10 * count + top)
    rows = [rng.integers(-3, 4, 12).astype(float) for _ in range(3)]
    for row in rows:
        row[count:] = 0
    runs = [with_coefficients(row.tolist(), count=count) for row in rows]
    a, b, c = (row[:count] for row in rows)
    expected = np.mean([oracles.jaccard(*pair, top) for pair in ((a, b), (a, c), (b, c))])
    assert metrics.overlap(runs, top=top).item() == pytest.approx(expected)


def test_more_samples_are_more_stable():
    net, images, _, explainer, settings = ragged()

    def runs(num_samples):
        more = dataclasses.replace(explainer, num_samples=num_samples, chunk_size=None)
        return [more.explain(net, images, 0, seed=seed, **settings) for seed in range(4)]

    few, many = runs(12), runs(500)
    assert metrics.rank_correlation(few).mean() < metrics.rank_correlation(many).mean()
    assert metrics.overlap(few, 2).mean() < metrics.overlap(many, 2).mean()


def test_share_inside_by_hand_and_literally():
    e = EXPLAINER.explain(total, FOUR)  # coefficients 4, -1, 2, 0
    left = torch.tensor([[True, False], [False, False]])
    assert metrics.share_inside(e, left).item() == pytest.approx(4 / 6)
    assert metrics.share_inside(e, left[None]).item() == pytest.approx(4 / 6)
    assert metrics.share_inside(EXPLAINER.explain(total, -FOUR.abs()), left).item() == 0

    net, images, labels, explainer, settings = ragged()
    e = explainer.explain(net, images, top=2, **settings)
    inside = torch.rand(2, 7, 6) < 0.4
    shares = metrics.share_inside(e, inside)
    for b in range(2):
        for t in range(2):
            coefficients = e.coefficients[b, t].numpy()
            expected = oracles.share_inside(coefficients, labels[b].numpy(), inside[b].numpy())
            assert shares[b, t].item() == pytest.approx(expected)


def test_batched_is_one_by_one_and_nothing_is_modified():
    net, images, _, explainer, settings = ragged()
    runs = [explainer.explain(net, images, top=2, seed=seed, **settings) for seed in range(2)]
    inside = torch.rand(2, 7, 6) < 0.5
    before = images.clone(), runs[0].coefficients.clone()

    def measures(images, runs, inside):
        return torch.stack(
            [
                metrics.deletion(net, images, runs[0]),
                metrics.insertion(net, images, runs[0]),
                metrics.fidelity(net, images, runs[0], seed=7),
                metrics.rank_correlation(runs),
                metrics.overlap(runs, 3),
                metrics.share_inside(runs[0], inside),
            ]
        )

    together = measures(images, runs, inside)
    for b in range(2):
        one = slice(b, b + 1)
        alone = measures(images[one], [e[b] for e in runs], inside[one])
        assert alone.allclose(together[:, one], atol=1e-9)
    assert torch.equal(images, before[0])
    assert torch.equal(runs[0].coefficients, before[1])


@pytest.mark.parametrize("metric", [metrics.rank_correlation, metrics.overlap])
@pytest.mark.parametrize(
    "other",
    [
        {"targets": torch.tensor([[0, 1], [2, 3]])},
        {"segment_count": torch.tensor([3, 6])},
        {"segments": torch.zeros(2, 7, 6, dtype=torch.int64)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_only_explanations_of_the_same_are_compared(metric, other):
    net, images, _, explainer, settings = ragged()
    targets = torch.tensor([[0, 1], [2, 4]])
    one, two = (explainer.explain(net, images, targets, seed=s, **settings) for s in range(2))
    assert metric([one, two]).isfinite().all()
    with pytest.raises(ValueError, match=r"images \[(0, )?1\] differ in their segments or targets"):
        metric([one, dataclasses.replace(two, **other)])


def test_bad_input(tmp_path):
    e = EXPLAINER.explain(total, FOUR)
    e.save(tmp_path / "e.npz")
    loaded = Explanation.load(tmp_path / "e.npz")
    assert metrics.deletion(total, FOUR, loaded, fill=Constant(0.0)).item() == 0.375
    inside = torch.ones(1, 2, 2, dtype=torch.bool)
    calls = [
        (lambda: metrics.deletion(total, FOUR, loaded), "loaded from a file"),
        (lambda: metrics.fidelity(total, FOUR, loaded, seed=1), "loaded from a file"),
        (lambda: metrics.fidelity(total, FOUR, e, seed=0), "seed=0 drew the masks of the fit"),
        (
            lambda: metrics.deletion(total, FOUR[..., :1], e),
            r"the labels of segments must have shape",
        ),
        (lambda: metrics.rank_correlation([e]), "two or more .* got 1"),
        (lambda: metrics.overlap([e, with_coefficients([1.0])]), "of the same images"),
        (lambda: metrics.overlap([e, e], top=0), "top must be at least 1"),
        (lambda: metrics.overlap([e, e.to("meta")]), "got 2 with .* and device .* meta"),
        (
            lambda: metrics.share_inside(e, inside.to("meta")),
            "inside is on meta, the images are on",
        ),
        (lambda: metrics.share_inside(e, inside.float()), "inside must be bool"),
        (lambda: metrics.share_inside(e, inside[:, :1]), r"\[1, 2, 2\], got torch.bool \[1, 1, 2"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"inside must be bool \[B,H,W\] .*, got list"):
        metrics.share_inside(e, [1])


def test_settings_of_the_explanation_are_used():
    """Sampler, fill, kernel and chunk size come from the explanation, not from the defaults."""
    sizes = []

    def model(x):
        sizes.append(len(x))
        return x.square().sum((2, 3))

    explainer = Lime(
        segmenter=Grid(2, 2), sampler=Bernoulli(0.8), num_samples=30, fill=Constant(0.7),
        kernel=Exponential(2.0), surrogate=Lasso(0.01), chunk_size=4,
    )  # fmt: skip
    e = explainer.explain(model, FOUR)
    again = explainer.explain(model, FOUR, seed=5)
    sizes.clear()
    fidelity = metrics.fidelity(model, FOUR, again, seed=0)
    assert max(sizes) <= 4
    assert fidelity.item() < 1
    given = explainer.explain(model, FOUR, segments=Grid(2, 2)(FOUR).labels)
    assert given.settings["segmenter"] == "given by the caller"
    assert torch.equal(metrics.deletion(model, FOUR, given), metrics.deletion(model, FOUR, e))
    black = metrics.deletion(model, FOUR, e, fill=SegmentMean())
    assert not torch.equal(black, metrics.deletion(model, FOUR, e))


def test_what_says_nothing_is_nan_and_leaves_the_others_alone():
    images = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    images[1] = torch.nan
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    targets = torch.tensor([0, 1, 7])  # of three classes
    explainer = Lime(segmenter=Grid(3, 3), num_samples=64, fill=Constant(0.0))
    first, second = (explainer.explain(model, images, targets, seed=seed) for seed in (1, 2))
    for values in (
        metrics.deletion(model, images, first),
        metrics.insertion(model, images, first),
        metrics.fidelity(model, images, first, seed=9),
        metrics.share_inside(first, torch.ones(6, 6, dtype=torch.bool)),
        metrics.rank_correlation([first, second]),
        metrics.overlap([first, second], 2),
    ):
        assert values[:, 0].isfinite().tolist() == [True, False, False]


def test_bad_arguments_of_metrics():
    images = torch.rand(1, 1, 6, 6)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    e = Lime(segmenter=Grid(3, 3), num_samples=64).explain(model, images)
    with pytest.raises(TypeError, match="images"):
        metrics.deletion(model, [1], e)
    with pytest.raises(ValueError, match="the explanation is on cpu, the images are on meta"):
        metrics.deletion(model, images.to("meta"), e)
    with pytest.raises(TypeError, match="seed must be an int or an int64 tensor"):
        metrics.fidelity(model, images, e, seed=None)
    with pytest.raises(ValueError, match="num_samples must be"):
        metrics.fidelity(model, images, e, seed=3, num_samples=2)


def test_metrics_score_what_was_explained():
    """They took the number of a function's target for a class."""

    def model(x):
        return x.square().sum((2, 3)) * torch.tensor([1.0, 5.0])[: x.shape[1]]

    images = torch.rand(2, 2, 6, 6, generator=torch.manual_seed(0)).double()
    settings = {"segmenter": Grid(2, 3), "num_samples": 64, "fill": Constant(0.2)}
    of_class = explain(model, images, 1, **settings)
    of_function = explain(model, images, lambda outputs, rows: -10 * outputs[:, 1], **settings)
    assert of_function.targets.tolist() == [[0], [0]]
    ours, theirs = (metrics.fidelity(model, images, e, seed=3) for e in (of_function, of_class))
    assert ours.allclose(theirs, rtol=0, atol=1e-9)
    for metric in (metrics.deletion, metrics.insertion):
        swapped = dataclasses.replace(of_class, coefficients=-of_class.coefficients)
        expected = -10 * metric(model, images, swapped)
        assert metric(model, images, of_function).allclose(expected, rtol=0, atol=1e-9)
    file = dataclasses.replace(of_function, explained=None)  # as one that was loaded
    with pytest.raises(ValueError, match=r"explains Computed\(.*, not classes: explain again"):
        metrics.fidelity(model, images, file, seed=3)


def test_fidelity_on_fresh_noise():
    x = torch.rand(3, 5, generator=torch.manual_seed(0)).double()
    slopes = torch.tensor([[1.0, 0.0], [-2.0, 1.0], [0.0, 0.0], [3.0, 1.0], [0.0, -1.0]]).double()
    e = explain_vector(lambda z: z @ slopes, x, top=2, num_samples=60, surrogate=LeastSquares())
    found = metrics.fidelity(lambda z: z @ slopes, x, e, seed=5)
    assert found.allclose(torch.ones(3, 2).double(), rtol=0, atol=1e-9)
    curved = explain_vector(lambda z: (3 * z).sin().sum(1), x, num_samples=200, scale=0.5)
    fresh = metrics.fidelity(lambda z: (3 * z).sin().sum(1), x, curved, seed=5)
    assert ((fresh < 1) & (fresh > 0)).all()
