"""A captured explanation is a plain one; and its parts do nothing that a CUDA graph forbids."""

import contextlib
import copy
import dataclasses
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import torchlime.capture
from tests.test_fake_cuda import CAUGHT, RefuseWaiting, Waits
from torchlime import Lime, _networks, methods
from torchlime.black_box import Forward
from torchlime.capture import Captured, graphed
from torchlime.features import Pixels
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import (
    Bernoulli,
    Exhaustive,
    FixedCount,
    LeverageLaw,
    Orthogonal,
    Permutations,
    RandomSize,
    SizeLaw,
    Sizes,
)
from torchlime.models import Classifier
from torchlime.segments import FastSlic, Grid, Reduced, Slic
from torchlime.surrogates import (
    BayesianRidge,
    Lasso,
    LeastSquares,
    MarginalContributions,
    MarginalMean,
    Ridge,
)
from torchlime.targets import Classes
from torchlime.weights import Exponential, InverseDistance, Uniform, WithoutUnmasked

EXPLAINERS = [
    Lime(segmenter=Slic(8), num_samples=64),
    Lime(segmenter=Grid(2, 3), sampler=Bernoulli(), num_samples=50, chunk_size=7, fill=Blur(1.0)),
    Lime(
        segmenter=Grid(2, 3),
        sampler=Exhaustive(),
        num_samples=64,
        kernel=InverseDistance(),
        surrogate=LeastSquares(),
        fill=Constant(0.2),
    ),
    Lime(
        segmenter=Slic(8),
        sampler=FixedCount(),
        num_samples=40,
        kernel=Exponential(1.0, "pixel_euclidean"),
        surrogate=Lasso(fraction=0.3),
        fill=ImageMean(),
        chunk_size=16,
        exact_chunks=True,
    ),
    Lime(segmenter=Grid(2, 3), num_samples=64, kernel=WithoutUnmasked(), autocast=torch.bfloat16),
]


def images(batch, seed=0):
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 5, 5, generator=g)
    return torch.nn.functional.interpolate(coarse, (24, 20), mode="bilinear")


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Flatten(),
        torch.nn.LazyLinear(5),
    ).train()  # fmt: skip


@pytest.fixture(scope="module")
def model():
    made = network()
    made(images(1))
    return made


def assert_same(one, other):
    """All fields; tensors bit for bit."""
    for field in dataclasses.fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, torch.Tensor):
            assert mine.dtype == theirs.dtype
            same = mine.isclose(theirs, rtol=0, atol=0, equal_nan=True)
            assert same.all(), field.name
        elif field.name == "segments":
            assert_trees_same(mine, theirs)
        else:
            assert mine == theirs, field.name


def assert_trees_same(one, other):
    leaves = [torch.utils._pytree.tree_leaves(tree) for tree in (one, other)]
    assert all(a is b or torch.equal(a, b) for a, b in zip(*leaves, strict=True))


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=repr)
@pytest.mark.parametrize(("batch", "model_too"), [(1, False), (3, True)])
def test_the_numbers_are_those_of_a_plain_call(model, explainer, batch, model_too):
    settings = {"top": 2, "keep_samples": True}
    fast = explainer.capture(model, images(batch, 9), model_too=model_too, **settings)
    for number in (1, 2, 1):  # others than the example, and the first again
        x, seeds = images(batch, number), torch.arange(batch) + 100 * number
        plain = explainer.explain(model, x, seed=seeds, **settings)
        captured = fast(x, seed=seeds)
        assert plain.masks.shape[0] == batch
        assert_same(captured, plain)
    assert model.training


@pytest.mark.parametrize("targets", [3, torch.tensor([[0, 1], [4, 7]]), "all", lambda y, rows: y])
def test_targets(model, targets):
    explainer = EXPLAINERS[0]
    if isinstance(targets, str):
        targets = Classes(targets)
    fast, x, seeds = (
        explainer.capture(model, images(2), targets),
        images(2, 5),
        torch.tensor([4, 5]),
    )
    assert_same(fast(x, seed=seeds), explainer.explain(model, x, targets, seed=seeds))


