"""Nothing goes to the host, and nothing waits for it: proven on fake CUDA tensors, without a GPU.

Fake tensors refuse a mixed-in CPU tensor, a read-back and a shape that depends on data; a dispatch
mode refuses what they let pass.
"""

import pytest
import torch
import torchvision
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchlime import Background, Lime, explain_table, explain_vector, metrics
from torchlime._given_masks import score_masks
from torchlime.background import Quantiles
from torchlime.background.draws import Draws
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import (
    Bernoulli,
    Exhaustive,
    FixedCount,
    GlimeLaw,
    LeverageLaw,
    Orthogonal,
    ShapleyLaw,
    SizeLaw,
)
from torchlime.noise import Gaussian
from torchlime.rounds import Until
from torchlime.segments import Grid, Reduced, Slic
from torchlime.surrogates import BayesianRidge, ConstrainedLeastSquares, Lasso, LeastSquares, Ridge
from torchlime.weights import (
    Exponential,
    ImportanceWeights,
    InverseDistance,
    ShapleyKernel,
    Uniform,
    WithoutUnmasked,
)

WAITS = {  # these read an error flag or a size on the host
    "_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_pinv", "linalg_lstsq",
    "_local_scalar_dense", "nonzero", "_unique", "_unique2", "unique_dim", "unique_consecutive",
    "masked_select", "item",
}  # fmt: skip

UNORDERED = {  # on a GPU these add floats in any order, or raise if that is forbidden
    "cumsum", "scatter_add", "index_add", "bincount", "histc", "put",
}  # fmt: skip


class Waits(Exception):
    """The pipeline would have waited for the device."""


class Unordered(Exception):
    """Two runs could differ; with ``torch.use_deterministic_algorithms`` the operator may raise."""


CAUGHT = (Waits, Unordered, DataDependentOutputException, DynamicOutputShapeException)


class RefuseWaiting(TorchDispatchMode):
    """Raise on operators that wait for the device, and on any that meets both host and device.

    It also refuses ``unordered`` operators on floats, whose sums depend on the order of threads.
    """

    def __init__(self, unordered=UNORDERED):
        super().__init__()
        self.unordered = unordered

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        if name in WAITS:
            raise Waits(f"{name} waits for the device")
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if name.rstrip("_") in self.unordered and any(t.is_floating_point() for t in tensors):
            raise Unordered(name)
        devices = {t.device.type for t in tensors if t.dim() or name in ("_to_copy", "copy_")}
        if devices and kwargs.get("device") is not None:
            devices.add(torch.device(kwargs["device"]).type)
        if len(devices) > 1:
            raise Waits(f"{name} between {devices}")
        return function(*args, **kwargs)


@pytest.fixture
def on_fake_cuda():
    with FakeTensorMode():
        yield


def images(batch=2, channels=3, size=(64, 48)):
    return torch.empty(batch, channels, *size, device="cuda")


EXPLAINERS = [
    Lime(),
    Lime(
        segmenter=Slic(100, blur=False, iterations=0),
        sampler=Bernoulli(),
        num_samples=64,
        fill=ImageMean(),
        kernel=Uniform(),
    ),
    Lime(
        segmenter=Grid(4, 5),
        sampler=Orthogonal(),
        num_samples=300,
        fill=Blur(3.0),
        surrogate=LeastSquares(),
        chunk_size=50,
    ),
    Lime(
        segmenter=Grid(2, 4),
        sampler=Exhaustive(),
        num_samples=256,
        fill=Constant((0.1, 0.2, 0.3)),
        autocast=torch.bfloat16,
    ),
    Lime(
        segmenter=Slic(30),
        sampler=FixedCount(),
        num_samples=100,
        fill=SegmentMean(),
        kernel=InverseDistance(),
        surrogate=Lasso(fraction=0.2),
    ),
    Lime(
        segmenter=Slic(30), kernel=Exponential(1.0, "pixel_euclidean"), surrogate=Lasso(alpha=0.1)
    ),
    Lime(segmenter=Slic(30), num_samples=100, kernel=WithoutUnmasked()),
    Lime(segmenter=Reduced(Slic(30), 40), num_samples=100),
    Lime(
        segmenter=Slic(30),
        sampler=SizeLaw(LeverageLaw()),
        num_samples=100,
        kernel=ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw()),
        surrogate=ConstrainedLeastSquares(),
    ),
    Lime(segmenter=Slic(30), sampler=SizeLaw(GlimeLaw(), paired=False), kernel=Uniform()),
    Lime(
        segmenter=Grid(2, 4),
        sampler=Exhaustive(),
        num_samples=256,
        kernel=ShapleyKernel(),
        surrogate=ConstrainedLeastSquares(),
    ),
]


