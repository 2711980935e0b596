"""What only a real GPU can show; skipped where there is none."""

import pytest
import torch
import torchvision

from torchlime import Lime, explain_vector, metrics
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, FixedCount, Orthogonal
from torchlime.segments import Grid, Slic
from torchlime.surrogates import Lasso, LeastSquares, Ridge
from torchlime.weights import Exponential, InverseDistance, Uniform

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

EXPLAINERS = [
    Lime(),
    Lime(Slic(100), Bernoulli(), 200, ImageMean(), Uniform(), LeastSquares(), chunk_size=50),
    Lime(Slic(30), FixedCount(), 100, Constant(0.5), InverseDistance(), Lasso(fraction=0.2)),
    Lime(Grid(5, 5), Orthogonal(), 150, Blur(3.0), Exponential(1.0, "pixel_euclidean"), Ridge()),
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
def no_sync():
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_no_sync_and_bit_identical_repeats(model, images, explainer, no_sync):
    first = explainer.explain(model, images, top=3, keep_samples=True)
    again = explainer.explain(model, images, top=3, keep_samples=True)
    derived = (first.heatmap(), *first.top(5), first.mask(3), first.ok)
    torch.cuda.set_sync_debug_mode("default")
    assert len(derived) == 5
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.segments, again.segments)
    assert torch.equal(first.coefficients, again.coefficients)
    first.check()


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
def test_the_cpus_segments_and_masks(model, images, explainer):
    on_gpu = explainer.explain(model, images, 3, keep_samples=True).to("cpu")
    on_cpu = explainer.explain(model.cpu(), images.cpu(), 3, keep_samples=True)
    model.cuda()
    assert torch.equal(on_gpu.segments, on_cpu.segments)
    assert torch.equal(on_gpu.masks, on_cpu.masks)
    scale = on_cpu.coefficients.abs().max()
    assert (on_gpu.coefficients - on_cpu.coefficients).abs().max() < 1e-2 * scale


@pytest.mark.parametrize("explainer", EXPLAINERS[:1], ids=repr)
def test_the_random_state_comes_back(model, images, explainer):
    before = torch.cuda.get_rng_state()
    explainer.explain(model, images)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_segments_masks_and_fill_capture_in_a_graph(images):
    segmenter, sampler, fill = Slic(50), Orthogonal(), SegmentMean()

    def stages():
        segments = segmenter(images)
        masks = sampler(segments.count, segments.bound, 256, seed=0)
        return segments.labels, masks, fill(images, segments)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        expected = stages()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = stages()
    graph.replay()
    torch.cuda.synchronize()
    for ours, theirs in zip(captured, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_what_a_model_draws_on_the_gpu_comes_again_in_backward(images):
    """As on a CPU in tests/test_differentiable.py; and the generator is left where it was."""
    parameter = torch.ones(3, device="cuda", requires_grad=True)

    def model(x):
        return torch.rand(len(x), 1, device="cuda") * parameter * x.mean((1, 2, 3))[:, None]

    explainer = Lime(Grid(4, 4), num_samples=100, chunk_size=64)
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
    explainer = Lime(Grid(4, 4), num_samples=100)
    targets = torch.arange(4, device="cuda")
    one = explainer.explain(model, images, targets)
    two = explainer.explain(model, images, targets.clamp(max=2), seed=1)
    numbers = metric([one, two])
    torch.cuda.set_sync_debug_mode("default")
    assert numbers.isnan().flatten().tolist() == [False, False, False, True]


@pytest.mark.parametrize("surrogate", [Ridge(), LeastSquares(), Lasso(fraction=0.1)], ids=repr)
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
