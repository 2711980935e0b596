"""Gradients through scores and the closed-form solve to the model's parameters."""

import random
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchlime import Explanation, Lime, explain, plot
from torchlime.fills import Constant
from torchlime.masks import Bernoulli
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares, Ridge

IMAGES = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double()


def explainer(**settings):
    return Lime(**{"segmenter": Grid(2, 3), "num_samples": 20, "sampler": Bernoulli(),
                   "fill": Constant(0.2), "chunk_size": 7, **settings})  # fmt: skip


@pytest.mark.parametrize("surrogate", [Ridge(0.5), LeastSquares()], ids=repr)
@pytest.mark.parametrize("field", ["coefficients", "intercepts", "scores", "fidelity"])
def test_gradcheck(surrogate, field):
    parameters = torch.randn(36, 3, dtype=torch.float64, requires_grad=True)

    def explained(parameters):
        e = explainer(surrogate=surrogate).explain(
            lambda x: (x.flatten(1) @ parameters).tanh(), IMAGES, 1, differentiable=True
        )
        return getattr(e, field)

    assert torch.autograd.gradcheck(explained, parameters)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, 4, 3, dtype=torch.float64)
        self.norm = nn.BatchNorm2d(4, dtype=torch.float64)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3, dtype=torch.float64)
        self.alive, self.most_alive = [], 0

    def forward(self, x):
        features = self.convolution(x).tanh()
        self.alive = [ref for ref in self.alive if ref() is not None]
        self.alive.append(weakref.ref(features))
        self.most_alive = max(self.most_alive, len(self.alive))
        return self.head(self.dropout(self.norm(features)).mean((2, 3)))


def gradients(net, **settings):
    net.zero_grad()
    e = explainer(**settings).explain(net, IMAGES, 1, differentiable=True)
    (e.coefficients.abs().sum() + e.scores.square().sum()).backward()
    return [p.grad.clone() for p in net.parameters()]


def test_gradients_do_not_depend_on_chunks_or_the_callers_modes():
    net = Net().eval()
    expected = gradients(net, chunk_size=1000)
    chunked = gradients(net)
    net.train()
    net.norm.eval()
    modes = [module.training for module in net.modules()]
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    state = torch.get_rng_state()
    while_training = gradients(net)
    for a, b, c in zip(expected, chunked, while_training, strict=True):
        assert a.allclose(b, rtol=1e-9, atol=1e-12)
        assert a.allclose(c, rtol=1e-9, atol=1e-12)
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())


def test_memory_stays_at_one_chunks_graph():
    net = Net().eval()
    e = explainer().explain(net, IMAGES, 1, differentiable=True)
    assert [ref() for ref in net.alive] == [None] * len(net.alive)  # nothing waits for backward
    net.most_alive = 0
    e.coefficients.sum().backward()
    assert net.most_alive == 1


def test_a_model_that_is_random_in_eval_mode_draws_the_same_in_backward():
    """The score is a parameter times a draw: the gradient is that draw, whenever it is computed."""
    parameter = torch.ones(3, dtype=torch.float64, requires_grad=True)
    drawn = []

    def model(x):
        draws = torch.rand(len(x), 1).double(), random.random(), np.random.rand()  # noqa: NPY002
        drawn.append((draws[0].sum().item(), *draws[1:]))
        return sum(draws) * parameter * x.mean((1, 2, 3))[:, None]

    e = explainer().explain(model, IMAGES, 1, differentiable=True)
    chunks = list(drawn)
    assert all(len(set(draws)) == len(chunks) > 1 for draws in zip(*chunks, strict=True))  # all new
    torch.rand(7), random.random(), np.random.rand()  # noqa: NPY002  as training does in between
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    e.coefficients.sum().backward()
    assert sorted(drawn[len(chunks) :]) == sorted(chunks)
    assert parameter.grad[1].item() == pytest.approx(e.coefficients.sum().item(), rel=1e-9)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(states[0], after[0])
    assert states[1:] == after[1:]


