"""Several inputs of a model, inputs that are only passed on, and chunks of exactly k rows."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from torchlime import Lime, explain, explain_vector, metrics, plot
from torchlime._given_masks import score_masks
from torchlime.explanation import Explanation
from torchlime.features import Entries
from torchlime.fills import Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, Exhaustive
from torchlime.segments import Grid, Slic
from torchlime.surrogates import LeastSquares
from torchlime.weights import Exponential

BLACK = Constant(0.0)
EXACT = {"surrogate": LeastSquares(), "num_samples": 64, "sampler": Bernoulli()}


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.manual_seed(seed), dtype=torch.float64)


A, B, IDS = rand(2, 3, 4, 6), rand(2, 1, 5, seed=1), torch.tensor([[1, 2, 3], [4, 1, 0]])
TABLE, LA, LB = rand(7, 1, seed=2), rand(3, 4, 6, seed=3), rand(1, 5, seed=4)
MAP_A = torch.arange(24).view(4, 6) // 6 * 10  # rows 0, 10, 20, 30
MAP_B = torch.tensor([0, 0, 77, -1, 20])  # shares 0 and 20 with A
MAP_IDS = torch.tensor([[5, 77, 5], [-1, 6, 6]])


def model(a, b, ids):
    return (a * LA).sum((1, 2, 3)) + 2 * (b * LB).sum((1, 2)) + TABLE[ids].sum((1, 2))


def expected(fills):
    """{id: Σ slope · (input − fill)} for each of the two inputs, over all that has the id."""
    fa, fb, fi = fills
    parts = (
        (LA * (A - fa), MAP_A.expand(2, 3, 4, 6)),
        (2 * LB * (B - fb), MAP_B.expand(2, 1, 5)),
        (TABLE[IDS][..., 0] - TABLE[fi][:, 0], MAP_IDS),
    )
    return [
        {
            i: sum(part[b][labels[b] == i].sum().item() for part, labels in parts)
            for i in {j for _, labels in parts for j in labels[b].unique().tolist()} - {-1}
        }
        for b in range(2)
    ]


def by_id(explanation, b):
    ids, values = explanation[b].top(explanation.coefficients.shape[2])
    found = dict(zip(ids[0, 0].tolist(), values[0, 0].tolist(), strict=True))
    found.pop(-1, None)
    return found


@pytest.mark.parametrize("chunk", [{}, {"chunk_size": 5}, {"chunk_size": 7, "exact_chunks": True}])
@pytest.mark.parametrize("named", [False, True])
def test_a_linear_model_of_three_inputs_with_shared_ids(named, chunk):
    def structured(*parts):
        return dict(zip(("a", "b", "ids"), parts, strict=True)) if named else parts

    inputs = structured(A.clone(), B.clone(), IDS.clone())
    before = copy.deepcopy(inputs)
    fill = structured(ImageMean(), Constant(0.25), torch.tensor([6, 5, 2]))
    segments = structured(MAP_A, MAP_B, MAP_IDS)
    e = explain(model, inputs, segments=segments, fill=fill, **chunk, **EXACT).check()
    wanted = expected([A.mean((2, 3), keepdim=True), 0.25, torch.tensor([6, 5, 2])])
    assert str(inputs) == str(before)
    for b in range(2):
        assert by_id(e, b) == pytest.approx(wanted[b], rel=1e-8)
        one = structured(A[b : b + 1], B[b : b + 1], IDS[b : b + 1])
        maps = structured(MAP_A, MAP_B, MAP_IDS[b : b + 1])
        alone = explain(model, one, segments=maps, fill=fill, **EXACT).check()
        assert by_id(alone, 0) == pytest.approx(wanted[b], rel=1e-8)
    heat = e.heatmap()
    assert type(heat) is (dict if named else tuple)
    a, b, ids = heat.values() if named else heat
    assert (a.shape, b.shape, ids.shape) == ((2, 1, 4, 6), (2, 1, 5), (2, 1, 3))
    assert a[0, 0, 2, 0].item() == b[0, 0, 4].item() == pytest.approx(wanted[0][20], rel=1e-5)
    assert b[0, 0, 3] == ids[1, 0, 0] == 0


def test_one_fill_for_all_exhaustive_and_inputs_that_are_passed_on():
    def siamese(a, b, c):
        return ((a * b).sum((1, 2, 3)) + c[:, 0]) * 1.0

    b = rand(2, 3, 4, 6, seed=9)
    for segments in ((MAP_A, None, None), (MAP_A, MAP_A + 1, None)):
        e = explain(
            siamese, (A, b, B[:, 0]), segments=segments, fill=Constant(0.0),
            kernel=lambda masks, *_: masks.sum(2) + 1.0, surrogate=LeastSquares(),
            sampler=Exhaustive(), num_samples=256,
        ).check()  # fmt: skip
        assert e.segments[2] is None
        assert e.heatmap()[2] is None
        if segments[1] is None:
            assert e.coefficients[:, 0].allclose((A * b).sum((1, 3)), 0, 1e-9)
    assert e.segment_count.tolist() == [8, 8]


def test_the_segmenter_segments_each_input_apart():
    pair = (A, rand(2, 3, 4, 6, seed=9))

    def difference(a, b):
        return (a - 3 * b).sum((1, 2, 3))

    e = explain(difference, pair, segmenter=Grid(2, 3), fill=Constant(0.0), **EXACT).check()
    assert e.segment_count.tolist() == [12, 12]
    assert e.segments[1].min() == 6
    for place, sign in ((0, 1), (1, -3)):
        sums = sign * pair[place].sum(1)
        for s in range(6 * place, 6 * place + 6):
            inside = e.segments[place][0] == s
            assert e.coefficients[:, 0, s].allclose(sums[:, inside].sum(1), 0, 1e-9)
    slic = explain(difference, pair, segmenter=Slic(4), num_samples=64).check()
    assert slic.segments[1].flatten(1).amax(1).tolist() == (slic.segment_count - 1).tolist()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 3, 200])
def test_an_extra_input_belongs_to_its_own_rows(chunk_size, named):
    scale, index = torch.tensor([2.0, -3.0]).double(), torch.tensor([4, 6])

    def scaled(a, scale, index):
        assert len(a) == len(scale) == len(index)
        return (a * LA).sum((1, 2, 3)) * scale + 100 * TABLE[index, 0]

    extra = {"index": index, "scale": scale} if named else (scale, index)
    settings = {"segments": MAP_A, "fill": Constant(0.0), "chunk_size": chunk_size, **EXACT}
    e = explain(scaled, A, extra=extra, **settings).check()
    wanted = (LA * A).sum((1, 3)) * scale[:, None]
    assert e.coefficients[:, 0].allclose(wanted, 0, 1e-8)
    assert e.intercepts[:, 0].allclose(100 * TABLE[index, 0], 0, 1e-8)
    assert e.segments.shape == (2, 4, 6)
    assert metrics.fidelity(scaled, A, e, seed=5, extra=extra).allclose(torch.ones(2, 1).double())
    assert (
        metrics.deletion(scaled, A, e, extra=extra) < metrics.insertion(scaled, A, e, extra=extra)
    ).all()
    named_inputs = explain(
        lambda a, b: (a * LA).sum((1, 2, 3)) * b, {"a": A}, extra={"b": scale},
        **settings | {"segments": {"a": MAP_A}},
    )  # fmt: skip
    assert named_inputs.coefficients[:, 0].allclose(wanted, 0, 1e-8)


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 5)

    def forward(self, image, ids):
        assert image.dtype == self.head.weight.dtype
        assert ids.dtype == torch.int64
        assert image.is_contiguous(memory_format=torch.channels_last)
        return self.head(self.convolution(image).mean((2, 3)) * self.embedding(ids).mean(1))


def test_a_network_of_image_and_ids_with_files_metrics_and_pictures(tmp_path):
    network, inputs = TwoTowers(), {"image": A, "ids": IDS}
    explainer = Lime(
        fill={"image": SegmentMean(), "ids": Constant(0)}, num_samples=200,
        kernel=Exponential(1.0, "pixel_euclidean"),
    )  # fmt: skip
    assert explainer == copy.deepcopy(explainer)
    assert hash(explainer) == hash(copy.deepcopy(explainer))
    segments = {"ids": torch.tensor([101, 102, -1]), "image": MAP_A}
    e = explainer.explain(network, inputs, segments=segments, top=2, keep_samples=True).check()
    assert e.settings["fill"] == "SegmentMean(), Constant(value=0)"
    assert e.ids.tolist() == [[0, 10, 20, 30, 101, 102]] * 2
    squares = (A - SegmentMean()(A, metrics._shared.Segments(
        e.segments["image"], e.segment_count, e.ok, 6))).square().sum((1, 3))  # fmt: skip
    assert e.energy[:, :4].allclose(squares)
    assert e.energy[:, 4:].equal(IDS[:, :2].double().square())
    for value in (
        metrics.deletion(network, inputs, e),
        metrics.insertion(network, inputs, e),
        metrics.fidelity(network, inputs, e, seed=9),
        metrics.overlap([e, e]),
    ):
        assert value.shape == (2, 2)
    e.save(tmp_path / "e.npz")
    again = Explanation.load(tmp_path / "e.npz")
    assert list(again.segments) == ["image", "ids"]
    for name, heat in e.heatmap().items():
        assert torch.equal(again.heatmap()[name], heat)
        assert torch.equal(again[1].mask(2)[name], e.mask(2)[name][1:])
    assert plot.bars(again[0]).shape[0] == 3
    with pytest.raises(ValueError, match=r"several inputs .* explanation.segments\['image'\] is"):
        plot.overlay(again[0], A[0].float())
    part = explain(lambda a, b: a.mean((2, 3)), (A, B), 0, segments=(MAP_A, None), num_samples=16)
    part.save(tmp_path / "part.npz")
    loaded = Explanation.load(tmp_path / "part.npz")
    assert loaded.segments[1] is None
    assert torch.equal(loaded.segments[0], part.segments[0])
    for damage in ("[]", "2.5", "[1]", "1000000", "null"):
        with np.load(tmp_path / "part.npz") as file:
            arrays = {name: file[name] for name in file.files}
        arrays["record"] = np.array(
            str(arrays["record"]).replace('"inputs": 2', f'"inputs": {damage}')
        )
        np.savez(tmp_path / "wrong.npz", **arrays)
        with pytest.raises(ValueError, match="not a saved explanation: (inputs|segments) must be"):
            Explanation.load(tmp_path / "wrong.npz")


def test_gradients_reach_the_parameters_through_several_inputs():
    network = TwoTowers().double()
    settings = {
        "segments": (MAP_A, MAP_IDS),
        "fill": (Constant(0.0), Constant(0)),
        "num_samples": 32,
    }
    e = explain(network, (A, IDS), 0, differentiable=True, chunk_size=9, **settings)
    e.coefficients.sum().backward()
    assert network.convolution.weight.grad.abs().sum() > 0
    assert network.embedding.weight.grad.abs().sum() > 0


def test_memory_that_runs_out_releases_all_buffers():
    sizes = []

    def greedy(a, b):
        sizes.append(len(a))
        if len(a) > 10:
            raise torch.OutOfMemoryError("out of memory")
        return a.sum((1, 2, 3)) + b.sum((1, 2))

    settings = {"segments": (MAP_A, MAP_B), "fill": Constant(0.0), "chunk_size": 32, **EXACT}
    e = explain(greedy, (A, B), **settings).check()
    whole = explain(lambda a, b: a.sum((1, 2, 3)) + b.sum((1, 2)), (A, B), **settings)
    assert max(sizes) == 32
    assert e.coefficients.allclose(whole.coefficients, 0, 1e-9)


@pytest.mark.parametrize("k", [1, 4, 16, 300])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("num_samples", [12, 16])
def test_every_chunk_has_exactly_k_rows(k, batch, num_samples):
    sizes = []

    def engine(x):
        sizes.append(len(x))
        return (x * LA).sum((1, 2, 3))

    settings = {
        "segments": MAP_A,
        "fill": Constant(0.0),
        "sampler": Bernoulli(),
        "num_samples": num_samples,
    }
    e = explain(engine, A[:batch], chunk_size=k, exact_chunks=True, **settings)
    assert set(sizes) == {k}
    assert len(sizes) == -(-batch * num_samples // k)
    other = explain(engine, A[:batch], **settings)
    assert e.coefficients.allclose(other.coefficients, 0, 1e-9)
    sizes.clear()
    assert metrics.deletion(engine, A[:batch], e).shape == (batch, 1)
    explain_vector(lambda x: engine(x.view(-1, 1, 4, 6)), A[:batch, 0].flatten(1), chunk_size=k,
                   exact_chunks=True, num_samples=50)  # fmt: skip
    assert set(sizes) == {k}


def test_an_exported_program_of_a_fixed_batch():
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double().eval()
    program = torch.export.export(network, (torch.zeros(8, 3, 4, 6).double(),)).module()
    settings = {"segments": MAP_A, "num_samples": 20, "sampler": Bernoulli()}
    e = explain(program, A, 1, chunk_size=8, exact_chunks=True, **settings).check()
    assert e.coefficients.allclose(explain(network, A, 1, **settings).coefficients, 0, 1e-9)


def test_exact_chunks_are_not_made_smaller():
    def full(x):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="with 9 rows .* exact_chunks=True forbids"):
        explain(full, A, segments=MAP_A, chunk_size=9, exact_chunks=True)
    with pytest.raises(ValueError, match="exact_chunks=True needs chunk_size=, the rows of every"):
        Lime(exact_chunks=True)


def run(inputs=(A, B), segments=(MAP_A, MAP_B), fill=BLACK, **settings):
    return explain(
        lambda a, b, **_: a.sum((1, 2, 3)), inputs, segments=segments, fill=fill, **settings
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: run((A, B[:1])), ValueError,
         r"images\[1\] must have B = 2 .*images\[0\] has, got \[1, 1, 5\]"),
        (lambda: run(()), ValueError, "images must hold an input, got an empty tuple"),
        (lambda: run({1: A}, {1: MAP_A}), TypeError, "images must have str as names"),
        (lambda: run(segments=MAP_A), ValueError,
         "segments must be a tuple of 2 as the inputs, .* got Tensor"),
        (lambda: run(segments=(MAP_A,)), ValueError, "a tuple of 2 .* got a tuple of 1"),
        (lambda: run(segments=(None, None)), ValueError, "None for every input"),
        (lambda: run({"a": A, "b": B}, {"a": MAP_A}), ValueError,
         r"names \['a', 'b'\] .* a dict with \['a'\]"),
        (lambda: run(segments=(MAP_A, MAP_A)), ValueError,
         r"images\[1\]: segments has 4 label maps for 2"),
        (lambda: run(segments=(MAP_A, MAP_B.float() / 2)), TypeError,
         r"images\[1\]: segments must be"),
        (lambda: run(fill=(Constant(0.0),)), ValueError,
         "fill must be a tuple of 2 .* a tuple of 1"),
        (lambda: run(fill=(Constant(0.0), 3)), TypeError,
         "fill must be callable or a tensor, got 3"),
        (lambda: run(fill=(Constant(0.0), torch.zeros(4))), ValueError,
         r"images\[1\]: fill must broadcast"),
        (lambda: run(fill=(Constant(0.0), None)), TypeError,
         r"images\[1\]: fill is None, but the input"),
        (lambda: run(max_segments=3), ValueError, "has 5 segments, more than max_segments=3"),
        (lambda: run((A, IDS), None, segmenter=Grid(2, 2)), ValueError,
         r"images\[1\] is torch.int64 \[2, 3\], which no"),
        (lambda: run(A, MAP_A, extra=B[:1]), ValueError,
         r"extra\[0\] must have B = 2 in front, as images has"),
        (lambda: run(A, MAP_A, extra={"c": B[0, 0]}), ValueError,
         r"extra\['c'\] must have B = 2 .* got \[5\]"),
        (lambda: run({"a": A}, {"a": MAP_A}, extra=B), ValueError,
         "extra must be a dict of other names"),
        (lambda: run({"a": A}, {"a": MAP_A}, extra={"a": B}), ValueError,
         r"other names .* got \['a'\]"),
        (lambda: run((A, B.to("meta"))), ValueError,
         r"images\[1\] is on meta, images\[0\] is on cpu"),
        (lambda: run((A, "text")), TypeError, r"images\[1\] must hold numbers"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_scores_of_given_masks_and_features_of_ones_own():
    masks = torch.eye(5).bool()
    scores = score_masks(
        lambda a, b: a.sum((1, 2, 3)) + b.sum((1, 2)), (A, B), (MAP_A, MAP_B), Constant(0.0), masks
    )
    background = B[:, 0, 3]
    wanted = torch.stack([A[:, :, row].sum((1, 2)) for row in range(4)], 1) + background[:, None]
    wanted[:, 0] += B[:, 0, :2].sum(1)
    wanted[:, 2] += B[:, 0, 4]
    wanted = torch.cat([wanted, (B[:, 0, 2] + background)[:, None]], 1)
    assert scores[..., 0].allclose(wanted, 0, 1e-12)
    assert Entries.energy.__doc__


IDS16 = IDS.to(torch.int16)


@pytest.mark.parametrize(
    ("ids", "fill", "error", "message"),
    [
        (IDS16, torch.tensor(70_000), TypeError, "must hold torch.int16 .*, got torch.int64"),
        (IDS16, Constant(70_000), ValueError, "must lie in -32768…32767"),
        (IDS > 1, Constant(2), ValueError, "must lie in 0…1"),
        (IDS.to(torch.uint8), Constant(-1), ValueError, "must lie in 0…255"),
        (IDS, Constant(float("inf")), TypeError, "must be whole"),
    ],
)
def test_a_baseline_that_would_wrap_around_is_refused(ids, fill, error, message):
    maps = {"segments": (MAP_A, MAP_IDS)}
    with pytest.raises(error, match=message):
        explain(lambda a, i: a.sum((2, 3)), (A, ids), 0, fill=(BLACK, fill), **maps)


def test_integers_of_any_width_have_a_constant_baseline():
    for ids in (IDS16, IDS.to(torch.uint8), IDS > 1):
        fill = Constant(1)(ids, None)
        assert fill.dtype == ids.dtype
        assert bool((fill == 1).all())


def test_what_goes_with_several_inputs_or_with_one_has_a_sentence():
    with pytest.raises(TypeError, match=r"images\[0\]: segments must be .* soft masks go with"):
        explain(lambda a, b: a, (A, B), 0, segments=(torch.rand(3, 4, 6), MAP_B), fill=BLACK)
    with pytest.raises(TypeError, match="fill must be callable or a tensor for one input"):
        explain(lambda a: a.sum((2, 3)), A, 0, segments=MAP_A, fill=(BLACK,))
    with pytest.raises(TypeError, match="fill must hold torch.float64 .*complex"):
        explain(lambda a: a.sum((2, 3)), A, 0, segments=MAP_A, fill=torch.tensor(1j))