def test_seeds(model):
    explainer = dataclasses.replace(EXPLAINERS[0], seed=6)
    fast, x = explainer.capture(model, images(2), keep_samples=True), images(2, 5)
    for made, seed in ((fast(x), 6), (fast(x, seed=8), 8), (fast(x, seed=np.int64(9)), 9)):
        plain = explainer.explain(model, x, seed=seed, keep_samples=True)
        assert torch.equal(made.masks, plain.masks)
        assert made.coefficients.allclose(plain.coefficients, rtol=1e-9, atol=1e-12)
        assert made.settings == plain.settings
        assert made.explainer == plain.explainer == dataclasses.replace(explainer, seed=seed)


@pytest.mark.parametrize("seed", [-1, 2**63 - 1, 2**63, -(2**70), np.uint64(2**63 + 1)])
def test_any_int_is_a_seed(model, seed):
    explainer, x = Lime(segmenter=Grid(2, 2), num_samples=32, seed=seed), images(1, 5)
    plain = explainer.explain(model, x)
    assert_same(explainer.capture(model, x)(x), plain)
    made = dataclasses.replace(explainer, seed=0).capture(model, x)(x, seed=seed)
    assert torch.equal(made.coefficients, plain.coefficients)


class Recorded(TorchDispatchMode):
    """A graph on a CPU: it records operators, and repeats them on the same memory."""

    def __init__(self, work):
        super().__init__()
        self.steps = []
        with self:
            work()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.steps.append((function, args, kwargs or {}, result))
        return result

    def __call__(self):
        with torch.inference_mode(False), torch.no_grad():
            for function, args, kwargs, result in self.steps:
                found = function(*args, **kwargs)
                for own, new in zip(tree_leaves(result), tree_leaves(found), strict=True):
                    if isinstance(own, torch.Tensor) and own.data_ptr() != new.data_ptr():
                        own.copy_(new)  # neither a view nor written in place


@pytest.fixture
def replayed(monkeypatch):
    """As on a GPU, a part's Python code does not run again."""
    monkeypatch.setattr(torchlime.capture, "graphed", lambda work, device, what: Recorded(work))


SOFT = Lime(segmenter=lambda x: torch.stack([x[0, 0] * 0 + 0.2, x[0, 0] * 0 + 0.9]), num_samples=20)


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("explainer", [*EXPLAINERS, pytest.param(SOFT, id="soft")], ids=repr)
def test_a_graph_that_only_repeats_operators_gives_the_same_numbers(model, explainer):
    settings = {"top": 2, "keep_samples": True}
    fast = explainer.capture(model, images(2, 9), **settings)
    made = {}
    for number in (1, 2, 3):
        x, seeds = images(2, number), torch.tensor([4, 5]) * number
        made[number] = fast(x, seed=seeds), explainer.explain(model, x, seed=seeds, **settings)
    for captured, plain in made.values():  # no call wrote over the result of another
        assert_same(captured, plain)


@pytest.mark.usefixtures("replayed")
def test_a_graph_of_several_inputs_and_of_a_classifier():
    def model(a, b):
        return a.mean((2, 3)) + 2 * b.mean((2, 3))

    explainer, seeds = Lime(segmenter=Grid(2, 2), num_samples=32), torch.tensor([1, 2])
    fast = explainer.capture(model, (images(2), images(2, 1)))
    x = images(2, 2), images(2, 3)
    assert_same(fast(x, seed=seeds), explainer.explain(model, x, seed=seeds))
    classifier = Classifier(network(), output="none")
    classifier(images(1))
    fast = explainer.capture(classifier, images(2))
    assert_same(fast(x[0], seed=seeds), explainer.explain(classifier, x[0], seed=seeds))


