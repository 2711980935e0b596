"""The Ray engine: an actor for each GPU, or for several CPU cores, on one machine or many.

Tested: one node, one and two actors on a CPU, actors killed in the middle of a job. Not tested:
several nodes, GPUs, a node that is lost. The photos' path must be the same on every machine. Photos
are decoded in processes beside the actor, so a photo that kills its decoder does not kill the
actor.
"""

import contextlib
import copy
import dataclasses
import importlib.util
import logging
import math
import os
import re
import textwrap
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchlime._checks import check_count
from torchlime._extras import missing
from torchlime.folders import PhotoFile
from torchlime.jobs.decoders import Decoders
from torchlime.jobs.rows import Row, schema
from torchlime.jobs.worker import Work
from torchlime.models import refuse_bombs

_CORES_OF_AN_ACTOR = 4  # where there are no GPUs to count
_DECODERS_OF_AN_ACTOR = 4  # at most


@dataclass(frozen=True)
class Ray:
    """Explains in actors that each hold the model; Ray Data runs over the list of photos.

    The rows come back to this process, and only this process writes. So a batch that was explained
    twice because its actor died is written once. An actor that dies is started again.

    Args:
        workers: the number of actors, at most one for each core; None = one for each GPU, or one
            for four cores.
        address: the address of a cluster; None starts Ray on this machine, where no other machine
            can reach it. If Ray was initialised before, that one is used.
        at_once: photos of a batch. If the job is killed, each actor loses the photos in progress,
            and the explained ones that Ray has not yet handed to this process.

    Raises:
        ImportError: Ray is not installed.
        TypeError, ValueError: ``workers`` or ``at_once`` is not an int of at least 1.
        RuntimeError: when called: Ray sees no GPU though the classifier is on one, or a worker of
            Ray fails.
    """

    workers: int | None = None
    address: str | None = None
    at_once: int = 8

    def __post_init__(self) -> None:
        if importlib.util.find_spec("ray") is None:  # not imported here; _connected does that
            raise missing("ray", "the Ray engine", "ray")
        check_count(self.at_once, "at_once")
        if self.workers is not None:
            check_count(self.workers, "workers")

    def __call__(self, work: Work, photos: Sequence[PhotoFile]) -> Generator[list[Row]]:
        """The rows of the photos, a batch at a time, in any order."""
        device = work.classifier.mean.device
        if device.type != "cpu":  # a machine of the cluster may have no such device
            work = dataclasses.replace(work, classifier=copy.deepcopy(work.classifier).cpu())
        with _connected(self.address) as ray:
            total = ray.cluster_resources()
            gpus = int(total.get("GPU", 0)) if device.type == "cuda" else None
            if gpus == 0:
                raise RuntimeError("Ray sees no GPU; explain on the CPU instead")
            largest = max(node["Resources"].get("CPU", 0.0) for node in ray.nodes())
            batches_there = math.ceil(len(photos) / self.at_once)
            asked = None if self.workers is None else min(self.workers, max(1, batches_there))
            workers, cores = shares(total.get("CPU", 0.0), largest, gpus, asked)
            batches = ray.data.from_arrow(list(_tables(photos, self.at_once))).map_batches(
                _Actor,
                fn_constructor_args=(work, device.type, max(1, int(cores))),
                batch_size=self.at_once,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=cores,
                num_gpus=1 if gpus else 0,
            )
            with _in_a_sentence(ray):
                for table in batches.iter_batches(
                    batch_size=None, batch_format="pyarrow", prefetch_batches=0
                ):
                    yield table.to_pylist()


def shares(
    cores: float, largest: float, gpus: int | None, workers: int | None
) -> tuple[int, float]:
    """The number of actors, and the number of cores that each asks for.

    One core is left for Ray's own tasks, which would otherwise wait for it for ever. No actor asks
    for more than the largest machine has. There are no more actors than cores.

    >>> shares(2, 2, None, 2), shares(16, 16, None, None), shares(64, 16, None, 2)
    ((2, 0.5), (3, 5), (2, 16))
    >>> shares(16, 16, None, workers=99_999_999)
    (16, 0.9375)
    >>> shares(32, 16, gpus=4, workers=None)
    (4, 7)
    """
    workers = workers or gpus or max(1, int(cores - 1) // _CORES_OF_AN_ACTOR)
    workers = min(workers, max(1, int(cores)))
    share = min(largest, (cores - 1) / workers)
    return workers, int(share) if share >= 1 else max(share, 0.1)


class _Actor:
    """Holds the model on its device, and turns photos into rows."""

    def __init__(self, work: Work, device: str, threads: int) -> None:
        refuse_bombs()
        torch.set_num_threads(threads)
        self.work = dataclasses.replace(work, classifier=work.classifier.to(device))
        self.decoders = Decoders(work.decode, min(_DECODERS_OF_AN_ACTOR, threads))

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        photos = list(_photos(table))
        rows = self.work.rows(list(self.decoders(photos, ahead=len(photos))))
        return pa.Table.from_pylist(rows, schema().append(pa.field("picture", pa.binary())))


def _tables(photos: Sequence[PhotoFile], size: int) -> Iterator[Any]:
    """The photos in tables of ``size`` rows; paths and names go as bytes: they may not be text."""
    import pyarrow as pa

    for start in range(0, len(photos), size):
        some = photos[start : start + size]
        names = [None if p.class_name is None else os.fsencode(p.class_name) for p in some]
        columns = {
            "id": [photo.id for photo in some],
            "path": [os.fsencode(os.path.abspath(photo.path)) for photo in some],
            "class": pa.array(names, pa.binary()),
        }
        yield pa.table(columns)


def _photos(table: Any) -> Iterator[PhotoFile]:
    for row in table.to_pylist():
        name = row["class"]
        path = Path(os.fsdecode(row["path"]))
        yield PhotoFile(path, row["id"], None if name is None else os.fsdecode(name))


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray without its messages; if it was started here, it ends here."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:  # Ray's name for "listen on 127.0.0.1 alone", on any system
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray
    import ray.data

    ours = not ray.is_initialized()
    if ours:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    if ours and address is None and ray.util.get_node_ip_address() != "127.0.0.1":
        ray.shutdown()
        raise RuntimeError(
            "Ray would listen to other machines, because it was imported before the job began; "
            "call ray.init() yourself if other machines may reach it"
        )
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    bars, level = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)
        if ours:
            ray.shutdown()


@contextlib.contextmanager
def _in_a_sentence(ray: Any) -> Iterator[None]:
    """Turn an actor's error into one sentence, without the traces of the processes between."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raised = re.findall(r"^\w+(?:Error|Exception): .*", str(error), re.MULTILINE)
        reason = raised[-1] if raised else " ".join(str(error).split())
        raise RuntimeError(
            f"a Ray worker failed: {textwrap.shorten(reason, 300, placeholder='…')}"
        ) from error
