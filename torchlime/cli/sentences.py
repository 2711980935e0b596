"""Sentences of the library about its arguments, in the words of the command line."""

import re

_RAISE = "raise --samples (or --most-samples, if samples are drawn by need)"

# Words of the library → what a user of the command line typed, or can type.
_IN_FLAGS = (
    (
        r"raise num_samples, take fewer segments, or use a wider kernel",
        f"{_RAISE}, or lower --segments",
    ),
    (r"raise num_samples, (?:take fewer \w+, )?or use a wider kernel", _RAISE),
    (r"\bask for more segments: Slic\(.*?\), or a label map of your own", "raise --segments"),
    (r"\bReduced\(Slic\(\), max_side=\.\.\.\)", "--segment-side"),
    (r"\bGrid\((\d+), (\d+)\)(?= does not fit)", r"--segmenter grid of \1×\2 cells"),
    (r"\bnum_samples\b", "--samples"),
    (r"\brounds: (?=Until|a fixed)", "--until: "),
    (r"\bmost=(?=\d+ is below)", "--most-samples "),
    (r"\braise most\b", "raise --most-samples"),
    (r" \(max_segments\)", ""),
    (r"\bbins=None\b", "--bins none"),
    (r"\bpass bins=Quantiles\(4\)", "pass --bins quartiles"),
    (r"\btop=(?=\d)", "--top "),
    (r"\b(?:targets|classes)=(?=\d)", "--target "),
    (r"\b(?:output|unit)='(\w+)'", r"--output \1"),
)
# Parts of a path or of the name of a file, and what stands in quotes, are the user's.
_APART = r"""(?<![/\\'".-])(?:{})(?![/\\'"-]|\.\w)"""


def in_flags(sentence: str) -> str:
    """A sentence of the library in which flags stand in the place of Python's arguments.

    >>> in_flags("most=9 is below the first check, after 65 rows; raise most to 65 or above")
    '--most-samples 9 is below the first check, after 65 rows; raise --most-samples to 65 or above'
    """
    for pattern, words in _IN_FLAGS:
        sentence = re.sub(_APART.format(pattern), words, sentence)
    return sentence
