"""Inputs of any rank, and maps of any rank: a model linear in its input gives them back."""

import itertools

import pytest
import torch

from torchlime import Lime, explain, metrics
from torchlime._given_masks import score_masks
from torchlime._labelmap import as_segments
from torchlime.explanation import Explanation
from torchlime.features.pixels import Perturbed
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, Exhaustive
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares
from torchlime.weights import Exponential

EXACT = {"surrogate": LeastSquares(), "num_samples": 64, "sampler": Bernoulli()}
SHAPES = {
    "vectors": (2, 9),
    "series": (2, 3, 11),
    "images": (2, 3, 5, 4),
    "13 bands": (2, 13, 4, 3),
    "volumes": (2, 1, 3, 4, 5),
    "videos": (2, 3, 4, 3, 3),
}


def maps_of(shape, most=5):
    """Label maps [7, -1, 3, …] of every rank that is allowed, of one input or all."""
    axes = shape[2:]
    sizes = [axes, (shape[0], *axes), (1, *shape[1:]), shape] if axes else [shape[1:], shape]
    if axes:
        sizes += [(1, shape[1], *[1] * len(axes)), (axes[0], *[1] * (len(axes) - 1))]
    g = torch.Generator().manual_seed(3)
    for size in sizes:
        labels = torch.randint(-1, most, size, generator=g)
        yield torch.where(labels < 0, -1, 3 * labels + 4)


def linear(shape):
    """A model Σ λ·x + 1 with two outputs, and λ [2,…]."""
    slopes = torch.randn(2, *shape[1:], generator=torch.manual_seed(5), dtype=torch.float64)
    return lambda x: x.flatten(1).double() @ slopes.flatten(1).T + 1, slopes


def over(labels, shape):
    """The map for every entry of the inputs, by the definition."""
    if labels.dim() == max(len(shape) - 2, 1):
        labels = labels[None]
    return (labels if labels.dim() == len(shape) else labels[:, None]).expand(shape)


CASES = [
    (what, number) for what, shape in SHAPES.items() for number in range(len([*maps_of(shape)]))
]


@pytest.mark.parametrize(("what", "number"), CASES)
def test_a_linear_model_is_given_back(what, number):
    shape = SHAPES[what]
    labels = [*maps_of(shape)][number]
    x = torch.randn(shape, generator=torch.manual_seed(0), dtype=torch.float64)
    before = x.clone()
    model, slopes = linear(shape)
    fills = [Constant(0.5), torch.full(shape[1:], -0.25, dtype=torch.float64)]
    if len(shape) > 2:
        fills += [SegmentMean(), ImageMean(), Blur(1.0)]
    for fill in fills:
        e = explain(model, x, torch.tensor([0, 1]), segments=labels, fill=fill, **EXACT)
        assert torch.equal(x, before)
        filled = fill if isinstance(fill, torch.Tensor) else fill(x, metrics._shared.segments_of(e))
        filled = filled.expand_as(x)
        everywhere = over(labels, shape)
        for b in range(2):
            part = slopes[b] * (x - filled)[b]
            ids, values = e[b].top(5)
            found = dict(zip(ids[0, 0].tolist(), values[0, 0].tolist(), strict=True))
            found.pop(-1, None)
            expected = {
                i: part[everywhere[b] == i].sum().item()
                for i in everywhere[b].unique().tolist()
                if i >= 0
            }
            assert found == pytest.approx(expected, rel=1e-8, abs=1e-8)
            one = x[b : b + 1]
            shared = labels.dim() < max(len(shape) - 1, 2) or len(labels) == 1
            own = labels if shared else labels[b : b + 1]
            alone = explain(model, one, b, segments=own, fill=filled[b : b + 1], **EXACT)
            count = int(alone.segment_count)
            assert alone.coefficients[0, :, :count].allclose(e.coefficients[b, :, :count], 0, 1e-9)
        heat = e.heatmap()
        assert heat.shape == (2, 1, *e.segments.shape[1:])
        assert (heat[:, 0][e.segments < 0] == 0).all()


@pytest.mark.parametrize("what", SHAPES)
def test_rows_by_the_definition(what):
    """x where the segment is kept or background, else the fill, entry by entry."""
    shape = SHAPES[what]
    g = torch.Generator().manual_seed(1)
    x, fill = torch.rand(shape, generator=g), torch.rand(shape, generator=g)
    for labels in maps_of(shape):
        segments = as_segments(labels, x)
        masks = torch.rand(2, 6, segments.bound, generator=g) < 0.5
        rows = Perturbed(x, fill, segments, masks, channels_last=True)
        chunk = rows([(slice(0, 1), slice(0, 1)), (slice(1, 2), slice(2, 6))], 7)
        everywhere = over(segments.labels, shape)
        for row, (b, n) in enumerate([(0, 0), (1, 2), (1, 3), (1, 4), (1, 5)]):
            for place in itertools.product(*map(range, shape[1:])):
                label = everywhere[(b, *place)]
                kept = label < 0 or masks[b, n, label]
                assert chunk[(row, *place)] == (x if kept else fill)[(b, *place)]


