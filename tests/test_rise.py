"""RISE: the authors' published procedure, written literally, on the same cells and shifts."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from skimage.transform import resize
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.test_fake_cuda import RefuseWaiting
from torchlime import Explanation, Lime, Rise, _row_blocks, metrics, plot
from torchlime._hash import hash64, shift_right
from torchlime.features import ShiftedGrids
from torchlime.fills import Blur, Constant, SegmentMean
from torchlime.masks import Bernoulli
from torchlime.rise import Cells
from torchlime.segments import Grid
from torchlime.surrogates import MarginalMean
from torchlime.weights import Uniform

B, C, H, W, N = 2, 3, 30, 41, 60
GRID = (4, 7)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(C, 8, 5, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(32, 4), torch.nn.Softmax(1),
    ).double()  # fmt: skip


def images():
    return torch.rand(B, C, H, W, generator=torch.manual_seed(1)).double()


def shifts_of(seed, samples, grid, axes):
    """The pixels that each sample is shifted by: a list of [axis] numbers."""
    seeds = torch.full((1,), seed)
    return [
        [
            int(shift_right(hash64(seeds, -1 - axis, torch.tensor([i])), 11)) % -(-length // s)
            for axis, (s, length) in enumerate(zip(grid, axes, strict=True))
        ]
        for i in range(samples)
    ]


def masks_of(cells, shifts, size):
    """RISE.generate_masks of the authors' explanations.py, for two numbers of cells."""
    masks = np.empty((len(cells), *size))
    for i, (grid, (x, y)) in enumerate(zip(cells, shifts, strict=True)):
        cell_size = np.ceil(np.array(size) / grid.shape)
        up_size = (np.array(grid.shape) + 1) * cell_size
        masks[i] = resize(
            grid.astype("float32"), up_size, order=1, mode="reflect", anti_aliasing=False
        )[x : x + size[0], y : y + size[1]]
    return masks


def rise_of(model, image, masks, p1):
    """RISE.forward of the authors' explanations.py."""
    n, h, w = masks.shape
    stack = torch.from_numpy(masks)[:, None] * image
    p = model(stack)
    sal = torch.matmul(p.transpose(0, 1), torch.from_numpy(masks).view(n, h * w))
    return sal.view(-1, h, w) / n / p1


@torch.no_grad()
@pytest.mark.parametrize("keep", [0.5, 0.3])
@pytest.mark.parametrize("seeds", [3, torch.tensor([5, 6])])
def test_the_authors_procedure(keep, seeds):
    model, x, seen = network(), images(), []

    def seeing(rows):
        seen.append(rows.clone())
        return model(rows)

    rise = Rise(grid=GRID, keep=keep, num_samples=N, chunk_size=17)
    e = rise.explain(seeing, x, torch.arange(4).expand(B, -1), seed=seeds).check()
    rows = torch.cat(seen)[: B * (N + 1)]
    assert torch.equal(rows[:B], x)
    for b in range(B):
        seed = seeds if isinstance(seeds, int) else int(seeds[b])
        cells = Bernoulli(keep)(torch.tensor([28]), 28, N + 1, seed=seed)[0, 1:]
        cells = cells.unflatten(1, GRID).numpy()
        masks = masks_of(cells, shifts_of(seed, N, GRID, (H, W)), (H, W))
        own = rows[B + b * N : B + (b + 1) * N]
        assert own.allclose(torch.from_numpy(masks)[:, None] * x[b], 0, 1e-6)
        wanted = rise_of(model, x[b], masks, keep)
        assert e.heatmap()[b].double().allclose(wanted, 0, 1e-6)
        assert e.coefficients[b].allclose(wanted.flatten(1), 0, 1e-6)
        values = model(torch.from_numpy(masks)[:, None] * x[b]).numpy()  # [N,4]
        terms = values.T[:, :, None, None] * masks / keep
        errors = terms.std(axis=1, ddof=1) / np.sqrt(N)
        assert np.allclose(e.standard_errors[b].unflatten(1, (H, W)), errors, 0, 1e-6)
        normalised = Rise(grid=GRID, keep=keep, num_samples=N, normalised=True)
        one = normalised.explain(model, x[b : b + 1], torch.arange(4)[None], seed=seed)
        ratio = terms.mean(1) * keep / masks.mean(0)
        assert np.allclose(one.coefficients[0].unflatten(1, (H, W)), ratio, 0, 1e-6)
        off = (values.T[:, :, None, None] - ratio[:, None]) * masks / masks.mean(0)
        errors = off.std(axis=1, ddof=1) / np.sqrt(N)
        assert np.allclose(one.standard_errors[0].unflatten(1, (H, W)), errors, 0, 1e-6)
        differing = Rise(grid=GRID, keep=keep, num_samples=N, difference=True)
        one = differing.explain(model, x[b : b + 1], torch.arange(4)[None], seed=seed)
        hidden = (values.T[:, :, None, None] * (1 - masks)).mean(1) / (1 - masks).mean(0)
        off -= (values.T[:, :, None, None] - hidden[:, None]) * (1 - masks) / (1 - masks).mean(0)
        errors = off.std(axis=1, ddof=1) / np.sqrt(N)
        assert np.allclose(one.coefficients[0].unflatten(1, (H, W)), ratio - hidden, 0, 1e-6)
        assert np.allclose(one.standard_errors[0].unflatten(1, (H, W)), errors, 0, 1e-6)


