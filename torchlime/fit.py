"""What all surrogates share: the weighted normal equations, and the diagnostics of the fit."""

import math
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import partial, reduce
from typing import NamedTuple

import torch
from torch import Tensor

from torchlime._antithetic import in_pairs, unpaired
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks, rows_of
from torchlime._variance import variance_of_masks, variance_of_noise


class Fit(NamedTuple):
    """A surrogate's fit, in the solve's dtype.

    Convention:
        coefficients, standard_errors: [B,T,S], 0 beyond the count; errors NaN where undefined.
        intercepts: [B,T], the surrogate where every segment is hidden.
        fidelity: [B,T], weighted R² over the samples; 0 where the scores do not vary, NaN where the
            coefficients are no slopes of a line that predicts scores.
        ok: [B] bool, False where the solve failed or did not converge.
    """

    coefficients: Tensor
    intercepts: Tensor
    fidelity: Tensor
    standard_errors: Tensor
    ok: Tensor

    def scaled(self, variance_factor: float | Tensor) -> "Fit":
        """This fit with its variances multiplied by a factor, or by one for each input [B]."""
        if isinstance(variance_factor, Tensor):
            root = variance_factor.sqrt()[:, None, None]
            return self._replace(standard_errors=self.standard_errors * root)
        if variance_factor == 1:
            return self
        return self._replace(standard_errors=self.standard_errors * math.sqrt(variance_factor))


