"""Captum's similarity of a perturbed input: exp(−d²/2σ²) of a distance in input space."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from torchlime._labelmap import Segments, segment_sums
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime.compat.captum.arguments import Baseline, Inputs
from torchlime.compat.captum.captums import is_captums
from torchlime.compat.captum.feature_masks import Columns

Product = Callable[[Tensor, Tensor], Tensor]

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
        based = any(isinstance(base, Tensor) or base != 0 for base in inputs.baselines)
        if self.distance_mode == "euclidean":
            products: list[Product] = [lambda x, b: (x - b).square()]
        else:
            products = [lambda x, b: x * x]
            products += [lambda x, b: x * b, lambda x, b: b * b] if based else []
        sums, finite = _sums(products, inputs, columns)
        if whole:
            sums = [one.sum(dim=0, keepdim=True) for one in sums]
            finite = finite.all(dim=0, keepdim=True)
        if self.distance_mode == "euclidean":
            square = _over_kept(~design, sums[0])
        else:
            xx, xb, bb = sums if based else (sums[0], *(torch.zeros_like(sums[0]),) * 2)
            dot = xb.sum(1, keepdim=True) + _over_kept(design, xx - xb)
            length = (bb.sum(1, keepdim=True) + _over_kept(design, xx - bb)).clamp(min=0).sqrt()
            own = xx.sum(1, keepdim=True).sqrt()
            square = (1 - dot / (own.clamp(min=EPS) * length.clamp(min=EPS))).square()
        weights = torch.exp(-square / (2 * self.kernel_width**2))
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


def _sums(products: list[Product], inputs: Inputs, columns: Columns) -> tuple[list[Tensor], Tensor]:
    """Sums [B,F] of products of input and baseline over each feature; whether all is finite [B].

    Some examples run at a time, so that the memory beside the inputs does not grow with B.
    """
    batch, device = inputs.batch, inputs.device
    entries = sum(tensor[0].numel() for tensor in inputs.tensors)
    sums: list[list[Tensor]] = [[] for _ in products]
    finite = []
    for rows in row_blocks(batch, entries, device):
        totals, whole = _block_sums(products, inputs, columns, rows)
        finite.append(whole)
        for found, total in zip(sums, totals, strict=True):
            found.append(total)
    return [torch.cat(found) for found in sums], torch.cat(finite)


def _block_sums(
    products: list[Product], inputs: Inputs, columns: Columns, rows: slice
) -> tuple[list[Tensor], Tensor]:
    """The same for a block of examples."""
    batch, device = rows.stop - rows.start, inputs.device
    count = torch.full((batch,), columns.number, device=device)
    none = torch.zeros(batch, columns.number, dtype=solve_dtype(device), device=device)
    totals, finite = [none] * len(products), count > -1
    for tensor, base, ids in zip(inputs.tensors, inputs.baselines, columns.ids, strict=True):
        if not tensor.numel():
            continue
        x, b = _pair(tensor[rows], base[rows] if _of_examples(base) else base)
        finite = finite & (x.isfinite() & b.isfinite()).reshape(batch, -1).all(dim=1).to(device)
        own = ids[rows] if len(ids) > 1 else ids
        labels = own.expand(batch, *x.shape[1:]).reshape(batch, -1)
        segments = Segments(labels, count, count > 0, columns.number)
        for i, product in enumerate(products):
            values = product(x, b).nan_to_num(0, 0, 0).reshape(batch, 1, -1)
            totals[i] = totals[i] + segment_sums(values, segments)[:, 0].to(device)
    return totals, finite


def _of_examples(base: Baseline) -> TypeGuard[Tensor]:
    """Whether a baseline has a row for each example."""
    return isinstance(base, Tensor) and base.dim() > 0 and len(base) > 1


def _pair(tensor: Tensor, base: Baseline) -> tuple[Tensor, Tensor]:
    """Input and baseline as the float32 values that Captum compares, in the solve's dtype."""
    dtype = torch.result_type(tensor, base)
    if isinstance(base, Tensor):
        base = base.to(tensor.device, dtype)
    else:
        base = torch.full((), base, dtype=dtype, device=tensor.device)
    base = base[(None,) * (tensor.dim() - base.dim())]
    wide = solve_dtype(tensor.device)
    return tensor.float().to(wide), base.float().to(wide).expand_as(tensor)


def _over_kept(design: Tensor, values: Tensor) -> Tensor:
    """Σ over the kept features of values [B,F], for masks [B,N,F]: [B,N]."""
    batch, samples, width = design.shape
    blocks = row_blocks(samples, batch * width, design.device)
    found = [
        torch.bmm(design[:, rows].to(values.dtype), values[..., None])[..., 0] for rows in blocks
    ]
    return torch.cat(found, dim=1)
