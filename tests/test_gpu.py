"""What only a real GPU can show; skipped where there is none."""

import contextlib
import copy
import dataclasses

import pytest
import torch
import torchvision

from torchlime import Lime, explain_vector, metrics
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, FixedCount, LeverageLaw, Orthogonal, ShapleyLaw, SizeLaw
from torchlime.segments import Grid, Slic
from torchlime.surrogates import BayesianRidge, ConstrainedLeastSquares, Lasso, LeastSquares, Ridge
from torchlime.weights import (
    Exponential,
    ImportanceWeights,
    InverseDistance,
    Uniform,
    WithoutUnmasked,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

EXPLAINERS = [
    Lime(),
    Lime(
        segmenter=Slic(100),
        sampler=Bernoulli(),
        num_samples=200,
        fill=ImageMean(),
        kernel=Uniform(),
        surrogate=LeastSquares(),
        chunk_size=50,
    ),
    Lime(
        segmenter=Slic(30),
        sampler=FixedCount(),
        num_samples=100,
        fill=Constant(0.5),
        kernel=InverseDistance(),
        surrogate=Lasso(fraction=0.2),
    ),
    Lime(
        segmenter=Grid(5, 5),
        sampler=Orthogonal(),
        num_samples=150,
        fill=Blur(3.0),
        kernel=Exponential(1.0, "pixel_euclidean"),
        surrogate=Ridge(),
    ),
    Lime(segmenter=Grid(5, 5), num_samples=150, kernel=WithoutUnmasked()),
    Lime(
        segmenter=Slic(30),
        sampler=SizeLaw(LeverageLaw()),
        num_samples=300,
        kernel=ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw()),
        surrogate=ConstrainedLeastSquares(),
    ),
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval().cuda()


@pytest.fixture(scope="module")
def images():
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 9, 9, generator=g)
    return torch.nn.functional.interpolate(coarse, 128, mode="bilinear").cuda()