RULES = [Until(error=0.25), Until(top=3), Until(absolute=0.1)]


@pytest.mark.parametrize("kernel", [Exponential(), InverseDistance("cosine")], ids=repr)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.usefixtures("on_fake_cuda")
def test_a_rule_that_stops_reads_once_a_round(monkeypatch, rule, own, kernel):
    """It is one read of a flag for each input that goes on, and nothing else waits."""
    told = [[False] * 3, [False, True, False], [True, False], [True]]
    asked = []

    def tolist(flags):
        assert flags.dtype == torch.bool
        asked.append(list(flags.shape))
        return told[len(asked) - 1]

    rows = []
    with torch.device("cuda"):
        model = torchvision.models.resnet18().eval()
    monkeypatch.setattr(FakeTensor, "tolist", tolist)
    explainer = Lime(
        segmenter=Grid(4, 5), sampler=Bernoulli(), rounds=rule, kernel=kernel, chunk_size=32
    )
    seed = torch.empty(3, dtype=torch.int64, device="cuda") if own else 0
    with RefuseWaiting():
        e = explainer.explain(
            model, images(3), top=2, seed=seed, keep_samples=True,
            progress=lambda *done: rows.append(done),
        )  # fmt: skip
    assert asked == [[3], [3], [2], [1]]
    assert rows[-1] == (3 * 65 + 3 * 32 + 2 * 32 + 32,) * 2
    assert e.samples_used.shape == (3,)
    assert e.masks.shape == (3, 65 + 3 * 32, 20)


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")  # autocast says so
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
@pytest.mark.usefixtures("on_fake_cuda")
def test_the_whole_pipeline(explainer):
    with torch.device("cuda"):
        model = torchvision.models.resnet18().eval()
    with RefuseWaiting():
        e = explainer.explain(model, images(), top=3, keep_samples=True)
        again = e.refit(kernel=Uniform(), surrogate=Ridge())
        derived = (e.heatmap(), *e.top(5), e.mask(3), e.ok, e[1].segments, again.coefficients)
    assert e.coefficients.shape == (2, 3, e.masks.shape[2])
    assert {tensor.device.type for tensor in (e.coefficients, *derived)} == {"cuda"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.usefixtures("on_fake_cuda")
def test_dtypes_channels_seeds_and_label_maps(dtype, channels):
    def model(x):
        return x.mean((2, 3))

    x = images(3, channels).to(dtype)
    labels = torch.empty(64, 48, dtype=torch.uint8, device="cuda")
    seeds = torch.empty(3, dtype=torch.int64, device="cuda")
    targets = torch.zeros(3, 2, dtype=torch.int64, device="cuda")
    with RefuseWaiting():
        e = Lime(num_samples=200).explain(
            model, x, targets, segments=labels, max_segments=40, seed=seeds
        )
        own = Lime(num_samples=200).explain(model, x, 0)
    assert e.coefficients.shape == (3, 2, 40)
    assert own.coefficients.shape == (3, 1, 48)


@pytest.mark.usefixtures("on_fake_cuda")
def test_score_masks():
    x = images()
    masks = torch.empty(2, 30, 12, dtype=torch.bool, device="cuda")
    with RefuseWaiting():
        scores = score_masks(lambda x: x.mean((2, 3)), x, Grid(3, 4)(x), Blur(2.0), masks, top=2)
    assert scores.shape == (2, 30, 2)


@pytest.mark.parametrize("kernel", [Exponential(), InverseDistance()], ids=repr)
@pytest.mark.usefixtures("on_fake_cuda")
def test_metrics(kernel):
    def model(x):
        return x.mean((2, 3))

    x = images()
    inside = torch.empty(2, 64, 48, dtype=torch.bool, device="cuda")
    explainer = Lime(segmenter=Slic(30), num_samples=150, kernel=kernel)
    with RefuseWaiting():
        runs = [explainer.explain(model, x, top=3, seed=seed) for seed in range(3)]
        numbers = [
            metrics.deletion(model, x, runs[0]),
            metrics.insertion(model, x, runs[0], fill=Blur(2.0)),
            metrics.fidelity(model, x, runs[0], seed=7),
            metrics.rank_correlation(runs),
            metrics.overlap(runs),
            metrics.share_inside(runs[0], inside),
            metrics.rank_inside(runs[0], inside),
            metrics.pointing_game(runs[0], inside),
            metrics.infidelity(model, x, runs[0], num_samples=20),
            metrics.sensitivity_n(model, x, runs[0], num_samples=10),
            metrics.faithfulness_correlation(model, x, runs[0], num_samples=20),
            metrics.faithfulness_estimate(model, x, runs[0]),
            metrics.monotonicity(model, x, runs[0]),
            metrics.road(model, x, runs[0], percentages=(20, 60), iterations=3),
            metrics.max_sensitivity(model, x, runs[0], num_samples=2),
        ]
    assert all(n.shape == (2, 3) and n.device.type == "cuda" for n in numbers)


@pytest.mark.usefixtures("on_fake_cuda")
def test_metrics_of_heatmaps_and_of_randomised_weights():
    with torch.device("cuda"):
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 8), torch.nn.Flatten(1),
                                  torch.nn.Linear(4 * 8 * 6, 5)).eval()  # fmt: skip
        heatmap, inside = torch.empty(2, 64, 48), torch.empty(64, 48, dtype=torch.bool)
        targets = torch.zeros(2, 1, dtype=torch.int64)
        seeds = torch.zeros(2, dtype=torch.int64)
    x = images()
    pooled = metrics.Heatmap(values=heatmap, targets=targets, segments=Grid(4, 5)(x))
    with RefuseWaiting():
        e = Lime(segmenter=Grid(4, 5), num_samples=64).explain(net, x)
        names = ["insertion", "infidelity", "faithfulness_estimate", "monotonicity", "rank_inside"]
        table = metrics.compare(
            {"lime": e, "map": heatmap}, net, x, metrics=names, inside=inside, num_samples=9
        )
        tables = [value for values in table.values.values() for value in values.values()]
        alike = [
            metrics.randomisation(net, x, e, similarity=kind).similarity
            for kind in ("rank", "absolute rank", "ssim")
        ]
        numbers = [
            metrics.deletion(net, x, heatmap, steps=5),
            metrics.insertion(net, x, pooled),
            metrics.infidelity(net, x, pooled, num_samples=9, seed=seeds, scaled=True),
            metrics.road(net, x, heatmap, percentages=(50,), iterations=2, seed=seeds),
            metrics.pointing_game(heatmap, inside),
        ]
    assert all(n.shape == (2, 1) and n.device.type == "cuda" for n in [*numbers, *tables])
    assert all(n.shape == (2, 2, 1) and n.device.type == "cuda" for n in alike)