def test_several_inputs():
    def model(a, b):
        return a.mean((2, 3)) + b.mean((2, 3))

    explainer = Lime(segmenter=Grid(2, 2), num_samples=32)
    fast = explainer.capture(model, {"a": images(2), "b": images(2, 1)})
    x, seeds = {"a": images(2, 2), "b": images(2, 3)}, torch.tensor([1, 2])
    made, plain = fast(x, seed=seeds), explainer.explain(model, x, seed=seeds)
    assert_same(made, plain)
    assert_same(fast(dict(reversed(x.items())), seed=seeds), plain)
    with pytest.raises(ValueError, match=r"images must be a dict with the names \['a', 'b'\]"):
        fast({"a": images(2)})
    for wrong in (images(2), (images(2), images(2))):
        with pytest.raises(ValueError, match=r"images must be a dict .* got (Tensor|a tuple of 2)"):
            fast(wrong)
    fast = explainer.capture(model, (images(2), images(2, 1)))
    with pytest.raises(ValueError, match="images must be a tuple of 2 .* got list"):
        fast([images(2), images(2)])


def test_a_result_is_not_overwritten_by_the_next_call(model):
    fast = EXPLAINERS[0].capture(model, images(2), keep_samples=True)
    first = fast(images(2, 1), seed=1)
    kept = dataclasses.replace(first, **{n: v.clone() for n, v in first.tensors().items()})
    fast(images(2, 2), seed=2)
    assert_same(first, kept)


def test_a_model_in_training_is_seen_as_it_is_now():
    model = torch.nn.Conv2d(3, 4, 24)
    explainer, x = Lime(segmenter=Grid(2, 2), num_samples=32), torch.rand(1, 3, 24, 24)

    def scores(x):
        return model(x).flatten(1)

    fast = explainer.capture(scores, x, 0)
    with torch.no_grad():
        model.weight.mul_(2)
    seeds = torch.tensor([3])
    assert_same(fast(x, seed=seeds), explainer.explain(scores, x, 0, seed=seeds))


def test_the_callers_modes_do_not_reach_it(model):
    explainer, x, seeds = EXPLAINERS[0], images(2), torch.tensor([1, 2])
    plain = explainer.explain(model, x, seed=seeds)
    with torch.inference_mode():
        fast = explainer.capture(model, x)
        assert_same(fast(x, seed=seeds), plain)
    before = torch.get_rng_state()
    made = fast(x.requires_grad_(), seed=seeds)
    assert_same(made, plain)
    assert not made.coefficients.requires_grad
    assert torch.equal(torch.get_rng_state(), before)


class HostSegmenter:
    """As those that wrap another library."""

    def __call__(self, x):
        labels = torch.from_numpy(np.zeros_like(x.numpy()[:, 0], dtype=np.int64))
        return dataclasses.replace(Grid(1, 1)(x), labels=labels)


def by_the_generator(count, bound, samples, *, seed):
    masks = torch.rand(len(count), samples, bound) < 0.5
    masks[:, 0] = True
    return masks


def by_the_number(count, bound, samples, *, seed):
    return Bernoulli()(count, bound, samples, seed=int(seed[0]))


def half(x):
    return (torch.arange(x[0, 0].numel()) % 2).view(x.shape[2:])


def system(masks, scores, weights, count):
    torch.linalg.solve(torch.eye(2), torch.ones(2, 1))
    return LeastSquares()(masks, scores, weights, count)


