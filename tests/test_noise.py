import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from tests import oracles
from torchlime import _row_blocks
from torchlime.features.vectors import Noisy
from torchlime.noise import Gaussian

SAMPLERS = [Gaussian(), Gaussian(antithetic=False)]


def draw(sampler, width, num_samples, seed=0, batch=1):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer pairs than features
        return sampler(torch.full((batch,), width), width, num_samples, seed=seed)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("num_samples", [2, 21, 40])
@pytest.mark.parametrize("seed", [0, -5, 2**63 - 1])
def test_noise_equals_its_literal_definition(sampler, num_samples, seed):
    noise = draw(sampler, 7, num_samples, seed)
    assert noise.dtype == torch.float32
    expected = oracles.gaussian(7, num_samples, seed, sampler.antithetic)
    np.testing.assert_allclose(noise[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_an_entry_depends_on_seed_sample_and_feature_alone(sampler):
    before = torch.get_rng_state()
    together = draw(sampler, 9, 64, seed=3, batch=4)
    assert together.shape == (4, 64, 9)
    assert together.stride(0) == 0  # one draw for all
    assert torch.equal(together[2], draw(sampler, 9, 64, seed=3)[0])
    assert torch.equal(together[0, :20, :5], draw(sampler, 5, 20, seed=3)[0])
    own = draw(sampler, 9, 64, seed=torch.tensor([3, 8, 3, -1]), batch=4)
    assert torch.equal(own[0], together[0])
    assert torch.equal(own[2], own[0])
    assert not torch.equal(own[1], own[0])
    assert torch.equal(own[3], draw(sampler, 9, 64, seed=-1)[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_samples", [10, 11])
def test_antithetic_pairs_stand_together_and_the_odd_one_is_x(num_samples):
    noise = draw(Gaussian(), 4, num_samples)
    assert torch.equal(noise[:, 1:10:2], -noise[:, 0:10:2])
    assert (noise[:, :10] != 0).all()
    assert (noise[:, 10:] == 0).all()


def test_the_values_are_independent_and_standard_normal():
    noise = draw(Gaussian(antithetic=False), 50, 20_000)[0].double().numpy()
    assert stats.kstest(noise.ravel()[:200_000], "norm").pvalue > 1e-3
    assert abs(noise.mean()) < 4 / math.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * math.sqrt(2 / noise.size)
    correlations = np.corrcoef(noise.T)[np.triu_indices(50, 1)]
    assert abs(correlations).max() < 5 / math.sqrt(20_000)
    assert 4 < abs(noise).max() < 6.7


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_blocks_change_nothing(sampler, monkeypatch):
    whole = draw(sampler, 6, 51, seed=torch.tensor([1, 2]), batch=2)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 200)
    assert torch.equal(draw(sampler, 6, 51, seed=torch.tensor([1, 2]), batch=2), whole)


def test_fewer_pairs_than_features_are_warned_of():
    count = torch.tensor([8])
    with pytest.warns(UserWarning, match="15 samples in pairs span 7 .* 8 .* raise .* to 16 or"):
        Gaussian()(count, 8, 15, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Gaussian()(count, 8, 16, seed=0)
        Gaussian(antithetic=False)(count, 8, 15, seed=0)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_compiles(sampler):
    count = torch.tensor([5, 5])
    compiled = torch.compile(sampler, fullgraph=True, backend="aot_eager")(count, 5, 31, seed=7)
    assert torch.equal(compiled, sampler(count, 5, 31, seed=7))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_samplers_pickle_compare_and_print(sampler):
    assert pickle.loads(pickle.dumps(sampler)) == sampler
    assert eval(repr(sampler)) == sampler


def test_float32_where_the_device_has_no_float64(monkeypatch):
    expected = draw(Gaussian(), 6, 1000)
    monkeypatch.setattr("torchlime.noise.solve_dtype", lambda device: torch.float32)
    noise = draw(Gaussian(), 6, 1000)
    assert (noise - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("num_samples", "seed", "error", "message"),
    [
        (1, 0, ValueError, "num_samples must be at least 2, got 1"),
        (10, 0.5, TypeError, "seed must be an int or an int64 tensor"),
        (10, torch.tensor([1, 2]), ValueError, r"int64 tensor of shape \[1\], got .*\[2\]"),
        (10, torch.zeros(1, dtype=torch.int64, device="meta"), ValueError, "seed is on meta"),
    ],
)
def test_bad_arguments(num_samples, seed, error, message):
    with pytest.raises(error, match=message):
        draw(Gaussian(), 3, num_samples, seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_chunks_are_rows_of_the_perturbed_vectors(dtype):
    g = torch.Generator().manual_seed(0)
    x, scale = (torch.rand(3, 2, 4, generator=g, dtype=torch.float64) for _ in range(2))
    noise = draw(Gaussian(), 8, 16, seed=torch.tensor([1, 2, 3]), batch=3)
    noisy = Noisy(x, scale.flatten(1), noise, dtype)
    every = [(slice(0, 3), slice(0, 1)), (slice(1, 2), slice(1, 17)), (slice(2, 3), slice(4, 9))]
    chunk = noisy(every, 30)
    assert chunk.shape == (30, 2, 4)
    assert chunk.dtype == dtype
    expected = [
        x,
        x[1] + scale[1] * noise[1].double().view(16, 2, 4),
        x[2] + scale[2] * noise[2, 3:8].double().view(5, 2, 4),
    ]
    assert torch.equal(chunk[:24], torch.cat(expected).to(dtype))
    assert chunk.isfinite().all()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_few_samples_are_the_beginning_of_many(sampler):
    many = draw(sampler, 5, 60, seed=4)
    assert torch.equal(draw(sampler, 5, 24, seed=4), many[:, :24])
    count = torch.tensor([5])
    rounds = [sampler(count, 5, size, seed=4, first=first) for first, size in
              ((0, 24), (24, 10), (34, 26))]  # fmt: skip
    assert torch.equal(torch.cat(rounds, 1), many)
    if sampler.antithetic:
        with pytest.raises(ValueError, match="first must be even, since samples come in pairs"):
            sampler(count, 5, 10, seed=4, first=3)
