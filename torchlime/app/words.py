"""Words: numbers as sentences, and names of files and classes as they are."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from torchlime._errors import first_line
from torchlime.cli.serving import named

_JOINERS = "\u200c\u200d"
_LETTER = "[A-Za-z0-9\x80-\U0010ffff]"
_USUAL = re.compile(  # a word in brackets or quotes, with single signs within, and a comma behind
    rf"""["'(“]*[+-]?{_LETTER}+(?:[-_.,'/+]{_LETTER}+)*%?["')]*[.,;:!?]*|[&-]"""
)
_LINK = re.compile(r"www\.", re.IGNORECASE)
# A backtick would end the code; Streamlit makes an icon of ":material/…" even in code.
_SPLIT = re.compile("(`|:(?=material/))")
_PIECES = {"`": "&#96;", ":": "&#58;"}


def fidelity_in_words(share: float) -> str:
    """A surrogate's R² as a sentence.

    >>> fidelity_in_words(0.634)
    'The linear surrogate explains 63 % of the model here: fairly well.'
    """
    if not share >= 0:  # it is NaN where coefficients do not add up, as for a sliding window
        return (
            "The evidence does not add up to the model's scores here; take each segment by itself."
        )
    word = _word(share, {0.8: "very well", 0.5: "fairly well"}, "poorly, so take it as a hint")
    return f"The linear surrogate explains {max(0, 100 * share):.0f} % of the model here: {word}."


def legend_in_words(category: str, *, faded: bool) -> str:
    """What the colours of an overlay mean.

    >>> legend_in_words("tabby", faded=False)
    'Blue speaks for tabby, orange against it.'
    """
    unseen = " The network did not see what is faded." if faded else ""
    return f"Blue speaks for {category}, orange against it.{unseen}"


def bars_in_words(unit: str, *, intervals: bool) -> str:
    """What the bars of segments mean."""
    lines = " Thin lines are 95 % intervals." if intervals else ""
    return (
        f"Hiding a segment lowers the {unit} by about the length of its blue bar, or raises it by "
        f"that of its orange bar.{lines}"
    )


def stability_in_words(correlation: float, overlap: float) -> str:
    """Spearman's ρ and the overlap of the five strongest as a sentence.

    >>> stability_in_words(0.97, 1.0).partition(":")[0]
    'Under the next seed the evidence is stable'
    """
    if math.isnan(correlation):
        return (
            "All segments count the same under one of the seeds, so there is no order to compare."
        )
    words = {0.65: "stable", 0.4: "similar"}  # 0.65: four of the top five are the same
    word = _word(min(correlation, overlap), words, "unstable (raise the samples)")
    return (
        f"Under the next seed the evidence is {word}: rank correlation {correlation:.2f}, "
        f"the top five overlap by {100 * overlap:.0f} %."
    )


def weights_in_words(model: str, weights: str | None, error: Exception) -> str:
    """Why a model has no weights, and what to do about it on the page or where it is started.

    >>> weights_in_words("resnet34", "my.pth", FileNotFoundError()).partition(". ")[0]
    'The weights of resnet34 should be in my.pth, but there is no such file'
    """
    start = f"start the page with their file: torchlime app --model {model}=FILE"
    if weights is None or named(weights):
        cause = getattr(error.__cause__, "reason", error.__cause__) or error  # of a URLError
        reason = getattr(cause, "strerror", None) or first_line(error.__cause__ or error)
        return (
            f"The weights of {model} are not on this machine and could not be downloaded "
            f"({reason}). Choose another model above. Or download them elsewhere, and {start}"
        )
    if not Path(weights).exists():
        return (
            f"The weights of {model} should be in {weights}, but there is no such file. Put it "
            f"there and choose the model again. Or choose another model above. Or {start}"
        )
    return (
        f"The weights of {model} could not be read from {weights}: {first_line(error)}. "
        f"Choose another model above. Or {start}"
    )


def _word(value: float, words: Mapping[float, str], lowest: str) -> str:
    return next((word for least, word in words.items() if value >= least), lowest)


# ---- Names ---------------------------------------------------------------------------------------


def spelled(text: str) -> str:
    """``text`` with escapes for letters that are invisible, or move the text around them.

    These are control and format characters (such as those that change the direction of writing),
    line ends, and what is not Unicode (names of files may be any bytes). Two joiners, which some
    languages and emoji need, stay.

    >>> spelled("caf\\udce9 \\u202egpj.exe")
    'caf\\\\udce9 \\\\u202egpj.exe'
    """
    return "".join(_escape(one) if _unseen(one) else one for one in text)


def _unseen(letter: str) -> bool:
    kind = unicodedata.category(letter)
    return letter not in _JOINERS and (kind[0] == "C" or kind in ("Zl", "Zp"))


def _escape(letter: str) -> str:
    return letter.encode("unicode-escape", "surrogatepass").decode()


def plain(text: str) -> str:
    """``text`` for Streamlit's Markdown, which shows it as it is.

    Convention:
        Markdown's own signs are escaped. Streamlit also replaces other texts, which no escape
        protects: ``:streamlit:``, ``:smile:``, ``->``, addresses. So a word of anything but
        letters, digits and the usual punctuation is shown as code, in which no sign has a meaning.
        Spaces that a page would drop become spaces that do not break.

    >>> print(plain("![x](y) *z*, 1 -> 2"))
    `![x](y)` `*z*,` 1 `->` 2
    >>> print(plain("tiger cat (n02123159), 38.3%"))
    tiger cat \\(n02123159\\)\\, 38\\.3\\%
    """
    held = re.sub("^ | $|(?<= ) | (?= )", "\u00a0", spelled(text))
    words = re.sub(r"\S+", lambda word: _word_of(word[0]), held)
    return words.replace("\u00a0", "&#160;")


def _word_of(word: str) -> str:
    if _USUAL.fullmatch(word) and not _LINK.search(word):
        return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", word)
    places = enumerate(_SPLIT.split(word))  # alternately what becomes code, and what cannot
    return "".join(_PIECES[one] if place % 2 else f"`{one}`" for place, one in places if one)


def distinct(texts: Sequence[str]) -> list[str]:
    """``texts``, each with a number behind it if it occurs more than once, to tell them apart.

    >>> distinct(["crane", "tench", "crane"])
    ['crane (1)', 'tench', 'crane (2)']
    """
    total, seen = Counter(texts), Counter[str]()
    numbered = []
    for text in texts:
        seen[text] += 1
        numbered.append(f"{text} ({seen[text]})" if total[text] > 1 else text)
    return numbered