REFUSED = {
    "a fill that draws": (
        {"fill": lambda x, _: torch.rand_like(x)},
        r"lambda> calls rand_like\(\), which draws without the seed",
    ),
    "a fill that reads": (
        {"fill": lambda x, _: x * float(x.mean())},
        r"lambda> calls __float__\(\), which reads a tensor on the host",
    ),
    "numbers of the host": (
        {"fill": lambda x, _: x * torch.tensor([1.0, 2.0, 3.0], device=x.device).view(3, 1, 1)},
        r"lambda> calls tensor\(\), which copies numbers from the host",
    ),
    "numbers by their keyword": (
        {"fill": lambda x, _: x * torch.tensor(data=[1.0, 2.0, 3.0]).view(3, 1, 1)},
        r"lambda> calls tensor\(\), which copies numbers from the host",
    ),
    "numbers like others": (
        {"fill": lambda x, _: x * x.new_tensor([1.0, 2.0, 3.0]).view(3, 1, 1)},
        r"lambda> calls new_tensor\(\), which copies numbers from the host",
    ),
    "a list of places": (
        {"fill": lambda x, _: x[:, [2, 1, 0]]},
        r"lambda> calls __getitem__\(\), which copies numbers from the host",
    ),
    "a size of the data": (
        {"fill": lambda x, _: x * x[x > 0.5].sum()},
        r"lambda> calls __getitem__\(\), which reads a tensor on the host",
    ),
    "a checked system": (
        {"surrogate": system},
        r"what comes after the model calls linalg_solve\(\), which reads a tensor on the host",
    ),
    "of the host": ({"segmenter": HostSegmenter()}, r"HostSegmenter .* calls numpy\(\)"),
    "a label map": ({"segmenter": half}, "half returns a label map"),
    "another library": ({"segmenter": FastSlic()}, r"FastSlic.* calls (cpu|numpy)\(\)"),
    "the generator": ({"sampler": by_the_generator}, r"by_the_generator calls rand\(\)"),
    "an int seed": ({"sampler": by_the_number}, r"by_the_number calls __int__\(\)"),
    "a kernel that reads": (
        {"kernel": lambda masks, count, energy: Uniform()(masks, count) * masks.sum().item()},
        r"what comes after the model calls item\(\)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_strategies_that_no_graph_can_hold(what):
    if what == "another library":
        pytest.importorskip("fast_slic")
    settings, sentence = REFUSED[what]
    explainer = Lime(**{"segmenter": Grid(2, 2), "num_samples": 32} | settings)
    with pytest.raises(ValueError, match=sentence):
        explainer.capture(lambda x: x.mean((2, 3)), images(1))


def test_other_inputs_are_refused(model):
    explainer = EXPLAINERS[0]
    fast = explainer.capture(model, images(2))
    for wrong in (images(3), images(2).double(), images(2)[:, :, 1:], images(2).to("meta")):
        with pytest.raises(ValueError, match="images must be torch.float32.*as in the capture"):
            fast(wrong)
    for wrong in (torch.tensor([1]), torch.tensor([1.0, 2.0]), torch.tensor([1, 2]).int()):
        with pytest.raises(ValueError, match="seed must be an int or an int64 tensor"):
            fast(images(2), seed=wrong)
    for wrong in ("1", 1.5, True, [1, 2], (1, 2)):
        with pytest.raises(TypeError, match="seed must be an int or an int64 tensor"):
            fast(images(2), seed=wrong)
    for wrong in (images(2).numpy(), [images(1)[0], images(1)[0]]):
        with pytest.raises(TypeError, match="images must be a tensor on cpu.*; convert"):
            fast(wrong)
    for wrong in ((images(2),), {"images": images(2)}):
        with pytest.raises(ValueError, match="images must be one tensor, as in the capture, got"):
            fast(wrong)
    with pytest.raises(TypeError, match="images must be tensors on the device.*got ndarray; conv"):
        explainer.capture(model, np.zeros((1, 24, 20, 3)))


@pytest.mark.parametrize("name", ["segments", "seed", "extra", "num_samples", "nonsense"])
def test_what_only_explain_takes_is_refused_in_a_sentence(model, name):
    with pytest.raises(TypeError, match=rf"capture\(\) has no keyword '{name}'; .*use explain\(\)"):
        EXPLAINERS[0].capture(model, images(1), **{name: 3})
    if name != "seed":
        with pytest.raises(TypeError, match=f"takes images and seed, got '{name}'; .*capture agai"):
            EXPLAINERS[0].capture(model, images(1))(images(1), **{name: 3})


def test_an_image_of_one_segment_is_warned_of_as_in_a_plain_call(model):
    with pytest.warns(UserWarning, match="an image is one segment as a whole"):
        Lime(segmenter=Grid(1, 1), num_samples=8).capture(model, images(1))


def test_outputs_of_another_size_are_refused(model):
    kept = [5]
    fast = EXPLAINERS[0].capture(lambda x: model(x)[:, : kept[0]], images(2), "all")
    kept[0] = 3
    with pytest.raises(ValueError, match=r"scores must be .*\[2, 64, 5\].*got .*\[2, 64, 3\]"):
        fast(images(2))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_stays_where_its_memory_is(model, copied):
    with pytest.raises(TypeError, match="cannot be copied or pickled.*capture again"):
        copied(EXPLAINERS[0].capture(model, images(1)))


def test_calls_do_not_overlap():
    within = []

    def calls_again(x):
        if within:
            within.clear()  # once
            fast(images(1))
        return x.mean((2, 3))

    fast = EXPLAINERS[0].capture(calls_again, images(1))
    within.append(True)
    with pytest.raises(RuntimeError, match="calls of one capture share its memory.*one for each"):
        fast(images(1))
    assert_same(fast(images(1)), EXPLAINERS[0].explain(calls_again, images(1)))


def test_a_model_that_raises_leaves_all_as_it_was(model):
    broken, x = [], images(2)

    def breaks(x):
        torch.rand(1)
        if broken:
            raise KeyError("of the model")
        return model(x)

    fast = EXPLAINERS[0].capture(breaks, x)
    first, state = fast(x), torch.get_rng_state()
    broken.append(True)
    with pytest.raises(KeyError, match="of the model"):
        fast(images(2, 1))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    broken.clear()
    assert_same(fast(x), first)


class EarlyStop:
    def sizes(self, number):
        return number // 2, number // 2

    def settled(self, fit, count):
        return True


class Shorter(Pixels):
    def rows(self, design, box, first):
        rows = super().rows(design, box, first)
        rows.lengths = [[1] * design.shape[1]]
        return rows


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rounds": EarlyStop()}, r"capture takes rounds=Once\(\)"),
        ({"forward": Forward(differentiable=True)}, "capture cannot be differentiable"),
        ({"features": Shorter}, "rows of several lengths"),
    ],
)
def test_what_else_is_refused(changed, sentence):
    made = changed.pop("features", Pixels)
    with pytest.raises(ValueError, match=sentence):
        Captured(
            lambda x: x.mean((2, 3)), images(1),
            lambda x: made(x, Grid(2, 2)(x), 0 * x), Classes(), sampler=Bernoulli(),
            num_samples=16, kernel=Uniform(), surrogate=Ridge(), **changed,
        )  # fmt: skip


