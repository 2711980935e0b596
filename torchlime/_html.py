"""HTML without script or foreign host, and with every text escaped."""

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

Mark = tuple[int, int, str]  # begin, end, attributes


def document_start(title: str, style: str, images: bool = False) -> str:
    """The beginning of a page that needs no other file and no host; ``title`` is escaped.

    Args:
        title: HTML.
        style: CSS.
        images: the page holds its images itself, as data.
    """
    sources = "img-src data:; " if images else ""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        f"content=\"default-src 'none'; {sources}style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{style}</style>\n"
    )


def text_of(value: Any) -> str:
    r"""A text as HTML: escaped, with characters that no page may hold made visible.

    >>> print(text_of("<b>\n\x00"))
    &lt;b&gt;
    \ufffd
    """
    return escape("".join("\ufffd" if _forbidden(ord(c)) else c for c in str(value)))


def marked(text: str, marks: Iterable[Mark]) -> str:
    """A text with marked parts; positions count characters, as Python does.

    >>> marked("a < b", [(2, 3, 'title="less"')])
    'a <mark title="less">&lt;</mark> b'
    """
    return "".join(_marked(text, sorted(marks)))


def encoded(page: str) -> bytes:
    """A page in UTF-8; what is in no such text, half a character, is a number."""
    return page.encode("utf-8", "xmlcharrefreplace")


def _marked(text: str, marks: list[Mark]) -> Iterator[str]:
    last = 0
    for begin, end, attributes in marks:
        yield text_of(text[last:begin])
        yield f"<mark {attributes}>{text_of(text[begin:end])}</mark>"
        last = end
    yield text_of(text[last:])


def _forbidden(code: int) -> bool:
    return (code < 32 and code not in (9, 10, 13)) or 0x7F <= code < 0xA0