@pytest.mark.parametrize(
    "surrogate", [Ridge(), LeastSquares(), Lasso(fraction=0.1), BayesianRidge()], ids=repr
)
@pytest.mark.parametrize("num_samples", [101, 9])
@pytest.mark.parametrize("own_seeds", [False, True])
@pytest.mark.filterwarnings("ignore:.* samples in pairs span:UserWarning")
@pytest.mark.usefixtures("on_fake_cuda")
def test_vectors(surrogate, num_samples, own_seeds):
    with torch.device("cuda"):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 5))
        x, scale = torch.empty(3, 4, 5), torch.empty(4, 5)
        seed = torch.zeros(3, dtype=torch.int64) if own_seeds else 0
    settings = {"scale": scale, "num_samples": num_samples, "seed": seed, "keep_samples": True}
    with RefuseWaiting():
        e = explain_vector(model, x, surrogate=surrogate, top=2, **settings)
        again = e.refit(kernel=InverseDistance("euclidean"), surrogate=Ridge())
        iid = explain_vector(model, x, 1, sampler=Gaussian(antithetic=False), kernel=Uniform())
        derived = (*e.top(5), e.ok, e[1].vectors, again.coefficients, iid.coefficients)
    assert e.coefficients.shape == (3, 2, 20)
    assert {tensor.device.type for tensor in (e.coefficients, *derived)} == {"cuda"}