@pytest.mark.parametrize("normalised", [False, True])
def test_it_tends_to_the_mean_over_all_masks_and_its_errors_say_how_far_it_is(normalised):
    """All 2⁴ cells, and all 2·2 shifts of an image of 4×4 pixels; the network is not linear."""
    x = torch.rand(1, 1, 4, 4, generator=torch.manual_seed(2)).double()
    slopes = torch.rand(4, 4, generator=torch.manual_seed(3)).double()

    def model(rows):
        return (rows[:, 0] * slopes).sum((1, 2), keepdim=True)[..., 0].square()

    keep, total, weight = 0.4, 0, 0
    for cells in itertools.product([0.0, 1.0], repeat=4):
        cells = np.array(cells).reshape(2, 2)
        for shift in itertools.product(range(2), repeat=2):
            mask = torch.from_numpy(masks_of([cells], [shift], (4, 4)))
            chance = keep ** cells.sum() * (1 - keep) ** (4 - cells.sum()) / 4
            total = total + chance * model(mask[:, None] * x)[0] * mask[0] / keep
            weight = weight + chance * mask[0]
    assert weight.allclose(torch.tensor(keep).double(), 0, 1e-6)
    rise = Rise(grid=(2, 2), keep=keep, num_samples=3000, normalised=normalised)
    many = rise.explain(model, x.expand(40, -1, -1, -1), seed=torch.arange(40))
    off = (many.coefficients[:, 0] - total.flatten()) / many.standard_errors[:, 0]
    assert off.mean().abs() < 0.5
    assert 0.8 < off.square().mean().sqrt() < 1.2
    errors = many.standard_errors.mean()
    plain = Rise(grid=(2, 2), keep=keep, num_samples=3000)
    plain = plain.explain(model, x.expand(40, -1, -1, -1), seed=torch.arange(40))
    assert (errors < plain.standard_errors.mean()) == normalised


def test_the_difference_of_hard_masks_is_that_of_marginal_means():
    """A grid of one cell is shown or hidden wholly."""
    x, model = images(), network()
    settings = {"grid": (1, 1), "num_samples": 200}
    e = Rise(**settings, difference=True).explain(model, x)
    hard = Lime(
        segmenter=Grid(1, 1), sampler=Cells(), num_samples=200, fill=Constant(0.0),
        kernel=Uniform(), surrogate=MarginalMean(difference=True),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="one segment"):
        wanted = hard.explain(model, x)
    assert e.coefficients.allclose(wanted.coefficients.expand_as(e.coefficients), 0, 1e-9)
    even = Rise(**settings, difference=True).explain(lambda rows: rows.mean((2, 3)) * 0 + 3, x)
    assert even.coefficients.abs().max() < 1e-9


