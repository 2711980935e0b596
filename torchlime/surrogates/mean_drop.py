"""The mean drop of the score over the rows that hide a feature: occlusion."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchlime._precision import solve_dtype
from torchlime._row_blocks import row_blocks
from torchlime.fit import Fit


@dataclass(frozen=True)
class MeanDrop:
    """The score of the whole input minus the mean score of the rows that hide a feature.

    The design must begin with the input. With :class:`torchlime.masks.SlidingWindow` this is
    occlusion: the mean over the windows that cover a cell. With
    :class:`torchlime.masks.LeaveOneOut` it is the drop when each feature alone is hidden, as with
    least squares. The mean uses the weights of the rows.

    Convention:
        A drop is not a slope: if a row hides several features, each of them gets the whole drop.
        So no line predicts the scores, and the fidelity is NaN. The intercept is the score of the
        input minus all coefficients. A feature that no row hides has a coefficient of 0. Standard
        errors are NaN, because the designs are not random. ``ok`` is False where the first row
        hides something.

    Source: Zeiler & Fergus 2014, section 4.2; the mean as in Captum's Occlusion.

    Raises:
        TypeError: the design is noise.

    Example:
        >>> masks = torch.tensor([[[1, 1, 1], [0, 0, 1], [1, 0, 0]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[6.0], [3.0], [1.0]]])
        >>> fit = MeanDrop()(masks, scores, torch.ones(1, 3), torch.tensor([3]))
        >>> fit.coefficients.tolist()
        [[[3.0, 4.0, 5.0]]]
    """

    errors: ClassVar[bool] = False
    together: ClassVar[bool] = False
    few_samples: ClassVar[bool] = True  # a mean needs no more samples than features

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks [B,N,S] bool, scores [B,N,T], weights [B,N]; count [B] columns are features."""
        if masks.is_floating_point():
            raise TypeError("MeanDrop needs masks, got noise; use LeastSquares() for noise")
        dtype = solve_dtype(masks.device)
        scores, weights = scores.to(dtype), weights.to(dtype)
        batch, samples, width = masks.shape
        whole = scores[:, 0]
        drops = whole[:, None] - scores
        total = lost = torch.zeros((), dtype=dtype, device=masks.device)
        for rows in row_blocks(samples, batch * width, masks.device):
            hidden = (~masks[:, rows]).to(dtype) * weights[:, rows, None]
            lost = lost + hidden.mT @ drops[:, rows]
            total = total + hidden.sum(dim=1)[..., None]
        slopes = (lost / torch.where(total > 0, total, 1.0)).mT
        absent = (torch.arange(width, device=masks.device) >= count[:, None])[:, None]
        slopes = slopes.masked_fill(absent, 0.0)
        errors = torch.full_like(slopes, torch.nan).masked_fill(absent, 0.0)
        intercepts = whole - slopes.sum(dim=2)
        fidelity = torch.full_like(intercepts, torch.nan)
        ok = (masks[:, 0].sum(dim=1) == count) & (weights.sum(dim=1) > 0)
        return Fit(slopes, intercepts, fidelity, errors, ok)
