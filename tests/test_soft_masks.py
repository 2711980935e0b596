"""Soft and overlapping masks as features: image · m + fill · (1 − m)."""

import itertools

import numpy as np
import pytest
import torch

from torchlime import Lime, explain, metrics, plot
from torchlime._softmap import as_soft_segments, blended, soft_means
from torchlime.explanation import Explanation
from torchlime.features.pixels import Blended
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, Exhaustive
from torchlime.segments import SoftSegments
from torchlime.surrogates import LeastSquares
from torchlime.weights import Exponential

EXACT = {"surrogate": LeastSquares(), "num_samples": 64, "sampler": Bernoulli()}
SHAPES = {
    "vectors": (2, 7),
    "series": (2, 3, 8),
    "images": (2, 3, 5, 4),
    "volumes": (2, 1, 3, 4, 2),
}


def soft_masks(shape, number=4):
    """Masks of every rank, of sums below and above 1, some pixels in none."""
    g = torch.Generator().manual_seed(2)
    axes = shape[2:] or shape[1:]
    sizes = [(number, *axes), (1, number, *axes), (2, number, *axes)]
    if shape[2:]:
        sizes += [
            (1, number, *shape[1:]),
            (2, number, 1, *axes),
            (1, number, shape[1], *[1] * len(axes)),
        ]
    for size in sizes:
        masks = torch.rand(size, generator=g, dtype=torch.float64)
        yield masks.masked_fill(masks < 0.3, 0).masked_fill(masks > 0.9, 1)


def shares_of(masks, shape):
    """[B,S,*shape[1:]] by the definition."""
    rank = len(shape) if shape[2:] else 3
    masks = masks[None] if masks.dim() == rank - 1 else masks
    if masks.dim() == rank and shape[2:]:
        masks = masks[:, :, None]
    masks = masks.expand(2, masks.shape[1], *shape[1:]).numpy()
    shares = np.zeros(masks.shape)
    for place in itertools.product(*map(range, masks.shape)):
        total = sum(masks[(place[0], s, *place[2:])] for s in range(masks.shape[1]))
        shares[place] = masks[place] / max(total, 1)
    return torch.from_numpy(shares)


CASES = [(what, n) for what, shape in SHAPES.items() for n in range(len([*soft_masks(shape)]))]


@pytest.mark.parametrize(("what", "number"), CASES)
def test_rows_and_a_linear_model_by_the_definition(what, number):
    shape = SHAPES[what]
    masks = [*soft_masks(shape)][number]
    g = torch.Generator().manual_seed(0)
    x, slopes = torch.rand((2, *shape), generator=g, dtype=torch.float64)
    before, shares = x.clone(), shares_of(masks, shape)
    seen = []

    def model(rows):
        seen.append(rows.clone())
        return (rows * slopes[:1]).flatten(1).sum(1)

    for fill in [Constant(0.5), *[ImageMean(), SegmentMean()][: 2 * (len(shape) > 2)]]:
        seen.clear()
        e = explain(
            model, x, segments=masks, fill=fill, keep_samples=True, chunk_size=9, **EXACT
        ).check()
        soft = SoftSegments(e.segments, e.segment_count, e.ok, 4)
        filled = fill(x, soft)
        part = slopes[:1] * (x - filled)
        wanted = (shares * part[:, None]).flatten(2).sum(2)
        assert e.coefficients[:, 0].allclose(wanted, 0, 1e-8)
        rows = torch.cat(seen)
        assert torch.equal(rows[:2], x)
        for n in range(1, 9):
            kept = (shares[0] * e.masks[0, n].view(-1, *[1] * (x.dim() - 1))).sum(0)
            m = kept + 1 - shares[0].sum(0)  # what no mask covers is always kept
            assert rows[1 + n].allclose(x[0] * m + filled[0] * (1 - m), 0, 1e-12)
        heat = e.heatmap()
        per = e.coefficients[:, 0].view(2, 4, *[1] * (x.dim() - 1))
        everywhere = (shares * per).sum(1)
        own = heat[:, 0] if heat.dim() == x.dim() + 1 or not shape[2:] else heat
        assert own.expand(x.shape).double().allclose(everywhere, 0, 1e-5)
    assert torch.equal(x, before)


def test_disjoint_masks_of_0_and_1_do_what_a_label_map_does():
    x = torch.rand(2, 3, 5, 4, generator=torch.manual_seed(0))
    labels = torch.randint(0, 4, (2, 5, 4), generator=torch.manual_seed(1))
    masks = torch.stack([(labels == s).float() for s in range(4)], 1)

    def model(x):
        return x.square().amax(2).sum(2)

    for fill in (SegmentMean(), Constant(0.0), Blur(1.0)):
        hard = explain(model, x, 0, segments=labels, fill=fill, num_samples=64)
        soft = explain(model, x, 0, segments=masks, fill=fill, num_samples=64)
        assert soft.coefficients.allclose(hard.coefficients, 0, 1e-5)
        assert soft.heatmap().allclose(hard.heatmap(), 0, 1e-5)
        assert torch.equal(soft.mask(2), hard.mask(2))