def test_segments_are_the_means_of_their_pixels():
    x, model = images(), network()
    rise = Rise(grid=GRID, num_samples=N)
    pixels = rise.explain(model, x, top=2)
    labels = torch.randint(0, 5, (B, H, W), generator=torch.manual_seed(4))
    for e in (
        rise.explain(model, x, top=2, segments=labels),
        Rise(grid=GRID, num_samples=N, segmenter=lambda _: labels).explain(model, x, top=2),
    ):
        for b, s in itertools.product(range(B), range(5)):
            own = pixels.coefficients[b].unflatten(1, (H, W))[:, labels[b] == s].mean(1)
            assert e.coefficients[b, :, s].allclose(own, 0, 1e-9)
        assert torch.equal(e.segments, labels)
        assert (e.standard_errors < pixels.standard_errors.amax()).all()
    alone = torch.arange(H * W).view(H, W)
    e = rise.explain(model, x, top=2, segments=alone)
    assert e.standard_errors.allclose(pixels.standard_errors, 0, 1e-12)
    filled = Rise(grid=(2, 2), num_samples=9, fill=SegmentMean(), segmenter=Grid(3, 3))
    assert filled.explain(model, x).ok.all()
    background = rise.explain(model, x, top=2, segments=labels - 1)
    assert background.coefficients.allclose(e_of(rise, model, x, labels)[..., 1:], 0, 1e-9)


def e_of(rise, model, x, labels):
    return rise.explain(model, x, top=2, segments=labels).coefficients


def test_batches_chunks_and_blocks_change_nothing(monkeypatch):
    x, model, rise = images(), network(), Rise(grid=GRID, num_samples=N)
    whole = rise.explain(model, x)
    for b in range(B):
        alone = rise.explain(model, x[b : b + 1])
        assert alone.coefficients.allclose(whole.coefficients[b : b + 1], 0, 1e-9)
    seeded = rise.explain(model, x, seed=torch.zeros(B).long())
    assert seeded.coefficients.allclose(whole.coefficients, 0, 1e-9)
    for size in (1, 7):
        chunked = Rise(grid=GRID, num_samples=N, chunk_size=size).explain(model, x)
        assert chunked.coefficients.allclose(whole.coefficients, 0, 1e-9)
    for elements in (1, 1 << 30):
        monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", elements)
        assert rise.explain(model, x).coefficients.allclose(whole.coefficients, 0, 1e-9)


