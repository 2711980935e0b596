"""Results as JSON: the record of a run, and what earlier runs recorded."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import torchlime
from benchmarks.settings import RESULTS, Row, Settings
from torchlime._atomic import whole_file

PACKAGES = (
    "torch", "torchvision", "kornia", "numpy", "scikit-image", "scikit-learn",
    "lime", "captum", "fast-slic",
)  # fmt: skip
# What they say are errors; times are beside the point
OF_ANY_HARDWARE = ("samples", "residual", "coverage", "designs", "stopping", "methods")
TUNING = ("MALLOC_", "OMP_", "MKL_", "OPENBLAS_", "PYTORCH_", "CUDA_")


def origin(settings: Settings, command: str) -> dict[str, Any]:
    """What is about to run, on what: of the moment before it runs."""
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(settings),
        "environment": {
            name: value for name, value in os.environ.items() if name.startswith(TUNING)
        },
    }


def record(
    name: str, rows: list[Row], settings: Settings, origin: dict[str, Any]
) -> dict[str, Any]:
    """All that is kept of a run."""
    asked = asdict(settings) | {"device": str(settings.device), "results": None}
    return {
        "benchmark": name,
        **origin,
        "settings": {key: value for key, value in asked.items() if value is not None},
        "rows": rows,
    }


def write(result: dict[str, Any], results: Path) -> Path:
    """Write NAME.json into the folder of this version and hardware.

    Rows of other models stay if the same commit measured them on the same machine.
    """
    path = _path(result, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        result = merged(read(path), result)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _path(result: dict[str, Any], results: Path) -> Path:
    processor = result["hardware"]["gpu"] or result["hardware"]["cpu"]
    if not result["hardware"]["gpu"]:
        processor += f" {result['hardware']['cores']} cores"
    folder = f"{result['versions']['torchlime']}-{slug(processor)}"
    return results / folder / f"{result['benchmark']}.json"


def write_partial(result: dict[str, Any], results: Path) -> None:
    """Write the rows so far of a run that goes on."""
    path = partial(result["benchmark"], results)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:  # a run may be killed at any time
        file.write((json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())


def partial(name: str, results: Path) -> Path:
    """Where the rows are of a run that was cut off."""
    return results / "partial" / f"{name}.json"


def keep(name: str, results: Path) -> None:
    """Make a result of the rows of a run that was cut off or failed; it says that rows are missing.

    A result that is there already stays.
    """
    path = partial(name, results)
    if path.exists():
        result = read(path) | {"unfinished": True}
        if not _path(result, results).exists():
            write(result, results)
            path.unlink()


def read(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no result of a benchmark: {error}") from error
    return result


def merged(earlier: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """``result`` after the rows of other models of a run that is comparable."""
    same = all(
        earlier.get(key) == result.get(key)
        for key in ("commit", "versions", "hardware", "environment")
    )
    same = same and _but_models(earlier) == _but_models(result)
    if not same or not re.fullmatch("[0-9a-f]+", result["commit"]):
        return result
    models = {row.get("model") for row in result["rows"]}
    kept = [row for row in earlier["rows"] if row.get("model") not in models]
    if not kept:
        return result
    together = {
        "rows": kept + result["rows"],
        "command": f"{earlier['command']} && {result['command']}",
        "settings": _but_models(result),
    }
    return earlier | result | together  # an unfinished result stays unfinished


def _but_models(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result["settings"].items() if key != "models"}


def rows(name: str, results: Path) -> list[Row]:
    """The rows of a benchmark that was run before, of the newest version; none if it was not."""
    return newest_rows(newest(name, results))


def newest_rows(found: list[dict[str, Any]]) -> list[Row]:
    """The rows of the newest version among results."""
    result = max(found, key=lambda r: version(r["versions"]["torchlime"]), default=None)
    return result["rows"] if result else []


def other_rows(name: str, kind: str) -> list[Row]:
    """The newest committed rows of a benchmark, without those of a kind, with their commit."""
    result = max(
        newest(name, RESULTS), key=lambda r: version(r["versions"]["torchlime"]), default=None
    )
    if result is None:
        raise LookupError(f"{name}: there is no committed result with the rows of other kinds")
    return [{"commit": result["commit"]} | row for row in result["rows"] if row["kind"] != kind]


def of_samples(settings: Settings) -> list[Row]:
    """Of ``samples``, run into the same folder or committed."""
    return rows("samples", settings.results) or rows("samples", RESULTS)


def newest(name: str, results: Path) -> list[dict[str, Any]]:
    """The newest version's results on each hardware."""
    found: dict[str, dict[str, Any]] = {}
    whole = [path for path in results.glob(f"*/{name}.json") if path.parent.name != "partial"]
    for path in sorted(whole, key=lambda p: version(p.parent.name)):
        found[path.parent.name.partition("-")[2]] = read(path)
    return [found[hardware] for hardware in sorted(found)]


def version(text: str) -> tuple[int, ...]:
    """
    >>> version("0.10.0-nvidia-h200")
    (0, 10, 0)
    """
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("-")[0]))


def slug(text: str) -> str:
    """
    >>> slug("AMD EPYC(TM) 9B45, 2 cores")
    'amd-epyc-9b45-2-cores'
    """
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-")


def versions() -> dict[str, str]:
    """torchlime's, Python's and those of the packages that are installed."""
    found = {"torchlime": torchlime.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if torch.version.cuda:
        found |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return found


def hardware(settings: Settings) -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(settings.device) if settings.on_gpu else None,
        "tf32": settings.on_gpu and torch.backends.cudnn.allow_tf32,
    }


def commit() -> str:
    """The commit of the checkout, marked where tracked files differ from it."""
    here = Path(__file__).parent
    found = _git(here, "rev-parse", "--short", "HEAD")
    written = (":!results", ":!README.md", ":(top,exclude)README.md")  # by the benchmarks
    changed = _git(here, "status", "--porcelain", "--untracked-files=no", ":/", *written)
    return (found or "unknown") + ("-dirty" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except OSError:  # no git
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