class NormalEquations:
    """The weighted normal equations of a batch of designs, centred by their weighted means.

    Scores are measured from each input's first row, so that constant scores are exactly 0. All
    sums run over blocks of rows. If all inputs share one design, weights and count, as expanded
    views, the inputs are treated as further targets of one input: below, B is 1, and T is B·T.

    A has the rows √w (z−z̄), and c is the column √w (y−ȳ). The slopes solve AᵀA β = Aᵀc. The dual
    form has N unknowns instead of S: β = Aᵀu, where AAᵀ u = c. It gives the same β, also with a
    penalty on the diagonal and for the minimum norm. Since the rows are centred, AAᵀ has the null
    vector q = √w/‖√w‖. c is orthogonal to q, so adding λqqᵀ changes no solution. It makes the rank
    full if the rows are independent.

    Args:
        design: [B,N,S], masks, or noise.
        scores: [B,N,T].
        weights: [B,N].
        count: [B], the columns that stand for a feature.
        noise: the design is noise: no column is padding, and rows may come in antithetic pairs.
        dual: use the dual form. It gives no standard errors, and no column may be padding.

    Attributes:
        total: [B], the sum of the weights.
        gram: [B,S,S], AᵀA; in the dual form [B,N,N], AAᵀ + λqqᵀ with λ of the size of AAᵀ.
        cross: [B,S,T], Aᵀc; in the dual form [B,N,T], c.
        variation: [B,T], the weighted sum of squares of the scores about their weighted mean.
        level: [B,T], this weighted mean, measured from the first row.
    """

    def __init__(
        self,
        design: Tensor,
        scores: Tensor,
        weights: Tensor,
        count: Tensor,
        *,
        noise: bool = False,
        dual: bool = False,
    ):
        self.inputs = len(scores)
        self._raw: tuple[slice, Tensor] | None = None  # the rows joined last
        self._last: tuple[slice, Tensor] | None = None  # the rows centred last
        if _is_shared(design, weights, count):
            design, weights, count = design[:1], weights[:1], count[:1]
            scores = scores.transpose(0, 1).flatten(1)[None]
        self.noise = noise
        self.dual = dual
        self.dtype = solve_dtype(design.device)
        self.design = design
        self.width = design.shape[2]
        self.scores = scores.to(self.dtype)
        self.weights = weights.to(self.dtype)
        self.root = self.weights[..., None].sqrt()
        self.count = count
        self.origin = self.scores[:, :1]
        if not noise:  # every column of noise stands for a feature
            self.absent = torch.arange(self.width, device=design.device) >= count[:, None, None]
        self.total = self.weights.sum(dim=1)
        self.share = (self.weights / self.total[:, None])[..., None]
        self.mean = self._mean()
        self.design_mean, self.score_mean = self._split(self.mean)
        self.level = self.score_mean[:, 0]
        self.gram, self.cross, self.variation = self._dual() if dual else self._primal()

    @classmethod
    def of_noise(
        cls, noise: Tensor, scores: Tensor, weights: Tensor, count: Tensor
    ) -> "NormalEquations":
        """The equations of noise [B,N,F], in the dual form if it has fewer unknowns."""
        dual = has_fewer_rows(noise)
        return cls(noise, scores, weights, count, noise=True, dual=dual)

    def _mean(self) -> Tensor:
        """The weighted means [B,1,S+T] of the design and of the scores."""
        return _sum(
            torch.bmm(rows_of(self.share, rows).mT, self._joined(rows)) for rows in self._blocks()
        )

    def _primal(self) -> tuple[Tensor, Tensor, Tensor]:
        few = self.scores.shape[2] <= self.width  # then one square product is fastest
        products, squares = [], []
        for rows in self._blocks():
            joined = self._centred(rows)
            joined = joined * rows_of(self.root, rows) if self.noise else joined
            left = joined
            if not few:
                left, y = self._split(joined)
                squares.append(y.square().sum(dim=1))
            products.append(torch.bmm(left.mT, joined))
        product = _sum(products)
        gram, cross = self._split(product[:, : self.width])
        if not (self.design.requires_grad or self.weights.requires_grad):
            gram = gram.detach()  # the product had the scores in it
        if few:
            return gram, cross, product.diagonal(dim1=1, dim2=2)[:, self.width :]
        return gram, cross, _sum(squares)

    def _dual(self) -> tuple[Tensor, Tensor, Tensor]:
        blocks = (self._root_columns(block) for block in self._column_blocks())
        gram = _sum(a @ a.mT for a in blocks)
        null = self.root / self.total[:, None, None].sqrt()
        size = gram.diagonal(dim1=1, dim2=2).amax(dim=1)[:, None, None]
        cross = self.root * (self.scores - self.origin - self.score_mean)
        return gram + size * null @ null.mT, cross, cross.square().sum(dim=1)

    def present(self, values: Tensor) -> Tensor:
        """Values [B,T,S] of the features, with 0 in the columns that stand for no feature."""
        return values.contiguous() if self.noise else values.masked_fill(self.absent, 0.0)

    @property
    def padding(self) -> Tensor:
        """Which rows of ``gram`` stand for no unknown: [B,S]; in the dual form [B,N], all False."""
        if self.noise or self.dual:
            return self.gram.new_zeros(self.gram.shape[:2], dtype=torch.bool)
        return self.absent[:, 0]

    @property
    def unvarying(self) -> Tensor:
        """Which columns [B,S] vary only by the rounding of their mean; only in the primal form."""
        least = (32 * torch.finfo(self.dtype).eps) ** 2 * self.total[:, None]
        if self.noise:  # masks have means of 1 at most
            least = least * self.design_mean[:, 0].square()
        return self.gram.diagonal(dim1=1, dim2=2) <= least

    def measured_from(self, scores: Tensor) -> "NormalEquations":
        """The equations without an intercept, of rows less one of zeros with ``scores`` [B,1,T].

        Only masks in the primal form have them. ``level`` and ``variation`` stay those of
        the mean, for the fidelity.
        """
        z, y = self.design_mean, self.score_mean - (scores - self.origin)
        if not (self.design.requires_grad or self.weights.requires_grad):
            z = z.detach()  # the mean had the scores in it
        total, moved = self.total[:, None, None], copy(self)
        moved.design_mean, moved.score_mean = torch.zeros_like(z), scores - self.origin
        moved.mean = torch.cat([moved.design_mean, moved.score_mean], dim=2)
        moved.share = torch.zeros_like(self.share)  # a row's part in an intercept
        moved.gram = torch.baddbmm(self.gram, total * z.mT, z)
        moved.cross = torch.baddbmm(self.cross, total * z.mT, y)
        moved._raw = moved._last = None  # they are centred anew
        return moved

    def fit(self, solution: Tensor, ok: Tensor, inverse: Tensor | None) -> Fit:
        """The :class:`Fit` of slopes [B,S,T] (of u [B,N,T] in the dual form).

        ``ok`` is [B,1] for all targets of an input, or [B,T] for each target.

        Standard errors are heteroscedastic, as :mod:`torchlime._variance` says; the two rows of a
        pair count as one. They are NaN if there are not more pairs than the count, or not more
        samples than the count plus one; where a column is the same in all samples; and without
        ``inverse`` [B,S,S], the slopes' block of M = (XᵀWX + diag(0, α))⁻¹ with X = [1, Z].
        """
        coefficients = solution
        if self.dual:
            columns = [self._root_columns(block).mT @ solution for block in self._column_blocks()]
            coefficients, inverse = torch.cat(columns, dim=1), None
        by_rows = inverse is not None or self.dual or self.noise
        variance = alone = None
        if by_rows:
            alone = None if inverse is None else self._alone()
            unexplained, variance = self._residual_sums(coefficients, inverse, alone)
        else:
            unexplained = self._unexplained(coefficients)

        slopes = self.present(coefficients.mT)
        # Constant scores that are not at the origin vary by the rounding of their mean.
        rounding = (32 * torch.finfo(self.dtype).eps) ** 2
        scale = self.total[:, None] * self.level
        constant = torch.addcmul(self.variation, scale, self.level, value=-rounding) <= 0
        variation = self.variation.masked_fill(constant, 1.0)  # so that its gradient is finite too
        fidelity = (1 - unexplained / variation).masked_fill(constant, 0.0)
        score_mean = (self.score_mean + self.origin).mT
        intercepts = torch.baddbmm(score_mean, slopes, self.design_mean.mT, alpha=-1)[..., 0]
        errors = self._errors(slopes, variance, alone)
        fit = Fit(slopes, intercepts, fidelity, errors, ok.expand_as(intercepts))
        if len(slopes) < self.inputs:  # one design: its targets are those of all inputs
            fit = Fit(*(value.reshape(self.inputs, -1, *value.shape[2:]) for value in fit))
        of_all = fit.ok.all(dim=1) if ok.shape[1] > 1 else fit.ok[:, 0]
        return Fit(*fit[:-1], of_all)  # torch 2.11 does not compile _replace()

    def _residual_sums(
        self, coefficients: Tensor, inverse: Tensor | None, alone: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The weighted sums of squares [B,T] of residuals, and the slopes' variances [B,T,S]."""
        unexplained, variance = [], []
        for rows in self._blocks():
            z, y = self._split(self._centred(rows))
            e = torch.baddbmm(y, z, coefficients, alpha=-1)
            share, of, squares = rows_of(self.share, rows), variance_of_masks, e.square()
            if self.noise:
                w = self.weights[:, rows, None]
                of, squares = partial(variance_of_noise, w), w * squares
            unexplained.append(squares.sum(dim=1))
            if inverse is not None and alone is not None:
                with torch.no_grad():
                    variance.append(of(e, z, share, inverse, alone))
        return _sum(unexplained), _sum(variance) if variance else None

    def _unexplained(self, coefficients: Tensor) -> Tensor:
        """The weighted squares [B,T] of residuals, by the sums: exact enough for masks."""
        explained = coefficients * (2 * self.cross - self.gram @ coefficients)
        return self.variation - explained.sum(dim=1)

    def _alone(self) -> Tensor:
        """Whether the rows do not come in pairs: [B,1,1] bool."""
        if self.noise:
            return ~in_pairs(self.design)[:, None, None]
        if self.design.dtype != torch.bool:
            return torch.ones_like(self.absent[..., :1])
        return unpaired(self.design, self.absent)

    def _errors(self, slopes: Tensor, variance: Tensor | None, alone: Tensor | None) -> Tensor:
        """Standard errors [B,T,S]."""
        if variance is None or alone is None:
            errors = torch.full_like(slopes, torch.nan)
        else:
            freedom, pairs = self.design.shape[1] - 1, self.design.shape[1] // 2
            count = torch.add(self.count[:, None, None], alone, alpha=pairs - freedom)
            undefined = count >= pairs
            if not self.dual:
                undefined = undefined | self.unvarying[:, None]
            errors = variance.clamp(min=0).sqrt().masked_fill(undefined, torch.nan)
        return self.present(errors)

    def _column_blocks(self) -> Iterator[slice]:
        batch, samples, width = self.design.shape
        return row_blocks(width, batch * samples, self.design.device, multiple=samples)

    def _root_columns(self, columns: slice) -> Tensor:
        """Columns of A: [B,N,s]."""
        z = self._numbers(self.design[:, :, columns])
        return self.root * (z - self.design_mean[:, :, columns])

    def _blocks(self) -> Iterator[slice]:
        batch, samples, width = self.design.shape
        elements = batch * max(width, self.scores.shape[2])
        # Pairs stay together, and no block is smaller than the Gram matrix that it adds.
        return row_blocks(samples, elements, self.design.device, multiple=width + width % 2)

    def _joined(self, rows: slice) -> Tensor:
        """Rows of the design, and of the scores from their origin: [B,n,S+T]."""
        if self._raw is None or self._raw[0] != rows:  # a single block is converted once
            z = self._numbers(rows_of(self.design, rows))
            y = rows_of(self.scores, rows) - self.origin
            self._raw = rows, torch.cat([z, y], dim=2)  # of the dtype of the scores
        return self._raw[1]

    def _numbers(self, design: Tensor) -> Tensor:
        """Part of the design as numbers; a CPU converts bytes faster than bools."""
        design = design.view(torch.uint8) if design.dtype == torch.bool else design
        return design.to(self.dtype) if design.device.type == "cpu" else design

    def _centred(self, rows: slice) -> Tensor:
        """Rows minus their means: [B,n,S+T]; those of masks are multiplied by √w."""
        if self._last is None or self._last[0] != rows:  # and centred once
            joined = self._joined(rows)
            self._raw = None
            own = not (self.weights.requires_grad or self.design.requires_grad)
            joined = joined.sub_(self.mean) if own else joined - self.mean
            if not self.noise:
                root = rows_of(self.root, rows)
                joined = joined.mul_(root) if own else joined * root
            self._last = rows, joined
        return self._last[1]

    def _split(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """What belongs to the design […,S], and what to the scores […,T]."""
        return joined[..., : self.width], joined[..., self.width :]


def _sum(parts: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, parts)


def few_at_a_time(fit: Callable[..., Fit], *data: Tensor) -> Fit:
    """A fit of design [B,N,S], scores, weights, count and more [B,…]: one batch on a GPU.

    A CPU fits a few inputs at a time, so that their designs stay in its cache.
    """
    design, _, weights, count, *_ = data
    together = design.device.type != "cpu" or torch.compiler.is_compiling()
    if together or _is_shared(design, weights, count):
        return fit(*data)
    elements = design.shape[1] * design.shape[2]
    groups = [*row_blocks(len(design), elements, design.device, torch.get_num_threads())]
    if len(groups) == 1:
        return fit(*data)
    parts = zip(*(fit(*(values[b] for values in data)) for b in groups), strict=True)
    return Fit(*(torch.cat(part) if isinstance(part[0], Tensor) else part[0] for part in parts))


def _is_shared(design: Tensor, weights: Tensor, count: Tensor) -> bool:
    """Whether all inputs share one design, weights and count, as expanded views."""
    return all(given.stride(0) == 0 for given in (design, weights, count))


def has_fewer_rows(design: Tensor) -> bool:
    """Whether the dual form has fewer unknowns."""
    return design.shape[1] <= design.shape[2]
