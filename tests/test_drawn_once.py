"""Small designs of an int seed are drawn once on a CPU; only the time shows it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from torchlime import _drawn_once
from torchlime.masks import Orthogonal
from torchlime.noise import Gaussian

SAMPLERS = [Orthogonal(), Gaussian(), Gaussian(antithetic=False)]
COUNT = torch.tensor([5, 5])


@pytest.fixture(autouse=True)
def nothing_is_kept():
    _drawn_once._kept.clear()


def draw(sampler, seed=3, samples=20, count=COUNT):
    return sampler(count, 5, samples, seed=seed)


class Operators(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


def operators(sampler, **changed):
    with Operators() as counted:
        draw(sampler, **changed)
    return counted.number


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_the_second_draw_is_a_copy(sampler):
    first, second = operators(sampler), operators(type(sampler)(**vars(sampler)))
    assert second <= 6 < first
    assert operators(sampler, seed=4) == first
    assert operators(sampler, samples=22) == first


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_a_caller_may_write_to_what_was_drawn(sampler):
    expected = draw(sampler).clone()
    for _ in range(3):
        found = draw(sampler)
        assert torch.equal(found, expected)
        found[:1].zero_()


def test_other_settings_seeds_and_rows_are_other_draws():
    draws = [draw(sampler, seed) for sampler in SAMPLERS[1:] for seed in (0, 1, -1)]
    draws += [Gaussian()(COUNT, 5, 20, seed=0, first=2)]
    again = [draw(sampler, seed) for sampler in SAMPLERS[1:] for seed in (0, 1, -1)]
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=False))
    assert len({tuple(one.flatten().tolist()) for one in draws}) == len(draws)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("seed", [True, 1.0, "1"])
def test_a_wrong_seed_is_an_error_though_an_equal_one_is_known(sampler, seed):
    draw(sampler, seed=1)
    with pytest.raises(TypeError, match="seed must be an int"):
        draw(sampler, seed=seed)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_fake_tensors_and_true_ones_do_not_meet(sampler):
    for _ in range(2):
        with FakeTensorMode():
            fake = draw(sampler, count=torch.full((2,), 5))
        assert draw(sampler).shape == fake.shape
        assert type(draw(sampler)) is torch.Tensor
    _drawn_once._kept.clear()
    with pytest.raises(Exception, match="Fake"), FakeTensorMode():  # the count is a true tensor
        draw(sampler) & COUNT
    assert all(type(known) is torch.Tensor for known in _drawn_once._kept.values())


def test_a_draw_in_inference_mode_leaves_no_inference_tensor():
    with torch.inference_mode():
        drawn = draw(Gaussian())
    again = draw(Gaussian())
    assert torch.equal(again, drawn)
    assert not again.is_inference()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_compiled_draws_are_the_same(sampler):
    torch.compiler.reset()
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(sampler), draw(sampler))
    assert torch.equal(compiled(sampler), draw(sampler))


def test_few_and_small_ones_are_kept():
    for seed in range(3 * _drawn_once.MOST):
        draw(Gaussian(), seed)
        assert 1 <= len(_drawn_once._kept) <= _drawn_once.MOST
    _drawn_once._kept.clear()
    draw(Gaussian(), samples=_drawn_once.LARGEST // 5 + 1)
    draw(Gaussian(), torch.tensor([1, 2]))
    assert not _drawn_once._kept


def test_threads_get_the_draws_of_their_seeds():
    expected = [draw(Orthogonal(), seed) for seed in range(40)]
    _drawn_once._kept.clear()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = pool.map(lambda seed: draw(Orthogonal(), seed), range(40))
            assert all(map(torch.equal, found, expected))
