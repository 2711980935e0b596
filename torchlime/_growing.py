"""Normal equations that grow by the rows of each round.

The sums over the earlier rows are kept, so Gram matrix and cross products cost what the new rows
cost. Standard errors do not: they are sums over all residuals, which change with the coefficients.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from torchlime.fit import NormalEquations


class Sums(NamedTuple):
    """Sums over the rows of B inputs, centred by their means.

    If the inputs share a design, they are targets of one: B is 1, and T is B·T.

    Attributes:
        rows: how many rows they hold.
        inputs: how many inputs, those of a shared design counted one by one.
        total: [B]. design_mean: [B,1,S]. score_mean: [B,1,T].
        gram: [B,S,S]. cross: [B,S,T]. variation: [B,T].
    """

    rows: int
    inputs: int
    total: Tensor
    design_mean: Tensor
    score_mean: Tensor
    gram: Tensor
    cross: Tensor
    variation: Tensor

    def of(self, index: Tensor) -> "Sums":
        """Those of the inputs ``index`` [k]."""
        values = [self.total, self.design_mean, self.score_mean, self.gram, self.cross]
        every = [*values, self.variation]
        if len(self.total) == self.inputs:
            return Sums(self.rows, len(index), *(value[index] for value in every))

        def targets(value: Tensor) -> Tensor:
            return value.unflatten(-1, (self.inputs, -1))[..., index, :].flatten(-2)

        total, design_mean, score_mean, gram, cross = values
        return Sums(
            self.rows, len(index), total, design_mean, targets(score_mean), gram, targets(cross),
            targets(self.variation),
        )  # fmt: skip


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
        return Sums(
            self.design.shape[1], self.inputs, self.total, self.design_mean, self.score_mean,
            self.gram, self.cross, self.variation.expand(len(self.total), -1),
        )  # fmt: skip

    def _blocks(self) -> Iterator[slice]:
        for rows in super()._blocks():
            if rows.stop > self._begin:
                yield slice(max(rows.start, self._begin), rows.stop)

    def _means(self) -> tuple[Tensor, Tensor]:
        of_design, of_scores = super()._means()  # the new rows' part
        if self._earlier is None:
            return of_design, of_scores
        share = (self._earlier.total / self.total)[:, None, None]
        design = of_design + share * self._earlier.design_mean
        return design, of_scores + share * self._earlier.score_mean

    def _primal(self) -> tuple[Tensor, Tensor]:
        gram, cross = super()._primal()
        if self._earlier is None:
            return gram, cross
        known = self._earlier
        z, y = known.design_mean - self.design_mean, known.score_mean - self.score_mean
        total = known.total[:, None, None]
        self.variation = self.variation + known.variation + known.total[:, None] * y[:, 0].square()
        return gram + known.gram + total * z.mT @ z, cross + known.cross + total * z.mT @ y


class GrowingFit:
    """Fits to the rows so far of the inputs that go on.

    Args:
        surrogate: has ``of_equations``.
    """

    def __init__(self, surrogate: object):
        self.surrogate = surrogate
        self._sums: Sums | None = None
        self._inputs: list[int] = []

    def __call__(self, inputs: list[int], *data: Tensor) -> object:
        """The fit of design, scores, weights and count of some inputs."""
        known = self._sums if inputs == self._inputs else None
        equations = Growing(*data, earlier=known)
        self._sums, self._inputs = equations.sums, inputs
        return self.surrogate.of_equations(equations)  # type: ignore[attr-defined]

    def leave(self, inputs: list[int], settled: Tensor) -> None:
        """Go on with ``inputs``, those of the last fit that are not ``settled`` [k]."""
        if self._sums is not None and inputs:
            self._sums = self._sums.of(settled.long().argsort(stable=True)[: len(inputs)])
        self._inputs = inputs