@pytest.mark.parametrize("axes", [(9,), (9, 6), (5, 6, 4)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_inputs_of_any_rank_and_dtype(axes, dtype):
    x = torch.rand(2, 3, *axes, generator=torch.manual_seed(0)).to(dtype)
    before, seen = x.clone(), []

    def model(rows):
        seen.append(rows.dtype)
        return rows.float().flatten(2).mean(2)

    rise = Rise(grid=(3, 2, 4)[: len(axes)], num_samples=20)
    e = rise.explain(model, x, top=3).check()
    assert torch.equal(x, before)
    assert set(seen) == {dtype}
    assert e.heatmap().shape == (2, 3, *axes)
    wide = rise.explain(lambda rows: rows.flatten(2).mean(2), x.double(), e.targets)
    assert e.coefficients.allclose(wide.coefficients, 0, 1e-2 if dtype != torch.float32 else 1e-6)


def test_layouts_fills_and_files(tmp_path):
    x, model = images().float(), network().float()
    rise = Rise(grid=GRID, num_samples=N, fill=Blur(2.0))
    e = rise.explain(model, x, top=2)
    last = rise.explain(model.to(memory_format=torch.channels_last), x, top=2)
    assert last.coefficients.allclose(e.coefficients, 0, 1e-6)
    kept = Rise(grid=GRID, num_samples=N, fill=x).explain(model, x, top=2)
    assert kept.scores[..., None].expand_as(kept.coefficients).allclose(
        Rise(grid=GRID, num_samples=N, fill=x, normalised=True).explain(model, x, top=2)
        .coefficients, 0, 1e-6
    )  # fmt: skip
    e.save(tmp_path / "e.npz")
    again = Explanation.load(tmp_path / "e.npz")
    assert torch.equal(again.heatmap(), e.heatmap())
    assert "Cells(keep=0.5)" in again.settings["sampler"]
    assert again.settings["grid"] == "4, 7"
    heat = metrics.Heatmap(values=e.heatmap()[:, 0], targets=e.targets[:, :1])
    by_steps = {"fill": Constant(0.0), "steps": 5}
    ours = metrics.deletion(model, x, e, **by_steps)
    assert ours[:, :1].allclose(metrics.deletion(model, x, heat, **by_steps), 0, 1e-6)
    assert plot.heatmap_picture(e[0], x[0]).shape == (3, H, W)
    assert pickle.loads(pickle.dumps(rise)) == rise
    assert "RISE" not in repr(rise)
    assert not torch.equal(e.coefficients, rise.explain(model, x, top=2, seed=1).coefficients)
    raised = torch.full_like(x, torch.nan)
    assert rise.explain(model, raised).reasons()[0][0] == "the image holds NaN or infinite values"


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@pytest.mark.parametrize(
    "rise", [Rise(num_samples=8), Rise(num_samples=8, normalised=True, segmenter=Grid(2, 2))]
)
def test_nothing_waits_for_the_device(rise):
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(B, C, 32, 24, device="cuda")
        with RefuseWaiting():
            e = rise.explain(lambda rows: rows.mean((2, 3)), x)
            e.heatmap()
    assert e.coefficients.device.type == "cuda"


def test_the_masks_compile_whole():
    grids = ShiftedGrids(images(), Constant(0.0), GRID, 0)
    cells = torch.rand(1, 5, 28) < 0.5
    compiled = torch.compile(
        lambda cells: grids.masks(cells, 0), fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(compiled(cells), grids.masks(cells, 0))
    assert grids.masks(torch.ones_like(cells), 0).eq(1).all()
    assert grids.masks(torch.zeros_like(cells), 0).eq(0).all()
    one = ShiftedGrids(images(), Constant(0.0), (1, 1), 0)
    assert set(one.masks(torch.rand(1, 9, 1) < 0.5, 0).unique().tolist()) == {0.0, 1.0}


def test_shifts_are_uniform_and_of_their_own():
    grids = ShiftedGrids(torch.rand(1, 1, 12, 12), Constant(0.0), (3, 3), 7)
    samples = torch.arange(40000)
    down, across = (grids._shifts(grids.seeds, samples, axis)[0] for axis in (0, 1))
    for shifts in (down, across):
        assert shifts.bincount(minlength=4).double().div(40000).sub(0.25).abs().max() < 0.01
    assert np.corrcoef(down, across)[0, 1] == pytest.approx(0, abs=0.02)
    first = Cells()(torch.tensor([9]), 9, 40000, seed=7)[0, :, 0]
    assert np.corrcoef(down, first)[0, 1] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    ("settings", "call", "error", "message"),
    [
        ({"grid": 7}, {}, TypeError, r"grid must be a tuple of ints, such as \(7, 7\), got 7"),
        ({"grid": (7, 0)}, {}, ValueError, "each number of grid must be at least 1, got 0"),
        ({"grid": (7,)}, {}, ValueError, r"cells for each axis of \(30, 41\), .* got \(7,\)"),
        ({"grid": (31, 2)}, {}, ValueError, r"at most its pixels, got \(31, 2\)"),
        ({"keep": 1}, {}, ValueError, "keep must lie strictly between 0 and 1, got 1"),
        ({"num_sample": 1}, {}, TypeError, "did you mean 'num_samples'"),
        ({"num_samples": 1}, {}, ValueError, "num_samples must be at least 2"),
        ({"fill": None}, {}, TypeError, "fill must be callable or a tensor, got None"),
        ({"fill": SegmentMean()}, {}, ValueError, "SegmentMean needs a segmenter or segments="),
        ({"segmenter": 3}, {}, TypeError, "segmenter must be callable"),
        ({"seed": 0.5}, {}, TypeError, "seed must be an int, got float"),
        ({}, {"max_segments": 3}, ValueError, "max_segments goes with segments="),
        ({}, {"segments": torch.rand(2, H, W)}, TypeError, "integer label map"),
    ],
)
def test_errors_say_what_to_do(settings, call, error, message):
    with pytest.raises(error, match=message):
        Rise(**settings).explain(network(), images(), **call)


def test_vectors_have_no_grid():
    with pytest.raises(ValueError, match=r"images must have shape \[B,C,L\]"):
        Rise().explain(lambda x: x, torch.rand(2, 5))


def test_metrics_know_how_rise_hides_and_explains():
    x, model = images(), network()
    e = Rise(grid=GRID, num_samples=N, segmenter=Grid(2, 3)).explain(model, x)
    fill = Constant(0.0)
    for metric in (metrics.deletion, metrics.insertion, metrics.infidelity):
        assert torch.equal(metric(model, x, e), metric(model, x, e, fill=fill))
    assert (metrics.max_sensitivity(model, x, e, num_samples=2) > 0).all()
    pixels = Rise(grid=(2, 2), num_samples=9).explain(model, x)
    assert (metrics.max_sensitivity(model, x, pixels, num_samples=2) > 0).all()
    with pytest.raises(ValueError, match="fidelity measures a surrogate, .* use deletion"):
        metrics.fidelity(model, x, e, seed=1)


@pytest.mark.parametrize("mean", [{"normalised": True}, {"difference": True}])
@pytest.mark.parametrize("keep", [0.001, 0.999])
def test_what_all_samples_show_alike_has_no_error(mean, keep):
    """Nothing is known of it; the difference was the mean score, taken off from nothing."""
    rise = Rise(grid=(2, 2), keep=keep, num_samples=20, **mean)
    e = rise.explain(network(), images())
    if keep < 0.5 or "difference" in mean:
        assert e.standard_errors.isnan().all()
        assert (e.coefficients == 0).all()
    else:
        assert e.standard_errors.isfinite().all()
        assert (e.coefficients != 0).all()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("keep_samples", "Rise has no keep_samples: a saliency is not fitted.*, or Lime"),
        ("resume", "Rise has no resume: a saliency is not fitted"),
        ("differentiable", "Rise has no differentiable; Lime.. has it"),
        ("extra", "Rise has no extra; Lime.. has it"),
        ("target", "did you mean 'targets'"),
    ],
)
def test_what_rise_lacks_is_said(name, sentence):
    with pytest.raises(TypeError, match=sentence):
        Rise(num_samples=8).explain(lambda x: x.mean((2, 3)), torch.ones(1, 1, 8, 8), **{name: 1})


@pytest.mark.parametrize("name", ["capture", "samples"])
def test_methods_of_lime_that_rise_lacks_are_said(name):
    with pytest.raises(TypeError, match=f"Rise has no {name}..: a saliency is not fitted"):
        getattr(Rise(), name)(lambda x: x.mean((2, 3)), torch.ones(1, 1, 8, 8))
    with pytest.raises(TypeError, match="no keyword 'rounds'"):
        Rise(rounds=None)
