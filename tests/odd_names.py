"""Names that a page may take for something else, and a Streamlit script that shows them."""

NAMES = [
    ":streamlit:", ":smile:", ":material/home:", ":material_home:", ":red[danger]",
    ":blue-badge[x]", ":small[x]", ":shield:cat:dog:", "a:cat:b", ":+1:", "::", ":", "->", "<-",
    "<->", "a -> b", "-- x", "a -- b", "1 >= 2", "1 <= 2", "a ~= b", "$x$", "$$x^2$$",
    "costs $5 or $6", "`code`", "``", "`", "a`$5`b$ -> `", "**bold**", "_it_", "~~gone~~",
    "~a~", "# head", "- item", "+ item", "1. one", "1) one", "> quote", "| a | b |", "---",
    "===", "***", "<b>bold</b>", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "<!-- x -->", "&amp;", "&#58;", "&copy", "[x](http://evil.example)",
    "![x](http://evil.example/y.png)", "http://evil.example", "https://evil.example/a_b",
    "www.evil.example", "see WWW.evil.example now", "me@evil.example", "mailto:me@evil.example",
    "[ ] todo", "[^1]", "[x]: y", "\\", "a\\b", "\\*", "a  b", "  lead", "trail  ", "tab\tbed",
    "two\nlines", "\u202egpj.exe", "\u2066x\u2069", "zero\u200bwidth", "caf\udce9", "nul\x00",
    "\x1b[31m", "line\u2028sep", "bell\x07", "\ufeffbom", "tiger cat",
    "Egyptian Mau, n02124075", "black & white", "it's (a) 'cat'", "50%", "-5", "C++", "a/b",
    "猫", "🐈", "👩\u200d🚀", "قطة", "नमस्ते", "é", "{{x}}", "{x}", "^a^", "==a==", ":::note",
    "::leaf[x]{a=b}", ":a", "x:y", "a: b", "cat.png", "...", "--", "x--y", "'->'", "\"", "(c)",
    ":streamlit", "::streamlit::", "::smile::", ":material/", "C:\\x",
]  # fmt: skip


KINDS = ("markdown", "subheader", "error", "caption", "progress")


def show():
    """Each name wherever the page shows names."""
    import streamlit as st

    from torchlime.app.words import plain, spelled

    for kind in KINDS:
        with st.container(key=kind):
            for name in NAMES:
                values = (0.5, plain(name)) if kind == "progress" else (plain(name),)
                settings = {"anchor": False} if kind == "subheader" else {}
                _ = getattr(st, kind)(*values, **settings)  # Streamlit shows a bare value
    st.selectbox("names", NAMES, format_func=spelled)


if __name__ == "__main__":
    show()
