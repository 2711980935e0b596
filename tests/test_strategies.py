"""The contract of strategies.py: every strategy of a kind runs through the same test."""

import dataclasses
import pickle

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import torchlime
from tests.test_fake_cuda import RefuseWaiting
from torchlime import explain_vector, fills, masks, noise, segments, surrogates, weights
from torchlime.segments import Segments

B, C, H, W, N, S, T = 3, 3, 24, 20, 64, 12, 2

SEGMENTERS = [
    segments.Slic(12), segments.Slic(9, blur=False, iterations=1), segments.Grid(3, 4),
    segments.Reduced(segments.Slic(12), 16),
]  # fmt: skip
SAMPLERS = [
    masks.Bernoulli(), masks.Bernoulli(0.8), masks.Orthogonal(), masks.FixedCount(),
    masks.Sizes(), masks.Sizes((0.3,), paired=False),
    masks.SizeLaw(), masks.SizeLaw(masks.GlimeLaw(), paired=False),
    noise.Gaussian(), noise.Gaussian(antithetic=False),
]  # fmt: skip
FILLS = [
    fills.SegmentMean(), fills.ImageMean(), fills.Constant(0.5), fills.Constant((0.1, 0.2, 0.3)),
    fills.Blur(2.0),
]  # fmt: skip
KERNELS = [
    weights.Exponential(), weights.Exponential(2.0, "euclidean"),
    weights.Exponential(0.5, "pixel_euclidean"), weights.InverseDistance(),
    weights.InverseDistance("cosine"), weights.Uniform(), weights.WithoutUnmasked(),
    weights.ShapleyKernel(), weights.ImportanceWeights(masks.GlimeLaw(), masks.UniformLaw()),
]  # fmt: skip
SURROGATES = [
    surrogates.Ridge(), surrogates.Ridge(0.0), surrogates.LeastSquares(),
    surrogates.Lasso(alpha=0.01), surrogates.Lasso(fraction=0.3),
    surrogates.BayesianRidge(), surrogates.BayesianRidge(0.5, 2.0, 3.0),
    surrogates.SignEntropy(resamples=4), surrogates.SignEntropy(surrogates.LeastSquares(), 3),
]  # fmt: skip


