"""Names on the page: whatever they are made of, they are shown as they are."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.odd_names import NAMES
from torchlime.app.words import distinct, plain, spelled

markdown = pytest.importorskip("markdown_it", reason="pip install markdown-it-py")
# What Streamlit 1.67 turns into something else in text, after Markdown has been read.
BEHIND = re.compile(
    r":[+\w-]+:|:material_|:streamlit:|(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)|www\.|https?://|\S@\S",
    re.IGNORECASE,
)
PARTS = st.sampled_from([
    ":", "->", "<-", "--", "streamlit", ":smile:", ":material/home:", ":red[", "]", "`", "``", "$",
    "$$", "\\", "&amp;", "&#58;", "<b>", "</b>", "<!--", "*", "_", "~", "#", "> ", "- ", "1. ", "|",
    "![x](y)", "www.", "http://a.b", "a@b.c", " ", "  ", "\t", "\n", "\u202e", "\u200d", "cat", "é",
    "猫", "🐈", "(", ")", "%", "=", "+", ".", ",", "\udce9", "\x00", "\u00a0", "\u2028", "'", '"',
])  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PARTS, max_size=8).map("".join))


def shown(source):
    """The text and the code that Markdown shows, and each run of text alone."""
    blocks = markdown.MarkdownIt("commonmark").enable("strikethrough").enable("table").parse(source)
    assert [block.type for block in blocks] in (
        [], ["paragraph_open", "inline", "paragraph_close"]
    ), blocks  # fmt: skip
    parts, runs = [], [""]
    for part in blocks[1].children if blocks else []:
        assert part.type in ("text", "text_special", "code_inline"), part
        parts.append(part.content)
        if part.type == "code_inline":
            runs.append("")
        else:
            runs[-1] += part.content
    return "".join(parts), runs


@given(TEXTS)
def test_markdown_shows_a_name_as_it_is(text):
    source = plain(text)
    seen, runs = shown(source)
    assert seen.replace("\u00a0", " ") == spelled(text).replace("\u00a0", " ")
    assert not [run for run in runs if BEHIND.search(run)]
    assert ":material/" not in source


@given(TEXTS)
def test_what_is_not_seen_is_spelled(text):
    for letter in spelled(text):
        assert unicodedata.category(letter) not in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
        assert letter in "\u200c\u200d" or unicodedata.category(letter) != "Cf"
    if text.isascii() and text.isprintable():
        assert spelled(text) == text


@given(st.from_regex(r"[A-Za-z]+([ -][A-Za-z]+)*(, [a-z]+)*\.?", fullmatch=True))
def test_ordinary_names_are_text(name):
    assert "`" not in plain(name)


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(name):
    assert shown(plain(name))[0].replace("\u00a0", " ") == spelled(name).replace("\u00a0", " ")


@given(st.lists(st.sampled_from(["crane", "tench", "crane (1)"])))
def test_the_same_names_are_numbered(names):
    numbered = distinct(names)
    assert [one.removesuffix(f" ({names[:i + 1].count(names[i])})") if names.count(names[i]) > 1
            else one for i, one in enumerate(numbered)] == names  # fmt: skip
