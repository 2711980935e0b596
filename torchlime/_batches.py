"""Batches: items of one size go through one call; if it fails, each item is tried alone."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_batches(
    items: Iterable[T],
    size_of: Callable[[T], Hashable],
    call: Callable[[Sequence[T]], Iterable[R]],
    *,
    stop_at: tuple[type[BaseException], ...] = (),
) -> Iterator[tuple[T, R | BaseException]]:
    """Each item with its result, or with the error that it alone leads to.

    Args:
        items: in the results, items of one size are next to each other.
        size_of: the size of an item.
        call: some items of one size → a result for each, in their order.
        stop_at: errors that do not come from a single item; they are raised.

    Example:
        >>> list(in_batches([1, 0, 4], lambda item: "any", lambda some: [12 // n for n in some]))
        [(1, 12), (0, ZeroDivisionError('integer division or modulo by zero')), (4, 3)]
    """
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(size_of(item), []).append(item)
    for group in groups.values():
        yield from _together(group, call, stop_at)


def _together(
    group: Sequence[T],
    call: Callable[[Sequence[T]], Iterable[R]],
    stop_at: tuple[type[BaseException], ...],
) -> Iterator[tuple[T, R | BaseException]]:
    results: Iterable[R | BaseException]
    try:
        results = list(call(group))
    except stop_at:
        raise
    except (Exception, SystemExit) as error:  # the model may raise anything
        if len(group) > 1:
            for item in group:
                yield from _together([item], call, stop_at)
            return
        results = [error]
    yield from zip(group, results, strict=True)