def test_a_network_that_calls_view_has_the_gradients_of_one_that_calls_reshape():
    """Convolutions of a CPU get channels_last, whose features have no such view."""

    class Flat(nn.Module):
        def __init__(self, how):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.linear = nn.Conv2d(1, 4, 3), nn.Linear(64, 3)
            self.how = how

        def forward(self, x):
            features = self.conv(x).relu()
            return self.linear(getattr(features, self.how)(len(x), -1))

    gradients = []
    for how in ("view", "reshape"):
        net = Flat(how).double()
        explainer().explain(net, IMAGES, 1, differentiable=True).coefficients.sum().backward()
        gradients.append(net.conv.weight.grad)
    assert gradients[0].allclose(gradients[1], rtol=0, atol=1e-12)


def test_gradients_of_a_blank_image_beside_another_are_finite():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3, bias=False, dtype=torch.float64))
    images = torch.cat([torch.zeros(1, 1, 6, 6), IMAGES[:1]]).double()
    labels = torch.stack([torch.zeros(6, 6), torch.arange(36).view(6, 6) // 5]).long()
    e = explainer(fill=Constant(0.0)).explain(
        net, images, 1, segments=labels, max_segments=9, differentiable=True
    )
    (1 - e.fidelity).sum().backward()
    assert e.fidelity[0].item() == 0
    assert net[1].weight.grad.isfinite().all()


def test_values_are_those_without_gradients():
    net = Net().eval()
    plain = explainer().explain(net, IMAGES, top=2)
    e = explainer().explain(net, IMAGES, top=2, differentiable=True)
    assert e.coefficients.requires_grad
    assert not plain.coefficients.requires_grad
    assert torch.equal(e.coefficients.detach(), plain.coefficients)
    assert torch.equal(e.targets, plain.targets)
    assert not e.segments.requires_grad
    by_function = explain(net, IMAGES, top=2, differentiable=True, segmenter=Grid(2, 3),
                          num_samples=20, sampler=Bernoulli(), fill=Constant(0.2))  # fmt: skip
    assert by_function.coefficients.allclose(e.coefficients)


def test_under_the_callers_no_grad_and_autocast():
    """The gradient is float32's, as far as the 8 bits of bfloat16 tell."""
    net = Net().eval().float()
    found = []
    for autocast in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            e = explainer().explain(net, IMAGES.float(), 1, differentiable=True)
        net.zero_grad()
        e.coefficients.abs().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    exact, rounded = found
    assert 0 < (rounded - exact).norm() / exact.norm() < 2**-5


def test_what_is_done_with_explanations_is_done_with_these(tmp_path):
    net = Net().eval()
    e, plain = (explainer().explain(net, IMAGES, 1, differentiable=d) for d in (True, False))
    e.save(tmp_path / "e.npz")
    assert torch.equal(Explanation.load(tmp_path / "e.npz").coefficients, plain.coefficients)
    assert torch.equal(plot.overlay(e[0], IMAGES[0]), plot.overlay(plain[0], IMAGES[0]))
    assert torch.equal(e.heatmap().detach(), plain.heatmap())


def test_what_cannot_be_honoured_raises(tmp_path):
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode rules them out"):
        explainer().explain(Net(), IMAGES, differentiable=True)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = DistributedDataParallel(Net())
        with pytest.raises(ValueError, match=r"DistributedDataParallel.*pass model.module"):
            explainer().explain(wrapped, IMAGES, differentiable=True)
        for holds in (nn.Sequential(wrapped, nn.Softmax(1)), lambda x: wrapped(x), wrapped.forward):
            with pytest.raises(ValueError, match=r"would wait for the other ranks.*ddp.module"):
                explainer().explain(holds, IMAGES, 1)
        inner = explainer().explain(wrapped.module, IMAGES, 1)
        assert torch.equal(explainer().explain(wrapped, IMAGES, 1).coefficients, inner.coefficients)
    finally:
        torch.distributed.destroy_process_group()
