"""feature_count → noise [B,N,F], and the vectors that it makes of x: those the model scores.

Convention:
    Noise is in units of the scale, a mask's counterpart for features that are numbers: a perturbed
    vector is x + scale · noise, and noise of 0 is x itself. It depends on (seed, sample, feature)
    alone: not on the batch, the device (but for a last bit, where logarithm or cosine round
    otherwise) or any global generator. ``seed`` is an int, for one draw that all vectors share, or
    an int64 tensor [B] on the device of ``feature_count``.
"""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_count
from torchlime._hash import hash64, numbers, seeds_of, shift_right
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks

_TEMPORARIES = 8  # float64 or int64 values on the way to one of noise


@dataclass(frozen=True)
class Gaussian:
    """Independent standard normal noise.

    With ``antithetic`` in pairs ε, −ε, one after the other; a last sample without a partner is 0,
    its own. The pairs cancel the even part of any function of the noise (its curvature among
    them), so that it does not reach the coefficients. They span N/2 directions: below
    N = 2F that is fewer than there are features, and a warning says so.

    Source: Box & Muller 1958, √(−2 ln u) cos(2πv), of the halves u and v of a 64-bit hash.

    Example:
        >>> noise = Gaussian()(torch.tensor([3]), 3, 1000, seed=0)
        >>> noise.shape, torch.equal(noise[:, 1::2], -noise[:, ::2]), noise.std().item()
        (torch.Size([1, 1000, 3]), True, 1.0...)
    """

    antithetic: bool = True

    def __call__(
        self, feature_count: Tensor, num_features: int, num_samples: int, *, seed: int | Tensor
    ) -> Tensor:
        """Draw noise [B,N,F] float32, an expanded view where ``seed`` is an int."""
        check_count(num_samples, "num_samples", 2)
        signs = (1, -1) if self.antithetic else (1,)
        drawn = num_samples // len(signs)
        if self.antithetic and drawn < num_features and not torch.compiler.is_compiling():
            warnings.warn(
                f"{num_samples} samples in pairs span {drawn} directions, fewer than the "
                f"{num_features} features; raise num_samples to {2 * num_features} or more, "
                "or use Gaussian(antithetic=False)",
                stacklevel=3,  # the line that calls explain_vector
            )
        seeds = seeds_of(seed, feature_count)[:, None, None]
        samples = numbers(drawn, feature_count)[:, None]
        features = numbers(num_features, feature_count)
        noise = seeds.new_zeros(len(seeds), num_samples, num_features, dtype=torch.float32)
        pairs = noise[:, : drawn * len(signs)].unflatten(1, (drawn, len(signs)))
        for rows in row_blocks(drawn, len(seeds) * num_features * _TEMPORARIES, noise.device):
            values = _normal(hash64(seeds, samples[rows], features))
            for place, sign in enumerate(signs):
                pairs[:, rows, place] = sign * values
        return noise.expand(len(feature_count), -1, -1)


def _normal(bits: Tensor) -> Tensor:
    """Standard normal values of 64 uniform bits each."""
    dtype = solve_dtype(bits.device)
    radius = (shift_right(bits, 32).to(dtype) + 0.5) / 2**32  # never 0
    angle = (bits & (2**32 - 1)).to(dtype) / 2**32
    return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()


class Noisy:
    """The perturbed vectors of a batch, made a chunk at a time.

    Sample 0 of each is x itself, sample i is x + scale · noise[i − 1].

    Args:
        x: [B,…], F entries each.
        scale: [B,F].
        noise: [B,N,F].
        dtype: what the model takes; the sum is in the widest of float32, it and that of ``x``.
    """

    def __init__(self, x: Tensor, scale: Tensor, noise: Tensor, dtype: torch.dtype):
        wide = torch.promote_types(torch.promote_types(x.dtype, dtype), torch.float32)
        self.shape = x.shape[1:]
        self.x = x.flatten(1).to(wide)
        self.scale = scale.to(wide)
        self.noise = noise
        self.dtype = dtype

    def __call__(self, blocks: list[tuple[slice, slice]], rows: int) -> Tensor:
        """The vectors of ``blocks``, see :func:`torchlime.predictions.predict`: [rows,…].

        ``rows`` may exceed what the blocks hold: the rest is padding, valid vectors of no meaning.
        """
        chunk = self.x[:1].repeat(rows, 1)
        start = 0
        for vectors, samples in blocks:
            x = self.x[vectors]
            if samples.start > 0:  # else the block holds sample 0 of each, and no other
                noise = self.noise[vectors, samples.start - 1 : samples.stop - 1].to(x.dtype)
                x = (x[:, None] + self.scale[vectors, None] * noise).flatten(0, 1)
            chunk[start : start + len(x)] = x
            start += len(x)
        return chunk.to(self.dtype).unflatten(1, self.shape)
