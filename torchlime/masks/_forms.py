"""The quadratic forms that turn a block of a Hadamard design into the next block of its cycle.

Convention:
    The columns are the points of F₂^m. For odd m they are the field GF(2^m), for even m the pairs
    (x, e) of x in GF(2^(m−1)) and a bit e. A point has a place: e·q + u for x = g^u, where g
    generates the field of q elements, and u = q − 1 stands for x = 0. A form has a number in the
    same way: a = g^t, and t = q − 1 stands for a = 0. The forms are

        odd m:   Q_a(x) = tr((a x)³)                                     (Gold 1968)
        even m:  Q_a(x, e) = Σ_{i=1}^{(m−2)/2} tr((a x)^(2^i+1)) + e tr(a x)    (Kerdock 1972)

    The difference of any two forms has the largest rank that an alternating form of m variables
    can have (Delsarte & Goethals 1975).

    Both are functions of u + t. So the tables are the bits of a few Python integers, and the device
    only shifts them: nothing is uploaded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FIELDS = {3: 0b1011, 5: 0b100101, 7: 0b10000011}  # primitive polynomials by degree
_WORD = 63  # bits that a non-negative int64 holds
_NOWHERE = 1 << 20  # beyond all tables, where bits are 0


@dataclass(frozen=True)
class Bits:
    """A row of bits, as a Python integer."""

    value: int
    length: int

    def at(self, index: Tensor) -> Tensor:
        """The bits from ``index`` […] on, as int64: 8 of them, the first lowest, then any.

        Beyond the row they are 0.
        """
        if self.length <= _WORD:
            return torch.bitwise_right_shift(self.value, index)
        step = _WORD - 7
        word, place = index // step, index % step
        found = torch.zeros_like(index)
        for number in range(-(-self.length // step)):
            bits = (self.value >> number * step) & ((1 << _WORD) - 1)
            there = torch.bitwise_right_shift(bits, place)
            found = torch.where(word == number, there, found)
        return found


@dataclass(frozen=True)
class Forms:
    """The forms of m = ``order`` variables, 3 to 8 of them.

    Attributes:
        number: how many forms there are, L: the blocks of a cycle.
    """

    order: int

    @property
    def degree(self) -> int:
        """Of the field: the largest odd number up to m."""
        return self.order - 1 + self.order % 2

    @property
    def number(self) -> int:
        """L = q."""
        return 1 << self.degree

    def columns(self, places: Tensor, form: Tensor) -> tuple[Tensor, Tensor]:
        """The points of F₂^m at places […], and in bit 0 what the forms […] give there: int64."""
        zero = self.number - 1
        traces, powers = _TABLES[self.order]
        power = places & zero
        power = power.masked_fill(power == zero, _NOWHERE)
        code = traces.at(power) & zero
        total = power + form.masked_fill(form == zero, _NOWHERE)
        value = powers.at(total)
        if self.order != self.degree:
            bit = places >> self.degree
            code = torch.add(code, bit, alpha=self.number)
            value = value ^ (traces.at(total) & bit)
        return code, value


def _tables(order: int) -> tuple[Bits, Bits]:
    """tr(g^u), and Σ tr(g^((2^i+1) u)), for u = 0 … 2q − 3."""
    degree = order - 1 + order % 2
    period = (1 << degree) - 1
    powers = [1]
    for _ in range(period - 1):
        power = powers[-1] << 1
        powers.append(power ^ FIELDS[degree] if power >> degree else power)

    def trace(exponent: int) -> int:  # the sum of x^(2^k) is 0 or 1
        total = 0
        for k in range(degree):
            total ^= powers[(exponent << k) % period]
        return total

    sums = range(1, 2) if order == degree else range(1, order // 2)
    linear = [trace(u) for u in range(period)]
    quadratic = [sum(trace(u * ((1 << i) + 1)) for i in sums) % 2 for u in range(period)]
    return _packed(2 * linear), _packed(2 * quadratic)


def _packed(bits: list[int]) -> Bits:
    return Bits(sum(bit << place for place, bit in enumerate(bits)), len(bits))


_TABLES = {order: _tables(order) for order in range(3, 9)}  # in about a millisecond
