"""Rows as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """
    >>> print(markdown(["what", "ms"], [["masks", 1.5]]))
    | what | ms |
    |---|---|
    | masks | 1.5 |
    """
    lines = [head, ["---"] * len(head), *rows]
    texts = [" | ".join(str(cell) for cell in line) for line in lines]
    return "\n".join("|---" * len(head) + "|" if "---" in t else f"| {t} |" for t in texts)


def milliseconds(reading: Mapping[str, Any]) -> str:
    """
    >>> milliseconds({"median": 0.0123, "spread": 0.0004})
    '12.3 ± 0.4'
    """
    return f"{digits(reading['median'] * 1e3)} ± {digits(reading['spread'] * 1e3)}"


def percent(ratio: Mapping[str, Any]) -> str:
    """A ratio as what it exceeds one by.

    >>> percent({"median": 1.0312, "spread": 0.004})
    '+3.1 % ± 0.4'
    """
    return f"{(ratio['median'] - 1) * 100:+.1f} % ± {ratio['spread'] * 100:.1f}"


def digits(value: float) -> str:
    """Three significant digits, and all before the point.

    >>> digits(12.345), digits(0.012345), digits(12345.6), digits(0)
    ('12.3', '0.0123', '12346', '0')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def mebibytes(number: float) -> str:
    """
    >>> mebibytes(3 * 2**20)
    '3'
    """
    return f"{number / 2**20:.0f}"