def draw(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def images(device="cpu"):
    coarse = draw(B, C, 5, 4).to(device)
    return torch.nn.functional.interpolate(coarse, (H, W), mode="bicubic").clamp(0, 1)


def label_map(device="cpu"):
    labels = torch.arange(H, device=device)[:, None] // 8 * 4 + torch.arange(W, device=device) // 5
    count = torch.full((B,), S, device=device)
    return Segments(labels.expand(B, -1, -1), count, count > 0, S)


def design(device="cpu"):
    """Masks of inputs of 12, 9 and 12 features."""
    count = torch.full((B,), S, device=device)
    count[1] = 9
    kept = (draw(B, N, S) < 0.6).to(device)
    kept[:, 0] = True
    return kept & (torch.arange(S, device=device) < count[:, None, None]), count


def segmenter_call(strategy, device="cpu"):
    return strategy, (images(device),)


def sampler_call(strategy, device="cpu"):
    _, count = design(device)
    seeds = torch.arange(B, device=device)
    return (lambda count, seeds: strategy(count, S, N, seed=seeds)), (count, seeds)


def fill_call(strategy, device="cpu"):
    found = label_map(device)

    def fill(images, labels, count, ok):
        filled = strategy(images, Segments(labels, count, ok, S))
        return filled.expand_as(images)  # as the pipeline does

    return fill, (images(device), *found[:3])


def kernel_call(strategy, device="cpu"):
    kept, count = design(device)
    energy = draw(B, S).to(device) * (torch.arange(S, device=device) < count[:, None])
    return strategy, (kept, count, energy)


def surrogate_call(strategy, device="cpu"):
    kept, count = design(device)
    slopes = (draw(B, S, T) - 0.5).to(device)
    scores = kept.to(torch.float64) @ slopes.double() + 0.01 * draw(B, N, T).to(device)
    return strategy, (kept, scores, 0.5 + draw(B, N).to(device), count)


def constrained_call(strategy, device="cpu"):
    """As :func:`surrogate_call`, for a surrogate that needs a row that hides all."""
    _, (kept, *others) = surrogate_call(strategy, device)
    kept[:, 1] = False
    return strategy, (kept, *others)


def walk_call(strategy, device="cpu"):
    """As :func:`surrogate_call`, for a surrogate of walks."""
    _, (_, scores, weight, count) = surrogate_call(strategy, device)
    walks = masks.Permutations()(count, S, N, seed=0)
    slopes = (draw(B, S, T) - 0.5).to(device).double()
    return strategy, (walks, scores + walks.double() @ slopes, weight, count)


CALLS = [
    *((segmenter_call, strategy) for strategy in SEGMENTERS),
    *((sampler_call, strategy) for strategy in SAMPLERS),
    *((fill_call, strategy) for strategy in FILLS),
    *((kernel_call, strategy) for strategy in KERNELS),
    *((surrogate_call, strategy) for strategy in SURROGATES),
    (constrained_call, surrogates.ConstrainedLeastSquares()),
    (surrogate_call, surrogates.MeanDrop()),
    (walk_call, surrogates.MarginalContributions()),
    (surrogate_call, surrogates.MarginalMean()),
    (surrogate_call, surrogates.MarginalMean(difference=True)),
]
NAMES = [repr(strategy) for _, strategy in CALLS]


def tensors_of(result):
    parts = [result] if isinstance(result, torch.Tensor) else result
    return [part for part in parts if isinstance(part, torch.Tensor)]


def close(ours, theirs):
    if ours.dtype.is_floating_point:
        wide = ours.dtype == torch.float64
        return ours.allclose(theirs, rtol=0, atol=1e-9 if wide else 1e-5, equal_nan=True)
    return torch.equal(ours, theirs)


@pytest.mark.parametrize(("call", "strategy"), CALLS, ids=NAMES)
def test_arguments_are_not_modified_and_results_repeat(call, strategy):
    function, arguments = call(strategy)
    before = [argument.clone() for argument in arguments]
    state = torch.get_rng_state()
    first, again = tensors_of(function(*arguments)), tensors_of(function(*arguments))
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, again, strict=True)
    )
    assert all(len(tensor) == B for tensor in first)


