"""Vectors: features that are numbers, moved by noise."""

import torch
from torch import Tensor

from torchlime._checks import check_positive, check_same_device
from torchlime._inputs import Array
from torchlime._kinds import VECTORS
from torchlime._precision import solve_dtype
from torchlime._problems import Problem, failed, finite
from torchlime._row_groups import size_of
from torchlime.black_box import BlackBox
from torchlime.strategies import Block, Features, Rows

CHUNK_ENTRIES = 1 << 20


class Vectors(Features):
    """The F entries of each of the vectors [B,…]; a sample is x + scale · noise.

    Args:
        x: [B,…] float.
        scale: the standard deviation of the noise: a number, or a float tensor that broadcasts to
            ``x``.

    Raises:
        TypeError, ValueError: the scale has the wrong type, device, shape or range.
    """

    kind = VECTORS

    def __init__(self, x: Tensor, scale: float | Tensor | Array):
        batch, width = x.flatten(1).shape
        self.x = x
        self.vectors = x.flatten(1).to(solve_dtype(x.device))
        self.scale = _scales(scale, x, self.vectors)
        self.count = torch.full((1,), width, device=x.device).expand(batch)
        self.bound = width
        self.chunk_size = min(max(CHUNK_ENTRIES // width, 64), 4096)

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that makes the perturbed vectors of noise; the first round begins with x."""
        dtype = box.dtype or self.x.dtype
        return Noisy(self.x, self.scale, design, dtype, lead=int(first == 0))

    def problems(self, design: Tensor | None, box: BlackBox) -> Tensor:
        """Flags for vectors that are not finite, and scales that are not positive or too small."""
        least = self.vectors.abs().mul_(4 * torch.finfo(box.dtype or self.x.dtype).eps)
        least.nan_to_num_(0.0, 0.0)  # a vector that is not finite has no rounding
        good = (self.scale >= least) & (self.scale > 0) & (self.scale < torch.inf)
        found = {Problem.NON_FINITE_IMAGE: finite(self.vectors), Problem.BAD_SCALE: good.all(dim=1)}
        return failed(found)

    def fields(self) -> dict[str, Tensor]:
        """The vectors [B,F] and their scale [B,F]."""
        return {"vectors": self.vectors, "scale": self.scale}


def _scales(scale: float | Tensor | Array, x: Tensor, vectors: Tensor) -> Tensor:
    """The scale of every feature: [B,F], like ``vectors``."""
    if hasattr(scale, "__array__") and not isinstance(scale, Tensor | float):
        scale = torch.as_tensor(scale).to(x.device)
    if not isinstance(scale, Tensor):
        check_positive(scale, "scale")
        return torch.full_like(vectors, float(scale))
    check_same_device(scale, x, "scale", "x is")
    if not scale.is_floating_point():
        raise TypeError(f"scale must be a number or a float tensor, got {scale.dtype}")
    try:
        return scale.detach().to(vectors.dtype).expand_as(x).flatten(1)
    except RuntimeError:
        raise ValueError(
            f"scale must broadcast to x's {list(x.shape)}, got {list(scale.shape)}"
        ) from None


class Noisy:
    """The perturbed vectors of a batch, made a chunk at a time.

    Args:
        x: [B,…], F entries each.
        scale: [B,F].
        noise: [B,n,F].
        dtype: the dtype that the model takes. The sum is in the widest of it, float32 and that of
            ``x``.
        lead: 1 if sample 0 of each is x itself and sample i is x + scale · noise[i − 1]; 0 if
            sample i is x + scale · noise[i].
    """

    def __init__(self, x: Tensor, scale: Tensor, noise: Tensor, dtype: torch.dtype, lead: int = 1):
        wide = torch.promote_types(torch.promote_types(x.dtype, dtype), torch.float32)
        self.shape = x.shape[1:]
        self.x = x.flatten(1).to(wide)
        self.scale = scale.to(wide)
        self.noise = noise
        self.dtype = dtype
        self.lead = lead

    def __call__(self, blocks: list[Block], rows: int) -> Tensor:
        """The vectors of ``blocks``: [rows,…]; those beyond the blocks are padding."""
        chunk = self.x.new_empty(rows, self.x.shape[1])
        start = 0
        for vectors, samples in blocks:
            x, stop = self.x[vectors], start + size_of(vectors) * size_of(samples)
            if samples.start < self.lead:  # then the block holds sample 0 of each, and no other
                chunk[start:stop] = x
            else:
                noise = self.noise[vectors, samples.start - self.lead : samples.stop - self.lead]
                moved = chunk[start:stop].view(noise.shape)
                torch.mul(noise, self.scale[vectors, None], out=moved).add_(x[:, None])
            start = stop
        if start < rows:
            chunk[start:] = self.x[:1]
        return chunk.to(self.dtype).unflatten(1, self.shape)
