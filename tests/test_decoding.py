"""Photos decoded elsewhere: the same pixels, within limits, whatever becomes of the process."""

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.jobs.folder import alive
from torchlime import models
from torchlime.models import Decoder, Geometry, Limits, decoding, headers, read_photo
from torchlime.models.limits import memory_for

pytestmark = pytest.mark.skipif(not decoding.POSSIBLE, reason="needs processes of Unix")
CRASHING = Path(__file__).with_name("crashing_decoder.py")


def noise(size=(90, 60), mode="RGB"):
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans(copies, size=(1024, 1024)):
    """A small progressive JPEG whose last scan is there again and again."""
    image = Image.new("RGB", size, "gray")
    image.putpixel((5, 5), (200, 10, 30))
    data = saved(image, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * copies + b"\xff\xd9"


def slow_jpeg():
    """A photo that takes many seconds to decode."""
    return many_scans(480, (8000, 8000))


def long_png(height=89_000_000):
    """A photo one pixel wide, in a few bytes."""

    def chunk(kind, data=b""):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 64)), chunk(b"IEND")]
    )


@pytest.fixture
def crashing(monkeypatch):
    monkeypatch.setattr(decoding, "_PROGRAM", CRASHING)


WIDE = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30))
FILES = {
    "a.jpg": lambda: saved(noise(), "JPEG"),
    "a.png": lambda: saved(noise(mode="LA"), "PNG"),
    "a.tif": lambda: saved(noise(mode="CMYK"), "TIFF"),
    "a.gif": lambda: saved(noise(mode="P"), "GIF"),
    "a.webp": lambda: saved(noise(), "WEBP", save_all=True, append_images=[noise(mode="L")]),
    "wide.png": lambda: saved(WIDE, "PNG"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_same_pixels_wherever_they_are_decoded(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    expected = np.asarray(read_photo(path))
    for photo in (path, path.read_bytes()):
        assert np.array_equal(np.asarray(models.read_photo_within(photo)), expected)
    small = Geometry(resize=(40, 40), crop=(32, 36))
    with Decoder(Limits(memory=16)) as whole, Decoder(Limits(), small) as cut:
        picture = whole.read(path, name)
        assert np.array_equal(np.frombuffer(picture.pixels, np.uint8), expected.ravel())
        picture = cut.read(path, name)
    pixels = np.frombuffer(picture.pixels, np.uint8).reshape(*picture.shape, 3).transpose(2, 0, 1)
    scaled = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    assert torch.equal(scaled, small.cut(read_photo(path)))


def test_what_a_header_proves_to_be_cheap():
    for data in (FILES["a.jpg"](), FILES["a.png"](), saved(noise(), "WEBP"),
                 saved(noise(), "WEBP", lossless=True), saved(noise(mode="RGBA"), "WEBP"),
                 saved(noise(), "JPEG", progressive=True)):  # fmt: skip
        assert headers.header_of(data)[:2] == (90, 60)
        assert headers.is_cheap(data)
    for data in (
        FILES["a.tif"](),
        FILES["a.gif"](),
        FILES["a.webp"](),
        many_scans(300),
        b"",
        long_png(),
        saved(noise(), "JPEG")[:30],
        b"\xff\xd8\xff",
        b"RIFF0000WEBPVP8 ",
    ):
        assert not headers.is_cheap(data)


def test_a_jpeg_whose_scans_take_for_ever_is_refused():
    data = slow_jpeg()
    reason = r"^it.jpg cannot be decoded: it takes more than the 0.5 s that are allowed"
    with pytest.raises(ValueError, match=reason):
        models.read_photo_within(data, Limits(seconds=0.5), name="it.jpg")


def test_a_jpeg_of_more_scans_than_anybody_writes_is_refused_at_once(tmp_path):
    (tmp_path / "it.jpg").write_bytes(data := many_scans(30_000))
    reason = r"is a JPEG of 30009 scans, more than the 500 that are read"
    for photo in (data, tmp_path / "it.jpg"):
        with pytest.raises(ValueError, match=reason):
            models.read_photo_within(photo)
    with Decoder(Limits()) as decoder, pytest.raises(ValueError, match=reason):
        decoder.read(tmp_path / "it.jpg", "it.jpg")
    assert models.read_photo_within(many_scans(400, (64, 64))).size == (64, 64)


def test_what_lies_behind_a_jpegs_end_or_in_its_segments_is_no_scan(tmp_path):
    behind = np.random.default_rng(1).bytes(8_000_000)  # such as a motion photo's film
    assert behind.count(b"\xff\xda") > 50
    comment = b"\xff\xfe" + struct.pack(">H", 60_002) + b"\xff\xda" * 30_000
    for progressive, scans in ((False, 1), (True, 10)):
        plain = saved(noise(), "JPEG", progressive=progressive)
        assert plain.count(b"\xff\xda") == scans
        for data in (
            plain,
            plain + b"\xff\xda" * 600 + behind,
            plain[:2] + comment + plain[2:],
            plain[:-2] + comment + plain[-2:],
            plain[:-2] + b"\xff" * 1_000_000 + plain[-2:],  # fill bytes
        ):
            assert headers.header_of(data) == (90, 60, scans)
            assert headers.is_cheap(data)
            (tmp_path / "it.jpg").write_bytes(data)
            expected = np.asarray(read_photo(tmp_path / "it.jpg"))
            for photo in (data, tmp_path / "it.jpg"):
                assert np.array_equal(np.asarray(models.read_photo_within(photo)), expected)
            with Decoder(Limits()) as decoder:
                assert decoder.read(tmp_path / "it.jpg", "it").pixels == expected.tobytes()


def test_a_jpeg_of_more_markers_than_are_followed_is_not_cheap():
    data = saved(noise(), "JPEG")
    assert headers.header_of(data[:2] + b"\xff\xfe\0\2" * 99_000 + data[2:]) == (90, 60, 1)
    many = data[:2] + b"\xff\xfe\0\2" * 100_000 + data[2:]
    assert headers.header_of(many) is None
    assert models.read_photo_within(many).size == (90, 60)


def test_memory_is_known_from_the_header_before_it_is_taken():
    with pytest.raises(ValueError, match=r"1×89000000 pixels may take 8487 MiB to decode"):
        models.read_photo_within(long_png())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of Linux")
def test_memory_that_the_header_does_not_tell_is_refused_too():
    grey = Image.new("I", (4000, 2500), 7)
    limit = memory_for(*grey.size) // 2**20
    with pytest.raises(ValueError, match=f"more than the {limit} MiB of memory that are allowed"):
        models.read_photo_within(saved(grey, "TIFF"), Limits(memory=limit))


REASONS = {
    "segv": r"the process that decodes it crashes \(SIGSEGV\)",
    "exit": r"it ends the process that decodes it \(SystemExit: 3\)",
    "leave": "the process that decodes it ends with code 7",
    "memory": "it takes more than the 2048 MiB of memory",
    "kill": r"is killed each time \(by SIGKILL\)",
    "halfdead": r"is killed each time \(by SIGKILL\)",
    "hang": "it takes more than the 1 s",
    "half": "it takes more than the 1 s",
    "stop": "it takes more than the 1 s",
    "nonsense": "answers nonsense",
}


@pytest.mark.parametrize("word", REASONS)
def test_a_photo_that_ends_or_stalls_its_decoder_is_refused_and_no_other(crashing, tmp_path, word):
    noise().save(tmp_path / f"{word} it.png")
    noise().save(tmp_path / f"once {word}.png")
    with Decoder(Limits(seconds=1 if word in ("hang", "half", "stop") else 20)) as decoder:
        for _ in range(2):
            path = tmp_path / f"{word} it.png"
            with pytest.raises(
                ValueError, match=f"{word} it.png cannot be decoded: .*{REASONS[word]}"
            ):
                decoder.read(path, str(path))
            path = tmp_path / f"once {word}.png"
            assert decoder.read(path, str(path)).size == (90, 60)


def test_a_slow_drive_is_no_fault_of_a_photo(crashing, monkeypatch, tmp_path):
    path = tmp_path / "drive it.jpg"
    path.write_bytes(FILES["a.jpg"]())
    with Decoder(Limits(seconds=1)) as decoder:
        assert decoder.read(path, "it.jpg").size == (90, 60)
    monkeypatch.setattr(decoding, "_SECONDS_OF_READING", 0.5)
    reason = r"^it.jpg cannot be decoded: its file was not read within 0.5 s.*--retry\)$"
    with Decoder(Limits()) as decoder:
        with pytest.raises(ValueError, match=reason):
            decoder.read(path, "it.jpg")
        assert decoder.read(FILES["a.jpg"](), "it.jpg").size == (90, 60)


def test_a_decoder_loads_no_torch_and_ends_with_its_context(tmp_path):
    with Decoder(Limits()) as decoder:
        decoder.read(FILES["a.jpg"](), "it")
        pid = decoder._process.pid
        maps = Path(f"/proc/{pid}/maps")
        assert not maps.exists() or "torch" not in maps.read_text()
    assert not alive(pid)
    with pytest.raises(models.NoDecoder, match="stopped"):
        decoder.read(b"x", "it")


NOT_STARTED = {
    "import sys; sys.exit(4)": ": it ends with code 4",
    "import os; os.kill(os.getpid(), 9)": ": it is killed each time (by SIGKILL), as by a system "
    "that is short of memory",
    "import os; os.kill(os.getpid(), 11)": ": it crashes (SIGSEGV)",
    "import time; time.sleep(1000)": " within 0.3 s",
}


def test_a_decoder_that_cannot_start_is_no_photos_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(decoding, "_PROGRAM", tmp_path / "none.py")
    for program, reason in NOT_STARTED.items():
        (tmp_path / "none.py").write_text(program)
        seconds = 0.3 if "within" in reason else 10.0
        monkeypatch.setattr(decoding, "_SECONDS_OF_A_START", seconds)
        with pytest.raises(models.NoDecoder) as raised:
            models.read_photo_within(FILES["a.tif"](), name="it.tif")
        assert str(raised.value) == f"a process that decodes photos did not start{reason}"
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: b"/no/python")
    with pytest.raises(models.NoDecoder, match=r"did not start: .*No such file"):
        models.read_photo_within(FILES["a.tif"]())


def test_a_decoder_that_is_killed_once_while_it_starts_is_started_again(monkeypatch, tmp_path):
    flag = tmp_path / "flag"
    (tmp_path / "once.py").write_text(
        f"import os, pathlib, runpy, sys; flag = pathlib.Path({str(flag)!r})\n"
        "if not flag.exists():\n    flag.touch()\n    os.kill(os.getpid(), 9)\n"
        f"runpy.run_path({str(decoding._PROGRAM)!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(decoding, "_PROGRAM", tmp_path / "once.py")
    assert models.read_photo_within(FILES["a.tif"]()).size == (90, 60)
    assert flag.exists()


def test_many_threads_read_at_once():
    photos = [FILES["a.tif"](), slow_jpeg(), b"hello"] * 2
    found = {}

    def read(number):
        try:
            found[number] = models.read_photo_within(photos[number], Limits(seconds=1)).size
        except ValueError as error:
            found[number] = str(error)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(len(photos))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[0], found[3]] == [(90, 60)] * 2
    assert all("takes more than" in found[n] for n in (1, 4))
    assert all("not an image" in found[n] for n in (2, 5))


def test_only_the_formats_that_are_allowed(tmp_path):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for data in (eps, FILES["a.tif"]()):
        with pytest.raises(ValueError, match="not an image that Pillow can read"):
            models.read_photo_within(data, formats=["JPEG", "PNG"])


@pytest.mark.parametrize("bad", [{"seconds": 0}, {"pixels": -1}, {"memory": float("nan")}])
def test_limits_are_above_zero(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be a finite number above 0"):
        Limits(**bad)


# Files that are none


def test_only_regular_files_are_photos(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, reason in {tmp_path / "pipe.jpg": "is a pipe", "/dev/zero": "is a device"}.items():
        for read in (read_photo, models.read_photo_within, models.read_checkpoint):
            with pytest.raises(ValueError, match=f"{path} {reason}, not an? (image|checkpoint)"):
                read(path)


# Pages


def pages(count, **options):
    rest = [noise((50 + n, 40)) for n in range(1, count)]
    return saved(noise((50, 40)), "TIFF", save_all=True, append_images=rest, **options)


@pytest.mark.parametrize("read", [read_photo, models.read_photo_within])
def test_one_of_several_pages_has_to_be_chosen(tmp_path, read):
    path = tmp_path / "13.tif"
    path.write_bytes(pages(13))
    with pytest.raises(ValueError, match=r"13.tif has 13 pages: choose one with page=N \(--page N"):
        read(path)
    assert [read(path, page=n).size for n in (1, 2, 13)] == [(50, 40), (51, 40), (62, 40)]
    with pytest.raises(ValueError, match="13.tif has 13 pages, not 14"):
        read(path, page=14)
    with pytest.raises(ValueError, match="page must be at least 1"):
        read(path, page=0)
    path.write_bytes(pages(1))
    assert read(path).size == read(path, page=1).size == (50, 40)


def test_a_smaller_copy_in_a_tiff_is_no_page(tmp_path):
    path = tmp_path / "it.tif"
    small = noise((20, 10))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    noise((50, 40)).save(path, "TIFF", save_all=True, append_images=[small])
    with Image.open(path) as opened:
        opened.seek(1)
        assert opened.tag_v2[254] == 1
    assert read_photo(path).size == (50, 40)


def test_of_an_animation_the_first_frame_is_meant_and_others_can_be_chosen(tmp_path):
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "lime", "blue")]
    for name in ("it.gif", "it.png", "it.webp"):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
        colours = [np.asarray(read_photo(path, page=n))[9, 9] for n in (None, 1, 3)]
        assert [int(colour.argmax()) for colour in colours] == [0, 0, 2]
        with pytest.raises(ValueError, match="has 3 pages, not 4"):
            models.read_photo_within(path, page=4)


def test_pages_are_of_files_alone():
    with pytest.raises(ValueError, match="page= goes with the path of a file, got a Image"):
        read_photo(noise(), page=1)
