"""Archives that claim what they do not hold, told before they are inflated."""

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from torchlime._archives import check_archive


def archive(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer


def with_header(text, data=b""):
    """An archive of one array with such a header."""
    header = text.encode().ljust(117) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(
            "a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data
        )
    return buffer


def cut_header():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.npy", b"\x93NUMPY\x02\0" + b"\1")
    return buffer


def test_shapes_and_types_of_a_good_archive(tmp_path):
    buffer = archive(a=np.zeros((2, 3)), b=np.array("text"), c=np.zeros((0, 4), bool))
    found = check_archive(buffer)
    assert found == {
        "a": ((2, 3), np.dtype("f8")), "b": ((), np.dtype("<U4")), "c": ((0, 4), np.dtype(bool)),
    }  # fmt: skip
    (tmp_path / "it.npz").write_bytes(buffer.getvalue())
    assert check_archive(tmp_path / "it.npz") == found
    buffer.seek(7)
    check_archive(buffer)
    assert buffer.tell() == 7
    np.savez(plain := io.BytesIO(), a=np.ones(3))
    assert check_archive(plain) == {"a": ((3,), np.dtype("f8"))}


def test_a_bomb_is_refused_before_it_takes_memory():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open("a.npy", "w") as one:
        np.lib.format.write_array_header_1_0(
            one, {"descr": "|u1", "fortran_order": False, "shape": (2**26,)}
        )
        for _ in range(64):
            one.write(bytes(2**20))
    assert len(buffer.getvalue()) < 2**17
    tracemalloc.start()
    with pytest.raises(ValueError, match="would take 67108992 bytes of memory, more than 16777216"):
        check_archive(buffer, most=2**24)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("claimed", [2**30, 10_001])
def test_a_header_that_is_a_bomb_is_not_inflated(claimed):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open("a.npy", "w") as one:
        one.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", claimed))
        for _ in range(64):
            one.write(b" " * 2**20)
    tracemalloc.start()
    reason = f"a.npy has a header of {claimed} bytes, more than the 10000 that NumPy reads$"
    with pytest.raises(ValueError, match=reason):
        check_archive(buffer)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_header_of_version_2_and_one_that_numpy_just_reads():
    for version in (1, 2):
        text = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }".ljust(9999) + "\n"
        length = struct.pack("<H" if version == 1 else "<I", len(text))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a.npy", b"\x93NUMPY%c\0" % version + length + text.encode() + b"abc")
        assert check_archive(buffer) == {"a": ((3,), np.dtype("u1"))}
        buffer.seek(0)
        assert bytes(np.load(buffer)["a"]) == b"abc"


EIGHT = b"12345678"
BAD = {
    "no zip": (lambda: io.BytesIO(b"hello"), "is no .npz file"),
    "cut": (lambda: io.BytesIO(archive(a=np.arange(99)).getvalue()[:-30]), "is no .npz file"),
    "a shape of 10^15": (
        lambda: with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (10**15,), }"
                            .replace("10**15", "1000000000000000"), b"12345678"),
        r"a.npy has 8 bytes, not the size of \[1000000000000000\] float64",
    ),
    "a shape below 0": (
        lambda: with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -8)}", EIGHT),
        "has 8 bytes, not the size of",
    ),
    "objects": (
        lambda: with_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"x" * 8),
        "a.npy holds objects, which could run code",
    ),
    "a header of nonsense": (
        lambda: with_header("\n".join("{[x")), "explanation: a.npy has a damaged header: "
    ),
    "a header cut": (lambda: cut_header(), "is no .npz file, or is damaged"),
    "no header": (lambda: with_header("{'descr'"), "explanation: a.npy has a damaged header: "),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives(kind):
    made, reason = BAD[kind]
    with pytest.raises(ValueError, match=reason) as raised:
        check_archive(made(), "explanation")
    assert "\n" not in str(raised.value)


def test_parts_that_lie_over_each_other():
    buffer = archive(a=np.random.default_rng(0).bytes(2000))
    with zipfile.ZipFile(buffer) as file:
        info = file.infolist()[0]
    doubled = io.BytesIO(buffer.getvalue())
    with zipfile.ZipFile(doubled, "a") as file:
        for number in range(3):
            again = zipfile.ZipInfo(f"{number}.npy")
            for name in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(again, name, getattr(info, name))
            file.filelist.append(again)
        file._didModify = True
    with pytest.raises(ValueError, match="its parts overlap"):
        check_archive(doubled)


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ValueError, match="is a pipe, not an explanation"):
        check_archive(tmp_path / "pipe.npz", "explanation")
    with pytest.raises(FileNotFoundError, match="there is no explanation"):
        check_archive(tmp_path / "none.npz", "explanation")
