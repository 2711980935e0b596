"""Letters: a picture has one typeface, Pillow's own or one that has the glyphs of its text.

Pillow carries a font, so that text needs no file and no network. That font has ASCII and little
more. Where a text has other letters, the first of these fonts that has all of them writes the whole
text: matplotlib's DejaVu Sans, then fonts of the system by their usual names, in
:data:`SYSTEM_FONTS`. Where no font has all of them, the one that lacks the fewest writes the text.
Then accents are left off, and a letter that is still unknown is shown as a box.
"""

import importlib.util
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansBengali-Regular.ttf",
    "NotoSansTamil-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "Arial Unicode.ttf",  # macOS
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "segoeui.ttf",  # Windows
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "Nirmala.ttf",
)
_ELLIPSIS = "..."


@dataclass(frozen=True)
class Face:
    """A typeface; :func:`face_of` finds the one for a picture's texts.

    Attributes:
        file: the font's file, as ``ImageFont.truetype`` takes it; "" is Pillow's own.
    """

    file: str = ""

    def font(self, size: float) -> "FreeTypeFont":
        """The font at ``size`` pixels an em, rounded: other sizes space the letters unevenly."""
        return _font(self.file, max(1, round(size)))

    def readable(self, text: str) -> str:
        """``text`` in one line, without those accents that the font does not have."""
        return "".join(self._letter(letter) for letter in _plain(text))

    def width(self, text: str, size: float) -> float:
        """The length of a line in pixels."""
        return self.font(size).getlength(text)

    def cap(self, size: float) -> float:
        """The height of a digit in pixels."""
        return -self.font(size).getbbox("0", anchor="ls")[1]

    def lines(self, text: str, size: float, width: float, most: int = 4) -> list[str]:
        """``text`` in lines of ``width`` pixels at most, broken at spaces where there are any."""
        lines = broken(self.readable(text), lambda part: self.width(part, size), width, most)
        return [*lines[:-1], self.shortened(lines[-1], size, width)] if lines else []

    def shortened(self, text: str, size: float, width: float) -> str:
        """``text`` without its middle where it is too wide: names often differ at their end."""
        text = self.readable(text)
        if self.width(text, size) <= width:
            return text
        for kept in range(len(text) - 1, 1, -1):
            tail = kept // 2
            short = text[: kept - tail].rstrip() + _ELLIPSIS + text[len(text) - tail :].lstrip()
            if self.width(short, size) <= width:
                return short
        return text[:1]

    def _letter(self, letter: str) -> str:
        if _has(self.file, letter):
            return letter
        bare = "".join(c for c in unicodedata.normalize("NFKD", letter) if c.isascii())
        return bare or letter


def broken(text: str, measure: Callable[[str], float], room: float, most: int) -> list[str]:
    """``text`` in at most ``most`` lines; only the last may be longer than there is room.

    Lines break at spaces where there are any. ``measure`` gives the length of a line.
    """
    lines: list[str] = []
    while text:
        length = len(text) if len(lines) == most - 1 else _fitting(text, measure, room)
        if length < len(text):
            space = text.rfind(" ", 0, length + 1)
            length = space if space > 0 else length
        lines.append(text[:length].rstrip())
        text = text[length:].lstrip()
    return lines


def _fitting(text: str, measure: Callable[[str], float], room: float) -> int:
    """How many letters of ``text`` fit; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = measure(text[:middle].rstrip()) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def face_of(*texts: str) -> Face:
    """The first typeface that has every letter of ``texts``, else the one that lacks the fewest."""
    letters = {letter for text in texts for letter in _plain(text) if not letter.isascii()}
    return _face_of("".join(sorted(letters)))


@lru_cache(maxsize=256)
def _face_of(letters: str) -> Face:
    fewest, best = len(letters) + 1, ""
    for file in _files():
        missing = sum(not _has(file, letter) for letter in letters)
        if missing < fewest:
            fewest, best = missing, file
        if not fewest:
            break
    return Face(best)


def _files() -> "list[str]":
    """Fonts to try, the first choice first; those of the system need not exist."""
    found = importlib.util.find_spec("matplotlib")
    own = []
    if found is not None and found.origin is not None:
        own = [str(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")]
    return ["", *own, *SYSTEM_FONTS]


@lru_cache(maxsize=64)
def _font(file: str, size: int) -> "FreeTypeFont":
    from PIL import ImageFont

    if file:
        return ImageFont.truetype(file, size)
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):  # a Pillow that was built without FreeType
        raise ImportError("text on a picture needs a Pillow with FreeType: pip install pillow")
    return font


@lru_cache(maxsize=4096)
def _has(file: str, letter: str) -> bool:
    """Whether a font has a glyph of its own for ``letter``; False where there is no such font."""
    if letter.isascii():
        return True
    unknown = _unknown(file)
    if unknown is None:
        return False
    return bytes(_font(file, 20).getmask(letter)) != unknown


@lru_cache(maxsize=64)
def _unknown(file: str) -> bytes | None:
    """What a font draws for a letter that it does not have; None where there is no such font."""
    try:
        return bytes(_font(file, 20).getmask("\uffff"))
    except OSError:
        return None


def _plain(text: str) -> str:
    """``text`` in one line of proper Unicode: names of files may be any bytes."""
    proper = text.encode("utf-8", "replace").decode()
    shown = (letter for letter in " ".join(proper.split()) if letter.isprintable())
    return unicodedata.normalize("NFC", "".join(shown))
