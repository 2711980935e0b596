"""count → noise [B,N,F]: how far each sample moves each feature.

Convention:
    Noise is the counterpart of masks for features that are numbers. It is in units of the scale: a
    perturbed vector is x + scale · noise, and noise of 0 is x itself. It depends on (seed, sample,
    feature) alone, not on the batch, the device or any global generator. (The last bit may depend
    on the device, where logarithm or cosine round differently.) ``seed`` is an int, for one draw
    that all vectors share, or an int64 tensor [B] on the device of ``count``. A call gives the
    rows ``first`` … first + N − 1 of one endless draw.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._checks import check_rows
from torchlime._drawn_once import drawn_once
from torchlime._hash import hashed, numbers, shift_right, stems_of
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime._warn import warn

_TEMPORARIES = 8  # float64 or int64 values for each value of noise


@dataclass(frozen=True)
class Gaussian:
    """Independent standard normal noise.

    With ``antithetic``, samples come in pairs ε, −ε, one after the other; a last sample without a
    partner is 0. The pairs cancel the even part of any function of the noise, such as its
    curvature, so this part does not reach the coefficients. The pairs span N/2 directions. If N <
    2F, these are fewer than the features, and a warning says so.

    Source: Box & Muller 1958, √(−2 ln u) cos(2πv); u and v are the halves of a 64-bit hash.

    Example:
        >>> noise = Gaussian()(torch.tensor([3]), 3, 1000, seed=0)
        >>> noise.shape, torch.equal(noise[:, 1::2], -noise[:, ::2]), noise.std().item()
        (torch.Size([1, 1000, 3]), True, 1.0...)
    """

    antithetic: bool = True

    def __call__(
        self,
        count: Tensor,
        bound: int,
        num_samples: int,
        *,
        seed: int | Tensor,
        first: int = 0,
    ) -> Tensor:
        """Draw noise [B,N,F] float32, an expanded view where ``seed`` is an int.

        Raises:
            ValueError: samples come in pairs and ``first`` is odd.
        """
        check_rows(num_samples, first)
        signs = (1, -1) if self.antithetic else (1,)
        if first % len(signs):
            raise ValueError(f"first must be even, since samples come in pairs, got {first}")
        drawn = num_samples // len(signs)
        if self.antithetic and drawn < bound and not first and not torch.compiler.is_compiling():
            warn(
                f"{num_samples} samples in pairs span {drawn} directions, fewer than the "
                f"{bound} features; raise num_samples to {2 * bound} or more, "
                "or use Gaussian(antithetic=False)",
            )
        noise = self._rows(count, bound, num_samples, seed, first)
        return noise.expand(len(count), -1, -1)

    @drawn_once
    def _rows(
        self, count: Tensor, bound: int, num_samples: int, seed: int | Tensor, first: int
    ) -> Tensor:
        """Noise [b,N,F]."""
        signs = (1, -1) if self.antithetic else (1,)
        drawn = num_samples // len(signs)
        stems = stems_of(seed, count)
        samples = numbers(drawn, count, first // len(signs))[:, None]
        features = numbers(bound, count)
        noise = stems.new_zeros(len(stems), num_samples, bound, dtype=torch.float32)
        pairs = noise[:, : drawn * len(signs)].unflatten(1, (drawn, len(signs)))
        for rows in row_blocks(drawn, len(stems) * bound * _TEMPORARIES, noise.device):
            values = _normal(hashed(stems, samples[rows], features))
            for place, sign in enumerate(signs):
                pairs[:, rows, place] = sign * values
        return noise


def _normal(bits: Tensor) -> Tensor:
    """Standard normal values of 64 uniform bits each."""
    dtype = solve_dtype(bits.device)
    radius = (shift_right(bits, 32).to(dtype) + 0.5) / 2**32  # never 0
    angle = (bits & (2**32 - 1)).to(dtype) / 2**32
    return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
