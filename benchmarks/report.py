"""The tables of the READMEs, from the committed results."""

import importlib
import re
from pathlib import Path
from typing import Any

from benchmarks import estimate, summary, targets
from benchmarks.results import OF_ANY_HARDWARE, newest
from benchmarks.settings import RESULTS

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "benchmarks/README.md")
BLOCK = re.compile(r"(<!-- benchmarks:(\w+) -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)
_OF_SEVERAL = {  # made of the results of others
    "targets": targets, "summary": summary, "estimate": estimate,
}  # fmt: skip
NOT_MEASURED = "*Not measured.*"
NO_GPU = "*On a GPU: not measured.*"


def report(
    check: bool = False, results: Path = RESULTS, readmes: tuple[Path, ...] = READMES
) -> int:
    """Write the tables into the READMEs, or count those that differ."""
    stale = 0
    for path in readmes:
        text = path.read_text(encoding="utf-8")
        new = rendered(text, results)
        stale += text != new
        if text != new and check:
            print(f"{path.name} differs from the results; run: python -m benchmarks report")
        elif text != new:
            path.write_text(new, encoding="utf-8")
    return stale if check else 0


def rendered(text: str, results: Path) -> str:
    """``text`` with its marked blocks filled from the results."""
    return BLOCK.sub(lambda m: f"{m[1]}{block(m[2], results)}\n{m[3]}", text)


def block(name: str, results: Path) -> str:
    """What stands between the markers of a benchmark: a table for each hardware; or targets."""
    if name in _OF_SEVERAL:
        return f"{_OF_SEVERAL[name].CAPTION}\n\n{_OF_SEVERAL[name].table(results)}"
    found = newest(name, results)
    if not found:
        return NOT_MEASURED
    module = importlib.import_module(f"benchmarks.{name}")
    parts = [module.CAPTION]
    parts += [f"{source(result)}\n\n{module.table(result['rows'])}" for result in found]
    if name not in OF_ANY_HARDWARE and not any(r["hardware"]["gpu"] for r in found):
        parts.append(NO_GPU)
    return "\n\n".join(parts)


def source(result: dict[str, Any]) -> str:
    """What ran on what."""
    hardware, versions = result["hardware"], result["versions"]
    processor = f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['threads']} threads"
    where = f"{hardware['gpu']} (host: {processor})" if hardware["gpu"] else processor
    if hardware.get("tf32"):
        where += ", float32 convolutions in TF32"
    if result.get("unfinished"):
        where += "; the run did not end, so rows are missing"
    return (
        f"{where}; torchlime {versions['torchlime']} ({result['commit']}), torch"
        f" {versions['torch']}; `{result['command']}`"
    )
