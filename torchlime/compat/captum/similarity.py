"""Captum's similarity of a perturbed input: exp(−d²/2σ²) of a distance in input space."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchlime._labelmap import Segments, segment_sums
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime.compat.captum.arguments import Inputs
from torchlime.compat.captum.captums import is_captums
from torchlime.compat.captum.feature_masks import Columns

Product = Callable[[Tensor, Tensor], Tensor]
Pairs = list[tuple[Tensor, Tensor]]  # input and baseline [B,…]

EPS = 1e-8  # of torch.nn.CosineSimilarity


@dataclass(frozen=True)
class ExponentialSimilarity:
    """exp(−d²/2σ²), with d between the flattened float32 values of input and perturbed input.

    Args:
        distance_mode: "cosine" (d = 1 − cos) or "euclidean".
        kernel_width: σ.

    Example:
        >>> similarity = ExponentialSimilarity("euclidean", 1.0)
        >>> round(similarity(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]), None), 4)
        0.6065
    """

    distance_mode: str = "cosine"
    kernel_width: float = 1.0

    def __call__(self, original_inp: Any, perturbed_inp: Any, _: Any, **kwargs: Any) -> float:
        """The weight of one perturbed input, by Captum's protocol.

        Raises:
            ValueError: ``distance_mode`` is unknown.
        """
        self._check()
        x, p = (_flat(values).float() for values in (original_inp, perturbed_inp))
        if self.distance_mode == "cosine":
            distance = 1 - torch.nn.functional.cosine_similarity(x, p, dim=0, eps=EPS)
        else:
            distance = torch.linalg.vector_norm(x - p)
        return math.exp(-(float(distance) ** 2) / (2 * self.kernel_width**2))

    def of_design(
        self, inputs: Inputs, columns: Columns, design: Tensor, whole: bool = False
    ) -> Tensor:
        """The weights [B,N] of masks [B,N,F], without making a perturbed input.

        Distances follow from three sums over each feature: with x the input and b the baseline,
        <x,x>, <x,b> and <b,b>. Weights are NaN where input or baseline is not finite, as in Captum.

        Args:
            inputs, columns: what is perturbed.
            design: [B,N,F] bool.
            whole: the distance is that of the whole batch, and the design is [1,N,F].
        """
        self._check()
        pairs = _pairs(inputs)

        def sums(product: Product) -> Tensor:
            found = _sums(product, pairs, inputs, columns)
            return found.sum(dim=0, keepdim=True) if whole else found

        if self.distance_mode == "euclidean":
            square = _over_kept(~design, sums(lambda x, b: (x - b).square()))
        else:
            xx = sums(lambda x, b: x * x)
            xb = bb = torch.zeros_like(xx)
            if any(isinstance(base, Tensor) or base != 0 for base in inputs.baselines):
                xb, bb = sums(lambda x, b: x * b), sums(lambda x, b: b * b)
            dot = xb.sum(1, keepdim=True) + _over_kept(design, xx - xb)
            length = (bb.sum(1, keepdim=True) + _over_kept(design, xx - bb)).clamp(min=0).sqrt()
            own = xx.sum(1, keepdim=True).sqrt()
            square = (1 - dot / (own.clamp(min=EPS) * length.clamp(min=EPS))).square()
        weights = torch.exp(-square / (2 * self.kernel_width**2))
        finite = _finite(pairs, inputs)
        finite = finite.all(dim=0, keepdim=True) if whole else finite
        return torch.where(finite[:, None], weights, torch.nan)

    def _check(self) -> None:
        if self.distance_mode not in ("cosine", "euclidean"):
            raise ValueError(
                f"distance_mode must be either cosine or euclidean, got {self.distance_mode!r}"
            )


def get_exp_kernel_similarity_function(
    distance_mode: str = "cosine", kernel_width: float = 1.0
) -> ExponentialSimilarity:
    """Captum's name for :class:`ExponentialSimilarity`."""
    return ExponentialSimilarity(distance_mode, kernel_width)


def known_similarity(function: Any) -> ExponentialSimilarity | None:
    """Ours, or that of Captum's ``get_exp_kernel_similarity_function``; None for any other."""
    if type(function) is ExponentialSimilarity:
        return function
    name = "get_exp_kernel_similarity_function.<locals>.default_exp_kernel"
    if not is_captums(function, "captum.attr._core.lime", name):
        return None
    names = function.__code__.co_freevars
    held = {n: c.cell_contents for n, c in zip(names, function.__closure__, strict=True)}
    if held.keys() != {"distance_mode", "kernel_width"}:
        return None
    return ExponentialSimilarity(**held)


def _flat(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.flatten()
    return torch.cat([one.flatten() for one in values])


def _sums(product: Product, pairs: Pairs, inputs: Inputs, columns: Columns) -> Tensor:
    """Sums [B,F] of a product of input and baseline over each feature, in all tensors."""
    batch, device = inputs.batch, inputs.device
    count = torch.full((batch,), columns.number, device=device)
    total = torch.zeros(batch, columns.number, dtype=solve_dtype(device), device=device)
    for (x, b), ids in zip(pairs, columns.ids, strict=True):
        if x.numel():
            labels = ids.expand(batch, *x.shape[1:]).reshape(batch, -1)
            segments = Segments(labels, count, count > 0, columns.number)
            values = product(x, b).nan_to_num(0, 0, 0).reshape(batch, 1, -1)
            total = total + segment_sums(values, segments)[:, 0].to(device)
    return total


def _pairs(inputs: Inputs) -> Pairs:
    """Inputs and baselines as the float32 values that Captum compares, in the solve's dtype."""
    pairs = []
    for tensor, base in zip(inputs.tensors, inputs.baselines, strict=True):
        dtype = torch.result_type(tensor, base)
        if isinstance(base, Tensor):
            base = base.to(tensor.device, dtype).expand_as(tensor)
        else:
            base = torch.full((), base, dtype=dtype, device=tensor.device).expand_as(tensor)
        wide = solve_dtype(tensor.device)
        pairs.append((tensor.float().to(wide), base.float().to(wide)))
    return pairs


def _finite(pairs: Pairs, inputs: Inputs) -> Tensor:
    """Whether all values of each example are finite: [B]."""
    found = [
        (x.isfinite() & b.isfinite()).reshape(len(x), -1).all(dim=1).to(inputs.device)
        for x, b in pairs
    ]
    return torch.stack(found).all(dim=0)


def _over_kept(design: Tensor, values: Tensor) -> Tensor:
    """Σ over the kept features of values [B,F], for masks [B,N,F]: [B,N]."""
    batch, samples, width = design.shape
    blocks = row_blocks(samples, batch * width, design.device)
    found = [
        torch.bmm(design[:, rows].to(values.dtype), values[..., None])[..., 0] for rows in blocks
    ]
    return torch.cat(found, dim=1)