@pytest.fixture
def exact_convolutions():
    """Else a GPU's convolutions of float32 are in TF32, of 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@contextlib.contextmanager
def refused_waits():
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.fixture
def no_sync():
    with refused_waits():
        yield


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_no_sync_and_bit_identical_repeats(model, images, explainer, no_sync):
    first = explainer.explain(model, images, top=3, keep_samples=True)
    again = explainer.explain(model, images, top=3, keep_samples=True)
    derived = (first.heatmap(), *first.top(5), first.mask(3), first.ok)
    torch.cuda.set_sync_debug_mode("default")
    assert len(derived) == 5
    for field in dataclasses.fields(first):
        value = getattr(first, field.name)
        if isinstance(value, torch.Tensor):
            same = value.isclose(getattr(again, field.name), rtol=0, atol=0, equal_nan=True)
            assert same.all(), field.name
    first.check()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_no_sync_with_autocast_and_channels_last(model, images, dtype, no_sync):
    seen = []
    network = copy.deepcopy(model).to(memory_format=torch.channels_last)
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].stride(1)))
    Lime(num_samples=200, autocast=dtype).explain(network, images)
    assert set(seen) == {1}


def test_a_compiled_model_is_compiled_once(model, images):
    count = 0

    def backend(graph, inputs):
        nonlocal count
        count += 1
        return graph

    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(model), backend=backend, dynamic=False)
    explainer = Lime(num_samples=200, chunk_size=64)  # 800 rows, the last chunk is padded
    for _ in range(2):
        explainer.explain(compiled, images).check()
    assert count == 1


def test_a_batch_is_its_images(model, images, exact_convolutions):
    explainer = Lime(segmenter=Slic(50), num_samples=200)
    batch = explainer.explain(model, images, 3)
    scale = batch.coefficients.abs().max()
    for b in range(len(images)):
        alone = explainer.explain(model, images[b : b + 1], 3)
        assert torch.equal(alone.segments[0], batch.segments[b])
        assert (alone.coefficients[0] - batch.coefficients[b]).abs().max() < 1e-3 * scale


def test_memory_does_not_grow_with_the_samples(model, images):
    taken = {}
    for samples in (1024, 16384):
        explainer = Lime(segmenter=Slic(50), num_samples=samples)
        explainer.explain(model, images[:1])
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        explainer.explain(model, images[:1])
        taken[samples] = torch.cuda.max_memory_allocated() - before - samples * (50 + 8 + 8)
    assert taken[16384] < 1.05 * taken[1024]


def test_chunks_shrink_when_memory_runs_out(images):
    rows = []

    def hungry(x):
        rows.append(len(x))
        torch.empty(len(x), 2**30, device="cuda")  # 4 GiB a row
        return x.mean((2, 3))

    torch.cuda.empty_cache()
    explainer = Lime(segmenter=Grid(4, 4), num_samples=512, chunk_size=256)
    shrunk = explainer.explain(hungry, images[:1]).check()
    assert rows[0] == 256
    assert 1 <= rows[-1] < 256
    whole = explainer.explain(lambda x: x.mean((2, 3)), images[:1])
    assert shrunk.coefficients.allclose(whole.coefficients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
@pytest.mark.parametrize("model_too", [False, True])
def test_captured(model, images, explainer, model_too):
    settings = {"top": 2, "keep_samples": True}
    fast = explainer.capture(model, images * 0.5, model_too=model_too, **settings)
    for number in (1, 2):  # what is replayed is the work, not its result
        x = images.roll(number, 0) ** number
        seeds = torch.arange(len(x), device="cuda") + number
        plain, before = (
            explainer.explain(model, x, seed=seeds, **settings),
            torch.cuda.get_rng_state(),
        )
        with refused_waits():
            captured = fast(x, seed=seeds)
        assert torch.equal(captured.segments, plain.segments)
        assert torch.equal(captured.masks, plain.masks)
        assert torch.equal(captured.targets, plain.targets)
        assert torch.equal(captured.problems, plain.problems)
        scale = plain.coefficients.abs().max()
        assert (captured.coefficients - plain.coefficients).abs().max() < 1e-3 * scale
        assert torch.equal(torch.cuda.get_rng_state(), before)


def test_captured_sees_new_weights(images):
    model = torchvision.models.resnet18().eval().cuda()
    explainer = Lime(segmenter=Grid(4, 4), num_samples=64)
    fast = explainer.capture(model, images, 3, model_too=True)
    first = fast(images).scores
    with torch.no_grad():
        model.fc.weight.mul_(2)
        model.fc.bias.mul_(2)
    assert fast(images).scores.allclose(2 * first, rtol=1e-3)
    model.bfloat16()
    with pytest.raises(RuntimeError, match="weights of the model have moved in memory"):
        fast(images)


def test_captured_in_autocast(images):
    """A call has the numbers of explain() in bfloat16, and of the weights as they are now."""
    model = torchvision.models.resnet18().eval().cuda()
    explainer = Lime(segmenter=Grid(4, 4), num_samples=64, autocast=torch.bfloat16)
    seeds = torch.arange(len(images), device="cuda")
    with torch.autocast("cuda", torch.bfloat16):  # whose casts of weights outlive the capture
        fast = explainer.capture(model, images, 3, model_too=True)
    for factor in (1, 2):
        with torch.no_grad():
            model.fc.weight.mul_(factor)
        plain = explainer.explain(model, images, 3, seed=seeds)
        assert fast(images, seed=seeds).scores.allclose(plain.scores, rtol=1e-2, atol=1e-2)


def test_a_model_that_no_graph_can_hold(images):
    def model(x):
        return x.mean((2, 3)) * float(x.max())

    explainer = Lime(segmenter=Grid(4, 4), num_samples=64)
    fast = explainer.capture(model, images, 1)
    assert fast(images).check().coefficients.isfinite().all()
    with pytest.raises(RuntimeError, match="CUDA cannot capture the model"):
        explainer.capture(model, images, 1, model_too=True)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.synchronize()
    assert fast(images).check().coefficients.isfinite().all()  # nothing is left behind


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_the_cpus_segments_and_masks(model, images, explainer, exact_convolutions):
    on_gpu = explainer.explain(model, images, 3, keep_samples=True).to("cpu")
    on_cpu = explainer.explain(copy.deepcopy(model).cpu(), images.cpu(), 3, keep_samples=True)
    assert torch.equal(on_gpu.segments, on_cpu.segments)
    assert torch.equal(on_gpu.masks, on_cpu.masks)
    scale = on_cpu.coefficients.abs().max()
    assert (on_gpu.coefficients - on_cpu.coefficients).abs().max() < 1e-3 * scale


@pytest.mark.parametrize("explainer", EXPLAINERS[:1], ids=repr)
def test_the_random_state_comes_back(model, images, explainer):
    before = torch.cuda.get_rng_state()
    explainer.explain(model, images)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_segments_masks_and_fill_capture_in_a_graph(images):
    segmenter, sampler, fill = Slic(50), Orthogonal(), SegmentMean()
    others = images.flip(3) * 0.9
    images = images.clone()

    def stages():
        segments = segmenter(images)
        masks = sampler(segments.count, segments.bound, 256, seed=0)
        return segments.labels, masks, fill(images, segments)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        stages()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = stages()
    images.copy_(others)  # what is replayed is the work, not its result
    graph.replay()
    for ours, theirs in zip(captured, stages(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_a_model_draws_on_the_gpu_comes_again_in_backward(images):
    """As on a CPU in tests/test_differentiable.py; and the generator is left where it was."""
    parameter = torch.ones(3, device="cuda", requires_grad=True)

    def model(x):
        return torch.rand(len(x), 1, device="cuda") * parameter * x.mean((1, 2, 3))[:, None]

    explainer = Lime(segmenter=Grid(4, 4), num_samples=100, chunk_size=64)
    before = torch.cuda.get_rng_state()
    e = explainer.explain(model, images, 1, differentiable=True)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    torch.rand(7, device="cuda")
    before = torch.cuda.get_rng_state()
    e.coefficients.sum().backward()
    assert parameter.grad[1].item() == pytest.approx(e.coefficients.sum().item(), rel=1e-3)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("metric", [metrics.rank_correlation, metrics.overlap])
def test_explanations_of_other_targets_are_not_compared(model, images, metric, no_sync):
    explainer = Lime(segmenter=Grid(4, 4), num_samples=100)
    targets = torch.arange(4, device="cuda")
    one = explainer.explain(model, images, targets)
    two = explainer.explain(model, images, targets.clamp(max=2), seed=1)
    numbers = metric([one, two])
    torch.cuda.set_sync_debug_mode("default")
    assert numbers.isnan().flatten().tolist() == [False, False, False, True]


@pytest.mark.usefixtures("exact_convolutions")
def test_metrics_are_those_of_the_cpu(model, images, no_sync):
    e = Lime(segmenter=Grid(4, 4), num_samples=100).explain(model, images)
    heatmap = images.sum(1)
    names = ["deletion", "insertion", "infidelity", "sensitivity_n", "faithfulness_estimate",
             "road_morf", "road_lerf"]  # fmt: skip
    table = metrics.compare({"lime": e, "sum": heatmap}, model, images, metrics=names)
    noisy = metrics.max_sensitivity(model, images, e, num_samples=2)
    redrawn = metrics.randomisation(model, images, e, layers=["fc", "layer4"]).similarity
    torch.cuda.set_sync_debug_mode("default")
    assert noisy.isfinite().all()
    assert redrawn.isfinite().all()
    both = {"lime": e.to("cpu"), "sum": heatmap.cpu()}
    expected = metrics.compare(both, copy.deepcopy(model).cpu(), images.cpu(), metrics=names)
    for who, values in table.values.items():
        for name, found in values.items():
            assert found.cpu().allclose(expected.values[who][name], rtol=1e-3, atol=1e-3), name


@pytest.mark.parametrize(
    "surrogate", [Ridge(), LeastSquares(), Lasso(fraction=0.1), BayesianRidge()], ids=repr
)
@pytest.mark.parametrize("num_samples", [1000, 50])
@pytest.mark.filterwarnings("ignore:.* samples in pairs span:UserWarning")
def test_vectors(surrogate, num_samples, no_sync):
    with torch.device("cuda"):
        model = torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4)
        )
        x = torch.zeros(5, 64)
    settings = {"num_samples": num_samples, "surrogate": surrogate, "keep_samples": True}
    first, again = (explain_vector(model, x, 1, **settings) for _ in range(2))
    torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(first.coefficients, again.coefficients)
    cpu = explain_vector(model.cpu(), x.cpu(), 1, **settings)
    assert (first.masks.cpu() - cpu.masks).abs().max() < 1e-6
    limit = 1e-3 * cpu.coefficients.abs().max()
    assert (first.coefficients.cpu() - cpu.coefficients).abs().max() < limit