def test_what_a_graph_can_hold_is_not_refused(model):
    """A number by itself is an argument of a kernel, and a tensor is there already."""

    def fill(x, segments):
        places = torch.as_tensor(segments.count) * torch.tensor(0.5)
        return x[:, :, ..., :] * 0.5 + places.sum() * x[:, torch.arange(3)].mean()

    explainer, x = Lime(segmenter=Grid(2, 2), num_samples=32, fill=fill), images(2)
    seeds = torch.tensor([1, 2])
    assert_same(explainer.capture(model, x)(x, seed=seeds), explainer.explain(model, x, seed=seeds))


def test_several_inputs_have_fills_of_their_own():
    explainer = Lime(segmenter=Grid(2, 2), num_samples=32, fill=(Constant(0.5), torch.zeros(())))
    x, seeds = (images(2), images(2, 1)), torch.tensor([1, 2])

    def model(a, b):
        return a.mean((2, 3)) + 2 * b.mean((2, 3))

    assert_same(explainer.capture(model, x)(x, seed=seeds), explainer.explain(model, x, seed=seeds))
    drawn = dataclasses.replace(explainer, fill=(Constant(0.5), lambda x, _: torch.rand_like(x)))
    with pytest.raises(ValueError, match="calls rand_like"):
        drawn.capture(model, x)


# What follows is on fake CUDA tensors.


# These take a tensor of the host as a number, which becomes an argument of a kernel.
OF_NUMBERS = (
    torch.ops.aten.lift_fresh.default, torch.ops.aten.fill_.Tensor, torch.ops.prim.device.default,
)  # fmt: skip


