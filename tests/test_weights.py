import math

import numpy as np
import pytest
import torch

from tests import oracles
from torchlime import Lime, _row_blocks
from torchlime.fills import Constant
from torchlime.masks import Bernoulli, Orthogonal
from torchlime.surrogates import LeastSquares
from torchlime.weights import Exponential, InverseDistance, Uniform, WithoutUnmasked

COUNTS = torch.tensor([10, 6, 1])
DISTANCES = ["cosine", "euclidean", "pixel_euclidean"]


@pytest.fixture
def masks():
    masks = Bernoulli()(COUNTS, 12, 40, seed=0)
    masks[:, 5] = False  # everything hidden
    return masks


@pytest.fixture
def energy():
    energy = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    return energy * (torch.arange(12) < COUNTS[:, None])


def literal_distances(name, masks, energy):
    return [
        [
            oracles.distance(name, row[:count].numpy(), energy[b, :count].double().numpy())
            for row in masks[b]
        ]
        for b, count in enumerate(COUNTS.tolist())
    ]


@pytest.mark.parametrize("name", DISTANCES)
def test_exponential(masks, energy, name):
    weights = Exponential(width=0.7, distance=name)(masks, COUNTS, energy)
    d = np.array(literal_distances(name, masks, energy))
    np.testing.assert_allclose(weights.numpy(), np.exp(-(d**2) / (2 * 0.7**2)), rtol=1e-12)
    assert (weights[:, 0] == 1).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_inverse_distance(masks, energy, name):
    weights = InverseDistance(name)(masks, COUNTS, energy)
    d = np.array(literal_distances(name, masks, energy))
    nearest = np.array([row[row > 0].min() for row in d])[:, None]
    np.testing.assert_allclose(weights.numpy(), 1 / np.maximum(d, nearest), rtol=1e-12)
    assert (weights[:, 0] == weights.amax(1)).all()


def test_uniform(masks):
    weights = Uniform()(masks, COUNTS)
    assert weights.dtype == torch.float64
    assert (weights == 1).all()


def test_lime_images_own_kernel_at_half(masks):
    half = torch.tensor([[[True] * 4, [True, True, False, False], [False] * 4]])
    weights = Exponential()(half, torch.tensor([4]))[0].tolist()
    expected = [math.exp(-(d**2) / (2 * 0.25**2)) for d in (0, 1 - math.sqrt(0.5), 1)]
    assert weights == pytest.approx(expected, rel=1e-14)


def test_no_energy_anywhere(masks):
    nothing = torch.zeros(3, 12)
    assert (Exponential(distance="pixel_euclidean")(masks, COUNTS, nothing) == 1).all()
    assert (InverseDistance()(masks, COUNTS, nothing) == 1).all()


@pytest.mark.parametrize("kernel", [Uniform(), InverseDistance()], ids=repr)
def test_without_unmasked(masks, energy, kernel):
    full = kernel(masks, COUNTS, energy)
    weights = WithoutUnmasked(kernel)(masks, COUNTS, energy)
    assert (weights[:, 0] == 0).all()
    assert torch.equal(weights[:, 1:], full[:, 1:])  # also of a draw that happens to keep all
    noise = torch.zeros(3, 4, 12)
    assert (WithoutUnmasked(Uniform()).of_noise(noise, COUNTS) == 1).all()


def test_what_the_unmasked_image_does_to_a_fit():
    """A score that only the unmasked image has: no segment alone is evidence."""
    samples, count = 512, torch.tensor([50])
    masks = Orthogonal()(count, 50, samples, seed=0)
    masks = masks ^ ~masks[:, :1]  # as signs of the columns: row 0 keeps all
    assert torch.equal(WithoutUnmasked(Uniform())(masks[:, 1:], count), torch.ones(1, samples - 1))
    scores = masks.all(2, keepdim=True).double()
    pulled, free = (
        LeastSquares()(masks, scores, kernel(masks, count), count)
        for kernel in (Exponential(), WithoutUnmasked())
    )
    assert pulled.coefficients.mean().item() == pytest.approx(4 / samples, rel=0.05)
    assert free.coefficients.abs().max() < 1e-12
    assert free.fidelity.item() == 0.0  # what is fitted does not vary


def test_a_single_segment_is_told_from_its_other_samples():
    labels, image = torch.zeros(1, 4, 4, dtype=torch.long), torch.ones(1, 1, 4, 4)
    explanation = Lime(
        fill=Constant(0.0), num_samples=20, sampler=Bernoulli(), kernel=WithoutUnmasked(Uniform())
    ).explain(lambda x: x.mean((2, 3)), image, segments=labels, keep_samples=True)
    assert explanation.check().coefficients.item() == pytest.approx(1, rel=0.3)  # Ridge shrinks
    again = explanation.refit(kernel=WithoutUnmasked(), surrogate=LeastSquares())
    assert again.check().coefficients.item() == pytest.approx(1)


KERNELS = [
    Exponential(), Exponential(1.0, "pixel_euclidean"), InverseDistance(), Uniform(),
    WithoutUnmasked(InverseDistance()),
]  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_blocks_batches_and_compilation_change_nothing(masks, energy, kernel, monkeypatch):
    whole = kernel(masks, COUNTS, energy)
    alone = [kernel(masks[b : b + 1], COUNTS[b : b + 1], energy[b : b + 1]) for b in range(3)]
    assert whole.allclose(torch.cat(alone), rtol=1e-9, atol=0)
    compiled = torch.compile(kernel, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(masks, COUNTS, energy), whole)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 100)
    assert kernel(masks, COUNTS, energy).allclose(whole, rtol=1e-12, atol=0)


def test_needs_energy():
    assert [Exponential(distance=d).needs_energy for d in DISTANCES] == [False, False, True]
    assert InverseDistance().needs_energy
    assert not Uniform().needs_energy
    assert WithoutUnmasked(InverseDistance()).needs_energy
    assert not WithoutUnmasked(lambda masks, count, energy: masks.sum(2)).needs_energy


def test_bad_arguments(masks):
    with pytest.raises(TypeError, match="kernel must be callable, got 0.25"):
        WithoutUnmasked(0.25)
    with pytest.raises(ValueError, match="width must be a finite number above 0, got -1"):
        Exponential(width=-1)
    for kind in (Exponential, InverseDistance):
        with pytest.raises(ValueError, match=r"distance must be one of .* got 'cosinus'"):
            kind(distance="cosinus")
    with pytest.raises(ValueError, match=r"needs energy \[B,S\]"):
        InverseDistance()(masks, COUNTS)


def test_of_noise_the_distance_is_its_length(monkeypatch):
    noise = torch.randn(2, 30, 7, generator=torch.Generator().manual_seed(0))
    noise[:, 3] = 0
    count = torch.tensor([7, 7])
    d = noise.double().norm(dim=2)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 50)
    weights = Exponential(2.0, "euclidean").of_noise(noise, count)
    assert weights.allclose((-d.square() / 8).exp(), rtol=1e-12)
    assert (weights[:, 3] == 1).all()
    nearest = torch.where(d > 0, d, torch.inf).amin(1, keepdim=True)
    inverse = InverseDistance("euclidean").of_noise(noise, count)
    assert inverse.allclose(1 / d.maximum(nearest), rtol=1e-12)
    assert (Uniform().of_noise(noise, count) == 1).all()
    for distance in ("cosine", "pixel_euclidean"):
        with pytest.raises(
            ValueError, match=f"'{distance}' is one of masks, which are bool; noise takes 'eucl"
        ):
            Exponential(1.0, distance).of_noise(noise, count)
