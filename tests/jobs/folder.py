"""Folders of small photos, good and bad, and jobs over them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from torchlime import Lime, jobs
from torchlime.fills import Constant
from torchlime.segments import Slic

SETTINGS = Lime(segmenter=Slic(6), num_samples=32, fill=Constant(0.5))
COLOURS = ("red", "green", "blue")


def photo(number, size=(30, 20)):
    """Noise, in one colour in the upper left."""
    noise = np.random.default_rng(number).integers(0, 120, (*size[::-1], 3), dtype=np.uint8)
    noise[: size[1] // 2, : size[0] // 2, number % 3] = 220
    return Image.fromarray(noise)


def good(root, count=10):
    """root/<colour>/<n>.png, all of which can be explained."""
    for number in range(count):
        path = Path(root, COLOURS[number % 3], f"{number:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(path)
    return Path(root)


def run(root, out, engine=None, **settings):
    """A job with the tiny classifier, in this process alone unless told."""
    settings = {"model": "bright", "explainer": SETTINGS} | settings
    engine = engine or jobs.Local(workers=0)
    return jobs.run(root, out, tiny.bright(), engine=engine, **settings)


def rows(out):
    """All rows by id; a row that is there twice is an error."""
    found = jobs.read(out)
    ids = [photo_id for (photo_id,) in found.rows("id")]
    assert len(ids) == len(set(ids))
    return {photo_id: found.row(photo_id) for photo_id in ids}


def assert_same_rows(ours, theirs):
    """Equal but for the rounding of forward passes in batches of other sizes."""
    assert sorted(ours) == sorted(theirs)
    for photo_id, row in ours.items():
        other = theirs[photo_id]
        exact = [name for name in row if not isinstance(row[name], float | list)]
        assert {n: row[n] for n in exact} == {n: other[n] for n in exact}  # segments included
        if row["status"] == "error":
            continue
        assert row["targets"] == other["targets"]
        assert (row["box"], row["target_names"]) == (other["box"], other["target_names"])
        for name in ("coefficients", "standard_errors", "intercepts", "scores", "fidelity"):
            one, two = np.array(row[name]), np.array(other[name])
            scale = np.abs(row["coefficients"]).max() if name != "fidelity" else 1.0
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-5 * scale, err_msg=name)


def children(pid):
    """The processes that a process has started, Linux alone."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        pytest.skip("needs /proc")
    return [int(c) for t in tasks.iterdir() for c in (t / "children").read_text().split()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