class InCapture(RefuseWaiting):
    """Raise on what a stream that captures forbids, beside what waits for the device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if torch.Tag.nondeterministic_seeded in function.tags:
            raise Waits(f"{function} takes from a generator")
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if function not in OF_NUMBERS and any(t.device.type == "cpu" for t in tensors):
            raise Waits(f"{function} takes a tensor of the host")
        return super().__torch_dispatch__(function, types, args, kwargs)


FORBIDDEN = [
    (torch, "get_rng_state"), (torch, "set_rng_state"), (torch, "manual_seed"),
    (torch.cuda, "get_rng_state"), (torch.cuda, "set_rng_state"), (torch.cuda, "manual_seed"),
    (torch.cuda, "empty_cache"), (torch.cuda, "mem_get_info"), (torch.cuda, "synchronize"),
    (torch.cuda, "memory_allocated"), (torch.nn.Module, "train"), (random, "getstate"),
    (_networks, "random_states"),
]  # fmt: skip


@pytest.fixture
def parts(monkeypatch):
    """The parts that were captured; inside of them nothing forbidden happens."""
    done = []

    def graphed(work, device, what):
        assert device.type == "cuda"
        work()  # the warm-up

        def forbidden(*_, **__):
            raise Waits("it touches the allocator, a mode or a generator")

        def captured():
            done.append(what)
            with monkeypatch.context() as patch:
                for owner, name in FORBIDDEN:
                    patch.setattr(owner, name, forbidden)
                with InCapture():
                    work()

        captured()
        return captured

    monkeypatch.setattr(torchlime.capture, "graphed", graphed)
    return done


ON_CUDA = [
    Lime(),
    Lime(segmenter=Grid(4, 4), sampler=Bernoulli(), num_samples=64, fill=ImageMean()),
    Lime(
        segmenter=Grid(4, 5),
        sampler=Orthogonal(),
        num_samples=300,
        fill=Blur(3.0),
        surrogate=LeastSquares(),
        kernel=Exponential(1.0, "pixel_euclidean"),
    ),
    Lime(segmenter=Grid(2, 4), sampler=Exhaustive(), num_samples=256, fill=Constant(0.1)),
    Lime(
        segmenter=Grid(3, 3),
        sampler=FixedCount(),
        num_samples=100,
        fill=SegmentMean(),
        kernel=InverseDistance(),
        surrogate=Ridge(errors=False),
        autocast=torch.bfloat16,
    ),
]


def small():
    """A network with modes, and no more."""
    layers = torch.nn.Conv2d(3, 4, 8, 8), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1)
    return torch.nn.Sequential(*layers, torch.nn.Flatten()).train()


NAMES = ("baylime", "slice", "glime", "kernel_shap", "leverage_shap", "banzhaf")
NAMES += ("permutation_shapley", "leave_one_out", "occlusion")
ON_CUDA += [SOFT, *(methods.get(name)(num_samples=256) for name in NAMES)]
ON_CUDA += [
    Lime(segmenter=Reduced(Slic(9), 24), sampler=sampler, num_samples=64, surrogate=surrogate)
    for sampler, surrogate in (
        (RandomSize(), Lasso(fraction=0.2)),
        (Sizes(), MarginalMean()),
        (SizeLaw(LeverageLaw(), paired=False), BayesianRidge(precision=1.0)),
        (Permutations(), MarginalContributions()),
    )
]
FAKE = pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")  # autocast says so


@FAKE
@pytest.mark.parametrize(
    ("explainer", "model_too"), [*((one, False) for one in ON_CUDA), (ON_CUDA[1], True)]
)
def test_nothing_that_a_capture_forbids(explainer, model_too, parts):
    with FakeTensorMode():
        with torch.device("cuda"):
            model = torchvision.models.resnet18().train() if explainer is ON_CUDA[0] else small()
            x, seeds = torch.empty(2, 3, 64, 48), torch.zeros(2, dtype=torch.int64)
        fast = explainer.capture(model, x, top=3, model_too=model_too)
        with RefuseWaiting():
            made = fast(x, seed=seeds)
            fast(x, seed=3)
    assert made.coefficients.shape[:2] == (2, 3)
    assert made.coefficients.device.type == "cuda"
    assert len(set(parts)) == 2 + model_too
    assert len(parts) >= 3 * len(set(parts))


MOVES = {
    "another place": lambda net: setattr(net[0].weight, "data", net[0].weight.detach().clone()),
    "another layer": lambda net: setattr(net, "0", torch.nn.Conv2d(3, 4, 8, device="cuda")),
    "weights that are assigned": lambda net: net.load_state_dict(
        {name: value.clone() for name, value in net.state_dict().items()}, assign=True
    ),
}


@FAKE
@pytest.mark.parametrize("how", MOVES)
def test_a_captured_model_whose_weights_have_moved_is_refused(how, parts):
    """A graph would read memory that may now hold something else."""
    with FakeTensorMode():
        with torch.device("cuda"):
            net, x = small(), torch.empty(2, 3, 64, 48)
        fast = ON_CUDA[1].capture(net, x, model_too=True)
        with torch.no_grad():
            net[0].weight.mul_(2)
        fast(x)
        MOVES[how](net)
        with pytest.raises(RuntimeError, match="weights of the model have moved in memory"):
            fast(x)


@FAKE
def test_the_seed_of_a_graph_is_a_tensor_that_calls_write(parts):
    given = []

    def sampler(count, bound, samples, *, seed):
        given.append(seed)
        return Bernoulli()(count, bound, samples, seed=seed)

    with FakeTensorMode():
        x = torch.empty(2, 3, 64, 48, device="cuda")
        explainer = Lime(segmenter=Grid(2, 2), sampler=sampler, num_samples=16)
        fast = explainer.capture(lambda x: x.mean((2, 3)), x)
        fast(x, seed=5)
    assert len({id(seed) for seed in given}) == 1
    assert given[0].shape == (2,)


def with_upload(x):
    return x * torch.tensor([1.0, 2.0, 3.0]).to(x.device).view(3, 1, 1)


def with_states(x):
    torch.cuda.get_rng_state()
    return x


CAUGHT_INSIDE = {
    "numbers of the host": lambda x: (
        x * torch.tensor([1.0, 2.0, 3.0], device=x.device)[:, None, None]
    ),
    "a number of the host": lambda x: torch.where(x > 0, x, torch.tensor(0.0)),
    "a list of places": lambda x: x[:, [2, 1, 0]],
    "an upload": with_upload,
    "a generator": lambda x: x * torch.rand(3, 1, 1, device=x.device),
    "the allocator": lambda x: (torch.cuda.empty_cache(), x)[1],
    "a random state": with_states,
    "a size of the data": lambda x: x * x[x > 0].sum(),
}


@FAKE
@pytest.mark.parametrize("what", CAUGHT_INSIDE)
def test_the_net_catches(what, parts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.zeros(16))

    def model(x):
        return CAUGHT_INSIDE[what](x).mean((2, 3))

    explainer = Lime(segmenter=Grid(2, 2), num_samples=16)
    with FakeTensorMode():
        x = torch.empty(2, 3, 24, 20, device="cuda")
        with pytest.raises(CAUGHT):
            explainer.capture(model, x, model_too=True)


@pytest.mark.parametrize("around", [None, torch.bfloat16])
def test_a_captured_model_keeps_the_autocast_of_the_capture(model, around):
    x, seeds = images(2), torch.tensor([1, 2])
    explainer = Lime(segmenter=Grid(2, 2), num_samples=32)
    with torch.autocast("cpu", torch.bfloat16, enabled=around is not None):
        fast = explainer.capture(model, x, model_too=True)
        assert_same(fast(x, seed=seeds), explainer.explain(model, x, seed=seeds))
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=around is None),
        pytest.raises(ValueError, match=f"autocast around the call must be {around}, as in the"),
    ):
        fast(x, seed=seeds)
    own = dataclasses.replace(explainer, autocast=torch.bfloat16)  # that of the call is as one
    with torch.autocast("cpu", torch.float16):
        fast = own.capture(model, x, model_too=True)
    assert_same(fast(x, seed=seeds), own.explain(model, x, seed=seeds))


class Casts(TorchDispatchMode):
    """Count the casts of a weight."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default and args[0].shape == self.shape:
            self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("of_the_caller", [False, True])
