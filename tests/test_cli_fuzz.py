"""Generated command lines and files: one sentence for each error, nothing half-written."""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from torchlime import Explanation, cli

WORDS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12)
NUMBERS = st.one_of(
    st.integers(-2, 40).map(str), st.sampled_from(["1e3", "nan", "inf", "-0.5", "0.5", "٣", ""])
)


def option(name, good, bad=WORDS):
    """A flag with a value: three in four make sense."""
    values = st.one_of(good, good, good, bad)
    return values.map(lambda value: [f"--{name}={value}"])


def words(*values):
    return st.sampled_from(values)


FLAGS = st.one_of(
    option("model", words(*[f"tests.tiny:{n}" for n in (
        "bright", "uncropped", "unnamed", "nan", "chatty", "broken", "fails", "missing")])),
    option("weights", words("DEFAULT", "none", "0.bin", "folder")),
    option("output", words("softmax", "logit", "sigmoid", "none")),
    option("top", words("1", "2", "3"), NUMBERS),
    option("target", words("0", "1", "green", "RED", "navy blue", "crimson"), NUMBERS),
    option("samples", words("16", "40"), NUMBERS),
    option("segments", words("1", "4", "9"), NUMBERS),
    option("segmenter", words("slic", "grid")),
    option("segment-side", words("0", "8", "1024"), NUMBERS),
    option("sampler", words("orthogonal", "bernoulli", "bernoulli:0.3", "fixed-count:0.5")),
    option("fill", words("mean", "image-mean", "blur:2", "#08f0a0", "0", "1")),
    option("kernel", words("exponential", "exponential:1", "inverse-distance", "without-unmasked")),
    option("surrogate", words("ridge", "ridge:0", "lasso", "lasso:0.5", "least-squares")),
    option("strongest", words("1", "3", "100"), NUMBERS),
    option("seed", words("0", "-7", "123456789012345678"), NUMBERS),
    option("device", words("auto", "cpu", "meta", "cpu:0")),
    option("dtype", words("fp32", "bf16", "fp16")),
    option("out", words("out.png", "folder", "folder/{photo}{target}.png", "0.png", "no/x.png")),
    option("save", words("out.npz", "folder", "{photo}.npz", "{target}.npz")),
    option("max-side", words("0", "50", "2000"), NUMBERS),
    option("config", words("good.toml", "bad.toml", "0.bin")),
    words(["--json"], ["--debug="], ["--nonsense"], ["--", "x.png"], ["-h"]),
)  # fmt: skip


@st.composite
def files(draw):
    """Bytes of a photo in some format, perhaps damaged; or any bytes."""
    kind = draw(words("PNG", "PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "bytes"))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    size = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    mode = draw(words(*{"PNG": ["RGB", "RGBA", "P", "L", "LA", "1", "I;16"],
                        "TIFF": ["RGB", "CMYK", "F", "LAB"], "JPEG": ["RGB", "CMYK", "L"]
                        }.get(kind, ["RGB"])))  # fmt: skip
    image = Image.linear_gradient("L").resize(size)
    image = image.convert("I").convert(mode) if mode == "I;16" else convert(image, mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    data = bytearray(buffer.getvalue())
    damage = draw(words("none", "none", "none", "none", "none", "cut", "flip", "insert"))
    place = draw(st.integers(0, len(data) - 1))
    if damage == "cut":
        del data[place:]
    elif damage == "flip":
        data[place] ^= draw(st.integers(1, 255))
    elif damage == "insert":
        data[place:place] = draw(st.binary(min_size=1, max_size=20))
    return bytes(data)


def convert(image, mode):
    return (
        image.convert("RGB").convert(mode) if mode in ("CMYK", "LAB", "P") else image.convert(mode)
    )


TOML = st.one_of(
    WORDS,
    st.dictionaries(words("samples", "fill", "target", "seed", "smaples", "json", "photos"),
                    words("16", '"green"', "[1]", "0.5", "true", "{a=1}", "1979-05-27", "inf", "["),
                    max_size=3).map(lambda d: "\n".join(f"{k} = {v}" for k, v in d.items())),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    flags=st.lists(FLAGS, max_size=3),
    photos=st.lists(files(), max_size=3),
    missing=st.booleans(),
    toml=TOML,
)
def test_any_command_line(flags, photos, missing, toml):
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.mkdir("folder")
        for index, data in enumerate(photos):
            Path(f"{index}.bin").write_bytes(data)
        Path("bad.toml").write_text(toml, encoding="utf-8")
        Path("good.toml").write_text('model = "tests.tiny:nan"\ntarget = ["green", 0]\n')
        names = [path for path in ("0.bin", "1.bin", "2.bin") if os.path.exists(path)]
        names += ["missing.png"] * (missing or not names)
        before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

        code, out, err = call(
            ["explain", *names, "--model=tests.tiny:bright", "--samples=24", "--segments=6",
             *(word for flag in flags for word in flag)]
        )  # fmt: skip

        event(f"exit code {code}, {len(lines_of(err))} sentences")
        assert code in (0, 1, 2)
        lines = lines_of(err)
        assert all(line.startswith("torchlime: ") for line in lines)
        lines = [line for line in lines if not line.startswith("torchlime: warning: ")]
        assert bool(lines) == bool(code)
        assert "Traceback" not in err
        assert code != 2 or (len(lines) == 1 and not out)
        after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        new = set(after) - set(before)
        assert {path: after[path] for path in before} == before
        assert not new or code != 2
        for path in new:
            assert_whole(path)
        told = flags[: flags.index(["--", "x.png"])] if ["--", "x.png"] in flags else flags
        if code != 2 and ["--json"] in told and ["-h"] not in told:
            document = json.loads(out)
            assert sum("error" in photo for photo in document["photos"]) == len(lines)


def lines_of(err):
    return [line for line in err.splitlines() if line != "hello from a model"]


def call(argv):
    """The exit code of the program, its stdout and its stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(argv)
        except SystemExit as stop:  # --help
            code = stop.code
    return code, out.getvalue(), err.getvalue()


def assert_whole(path):
    if path.suffix == ".npz":
        Explanation.load(path).check()
    elif path.suffix == ".json":
        assert json.loads(path.read_text())["settings"]
    else:
        assert path.suffix == ".png"
        with Image.open(path) as image:
            image.load()
