"""The exact Lasso by active sets, also for fewer samples than features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._precision import solve_dtype
from torchlime.fit import Fit
from torchlime.surrogates import Lasso

SHIFT = 1e-11  # of the largest diagonal: a direction that the samples do not reach is very long
VIOLATION = 1e-9  # of the largest gradient at 0


@dataclass(frozen=True)
class ExactLasso:
    """Minimise Σ w (y − b₀ − z·β)² / (2 Σ w) + α‖β‖₁, scikit-learn's objective, to rounding.

    Feature-sign search (Lee, Battle, Raina & Ng 2006): solve on the active features with their
    signs. If a sign would change, go to where the first coefficient is 0 and drop it. Else add the
    feature that violates the optimality conditions most. Every change lowers the objective, so the
    optimum is reached; there is at most one active feature a sample.

    With twice as many samples as features, :class:`torchlime.surrogates.Lasso` comes first, which
    is quicker and nearly always exact there. On a CPU the search stops when all problems are
    solved. On other devices it takes a fixed number of steps, so that nothing is read back. ``ok``
    is False where the optimum was not reached. Standard errors are NaN.

    Example:
        >>> masks = torch.tensor([[[1, 1], [0, 1], [1, 0], [0, 0]]], dtype=torch.bool)
        >>> scores = torch.tensor([[[6.0], [5.0], [2.0], [1.0]]])  # 1 + z0 + 4·z1
        >>> fit = ExactLasso(alpha=0.25)(masks, scores, torch.ones(1, 4), torch.tensor([2]))
        >>> fit.coefficients.round(decimals=9).tolist()
        [[[0.0, 3.0]]]
    """

    alpha: float

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor) -> Fit:
        """Fit masks (or numbers) [B,N,S], scores [B,N,T], weights [B,N], count [B]."""
        _, samples, width = masks.shape
        if samples >= 2 * width:  # quick, and nearly always the optimum
            quick = Lasso(alpha=self.alpha)(masks, scores, weights, count)
            if masks.device.type != "cpu" or bool(quick.ok.all()):
                return quick
        dtype = solve_dtype(masks.device)
        present = torch.arange(width, device=masks.device) < count[:, None]
        share = (weights.to(dtype) / weights.to(dtype).sum(dim=1, keepdim=True))[..., None]
        z, y = masks.to(dtype) * present[:, None], scores.to(dtype) - scores[:, :1].to(dtype)
        z_mean, y_mean = ((share * values).sum(dim=1, keepdim=True) for values in (z, y))
        z, y = share.sqrt() * (z - z_mean), share.sqrt() * (y - y_mean)
        found, ok = [], []
        for target in range(scores.shape[2]):
            problem = _Problem(z, y[..., target], self.alpha)
            solution, solved = problem.solved()
            found.append(solution)
            ok.append(solved)
        slopes = torch.stack(found, dim=1)
        y_mean = y_mean[:, 0] + scores[:, 0].to(dtype)
        intercepts = y_mean - (slopes * z_mean).sum(dim=2)
        variation = y.square().sum(dim=1)
        unexplained = (y - z @ slopes.mT).square().sum(dim=1)
        varies = variation > torch.finfo(dtype).eps ** 2 * y_mean.square()
        fidelity = torch.where(varies, 1 - unexplained / torch.where(varies, variation, 1.0), 0.0)
        errors = torch.full_like(slopes, torch.nan).masked_fill(~present[:, None], 0.0)
        return Fit(slopes, intercepts, fidelity, errors, torch.stack(ok, dim=1).all(dim=1))


class _Problem:
    """min ‖c − A x‖²/2 + α‖x‖₁ for a batch of A [B,N,F] and c [B,N].

    There are K = min(N,F) slots for active features. A slot that is not used stands for none.
    """

    def __init__(self, a: Tensor, c: Tensor, alpha: float):
        self.a, self.c, self.alpha = a, c, alpha
        batch, samples, width = a.shape
        self.slots = min(samples, width)
        self.wide = samples < width
        self.gram = None if self.wide else a.mT @ a
        self.cross = (a.mT @ c[..., None])[..., 0]
        self.size = self.cross.abs().amax(dim=1)
        self.index = torch.zeros(batch, self.slots, dtype=torch.int64, device=a.device)
        self.used = torch.zeros_like(self.index, dtype=torch.bool)
        self.value = torch.zeros(batch, self.slots, dtype=a.dtype, device=a.device)
        self.sign = torch.zeros_like(self.value)
        self.settled = torch.ones(batch, dtype=torch.bool, device=a.device)
        self.done = torch.zeros_like(self.settled)

    def solved(self) -> tuple[Tensor, Tensor]:
        """x [B,F], and whether it is the optimum [B]."""
        on_host = self.a.device.type == "cpu"
        for _ in range((50 if on_host else 4) * self.slots + 20):
            self._add()
            if on_host and bool(self.done.all()):
                break
            self._move()
        return self._full(), self.done

    def _full(self) -> Tensor:
        full = torch.zeros_like(self.cross)
        return full.scatter_add(1, self.index, torch.where(self.used, self.value, 0.0))

    def _gradient(self) -> Tensor:
        if self.gram is not None:
            return self.cross - (self.gram @ self._full()[..., None])[..., 0]
        rest = self.c - (self.a @ self._full()[..., None])[..., 0]
        return (self.a.mT @ rest[..., None])[..., 0]

    def _add(self) -> None:
        """Where the active features are settled, add the one that violates most."""
        gradient = self._gradient()
        free = torch.ones_like(gradient).scatter_reduce(
            1, self.index, (~self.used).to(gradient.dtype), "amin"
        )
        strength, feature = (gradient.abs() * free).max(dim=1)
        wanted = strength > self.alpha + VIOLATION * self.size
        slot = (~self.used).to(torch.uint8).argmax(dim=1, keepdim=True)
        room = ~self.used.all(dim=1)
        self.done = self.done | (self.settled & ~wanted)
        adds = (self.settled & wanted & room & ~self.done)[:, None]
        at = torch.zeros_like(self.used).scatter(1, slot, adds)
        self.index = torch.where(at, feature[:, None], self.index)
        sign = gradient.gather(1, feature[:, None]).sign()
        self.sign = torch.where(at, sign, self.sign)
        self.value = torch.where(at, 0.0, self.value)
        self.used = self.used | at

    def _move(self) -> None:
        """Go to the optimum for the signs, or to the first coefficient that becomes 0."""
        aim = self._aim()
        change = aim - self.value
        crosses = self.used & (aim * self.sign < 0)
        step = torch.where(crosses, -self.value / torch.where(crosses, change, 1.0), torch.inf)
        first = step.amin(dim=1, keepdim=True)
        reach = first.clamp(max=1.0)
        moved = torch.where(self.used, self.value + reach * change, 0.0)
        dropped = crosses & (step <= first)
        going = ~self.done[:, None]
        self.value = torch.where(going, torch.where(dropped, 0.0, moved), self.value)
        self.used = self.used & ~(dropped & going)
        self.settled = ~crosses.any(dim=1)

    def _aim(self) -> Tensor:
        """The optimum [B,K] for the active features and their signs."""
        pairs = self.used[:, :, None] & self.used[:, None]
        if self.gram is None:
            rows = self.a.gather(2, self.index[:, None].expand(-1, self.a.shape[1], -1))
            active = rows.mT @ rows
        else:
            rows = self.gram.gather(1, self.index[..., None].expand(-1, -1, self.gram.shape[2]))
            active = rows.gather(2, self.index[:, None].expand(-1, self.slots, -1))
        active = torch.where(pairs, active, 0.0)
        largest = active.diagonal(dim1=1, dim2=2).amax(dim=1, keepdim=True).clamp(min=1e-300)
        shifted = active + torch.diag_embed(torch.where(self.used, SHIFT * largest, largest))
        factor, _ = torch.linalg.cholesky_ex(shifted)
        right = torch.where(self.used, self.cross.gather(1, self.index) - self.alpha * self.sign, 0)
        aim = torch.zeros_like(right)
        for _ in range(3):
            rest = right - (active @ aim[..., None])[..., 0]
            aim = aim + torch.cholesky_solve(rest[..., None], factor)[..., 0]
        return aim
