"""The record of a run: what was measured on what, as JSON."""

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
from benchmarks.settings import Row, Settings

PACKAGES = (
    "torch", "torchvision", "kornia", "numpy", "scikit-image", "scikit-learn",
    "lime", "captum", "fast-slic",
)  # fmt: skip


def record(name: str, rows: list[Row], settings: Settings, command: str) -> dict[str, Any]:
    asked = asdict(settings) | {"device": str(settings.device), "results": None}
    return {
        "benchmark": name,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(settings),
        "settings": {key: value for key, value in asked.items() if value is not None},
        "rows": rows,
    }


def write(result: dict[str, Any], results: Path) -> Path:
    """Write NAME.json into the folder of this version and hardware."""
    processor = result["hardware"]["gpu"] or result["hardware"]["cpu"]
    if not result["hardware"]["gpu"]:
        processor += f" {result['hardware']['cores']} cores"
    folder = results / f"{result['versions']['torchlime']}-{slug(processor)}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['benchmark']}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def rows(name: str, results: Path) -> list[Row]:
    """The rows of a benchmark that was run before, of the newest version; none if it was not."""
    from benchmarks.report import newest

    return [row for result in newest(name, results)[-1:] for row in result["rows"]]


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
        found["cuda"] = torch.version.cuda
    return found


def hardware(settings: Settings) -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(settings.device) if settings.on_gpu else None,
    }


def commit() -> str:
    """The commit of the checkout, marked where tracked files differ from it."""
    here = Path(__file__).parent
    found = _git(here, "rev-parse", "--short", "HEAD")
    changed = _git(here, "status", "--porcelain", "--untracked-files=no", ":/", ":!results")
    return (found or "unknown") + ("-dirty" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
