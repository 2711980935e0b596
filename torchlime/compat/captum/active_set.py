"""The exact Lasso by active sets, also for fewer samples than features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchlime._precision import solve_dtype
from torchlime.fit import Fit

SHIFT = 1e-11  # of the largest diagonal: a direction that the samples do not reach is very long
VIOLATION = 1e-9  # of the largest gradient at 0
REFINEMENTS = 2
STEPS = 100


@dataclass(frozen=True)
class ExactLasso:
    """Minimise Σ w (y − b₀ − z·β)² / (2 Σ w) + α‖β‖₁, scikit-learn's objective, to rounding.

    Feature-sign search (Lee, Battle, Raina & Ng 2006): solve on the active features with their
    signs. If a sign would change, go to where the first coefficient is 0 and drop it. Else add the
    feature that violates the optimality conditions most. Every change lowers the objective, so the
    optimum is reached. There are at most as many active features as samples.

    With at least twice as many samples as features, some proximal gradient steps (FISTA, Beck &
    Teboulle 2009) find a start near the optimum; otherwise it starts at 0. On a CPU it stops when
    all problems are solved. On other devices it takes a fixed number of steps, so that nothing is
    read back. ``ok`` is False where the optimum was not reached. Standard errors are NaN.

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
        width = masks.shape[2]
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

    There are K = min(N,F) slots for active features. If K = F, each feature has its own slot; else
    ``index`` [B,K] says which feature a used slot stands for.
    """

    def __init__(self, a: Tensor, c: Tensor, alpha: float):
        self.a, self.c, self.alpha = a, c, alpha
        batch, samples, width = a.shape
        self.slots = min(samples, width)
        self.gram = a.mT @ a if width <= samples else None
        self.cross = (a.mT @ c[..., None])[..., 0]
        self.size = self.cross.abs().amax(dim=1)
        self.index = torch.arange(self.slots, device=a.device).expand(batch, -1)
        self.value = torch.zeros(batch, self.slots, dtype=a.dtype, device=a.device)
        if self.gram is not None and samples >= 2 * width:
            self.value = _near(self.gram, self.cross, alpha)
        self.sign = self.value.sign()
        self.used = self.value != 0
        self.settled = ~self.used.any(dim=1)
        self.done = torch.zeros_like(self.settled)

    def solved(self) -> tuple[Tensor, Tensor]:
        """x [B,F], and whether it is the optimum [B]."""
        on_host = self.a.device.type == "cpu"
        begun = self.gram is not None and self.a.shape[1] >= 2 * self.slots
        most = 50 * self.slots if on_host else (0 if begun else 4 * self.slots)
        for _ in range(most + 50):
            self._add()
            if on_host and bool(self.done.all()):
                break
            self._move()
        return self._full(), self.done

    def _full(self) -> Tensor:
        if self.gram is not None:
            return self.value
        return torch.zeros_like(self.cross).scatter_add(1, self.index, self.value)

    def _gradient(self) -> Tensor:
        if self.gram is not None:
            return self.cross - (self.gram @ self.value[..., None])[..., 0]
        rest = self.c - (self.a @ self._full()[..., None])[..., 0]
        return (self.a.mT @ rest[..., None])[..., 0]

    def _add(self) -> None:
        """Where the active features are settled, add the one that violates most."""
        gradient = self._gradient()
        strength = gradient.abs()
        if self.gram is not None:
            strength = torch.where(self.used, 0.0, strength)
        else:  # several slots that are not used may name one feature, so the least counts
            limit = torch.where(self.used, 0.0, torch.inf).to(strength.dtype)
            strength = strength.scatter_reduce(1, self.index, limit, "amin")
        strength, feature = strength.max(dim=1, keepdim=True)
        wanted = strength[:, 0] > self.alpha + VIOLATION * self.size
        self.done = self.done | (self.settled & ~wanted)
        room = ~self.used.all(dim=1)
        adds = (self.settled & wanted & room & ~self.done)[:, None]
        slot = feature
        if self.gram is None:
            slot = (~self.used).to(torch.uint8).argmax(dim=1, keepdim=True)
        at = torch.zeros_like(self.used).scatter(1, slot, adds)
        if self.gram is None:
            self.index = torch.where(at, feature, self.index)
        self.sign = torch.where(at, gradient.gather(1, feature).sign(), self.sign)
        self.used = self.used | at

    def _move(self) -> None:
        """Go to the optimum for the signs, or to the first coefficient that becomes 0."""
        aim = self._aim()
        change = aim - self.value
        crosses = self.used & (aim * self.sign < 0)
        step = torch.where(crosses, -self.value / torch.where(crosses, change, 1.0), torch.inf)
        first = step.amin(dim=1, keepdim=True)
        moved = self.value + first.clamp(max=1.0) * change
        dropped = crosses & (step <= first)
        kept = self.used & ~dropped
        going = ~self.done[:, None]
        self.value = torch.where(going, torch.where(kept, moved, 0.0), self.value)
        self.used = torch.where(going, kept, self.used)
        self.settled = ~crosses.any(dim=1)

    def _aim(self) -> Tensor:
        """The optimum [B,K] for the active features and their signs."""
        if self.gram is not None:
            active, cross = self.gram, self.cross
        else:
            rows = self.a.gather(2, self.index[:, None].expand(-1, self.a.shape[1], -1))
            active, cross = rows.mT @ rows, self.cross.gather(1, self.index)
        active = torch.where(self.used[:, :, None] & self.used[:, None], active, 0.0)
        largest = active.diagonal(dim1=1, dim2=2).amax(dim=1, keepdim=True).clamp(min=1e-300)
        shifted = active + torch.diag_embed(torch.where(self.used, SHIFT * largest, largest))
        factor, _ = torch.linalg.cholesky_ex(shifted)
        right = torch.where(self.used, cross - self.alpha * self.sign, 0.0)
        aim = torch.cholesky_solve(right[..., None], factor)
        for _ in range(REFINEMENTS):
            aim = aim + torch.cholesky_solve(right[..., None] - active @ aim, factor)
        return aim[..., 0]


def _near(gram: Tensor, cross: Tensor, alpha: float) -> Tensor:
    """A vector [B,F] near the optimum, with many of its zeros."""
    lipschitz = gram.abs().sum(dim=2).amax(dim=1, keepdim=True)
    step = 1 / torch.where(lipschitz > 0, lipschitz, 1.0)
    x = y = torch.zeros_like(cross)
    t = 1.0
    for _ in range(STEPS):
        down = y + step * (cross - (gram @ y[..., None])[..., 0])
        new = torch.nn.functional.softshrink(down / step, alpha) * step
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        x, y, t = new, new + (t - 1) / following * (new - x), following
    return x
