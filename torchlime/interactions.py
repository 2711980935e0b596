"""Terms of second order: the effect that two features have together and neither has alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchlime._by_need import Data, fit_taken, picked
from torchlime._checks import check_callables, check_count, check_same_device
from torchlime._hash import numbers
from torchlime._kinds import Masks
from torchlime._several import leaves_of
from torchlime._softmap import is_soft
from torchlime._some_columns import fit_to_columns
from torchlime._undisturbed import undisturbed
from torchlime.fit import Fit
from torchlime.masks import present
from torchlime.surrogates import Ridge

NOWHERE = -1


@dataclass(frozen=True, eq=False)
class Interactions:
    """A surrogate with terms for pairs of features: b₀ + Σ bⱼ zⱼ + Σ gᵢⱼ zᵢ zⱼ.

    Convention:
        A positive g says that the two features together raise the score by more than the sum of
        both alone. With terms for pairs, bⱼ is the slope of a feature while all its partners are
        hidden; bⱼ + Σ gᵢⱼ is its slope while they are kept.

    Attributes:
        pairs: [B,P,2] int64, the two features of each term: the ids of the caller's label map, else
            columns; −1 beyond an input's own number of pairs.
        coefficients: [B,T,P], g; 0 beyond.
        standard_errors: [B,T,P], as the surrogate gives them; 0 beyond, NaN where undefined.
        linear: [B,T,S], b.
        intercepts: [B,T], b₀.
        fidelity: [B,T], weighted R² of the surrogate over the samples; NaN if it has none.
        ok: [B] bool, False where the solve failed, numbers are not finite, or the number of samples
            with a weight above 0 is not larger than the number of terms.
    """

    pairs: Tensor
    coefficients: Tensor
    standard_errors: Tensor
    linear: Tensor
    intercepts: Tensor
    fidelity: Tensor
    ok: Tensor

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """The strongest pairs: (pairs [B,T,k,2], coefficients [B,T,k]).

        They are in order of decreasing absolute coefficient, padded with −1 and 0.
        """
        check_count(k, "k")
        there = (self.pairs[:, None, :, 0] != NOWHERE).expand_as(self.coefficients)
        strength = torch.where(there, self.coefficients.abs(), -1.0)
        order = strength.sort(dim=2, descending=True, stable=True).indices[..., :k]
        values = self.coefficients.gather(2, order)
        every = self.pairs[:, None].expand(-1, order.shape[1], -1, -1)
        pairs = every.gather(2, order[..., None].expand(-1, -1, -1, 2))
        more = k - order.shape[2]
        pad = torch.nn.functional.pad
        return pad(pairs, (0, 0, 0, more), value=NOWHERE), pad(values, (0, more))


def interactions_of(
    explanation: Any, pairs: Any = None, surrogate: Callable[..., Fit] | None = None
) -> Interactions:
    """As ``Explanation.interactions``."""
    masks, scores, weights = explanation.masks, explanation.sample_scores, explanation.weights
    if masks is None or scores is None or weights is None:
        raise ValueError("interactions need the samples: explain(..., keep_samples=True)")
    if not isinstance(explanation.kind, Masks):
        raise ValueError("interactions are of features that are kept or hidden, not of numbers")
    surrogate = Ridge() if surrogate is None else surrogate
    check_callables(surrogate=surrogate)
    if not getattr(surrogate, "together", True):
        raise ValueError(
            f"interactions need a surrogate that fits all terms together; {surrogate!r} treats "
            "each feature by itself, and would give a pair the effects of both features; take "
            "Ridge() or LeastSquares()"
        )
    width, count = masks.shape[2], explanation.segment_count
    ids = explanation.ids
    if ids is None:
        columns = numbers(width, count)
        ids = torch.where(columns < count[:, None], columns, NOWHERE)
    found = _default_pairs(explanation) if pairs is None else _columns_of(pairs, ids)
    there = found[..., 0] != NOWHERE
    with undisturbed(masks.device):
        own = found.clamp(min=0)[:, None].expand(-1, masks.shape[1], -1, -1)
        both = masks.gather(2, own[..., 0]) & masks.gather(2, own[..., 1])
        terms = torch.cat([present(count, width)[:, 0], there], dim=1)
        sampled = torch.cat([masks, both], dim=2), scores, weights

        def some(index: Tensor | None, rows: int) -> Data:
            counted = (*(values[:, :rows] for values in sampled), terms)
            design, scored, weighed, own_terms = (picked(values, index) for values in counted)
            return design, scored, weighed, own_terms

        def fit_of(design: Tensor, scored: Tensor, weighed: Tensor, own_terms: Tensor) -> Fit:
            return fit_to_columns(surrogate, own_terms, design, scored, weighed)

        fit = fit_taken(explanation, some, fit_of)[0]
        enough = (weights > 0).sum(dim=1) > terms.sum(dim=1)
        ok = fit.ok & enough & fit.coefficients.isfinite().flatten(1).all(dim=1)
    named = ids[:, :, None].expand(-1, -1, 2).gather(1, found.clamp(min=0))
    return Interactions(
        named.masked_fill(~there[..., None], NOWHERE), fit.coefficients[..., width:],
        fit.standard_errors[..., width:], fit.coefficients[..., :width], fit.intercepts,
        fit.fidelity, ok,
    )  # fmt: skip


def _columns_of(pairs: Any, ids: Tensor) -> Tensor:
    """The columns [B,P,2] of pairs of ids. One flag is read on the host."""
    expected = "pairs must be an int tensor [P,2] or [B,P,2]"
    pairs = torch.as_tensor(pairs, device=None if isinstance(pairs, Tensor) else ids.device)
    batch = len(ids)
    if pairs.dim() not in (2, 3) or pairs.shape[-1] != 2 or 0 in pairs.shape:
        raise ValueError(f"{expected} with P > 0, got {list(pairs.shape)}")
    if pairs.is_floating_point() or pairs.dtype == torch.bool:
        raise TypeError(f"{expected} of ids, got {pairs.dtype}")
    if pairs.dim() == 3 and len(pairs) not in (1, batch):
        raise ValueError(f"{expected} with B = {batch}, got {list(pairs.shape)}")
    check_same_device(pairs, ids, "pairs")
    pairs = pairs.long().expand(batch, *pairs.shape[-2:])
    padding = (pairs == NOWHERE).all(dim=2, keepdim=True)
    same = (pairs[..., None] == ids[:, None, None]) & (ids != NOWHERE)[:, None, None]
    columns = same.to(torch.uint8).argmax(dim=3).masked_fill(padding, NOWHERE)
    code = columns.amin(dim=2) * ids.shape[1] + columns.amax(dim=2)
    ordered = code.sort(dim=1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    wrong = ~same.any(dim=3) & ~padding
    itself = (columns[..., :1] == columns[..., 1:]) & ~padding
    flags = torch.stack([flag.any() for flag in (wrong, itself, twice)])
    for flag, what in zip(
        flags.tolist(),  # read back: the caller's own pairs
        ("names a feature that is not there", "is of one feature and itself", "is there twice"),
        strict=True,
    ):
        if flag:
            raise ValueError(f"pairs must be of two features of the input, and one of them {what}")
    return columns


def _default_pairs(explanation: Any) -> Tensor:
    """Neighbours on the label map, or all pairs: [B,P,2]. Their number is read on the host."""
    masks, maps = explanation.masks, explanation.segments
    samples, width = masks.shape[1:]
    if maps is None or is_soft(maps):
        number = width * (width - 1) // 2
        if 1 + width + number > samples:
            raise ValueError(
                f"there are {number} pairs of {width} {explanation.kind.part}s, too many for "
                f"{samples} samples; name some: interactions(pairs=...)"
            )
        together = present(explanation.segment_count, width)
        return _listed((together & together.mT).triu(1))
    parts = [neighbours(labels, width) for labels in leaves_of(maps) if labels is not None]
    return _listed(torch.stack(parts).any(dim=0))


def neighbours(labels: Tensor, bound: int) -> Tensor:
    """Which segments touch along an axis of a label map [B,*axes]: [B,S,S] bool, i < j.

    >>> neighbours(torch.tensor([[[0, 0, 1], [2, 2, -1]]]), 3).nonzero().tolist()
    [[0, 0, 1], [0, 0, 2]]
    """
    touching = labels.new_zeros(len(labels), bound * bound + 1, dtype=torch.bool)
    for axis in range(1, labels.dim()):
        size = labels.shape[axis]
        one, other = labels.narrow(axis, 0, size - 1), labels.narrow(axis, 1, size - 1)
        low, high = torch.minimum(one, other), torch.maximum(one, other)
        code = torch.where((low >= 0) & (low < high), low * bound + high, bound * bound)
        touching.scatter_(1, code.flatten(1), True)
    return touching[:, :-1].unflatten(1, (bound, bound))


def _listed(together: Tensor) -> Tensor:
    """The pairs [B,P,2] of columns where ``together`` [B,S,S] is True, padded with −1.

    P is read on the host.
    """
    flat = together.flatten(1)
    number = flat.sum(dim=1)
    most = int(number.amax())  # read back: the number of terms
    order = (~flat).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    width = together.shape[2]
    pairs = torch.stack([order // width, order % width], dim=2)
    return pairs.masked_fill(numbers(most, number)[:, None] >= number[:, None, None], NOWHERE)