@pytest.mark.parametrize(("call", "strategy"), CALLS, ids=NAMES)
def test_a_batch_is_its_inputs_one_by_one(call, strategy):
    function, arguments = call(strategy)
    together = tensors_of(function(*arguments))
    for b in range(B):
        alone = tensors_of(function(*(argument[b : b + 1] for argument in arguments)))
        for ours, theirs in zip(alone, together, strict=True):
            assert close(ours, theirs[b : b + 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("strategy", FILLS, ids=repr)
def test_fills_keep_the_dtype(strategy, dtype):
    assert strategy(images().to(dtype), label_map()).dtype == dtype


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@pytest.mark.parametrize(("call", "strategy"), CALLS, ids=NAMES)
def test_the_device_is_kept_and_nothing_waits_for_it(call, strategy):
    with FakeTensorMode(allow_non_fake_inputs=True):
        function, arguments = call(strategy, "cuda")
        with RefuseWaiting():
            result = function(*arguments)
    assert {tensor.device.type for tensor in tensors_of(result)} == {"cuda"}


@pytest.mark.parametrize(("call", "strategy"), CALLS, ids=NAMES)
def test_it_compiles_whole(call, strategy):
    function, arguments = call(strategy)
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(
        tensors_of(compiled(*arguments)), tensors_of(function(*arguments)), strict=True
    ):
        assert close(ours, theirs)


@pytest.mark.parametrize("strategy", [strategy for _, strategy in CALLS], ids=NAMES)
def test_it_is_a_frozen_value_that_pickles_compares_and_prints(strategy):
    copy = pickle.loads(pickle.dumps(strategy))
    assert copy == strategy
    assert hash(copy) == hash(strategy)
    assert repr(copy) == repr(strategy)
    assert dataclasses.is_dataclass(strategy)
    for field in dataclasses.fields(strategy):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(strategy, field.name, None)


@pytest.mark.parametrize("strategy", [*KERNELS[1:2], *KERNELS[5:7]], ids=repr)
def test_kernels_take_noise_where_it_has_a_distance(strategy):
    drawn = noise.Gaussian()(torch.full((B,), S), S, N, seed=torch.arange(B))
    if strategy == weights.WithoutUnmasked():
        strategy = weights.WithoutUnmasked(weights.Uniform())
    found = strategy.of_noise(drawn, torch.full((B,), S))
    assert found.shape == (B, N)
    assert (found > 0).all()


@pytest.mark.parametrize("strategy", SURROGATES, ids=repr)
@pytest.mark.parametrize("antithetic", [False, True])
def test_surrogates_take_noise(strategy, antithetic):
    drawn = noise.Gaussian(antithetic)(torch.full((B,), S), S, N, seed=torch.arange(B))
    slopes = draw(B, S, T).double()
    scores = drawn.double() @ slopes
    fit = strategy.of_noise(drawn, scores, torch.ones(B, N), torch.full((B,), S))
    exact = (surrogates.Ridge(0.0), surrogates.LeastSquares(), surrogates.BayesianRidge())
    if strategy in exact:
        assert fit.coefficients.allclose(slopes.mT, rtol=0, atol=1e-9)
    assert fit.ok.all()


@pytest.mark.parametrize("kernel", [KERNELS[1], weights.InverseDistance("euclidean")], ids=repr)
@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
@pytest.mark.parametrize("number", [60, 8])
@pytest.mark.filterwarnings("ignore:.* samples in pairs span:UserWarning")
def test_a_wrapped_strategy_is_the_bare_one(kernel, surrogate, number):
    """A lambda around a kernel has no ``of_noise``; its noise was read as masks."""
    x = draw(2, 10).double()
    settings = {"num_samples": number, "scale": 0.5, "sampler": noise.Gaussian()}
    settings |= {"seed": torch.tensor([1, 2])}
    bare = explain_vector(lambda z: z.sin(), x, 0, kernel=kernel, surrogate=surrogate, **settings)
    wrapped = explain_vector(
        lambda z: z.sin(), x, 0, **settings,
        kernel=lambda d, c, e=None: kernel(d, c, e),
        surrogate=lambda d, y, w, c: surrogate(d, y, w, c),
    )  # fmt: skip
    for name in ("coefficients", "standard_errors", "fidelity", "effective_samples"):
        ours, theirs = getattr(wrapped, name), getattr(bare, name)
        assert ours.allclose(theirs, rtol=0, atol=1e-12, equal_nan=True), name


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchlime.Lime(segmenter=torchlime.segments.Slic),
        lambda: torchlime.Lime(sampler=torchlime.masks.Bernoulli),
        lambda: torchlime.Lime(kernel=torchlime.weights.Exponential),
        lambda: torchlime.Lime(surrogate=torchlime.surrogates.Ridge),
        lambda: torchlime.Lime(fill=torchlime.fills.Blur),
        lambda: torchlime.Rise(fill=torchlime.fills.Constant),
        lambda: torchlime.Rise(segmenter=torchlime.segments.Grid),
        lambda: torchlime.TextLime(sampler=torchlime.masks.RandomSize),
        lambda: torchlime.segments.Reduced(torchlime.segments.Slic),
        lambda: torchlime.surrogates.SignEntropy(torchlime.surrogates.Ridge),
    ],
)
def test_the_class_of_a_strategy_is_no_strategy(make):
    with pytest.raises(TypeError, match=r"must be an object such as .*got the class .*call it"):
        make()


def test_refit_takes_no_class_either():
    how = {"segmenter": torchlime.segments.Grid(1, 2), "keep_samples": True}
    found = torchlime.explain(lambda x: x.mean((2, 3)), torch.rand(1, 1, 4, 4), **how)
    with pytest.raises(TypeError, match="got the class LeastSquares"):
        found.refit(surrogate=torchlime.surrogates.LeastSquares)
    with pytest.raises(TypeError, match="got the class Uniform"):
        found.refit(kernel=torchlime.weights.Uniform)
    with pytest.raises(TypeError, match="index must be an int or a slice, got str"):
        found["a"]
    with pytest.raises(IndexError, match="index 9 is out of range for 1 inputs"):
        found[9]
