"""python -m benchmarks NAME …, and python -m benchmarks report."""

import argparse
import importlib
import os
import sys
from pathlib import Path

NAMES = (  # versus uses samples
    "stages", "superpixels", "samples", "overhead", "chunks", "versus", "compat", "jobs",
    "scale", "vectors",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    if "report" in options.names:
        from benchmarks.report import report

        return report(options.check)
    # The thread pools of numpy and torch fight over the cores; before either is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import torch

    from benchmarks import results
    from benchmarks.settings import RESULTS, Settings

    if options.threads:
        torch.set_num_threads(options.threads)
    settings = Settings(
        torch.device(options.device),
        quick=options.quick,
        models=tuple(options.models) if options.models else None,
        photos=options.photos,
        reference=options.reference,
        repetitions=options.repetitions,
        results=options.out or RESULTS,
    )
    command = " ".join(["python -m benchmarks", *arguments])
    for name in NAMES if "all" in options.names else options.names:
        module = importlib.import_module(f"benchmarks.{name}")
        rows = module.run(settings)
        print(module.table(rows), flush=True)
        if options.out or not options.quick:
            record = results.record(name, rows, settings, command, options.commit)
            print(results.write(record, settings.results), flush=True)
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="+",
        choices=[*NAMES, "all", "report"],
        metavar="NAME",
        help=f"{', '.join(NAMES)}, all; or report: fill the READMEs' tables",
    )
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test, not a timing")
    parser.add_argument("--threads", type=int, help="of torch, on the CPU")
    parser.add_argument("--out", type=Path, help="where results go instead of benchmarks/results")
    parser.add_argument("--models", nargs="+", help="of overhead, chunks, versus, compat and jobs")
    parser.add_argument("--photos", type=int, help="how many, of superpixels and samples")
    parser.add_argument("--reference", type=int, help="masks of the reference of samples")
    parser.add_argument(
        "--repetitions",
        type=int,
        default=5,
        choices=range(5, 1001),
        metavar="N",
        help="rounds of a timing: 5 (the default) or more",
    )
    parser.add_argument("--commit", help="of this code, where it is no git checkout")
    parser.add_argument("--check", action="store_true", help="report: fail if a table is stale")
    return parser


if __name__ == "__main__":
    sys.exit(main())
