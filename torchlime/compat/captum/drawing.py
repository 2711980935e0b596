"""The designs of Lime and KernelShap: from counters, or from Captum's own random stream."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import is_integer
from torchlime._hash import seeds_of
from torchlime.masks import Bernoulli, SizeLaw

Draw = Callable[[int, int], Tensor]  # samples, F → masks [n,F] bool on the CPU


def shapley_sizes(count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor) -> Tensor:
    """Masks [B,N,S] of KernelSHAP's law; row 0 keeps all, row 1 hides all."""
    least = max(num_samples, 2)  # Captum takes a single one
    return SizeLaw(paired=False)(count, bound, least, seed=seed)[:, :num_samples]


def each_half(count: Tensor, bound: int, num_samples: int, *, seed: int | Tensor) -> Tensor:
    """Masks [B,N,S] that keep each feature with probability 1/2; no row is made to keep all."""
    return Bernoulli()(count, bound, num_samples, seed=seed, first=1)


def example_seeds(seed: Any, batch: int, device: torch.device) -> Tensor:
    """A seed for each example: int64 [B].

    Args:
        seed: None = drawn from torch's global generator, so that ``torch.manual_seed`` decides; an
            int, to which example b adds b; or an int64 tensor [B].
        batch: B.
        device: of the inputs.

    Raises:
        TypeError, ValueError: it is none of these.
    """
    if isinstance(seed, Tensor):
        return seeds_of(seed, torch.zeros(batch, dtype=torch.int64, device=device))
    if seed is None:
        seed = int(torch.randint(2**62, (), dtype=torch.int64))
    elif not is_integer(seed):
        raise TypeError(f"seed must be None, an int or an int64 tensor [B], got {seed!r}")
    first = (int(seed) + 2**63) % 2**64 - 2**63
    return torch.arange(batch, device=device) + first


def check_random(rng: Any, seed: Any) -> None:
    """Raise unless a constructor's ``rng`` and ``seed`` go together.

    Raises:
        ValueError: ``rng`` is unknown, or a seed is given with it.
    """
    if rng not in (None, "captum"):
        raise ValueError(f'rng must be None or "captum", got {rng!r}')
    if rng is not None and seed is not None:
        raise ValueError('rng="captum" draws from torch.manual_seed, so it takes no seed=')


def in_captums_stream(
    draw: Draw, batch: int, samples: int, number: int, device: torch.device, fits: bool
) -> Tensor:
    """Masks [B,N,F] from torch's global CPU generator, number by number as Captum 0.9 draws them.

    With ``fits``, what Captum's fit draws after each example is drawn as well, so that the next
    example finds the same stream: the seed of a DataLoader, and the first weights of a linear
    layer.
    """
    drawn = []
    for _ in range(batch):
        drawn.append(draw(samples, number))
        if fits:
            torch.empty((), dtype=torch.int64).random_()
            draw_first_weights(number)
    return torch.stack(drawn).to(device)


def draw_first_weights(number: int) -> None:
    """Draw what a new linear layer of F weights draws."""
    torch.nn.Linear(number, 1)


def captums_halves(samples: int, number: int) -> Tensor:
    """Masks [n,F] of Captum's default perturbation: one draw equals Captum's n draws of a row."""
    return torch.bernoulli(torch.full((samples, number), 0.5)).bool()


def captums_shapley(samples: int, number: int) -> Tensor:
    """Masks [n,F] of Captum's KernelShap; row by row, since normal draws depend on their size."""
    masks = torch.zeros(samples, number, dtype=torch.bool)
    masks[:1] = True
    if number == 1:
        masks[::2] = True
        return masks
    sizes = shapley_categorical(number)
    for row in range(2, samples):
        kept = sizes.sample()
        values = torch.randn(1, number)
        masks[row] = (values > values.kthvalue(number - int(kept)).values)[0]
    return masks


def shapley_categorical(number: int) -> torch.distributions.Categorical:
    """The distribution of k, in float32 as Captum has it."""
    k = torch.arange(number, dtype=torch.float)
    shares = torch.tensor(number - 1) / (k * (number - k))
    shares[0] = 0.0
    return torch.distributions.Categorical(shares)
