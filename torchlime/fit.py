"""What all surrogates share: the weighted normal equations, and the diagnostics of the fit."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from torchlime._antithetic import in_pairs, partners
from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks


class Fit(NamedTuple):
    """A surrogate's fit, in the solve's dtype.

    Convention:
        coefficients, standard_errors: [B,T,S], 0 beyond the count; errors NaN where undefined.
        intercepts: [B,T], the surrogate where every segment is hidden.
        fidelity: [B,T], weighted R² over the samples; 0 where the scores do not vary.
        ok: [B] bool, False where the solve failed or did not converge.
    """

    coefficients: Tensor
    intercepts: Tensor
    fidelity: Tensor
    standard_errors: Tensor
    ok: Tensor


class NormalEquations:
    """The weighted normal equations of a batch of designs, centred by their weighted means.

    Scores are measured from each input's first row, so that constant scores are exactly 0. All
    sums run over blocks of rows. If all inputs share one design, weights and count, as expanded
    views, the inputs are treated as further targets of one input: below, B is 1, and T is B·T.

    A has the rows √w (z−z̄), and c is the column √w (y−ȳ). The slopes solve AᵀA β = Aᵀc. The dual
    form has N unknowns instead of S: β = Aᵀu, where AAᵀ u = c. It gives the same β, also with a
    penalty on the diagonal and for the minimum norm. Since the rows are centred, AAᵀ has the null
    vector q = √w/‖√w‖. c has no part in q, so adding λqqᵀ changes no answer. It makes the rank full
    where the rows are independent.

    Args:
        design: [B,N,S], masks, or noise.
        scores: [B,N,T].
        weights: [B,N].
        count: [B], the columns that stand for a feature.
        noise: the design is noise: no column is padding, and its rows may come in antithetic pairs.
        dual: use the dual form. It gives no standard errors, and no column may be padding.

    Attributes:
        total: [B], the sum of the weights.
        gram: [B,S,S], AᵀA; in the dual form [B,N,N], AAᵀ + λqqᵀ with λ of the size of AAᵀ.
        cross: [B,S,T], Aᵀc; in the dual form [B,N,T], c.
        padding: bool, the rows of ``gram`` that stand for no unknown.
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
        self._raw: tuple[slice, Tensor, Tensor] | None = None  # the rows converted last
        self._last: tuple[slice, Tensor, Tensor] | None = None  # the rows centred last
        if _is_shared(design, weights, count):
            design, weights, count = design[:1], weights[:1], count[:1]
            scores = scores.transpose(0, 1).flatten(1)[None]
        self.noise = noise
        self.dual = dual
        self.dtype = solve_dtype(design.device)
        self.design = design
        self.scores = scores.to(self.dtype)
        self.weights = weights.to(self.dtype)
        self.root = self.weights[..., None].sqrt()
        self.count = count
        self.origin = self.scores[:, :1]
        self.present = torch.arange(design.shape[2], device=design.device) < count[:, None]
        self.total = self.weights.sum(dim=1)
        self.design_mean, self.score_mean = self._means()
        self.padding = torch.zeros_like(self.weights, dtype=torch.bool) if dual else ~self.present
        self.gram, self.cross = self._dual() if dual else self._primal()

    @classmethod
    def of_noise(
        cls, noise: Tensor, scores: Tensor, weights: Tensor, count: Tensor
    ) -> "NormalEquations":
        """The equations of noise [B,N,F], in the dual form where it has fewer unknowns."""
        dual = has_fewer_rows(noise)
        return cls(noise, scores, weights, count, noise=True, dual=dual)

    def _means(self) -> tuple[Tensor, Tensor]:
        """The weighted means of the design [B,1,S] and of the scores [B,1,T]."""
        share = (self.weights / self.total[:, None])[:, None]
        of_design = of_scores = self._zero()
        for rows in self._blocks():
            z, y = self._rows(rows)
            of_design = of_design + share[:, :, rows] @ z
            of_scores = of_scores + share[:, :, rows] @ y
        return of_design, of_scores

    def _primal(self) -> tuple[Tensor, Tensor]:
        gram = cross = self.variation = self._zero()
        for rows in self._blocks():
            z, y = self._centred(rows)
            z, y = z * self.root[:, rows], y * self.root[:, rows]
            gram = gram + z.mT @ z
            cross = cross + z.mT @ y
            self.variation = self.variation + y.square().sum(dim=1)
        return gram, cross

    def _dual(self) -> tuple[Tensor, Tensor]:
        gram = self._zero()
        for block in self._column_blocks():
            a = self._root_columns(block)
            gram = gram + a @ a.mT
        null = self.root / self.total[:, None, None].sqrt()
        size = gram.diagonal(dim1=1, dim2=2).amax(dim=1)[:, None, None]
        cross = self.root * (self.scores - self.origin - self.score_mean)
        return gram + size * null @ null.mT, cross

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=self.dtype, device=self.design.device)

    def fit(self, solution: Tensor, ok: Tensor, inverse: Tensor | None) -> Fit:
        """The :class:`Fit` of slopes [B,S,T] (of u [B,N,T] in the dual form).

        ``ok`` is [B,1] for all targets of an input, or [B,T] for each target.

        Standard errors are heteroscedastic (HC3, MacKinnon & White 1985): with X = [1, Z],
        M = (XᵀWX + diag(0, α))⁻¹, h = w xᵀMx and residuals e, the variances are the diagonal of
        M (Σ w² e² / (1−h)² x xᵀ) M. Rows with 1 − h < 1e-8 contribute nothing. All errors are NaN
        where N ≤ count + 1, or without ``inverse`` [B,S,S], the slopes' block of M.

        The two residuals of an antithetic pair are not independent, so a pair is left out as one.
        Its even part does not reach the slopes. In the formula z takes the place of x, the odd part
        (e₊ − e₋)/2 that of e, and 1 − 2w zᵀMz that of 1 − h. All errors are NaN where one
        1 − 2w zᵀMz is < 1e-8 (such a pair alone decides a slope), or where there are no more pairs
        than the count.
        """
        coefficients = solution
        if self.dual:
            columns = [self._root_columns(block).mT @ solution for block in self._column_blocks()]
            coefficients, inverse = torch.cat(columns, dim=1), None
        unexplained = variation = variance = self._zero()
        paired = in_pairs(self.design)[:, None, None] if self.noise else None
        by_rows = inverse is not None or self.dual or self.noise
        if not by_rows:
            variation, unexplained = self.variation, self._unexplained(coefficients)
        for rows in self._blocks() if by_rows else ():
            z, y = self._centred(rows)
            w = self.weights[:, rows, None]
            residuals = y - z @ coefficients
            unexplained = unexplained + (w * residuals.square()).sum(dim=1)
            variation = variation + (w * y.square()).sum(dim=1)
            if inverse is not None:
                solved = _product(z, inverse)  # Mx, slopes only
                leverage = w * (solved * z).sum(-1, keepdim=True)
                pull = self._pull(w, residuals, leverage, paired)
                variance = variance + pull.square().mT @ solved.square()

        slopes = coefficients.mT.masked_fill(~self.present[:, None], 0.0)
        score_mean = (self.score_mean + self.origin)[:, 0]
        # Constant scores that are not at the origin vary by the rounding of their mean.
        rounding = (8 * torch.finfo(self.dtype).eps) ** 2
        constant = variation <= rounding * self.total[:, None] * self.score_mean[:, 0].square()
        variation = torch.where(constant, 1.0, variation)  # so that its gradient is finite too
        fidelity = torch.where(constant, 0.0, 1 - unexplained / variation)
        intercepts = score_mean - (slopes @ self.design_mean.mT)[..., 0]

        errors = torch.full_like(slopes, torch.nan)
        if inverse is not None:
            enough = self._degrees_of_freedom(paired) > self.count[:, None, None]
            errors = torch.where(enough, variance.detach().sqrt(), errors)
        errors = errors.masked_fill(~self.present[:, None], 0.0)
        slopes, intercepts, fidelity, errors, ok = (
            value.reshape(self.inputs, -1, *value.shape[2:])  # inputs of one design: their targets
            for value in (slopes, intercepts, fidelity, errors, ok.expand_as(intercepts))
        )
        return Fit(slopes, intercepts, fidelity, errors, ok.all(dim=1))

    def _unexplained(self, coefficients: Tensor) -> Tensor:
        """The weighted squares [B,T] of residuals, by the sums: exact enough for masks."""
        explained = coefficients * (2 * self.cross - self.gram @ coefficients)
        return self.variation - explained.sum(dim=1)

    def _pull(
        self, w: Tensor, residuals: Tensor, leverage: Tensor, paired: Tensor | None
    ) -> Tensor:
        """Weighted residuals [B,n,T] of the fit without their own row, or without their pair."""
        force = w * residuals
        room = 1 - w / self.total[:, None, None] - leverage
        pull = torch.where(room < 1e-8, 0.0, force / room)
        if paired is None:
            return pull
        room = 1 - leverage - partners(leverage)
        odd = (force - partners(force)) / math.sqrt(2)  # its square is half of the pair's
        return torch.where(paired, torch.where(room < 1e-8, torch.nan, odd / room), pull)

    def _degrees_of_freedom(self, paired: Tensor | None) -> Tensor | int:
        samples = self.design.shape[1]
        return samples - 1 if paired is None else torch.where(paired, samples // 2, samples - 1)

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

    def _rows(self, rows: slice) -> tuple[Tensor, Tensor]:
        if self._raw is None or self._raw[0] != rows:  # a single block is converted once
            z = self._numbers(self.design[:, rows])
            self._raw = rows, z, self.scores[:, rows] - self.origin
        return self._raw[1:]

    def _numbers(self, design: Tensor) -> Tensor:
        """Part of the design as numbers; a CPU converts bytes faster than bools."""
        if design.dtype == torch.bool:
            design = design.view(torch.uint8)
        return design.to(self.dtype)

    def _centred(self, rows: slice) -> tuple[Tensor, Tensor]:
        if self._last is None or self._last[0] != rows:  # and centred once
            z, y = self._rows(rows)
            self._raw = None
            own = self.design.dtype == torch.bool and not self.design_mean.requires_grad
            z = z.sub_(self.design_mean) if own else z - self.design_mean
            self._last = rows, z, y - self.score_mean
        return self._last[1:]


def _product(z: Tensor, square: Tensor) -> Tensor:
    """z @ square in the memory order of z [B,n,S], so that a CPU multiplies both fast."""
    return z @ square if z.stride(2) == 1 else (square.mT @ z.mT).mT


def few_at_a_time(fit: Callable[..., Fit], *data: Tensor) -> Fit:
    """A fit of design [B,N,S], scores, weights and count: one batch on a GPU.

    A CPU fits a few inputs at a time, so that their designs stay in its cache.
    """
    design, _, weights, count = data
    together = design.device.type != "cpu" or torch.compiler.is_compiling()
    if together or _is_shared(design, weights, count):
        return fit(*data)
    elements = design.shape[1] * design.shape[2]
    groups = row_blocks(len(design), elements, design.device, torch.get_num_threads())
    parts = zip(*(fit(*(values[b] for values in data)) for b in groups), strict=True)
    return Fit(*(torch.cat(part) if isinstance(part[0], Tensor) else part[0] for part in parts))


def _is_shared(design: Tensor, weights: Tensor, count: Tensor) -> bool:
    """Whether all inputs share one design, weights and count, as expanded views."""
    return all(given.stride(0) == 0 for given in (design, weights, count))


def has_fewer_rows(design: Tensor) -> bool:
    """Whether the dual form has fewer unknowns."""
    return design.shape[1] <= design.shape[2]


def identity_like(gram: Tensor) -> Tensor:
    """The identity [S,S] in the dtype and on the device of ``gram``."""
    return torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def with_diagonal(gram: Tensor, diagonal: Tensor) -> Tensor:
    """``gram`` […,S,S] plus diag(``diagonal`` […,S])."""
    return gram + torch.diag_embed(diagonal)


def factorise(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor, NaN where it fails, and a success flag […] that stays on the device.

    It also fails where rounding alone can have made a pivot positive.
    """
    factor, info = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    rounding = gram.shape[-1] * torch.finfo(gram.dtype).eps * gram.diagonal(dim1=-2, dim2=-1)
    ok = (info == 0) & (pivots > rounding).all(dim=-1)  # NaN compares as False
    return torch.where(ok[..., None, None], factor, torch.nan), ok


def solve(factor: Tensor, right: Tensor) -> Tensor:
    """Solve L Lᵀ x = right for x, given the Cholesky factor L."""
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)