@pytest.mark.parametrize("rows_together", ["all", "all, with their own seeds", "one"])
@pytest.mark.parametrize("bins", [Quantiles(4), None], ids=["bins", "plain"])
def test_tables(bins, rows_together, monkeypatch):
    if rows_together == "one":
        monkeypatch.setattr("torchlime._row_blocks.ELEMENTS_ELSEWHERE", 100)
    data = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    data[:, 4] = torch.arange(60) % 3
    groups = torch.eye(3)[torch.arange(60) % 3]
    background = Background.of(
        torch.cat([data, groups], 1), bins=bins, one_hot={"group": [5, 6, 7]}
    )
    with FakeTensorMode():
        model = torch.nn.Linear(8, 4, device="cuda")
        x = torch.empty(3, 8, device="cuda")
        own_seeds = rows_together.endswith("seeds")
        seeds = {"seed": torch.arange(3, device="cuda")} if own_seeds else {}
        Draws.of(background, x.device)  # goes to the device once
        with RefuseWaiting():
            e = explain_table(model, x, background, num_samples=300, top=2, **seeds)
            shown = (*e.top(3), e.ok, e[1].bins)
        assert e.coefficients.shape == (3, 2, 6)
        assert {tensor.device.type for tensor in (e.coefficients, *shown)} == {"cuda"}