def test_overlaps_exhaustively():
    """Two masks that share half of a series; the model is not linear."""
    x = torch.tensor([[[1.0, 2, 3, 4]]]).double()
    masks = torch.tensor([[1.0, 1, 1, 0], [0, 1, 1, 0]])
    e = explain(
        lambda x: x.square().sum((1, 2)), x, segments=masks, fill=Constant(0.0), num_samples=4,
        sampler=Exhaustive(), surrogate=LeastSquares(), kernel=lambda m, *_: m.sum(2) + 1.0,
    )  # fmt: skip
    rows = torch.tensor([[1, 2, 3, 4], [0, 1, 1.5, 4], [1, 1, 1.5, 4], [0, 0, 0, 4.0]]).double()
    y, z = rows.square().sum(1).numpy(), np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0]])
    w = np.sqrt(np.array([3, 2, 2, 1]))[:, None]
    wanted = np.linalg.lstsq(w * z, w[:, 0] * y, rcond=None)[0]
    assert e.coefficients[0, 0].numpy() == pytest.approx(wanted[1:])
    assert e.intercepts.item() == pytest.approx(wanted[0])


def test_chunks_of_a_network_metrics_files_and_pictures(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(24, 3)
    )
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    masks = next(soft_masks(x.shape))
    e = explain(network, x, top=2, segments=masks, num_samples=64).check()
    with torch.autocast("cpu", torch.bfloat16):
        half = explain(lambda x: x.mean((2, 3)), x, 0, segments=masks, num_samples=64)
    assert torch.equal(
        half.coefficients,
        explain(lambda x: x.mean((2, 3)), x, 0, segments=masks, num_samples=64).coefficients,
    )
    soft = SoftSegments(e.segments, e.segment_count, e.ok, 4)
    design = torch.rand(2, 6, 4) < 0.5
    plain = Blended(x, x * 0, soft, design)([(slice(0, 2), slice(0, 6))], 12)
    last = Blended(x, x * 0, soft, design, channels_last=True)([(slice(0, 2), slice(0, 6))], 12)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)
    assert metrics.deletion(network, x, e).shape == metrics.insertion(network, x, e).shape == (2, 2)
    assert metrics.fidelity(network, x, e, seed=3).shape == (2, 2)
    e.save(tmp_path / "e.npz")
    again = Explanation.load(tmp_path / "e.npz")
    assert torch.equal(again.heatmap(), e.heatmap())
    assert torch.equal(again[1].mask(2), e.mask(2)[1:])
    assert plot.bars(e[0]).shape[0] == 3
    with pytest.raises(ValueError, match="soft segments has shares and no label map; heatmap"):
        plot.overlay(e[0], x[0].float())
    kernel = Exponential(1.0, "pixel_euclidean")
    with pytest.raises(ValueError, match="needs energy"):
        explain(network, x, segments=masks, kernel=kernel)
    extra = explain(lambda x, s: x.mean((2, 3)) * s[:, None], x, 0, segments=masks,
                    extra=torch.ones(2), num_samples=64)  # fmt: skip
    assert extra.coefficients.allclose(half.coefficients, 0, 1e-9)


X = torch.rand(2, 3, 5, 4)


@pytest.mark.parametrize(
    ("segments", "inputs", "error", "message"),
    [
        (torch.rand(5, 4), X, TypeError, r"soft masks \[S, 5, 4\] in \[0,1\], got .* \[5, 4\]"),
        (torch.rand(4, 5, 5), X, ValueError, r"broadcast to inputs \[2, 3, 5, 4\] .* \[4, 5, 5\]"),
        (torch.rand(3, 4, 5, 4), X, ValueError, "must broadcast"),
        (torch.rand(4, 5, 4) + 1, X, ValueError, r"must lie in \[0,1\]; pass segments.long\(\)"),
        (torch.full((4, 5, 4), torch.nan), X, ValueError, r"must lie in \[0,1\]"),
        (torch.rand(4, 7), torch.zeros(2, 7).long(), TypeError, "so floats, got torch.int64"),
        (torch.zeros(0, 5, 4), X, TypeError, "soft masks"),
    ],
)
def test_bad_masks(segments, inputs, error, message):
    with pytest.raises(error, match=message):
        explain(lambda x: x.flatten(1)[:, :2], inputs, segments=segments, fill=Constant(0))
    with pytest.raises(ValueError, match="soft masks have their own number"):
        Lime().explain(lambda x: x.mean((2, 3)), X, segments=torch.rand(4, 5, 4), max_segments=4)


def test_the_device_stages_compile():
    shares = torch.rand(2, 4, 5, 4)
    values = torch.rand(2, 6, 4) < 0.5
    compiled = torch.compile(blended, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(values, shares), blended(values, shares))
    soft = as_soft_segments(shares, X)
    means = torch.compile(soft_means, fullgraph=True, backend="aot_eager")
    assert torch.equal(means(X, soft), soft_means(X, soft))
