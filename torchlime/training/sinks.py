"""Sinks: functions that take a step's picture and numbers, made from the caller's object."""

import json
import math
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from torchlime import plot
from torchlime._atomic import whole_file

Write = Callable[[int, Tensor, dict[str, float]], object]  # step, picture, numbers


def writer(sink: Any, name: str) -> Write:
    """The function to call with (step, picture, numbers).

    Raises:
        TypeError: ``sink`` is none of the kinds that :class:`ExplanationLogger` takes.
    """
    if isinstance(sink, str | os.PathLike):
        return partial(_to_folder, Path(sink))
    if hasattr(sink, "add_image") and hasattr(sink, "add_scalar"):
        return partial(_to_summary, sink, name)
    if callable(getattr(sink, "log", None)):
        return partial(_to_run, sink, name)
    if callable(sink):
        return sink
    raise TypeError(
        "sink must be a folder, a callable (step, picture, numbers), or an object with add_image "
        f"and add_scalar or with log, got {type(sink).__name__}"
    )


def _to_folder(path: Path, step: int, picture: Tensor, numbers: dict[str, float]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    plot.save_png(picture, path / f"{step:08}.png")
    file = path / "numbers.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    steps = {json.loads(line)["step"]: line for line in lines}
    finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    steps[step] = json.dumps({"step": step, **finite})
    with whole_file(file) as new:
        new.write("".join(f"{steps[each]}\n" for each in sorted(steps)).encode())


def _to_summary(
    writer: Any, name: str, step: int, picture: Tensor, numbers: dict[str, float]
) -> None:
    writer.add_image(f"{name}/overlay", picture, step)
    for key, value in numbers.items():
        writer.add_scalar(f"{name}/{key}", value, step)


def _to_run(run: Any, name: str, step: int, picture: Tensor, numbers: dict[str, float]) -> None:
    entries = {"overlay": _image(picture), "step": step, **numbers}
    axis: dict[str, int] = {"step": step}
    if hasattr(run, "define_metric"):  # W&B drops entries before the run's step
        run.define_metric(f"{name}/*", step_metric=f"{name}/step")
        axis = {}
    run.log({f"{name}/{key}": value for key, value in entries.items()}, **axis)


def _image(picture: Tensor) -> Any:
    """A PIL image, in W&B's wrapper if that library is imported."""
    from torchvision.transforms.functional import to_pil_image

    image = to_pil_image(picture)
    wandb = sys.modules.get("wandb")
    return wandb.Image(image) if wandb is not None else image
