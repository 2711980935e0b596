"""What a job over a folder costs over bare forward passes, and whether its memory stays flat."""

import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.memory import resident
from benchmarks.settings import PHOTOS, Row, Settings, classifier, photo
from benchmarks.tables import digits, markdown, mebibytes
from torchlime import Lime, jobs
from torchlime.models import Classifier, Geometry, read_photo
from torchlime.segments import Grid

MODELS = ("resnet18", "efficientnet_lite0")
NUMBER = 256
MANY = 10_000
CAPTION = (
    "*Share* is the job's images/s over those of the bare forward passes of the same rows."
    " *Memory* is that of the job's own process, without the processes that decode. It is measured"
    " while a linear network explains photos of 32×32 pixels."
)


def run(settings: Settings) -> list[Row]:
    names = settings.models or MODELS
    rows = [speed(settings, name) for name in (names[:1] if settings.quick else names)]
    return [*rows, memory(settings)]


def speed(settings: Settings, name: str) -> Row:
    """A job over the photos beside the forward passes that it makes."""
    settings.say(f"jobs: {name}")
    model = classifier(name, settings.device)
    explainer = (
        Lime(segmenter=Grid(2, 2), num_samples=16) if settings.quick else Lime(num_samples=NUMBER)
    )
    names = PHOTOS[: settings.photos or (1 if settings.quick else len(PHOTOS))]
    with tempfile.TemporaryDirectory() as folder:
        for one in names:
            read_photo(photo(one)).save(Path(folder, f"{one}.jpg"))

        def job() -> None:
            summary = jobs.run(folder, Path(folder, "out"), model, explainer, overwrite=True)
            assert summary.explained == len(names)

        chunk = last_chunk(model.network, job)
        rows = explainer.num_samples * len(names)

        def forwards() -> None:
            with torch.no_grad():
                for _ in range(math.ceil(rows / len(chunk))):
                    model.network(chunk)

        readings = settings.timer()({"job": job, "forwards": forwards}, warm={})
    return {
        "model": name,
        "dtype": "float32",
        "samples": explainer.num_samples,
        "photos": len(names),
        "rows": len(chunk),
        "seconds": {side: reading.record() for side, reading in readings.items()},
        "share": readings["forwards"].over(readings["job"]).record(),
    }


def last_chunk(network: nn.Module, call: Callable[[], object]) -> Tensor:
    """The last images that ``network`` gets during ``call``: padded, so as many as in any chunk."""
    chunks: list[Tensor] = []

    def watch(module: nn.Module, arguments: tuple[Tensor]) -> None:
        chunks[:] = arguments

    handle = network.register_forward_pre_hook(watch)
    try:
        call()
    finally:
        handle.remove()
    return chunks[0].clone()


def memory(settings: Settings) -> Row:
    """The resident memory along a job of many photos, in a fresh process."""
    many = 64 if settings.quick else MANY
    settings.say(f"jobs: the memory of {many} photos")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        held = pool.submit(_held, many).result()
    return {"model": "a linear one", "dtype": "float32", "samples": 16, "resident": held}


def _held(many: int) -> list[tuple[int, int]]:
    """(photos done, bytes) at every tenth of a job."""
    held = []

    def note(done: int, total: int) -> None:
        if done % (many // 10) < 8:
            held.append((done, resident()))

    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    model = Classifier(network, Geometry(resize=(32, 32), crop=(32, 32)))
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder, "0.jpg")
        image = read_photo(photo(PHOTOS[0]))
        image.resize((96, 96)).save(first)
        for number in range(1, many):
            os.link(first, Path(folder, f"{number}.jpg"))
        out, explainer = Path(folder, "out"), Lime(segmenter=Grid(2, 2), num_samples=16)
        jobs.run(folder, out, model, explainer, progress=note)
    return held


def table(rows: list[Row]) -> str:
    fast = [row for row in rows if "share" in row]
    (memory,) = [row["resident"] for row in rows if "resident" in row]
    speeds = markdown(
        ["model", "N", "photos", "job, images/s", "bare forwards, images/s", "share"],
        [
            [
                row["model"],
                row["samples"],
                row["photos"],
                digits(row["photos"] / row["seconds"]["job"]["median"]),
                digits(row["photos"] / row["seconds"]["forwards"]["median"]),
                f"{row['share']['median']:.1%} ± {row['share']['spread'] * 100:.1f}",
            ]
            for row in fast
        ],
    )
    steps = markdown(
        ["photos done", *(done for done, _ in memory)],
        [["memory, MiB", *(mebibytes(held) for _, held in memory)]],
    )
    return f"{speeds}\n\n{steps}"
