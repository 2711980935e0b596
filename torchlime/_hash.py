"""Random bits from counters: a seed gives the same bits on any device and in any batch.

SplitMix64 (Steele, Lea & Flood 2014) hashes the seed and the counters, so no global generator is
read or moved. Integers are int64 and stand for unsigned ones.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from torchlime._checks import is_integer

Bits = TypeVar("Bits", int, Tensor)


def numbers(count: int, like: Tensor, first: int = 0) -> Tensor:
    """``first`` … first + count − 1 on the device of ``like``."""
    return torch.arange(first, first + count, device=like.device)


def seeds_of(seed: int | Tensor, count: Tensor) -> Tensor:
    """The seeds as int64 [B], or [1] where all inputs share one."""
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.shape != count.shape:
            raise ValueError(
                f"seed must be an int or an int64 tensor of shape {list(count.shape)}, "
                f"got {seed.dtype} {list(seed.shape)}"
            )
        if seed.device != count.device:
            raise ValueError(f"seed is on {seed.device}, the inputs are on {count.device}")
        return seed
    return torch.full((1,), _checked(seed), dtype=torch.int64, device=count.device)


def stems_of(seed: int | Tensor, count: Tensor) -> Tensor:
    """The seeds mixed for :func:`hashed`, [B,1,1], or [1,1,1] where all inputs share one."""
    if isinstance(seed, Tensor) or torch.compiler.is_compiling():
        return _mix(seeds_of(seed, count)[:, None, None])
    return torch.full((1, 1, 1), _mix(_checked(seed)), dtype=torch.int64, device=count.device)


def _checked(seed: Any) -> int:
    """An int seed as a signed 64-bit integer."""
    if not is_integer(seed):
        raise TypeError(f"seed must be an int or an int64 tensor [B], got {type(seed).__name__}")
    return _signed(int(seed))


def _signed(value: int) -> int:
    """``value`` modulo 2^64, as a signed 64-bit integer."""
    return (value + 2**63) % 2**64 - 2**63


def shift_right(bits: Bits, by: int) -> Bits:
    """Logical right shift of int64 (torch's own is arithmetic)."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _mix(bits: Bits) -> Bits:
    """One step of SplitMix64 (Steele, Lea & Flood 2014)."""
    bits = _wrapped(bits + _GOLDEN)
    bits = _wrapped((bits ^ shift_right(bits, 30)) * _MIX_1)
    bits = _wrapped((bits ^ shift_right(bits, 27)) * _MIX_2)
    return bits ^ shift_right(bits, 31)


def _wrapped(bits: Bits) -> Bits:
    return bits if isinstance(bits, Tensor) else _signed(bits)


_FEW = 16  # keys that the host mixes: on the device their mix would be as many kernels


def hash64(seeds: Tensor, *counters: Tensor | int) -> Tensor:
    """64 pseudo-random bits for every combination of seed and counters, by broadcasting."""
    return hashed(_mix(seeds), *counters)


def hashed(stems: Tensor, *counters: Tensor | int) -> Tensor:
    """:func:`hash64` of seeds that :func:`stems_of` has mixed."""
    bits = stems
    for counter in counters:
        bits = _mix(bits ^ counter)
    return bits


def streams(seed: int | Tensor, count: Tensor, times: Sequence[range], width: int) -> Tensor:
    """hash64(seed, k, time, column) for the streams k = 1, 2, …, each at its own ``times``.

    It is [b,n,width] for n times in all, those of a stream after those of the stream before. The
    host mixes an int seed, and a few times too, which saves kernels.
    """
    columns, sizes = numbers(width, count), [len(some) for some in times]
    if is_integer(seed) and not torch.compiler.is_compiling():
        stem = _mix(_signed(int(seed)))
        begun = [_mix(stem ^ k) for k in range(1, len(times) + 1)]
        if sum(sizes) <= _FEW:
            mixed = [_mix(own ^ t) for own, some in zip(begun, times, strict=True) for t in some]
            bits = columns.new_empty(1, len(mixed), width)
            for row, key in zip(bits[0], mixed, strict=True):
                torch.bitwise_xor(columns, key, out=row)
            return _mix(bits)
        keys = columns.new_empty(1, sum(sizes))
        parts = keys[0].split(sizes)
        for own, some, part in zip(begun, _numbers_of(times, count), parts, strict=True):
            torch.bitwise_xor(some, own, out=part)
    else:
        stems = hash64(seeds_of(seed, count)[:, None], numbers(len(times), count, first=1))
        every = [own.expand(-1, size) for own, size in zip(stems.split(1, 1), sizes, strict=True)]
        keys = torch.cat(every, dim=1) ^ torch.cat(_numbers_of(times, count))
    return _mix(_mix(keys)[..., None] ^ columns)


def _numbers_of(ranges: Sequence[range], like: Tensor) -> list[Tensor]:
    """The numbers of each range; equal neighbours are one tensor."""
    found: list[Tensor] = []
    for place, some in enumerate(ranges):
        known = place > 0 and some == ranges[place - 1]
        found.append(found[-1] if known else numbers(len(some), like, some.start))
    return found
