"""What every surrogate shares: the weighted normal equations before, the diagnostics after."""

import math
from collections.abc import Iterator
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


class Samples:
    """Masks (or noise), scores and weights of a batch, centred by their weighted means.

    Scores are measured from each image's first row, so that constant scores are exactly 0. All
    sums run over blocks of rows. Where masks, weights and counts are expanded views, one for all
    images, the images are further targets of a single one: B is 1 below, and T is B·T.

    With A the rows √w (z−z̄) and c the column √w (y−ȳ), the slopes solve the normal equations
    AᵀA β = Aᵀc. In the dual form they are β = Aᵀu, where AAᵀ u = c: the same β, also with a penalty
    on the diagonal and for the minimum norm, of N unknowns instead of S. Of centred rows AAᵀ has
    the null vector q = √w/‖√w‖. As c has no part in q, adding its square changes no answer, and
    makes the rank full where the rows are independent.

    Args:
        dual: use that form; for designs without padding, and of no standard errors.

    Attributes:
        total: [B], the sum of the weights.
        gram: [B,S,S], AᵀA; in the dual form [B,N,N], AAᵀ + λqqᵀ with λ of its size.
        cross: [B,S,T], Aᵀc; in the dual form [B,N,T], c.
        padding: bool, the rows of ``gram`` that stand for no unknown.
    """

    def __init__(
        self,
        masks: Tensor,
        scores: Tensor,
        weights: Tensor,
        segment_count: Tensor,
        *,
        dual: bool = False,
    ):
        self.images = len(scores)
        if all(given.stride(0) == 0 for given in (masks, weights, segment_count)):
            masks, weights, segment_count = masks[:1], weights[:1], segment_count[:1]
            scores = scores.transpose(0, 1).flatten(1)[None]
        self.dual = dual
        self.dtype = solve_dtype(masks.device)
        self.masks = masks
        self.scores = scores.to(self.dtype)
        self.weights = weights.to(self.dtype)
        self.root = self.weights[..., None].sqrt()
        self.segment_count = segment_count
        self.origin = self.scores[:, :1]
        columns = torch.arange(masks.shape[2], device=masks.device)
        self.present = columns < segment_count[:, None]
        self.total = self.weights.sum(dim=1)

        share = (self.weights / self.total[:, None])[:, None]
        self.mask_mean = self.score_mean = torch.zeros((), dtype=self.dtype, device=masks.device)
        for rows in self._blocks():
            z, y = self._rows(rows)
            self.mask_mean = self.mask_mean + share[:, :, rows] @ z
            self.score_mean = self.score_mean + share[:, :, rows] @ y

        self.gram = self.cross = torch.zeros((), dtype=self.dtype, device=masks.device)
        if dual:
            self.padding = torch.zeros_like(self.weights, dtype=torch.bool)
            self.cross = self.root * (self.scores - self.origin - self.score_mean)
            for block in self._column_blocks():
                a = self._root_columns(block)
                self.gram = self.gram + a @ a.mT
            null = self.root / self.total[:, None, None].sqrt()
            size = self.gram.diagonal(dim1=1, dim2=2).amax(dim=1)[:, None, None]
            self.gram = self.gram + size * null @ null.mT
            return
        self.padding = ~self.present
        for rows in self._blocks():
            z, y = self._centred(rows)
            z, y = z * self.root[:, rows], y * self.root[:, rows]
            self.gram = self.gram + z.mT @ z
            self.cross = self.cross + z.mT @ y

    def fit(self, solution: Tensor, ok: Tensor, inverse: Tensor | None) -> Fit:
        """The :class:`Fit` of slopes [B,S,T] (of u [B,N,T] in the dual form).

        ``ok`` is [B,1] or [B,T], for an image's targets all or one by one.

        Standard errors are heteroscedastic (HC3, MacKinnon & White 1985): with X = [1, Z],
        M = (XᵀWX + diag(0, α))⁻¹, h = w xᵀMx and residuals e, the variances are the diagonal of
        M (Σ w² e² / (1−h)² x xᵀ) M. Rows with 1 − h < 1e-8 contribute nothing; all are NaN where
        N ≤ count + 1 or without ``inverse`` [B,S,S], the slopes' block of M.

        Antithetic pairs, whose two residuals are not independent, are left out as one: their even
        part does not reach the slopes, and in it stand z, the odd part (e₊ − e₋)/2 of the
        residuals and 1 − 2w zᵀMz. All are NaN where one of these is < 1e-8 (such a pair alone
        decides a slope), or the pairs are no more than the count.
        """
        coefficients = solution
        if self.dual:
            columns = [self._root_columns(block).mT @ solution for block in self._column_blocks()]
            coefficients, inverse = torch.cat(columns, dim=1), None
        unexplained = variation = variance = torch.zeros(
            (), dtype=self.dtype, device=self.masks.device
        )
        paired = in_pairs(self.masks)[:, None, None]
        for rows in self._blocks():
            z, y = self._centred(rows)
            w = self.weights[:, rows, None]
            residuals = y - z @ coefficients
            unexplained = unexplained + (w * residuals.square()).sum(dim=1)
            variation = variation + (w * y.square()).sum(dim=1)
            if inverse is not None:
                solved = z @ inverse  # Mx, slopes only
                leverage = w * (solved * z).sum(-1, keepdim=True)
                room = 1 - w / self.total[:, None, None] - leverage
                force = w * residuals
                pull = torch.where(room < 1e-8, 0.0, force / room)
                if self.masks.is_floating_point():  # masks are never in pairs
                    room = 1 - leverage - partners(leverage)
                    odd = (force - partners(force)) / math.sqrt(2)  # half of the pair's, squared
                    of_pair = torch.where(room < 1e-8, torch.nan, odd / room)
                    pull = torch.where(paired, of_pair, pull)
                variance = variance + pull.square().mT @ solved.square()

        slopes = coefficients.mT.masked_fill(~self.present[:, None], 0.0)
        score_mean = (self.score_mean + self.origin)[:, 0]
        # What is left of constant scores away from the origin is the rounding of their mean.
        rounding = (8 * torch.finfo(self.dtype).eps) ** 2
        constant = variation <= rounding * self.total[:, None] * self.score_mean[:, 0].square()
        variation = torch.where(constant, 1.0, variation)  # its gradient, too, is to be finite
        fidelity = torch.where(constant, 0.0, 1 - unexplained / variation)
        intercepts = score_mean - (slopes @ self.mask_mean.mT)[..., 0]

        errors = torch.full_like(slopes, torch.nan)
        if inverse is not None:
            free = torch.where(paired, self.masks.shape[1] // 2, self.masks.shape[1] - 1)
            enough = free > self.segment_count[:, None, None]
            errors = torch.where(enough, variance.detach().sqrt(), errors)
        errors = errors.masked_fill(~self.present[:, None], 0.0)
        slopes, intercepts, fidelity, errors, ok = (
            value.reshape(self.images, -1, *value.shape[2:])  # images of one design: their targets
            for value in (slopes, intercepts, fidelity, errors, ok.expand_as(intercepts))
        )
        return Fit(slopes, intercepts, fidelity, errors, ok.all(dim=1))

    def _column_blocks(self) -> Iterator[slice]:
        batch, samples, width = self.masks.shape
        return row_blocks(width, batch * samples, self.masks.device, multiple=samples)

    def _root_columns(self, columns: slice) -> Tensor:
        """Columns of A: [B,N,s]."""
        z = self.masks[:, :, columns].to(self.dtype)
        return self.root * (z - self.mask_mean[:, :, columns])

    def _blocks(self) -> Iterator[slice]:
        batch, samples, width = self.masks.shape
        elements = batch * max(width, self.scores.shape[2])
        # Pairs stay together, and no block is smaller than the Gram matrix that it adds.
        return row_blocks(samples, elements, self.masks.device, multiple=width + width % 2)

    def _rows(self, rows: slice) -> tuple[Tensor, Tensor]:
        return self.masks[:, rows].to(self.dtype), self.scores[:, rows] - self.origin

    def _centred(self, rows: slice) -> tuple[Tensor, Tensor]:
        z, y = self._rows(rows)
        return z - self.mask_mean, y - self.score_mean


def has_fewer_rows(design: Tensor) -> bool:
    """Whether the dual form is smaller, of a design that has no padding: noise."""
    return design.is_floating_point() and design.shape[1] <= design.shape[2]


def identity_like(gram: Tensor) -> Tensor:
    """The identity [S,S] in the dtype and on the device of ``gram``."""
    return torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def with_diagonal(gram: Tensor, diagonal: Tensor) -> Tensor:
    """``gram`` […,S,S] plus diag(``diagonal`` […,S])."""
    return gram + torch.diag_embed(diagonal)


def factorise(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor, NaN where there is none, and a success flag […] that stays on the device.

    There is none where rounding alone can have made a pivot positive.
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