REFUSED = {
    "a read-back": lambda x: x.sum().item(),
    "a truth value": lambda x: bool(x.sum() > 0),
    "a shape that depends on data": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "a checked solve": lambda x: torch.linalg.solve(x[0, 0, :8, :8], x[0, 0, :8]),
    "an eigendecomposition": lambda x: torch.linalg.eigh(x[0, 0, :8, :8]),
    "a download": lambda x: x.cpu(),
    "an upload": lambda x: torch.ones(3).to(x.device),
    "a host tensor mixed in": lambda x: x + torch.ones(48),
    "a host tensor as index": lambda x: x[:, :, torch.tensor([0, 3])],
    "a list as index": lambda x: x[:, :, [0, 3]],
    "a cumulative sum of floats": lambda x: x.cumsum(3),
    "additions in any order": lambda x: x.scatter_add(3, torch.zeros_like(x).long(), x),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.usefixtures("on_fake_cuda")
def test_the_net_catches(what):
    with pytest.raises(CAUGHT), RefuseWaiting():
        REFUSED[what](images())


@pytest.mark.usefixtures("on_fake_cuda")
def test_a_measured_label_map_is_the_one_documented_read_back():
    labels = torch.empty(64, 48, dtype=torch.int64, device="cuda")
    with pytest.raises(CAUGHT), RefuseWaiting():
        Lime().explain(lambda x: x.mean((2, 3)), images(), 0, segments=labels)


SHAPES = {
    "vectors": ((2, 20), (20,)),
    "series": ((2, 3, 40), (2, 40)),
    "volumes": ((2, 1, 6, 7, 8), (6, 7, 8)),
    "bands": ((2, 13, 9, 8), (1, 13, 9, 8)),
}


@pytest.mark.parametrize("what", SHAPES)
@pytest.mark.usefixtures("on_fake_cuda")
def test_inputs_of_any_rank(what):
    shape, size = SHAPES[what]
    labels = torch.empty(size, dtype=torch.int32, device="cuda")
    x = torch.empty(shape, device="cuda")
    kernel = Exponential(1.0, "pixel_euclidean")
    fills = [Constant(0.0), *[SegmentMean(), ImageMean(), Blur(1.0)][: 3 * (len(shape) > 2)]]
    with RefuseWaiting():
        for fill in fills:
            e = Lime(fill=fill, num_samples=40, sampler=Bernoulli(), kernel=kernel).explain(
                lambda x: x.flatten(1)[:, :4], x, segments=labels, max_segments=9
            )
            derived = (*e.top(3), e.heatmap(), e.mask(2), metrics.deletion(
                lambda x: x.flatten(1)[:, :4], x, e))  # fmt: skip
    assert e.coefficients.shape == (2, 1, 9)
    assert {tensor.device.type for tensor in (e.ids, *derived)} == {"cuda"}


@pytest.mark.parametrize("exact_chunks", [False, True])
@pytest.mark.usefixtures("on_fake_cuda")
def test_several_inputs(exact_chunks):
    with torch.device("cuda"):
        embedding = torch.nn.Embedding(9, 4)
        ids = torch.empty(2, 5, dtype=torch.int64)
        maps = {"a": torch.empty(8, 6, dtype=torch.int64), "ids": torch.empty(5).long(), "b": None}
        extra = {"more": torch.empty(2, 3)}
    inputs = {"a": images(2, 3, (8, 6)), "ids": ids, "b": images(2, 3, (8, 6))}

    def model(a, b, ids, more):
        return embedding(ids).mean(1) + (a * b).mean((1, 2, 3))[:, None] + more[:, :1]

    fill = {"a": SegmentMean(), "ids": Constant(0), "b": None}
    explainer = Lime(fill=fill, num_samples=64, chunk_size=16, exact_chunks=exact_chunks)
    with RefuseWaiting():
        e = explainer.explain(
            model, inputs, segments=maps, max_segments=20, extra=extra, keep_samples=True
        )
        pair = (inputs["a"], inputs["b"])
        slic = Slic(8)(pair[1])
        apart = Lime(segmenter=Slic(8)).explain(lambda a, b: a.mean((2, 3)), pair, 0)
        together = Lime().explain(
            lambda a, b: a.mean((2, 3)), pair, 0, segments=(Grid(2, 3)(pair[0]), slic)
        )
        derived = [*e.top(3), e.heatmap()["ids"], metrics.deletion(model, inputs, e, extra=extra)]
    assert e.coefficients.shape == (2, 1, 20)
    assert apart.coefficients.shape == (2, 1, 2 * slic.bound)
    assert together.coefficients.shape == (2, 1, slic.bound)
    assert {tensor.device.type for tensor in derived} == {"cuda"}


@pytest.mark.usefixtures("on_fake_cuda")
def test_soft_masks():
    masks = torch.empty(4, 9, 8, device="cuda")
    for fill in (SegmentMean(), Blur(1.0)):
        with RefuseWaiting():
            e = Lime(fill=fill, num_samples=32).explain(
                lambda x: x.mean((2, 3)), images(2, 3, (9, 8)), segments=masks
            )
            derived = (e.heatmap(), e.mask(2), e.ok)
        assert e.coefficients.shape == (2, 1, 4)
        assert {tensor.device.type for tensor in derived} == {"cuda"}
