"""Normal equations that grow by the rows of each round.

The sums over the earlier rows are kept, so Gram matrix and cross products cost what the new rows
cost. Standard errors do not: they are sums over all residuals, which change with the coefficients.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from torchlime.fit import Fit, NormalEquations


class Sums(NamedTuple):
    """Sums over the rows of B inputs, centred by their means.

    If the inputs share a design, they are targets of one: B is 1, and T is B·T.

    Attributes:
        rows: how many rows they hold.
        inputs: how many inputs, those of a shared design counted one by one.
        total: [B]. gram: [B,S,S]. design_mean: [B,1,S].
        score_mean: [B,1,T]. cross: [B,S,T]. variation: [B,T].
    """

    rows: int
    inputs: int
    total: Tensor
    gram: Tensor
    design_mean: Tensor
    score_mean: Tensor
    cross: Tensor
    variation: Tensor

    def of(self, index: Tensor) -> "Sums":
        """Those of the inputs ``index`` [k]."""
        of_design, of_scores = self[2:5], self[5:]
        if len(self.total) == self.inputs:
            return Sums(self.rows, len(index), *(value[index] for value in self[2:]))

        def targets(value: Tensor) -> Tensor:
            return value.unflatten(-1, (self.inputs, -1))[..., index, :].flatten(-2)

        return Sums(self.rows, len(index), *of_design, *map(targets, of_scores))


class Growing(NormalEquations):
    """The equations of all rows so far, by the sums over the earlier of them.

    Args:
        design, scores, weights, count: as for :class:`torchlime.fit.NormalEquations`; masks.
        earlier: the sums over the first rows, with the weights that they have here.
    """

    def __init__(
        self,
        design: Tensor,
        scores: Tensor,
        weights: Tensor,
        count: Tensor,
        earlier: Sums | None = None,
    ):
        self._earlier = earlier
        self._begin = 0 if earlier is None else earlier.rows
        super().__init__(design, scores, weights, count)
        self._begin = 0  # residuals are of all rows

    @property
    def sums(self) -> Sums:
        """What the next round needs."""
        nothing = self.total == 0  # such rows have no mean, and add nothing
        found = (
            value.masked_fill(nothing.view(-1, *[1] * (value.dim() - 1)), 0.0)
            for value in (
                self.gram, self.design_mean, self.score_mean, self.cross, self.variation
            )
        )  # fmt: skip
        return Sums(self.design.shape[1], self.inputs, self.total, *found)

    def _blocks(self) -> Iterator[slice]:
        for rows in super()._blocks():
            if rows.stop > self._begin:
                yield slice(max(rows.start, self._begin), rows.stop)

    def _mean(self) -> Tensor:
        mean = super()._mean()  # the new rows' part
        known = self._earlier
        if known is None:
            return mean
        share = (known.total / self.total)[:, None, None]
        return mean + share * torch.cat([known.design_mean, known.score_mean], dim=2)

    def _primal(self) -> tuple[Tensor, Tensor, Tensor]:
        gram, cross, variation = super()._primal()
        known = self._earlier
        if known is None:
            return gram, cross, variation
        z, y = known.design_mean - self.design_mean, known.score_mean - self.score_mean
        total = known.total[:, None, None]
        moved = (total * z).mT @ z, (total * z).mT @ y, known.total[:, None] * y[:, 0].square()
        return (
            gram + known.gram + moved[0],
            cross + known.cross + moved[1],
            variation + known.variation + moved[2],
        )


class GrowingFit:
    """Fits to the rows so far of the inputs that go on.

    Args:
        of_equations: the method of a surrogate.
    """

    def __init__(self, of_equations: Callable[[NormalEquations], Fit]):
        self._fit = of_equations
        self._sums: Sums | None = None
        self._inputs: list[int] = []

    def __call__(
        self, inputs: list[int], design: Tensor, scores: Tensor, weights: Tensor, count: Tensor
    ) -> Fit:
        """The fit of some inputs, whose numbers are ``inputs``."""
        known = self._sums if inputs == self._inputs else None
        equations = Growing(design, scores, weights, count, earlier=known)
        self._sums, self._inputs = equations.sums, inputs
        return self._fit(equations)

    def leave(self, inputs: list[int], settled: Tensor) -> None:
        """Go on with ``inputs``, those of the last fit that are not ``settled`` [k]."""
        if self._sums is not None and inputs:
            self._sums = self._sums.of(settled.long().argsort(stable=True)[: len(inputs)])
        self._inputs = inputs