def test_a_planted_band_tube_and_block_are_found():
    bands = torch.rand(2, 13, 6, 6, generator=torch.manual_seed(0)) + 0.5
    each = torch.arange(13).view(1, 13, 1, 1)
    e = explain(lambda x: x[:, 4].mean((1, 2)), bands, segments=each, fill=Constant(0.0)).check()
    assert e.top(1)[0].flatten().tolist() == [4, 4]
    assert e.heatmap().shape == (2, 1, 13, 1, 1)
    video = torch.rand(1, 3, 6, 8, 8, generator=torch.manual_seed(1)) + 0.5
    tubes = Grid(1, 2, 2)(video).labels[0] + 10
    e = explain(
        lambda x: x[:, :, :, :4, 4:].mean((1, 2, 3, 4)), video, segments=tubes, fill=Constant(0.0),
        sampler=Exhaustive(), num_samples=16,
    ).check()  # fmt: skip
    assert e.top(1)[0].item() == 11
    volume = torch.rand(1, 1, 8, 8, 8, generator=torch.manual_seed(2)) + 0.5
    e = explain(
        lambda x: x[:, 0, :4, 4:, :4].amax((1, 2, 3)), volume, segmenter=Grid(2, 2, 2),
        fill=Constant(0.0),
    ).check()  # fmt: skip
    assert e.top(1)[0].item() == 2
    assert e.heatmap().argmax() == e.mask(1).long().argmax()


def test_integer_ids_keep_their_type():
    table = torch.randn(20, 2, generator=torch.manual_seed(0), dtype=torch.float64)
    ids = torch.randint(1, 20, (3, 7), generator=torch.manual_seed(1))

    def model(x):
        assert x.dtype == ids.dtype
        return table[x].sum(1)

    words = torch.arange(7)
    for fill, baseline in ((Constant(0), 0), (torch.full((7,), 3), 3)):
        e = explain(model, ids, 0, segments=words, fill=fill, **EXACT).check()
        expected = table[ids, 0] - table[baseline, 0]
        assert e.coefficients[:, 0].allclose(expected, 0, 1e-8)
    for bad, error, message in (
        (SegmentMean(), ValueError, r"needs float inputs .*, got torch.int64 \[3, 7\]; pass fill="),
        (torch.zeros(7), TypeError, "fill must hold torch.int64 as the inputs, got torch.float32"),
    ):
        with pytest.raises(error, match=message):
            explain(model, ids, 0, segments=words, fill=bad, **EXACT)


def test_energy_metrics_and_files_of_maps_of_any_rank(tmp_path):
    x = torch.rand(2, 4, 6, generator=torch.manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([-1, 5, 5, 9, 2, 2])
    kernel = Exponential(1.0, "pixel_euclidean")
    explainer = Lime(fill=Constant(0.0), kernel=kernel, **EXACT)
    e = explainer.explain(lambda x: x.mean(2), x, 1, segments=labels, keep_samples=True).check()
    squares = x.square().sum(1)
    for column, label in enumerate([2, 5, 9]):
        assert e.energy[:, column].allclose(squares[:, labels == label].sum(1))
    inside = torch.zeros(2, 6, dtype=torch.bool)
    inside[:, 3:] = True
    positive = e.coefficients[:, 0].clamp(min=0)
    expected = (positive[:, 0] + positive[:, 2]) / positive.sum(1)
    assert metrics.share_inside(e, inside)[:, 0].allclose(expected)
    hidden = metrics.deletion(lambda x: x.mean(2), x, e)
    shown = metrics.insertion(lambda x: x.mean(2), x, e)
    assert (hidden < shown).all()
    assert metrics.fidelity(lambda x: x.mean(2), x, e, seed=4).allclose(torch.ones(2, 1).double())
    e.save(tmp_path / "e.npz")
    again = Explanation.load(tmp_path / "e.npz")
    assert torch.equal(again.heatmap(), e.heatmap())
    bands = explainer.explain(lambda x: x.mean(2), x, 1, segments=labels.expand(1, 4, 6))
    assert bands.energy is None
    bands.save(tmp_path / "bands.npz")
    assert torch.equal(Explanation.load(tmp_path / "bands.npz").heatmap(), bands.heatmap())
    scores = score_masks(
        lambda x: x.mean(2), x, labels, Constant(0.0), torch.eye(3).bool(), targets=1
    )
    assert scores.shape == (2, 3, 1)


def test_what_looks_like_one_photo_is_told():
    with pytest.warns(UserWarning, match=r"like one photo, .* 3 series \[B,C,L\]; add the batch"):
        explain(lambda x: x.mean(2), torch.rand(3, 16, 16), 0, segmenter=Grid(4), num_samples=16)