def test_the_graph_of_the_model_runs_in_autocast(of_the_caller, parts, monkeypatch):
    """Each run casts the weights: casts that are kept would be freed, and be of old weights."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    found, casts = [], []

    def model(x):
        with Casts(layer.weight.shape) as seen:
            found.append(layer(x).dtype)
        casts.append(seen.count)
        return x.mean((2, 3))

    own = None if of_the_caller else torch.bfloat16
    explainer = Lime(segmenter=Grid(2, 2), num_samples=16, chunk_size=11, autocast=own)
    with FakeTensorMode():
        with torch.device("cuda"):
            layer, x = torch.nn.Conv2d(3, 2, 8), torch.empty(2, 3, 24, 20)
        with torch.autocast("cuda", torch.bfloat16, enabled=of_the_caller):
            fast = explainer.capture(model, x, model_too=True)
            fast(x)
    assert set(found) == {torch.bfloat16}
    chunks = 4  # of 34 rows
    assert len(casts) == 4 * chunks  # plain, as a warm-up, in the capture, and replayed
    assert casts[chunks:] == 3 * [1, 0, 0, 0]


class FakeCuda:
    """Streams, devices and graphs by their numbers; ``told`` is what happened, in its order."""

    def __init__(self, monkeypatch, breaks):
        self.number, self.current, self.told = 0, {0: "main 0", 1: "main 1"}, []
        self.breaks = breaks
        for name in ("CUDAGraph", "Stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        for name in ("device", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, contextlib.contextmanager(getattr(self, name)))
        clear = "_cuda_clearCublasWorkspaces"
        monkeypatch.setattr(torch._C, clear, lambda: self.told.append("clear"))

    def Stream(self):
        return FakeStream(self.number)

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: self.told.append("replay"))

    def current_stream(self):
        found = self.current[self.number]
        return FakeStream(self.number, found) if isinstance(found, str) else found

    def device(self, device):
        before, self.number = self.number, device.index
        try:
            yield
        finally:
            self.number = before

    def stream(self, stream):
        before = self.current[stream.index]
        self.current[stream.index] = stream.name
        try:
            yield
        finally:
            self.current[stream.index] = before

    def graph(self, graph, *, stream, capture_error_mode):
        """As torch's, which leaves its stream current where the end of a capture fails."""
        self.current[stream.index] = stream.name
        self.told.append(f"begin on {stream.index}")
        yield
        if self.breaks:
            raise RuntimeError("no graph can hold that")
        self.told.append("end")
        self.current[stream.index] = f"main {stream.index}"


class FakeStream:
    def __init__(self, index, name=None):
        self.index, self.name = index, name or f"side {index}"

    def wait_stream(self, other):
        assert other.index == self.index


@pytest.mark.parametrize("breaks", [False, True])
def test_a_capture_is_on_a_stream_of_its_own_device(monkeypatch, breaks):
    """By default torch captures on a stream of the device that was current in the first capture."""
    cuda = FakeCuda(monkeypatch, breaks)

    def work():
        cuda.told.append(f"work on {cuda.current[1]}")

    error = pytest.raises(RuntimeError, match="CUDA cannot capture a part: no graph can hold that")
    with error if breaks else contextlib.nullcontext():
        graphed(work, torch.device("cuda", 1), "a part")()
    assert cuda.told[:5] == [*2 * ["work on side 1"], "clear", "begin on 1", "work on side 1"]
    assert cuda.told[5:] == (["clear"] if breaks else ["end", "clear", "replay"])
    assert (cuda.number, cuda.current) == (0, {0: "main 0", 1: "main 1"})
