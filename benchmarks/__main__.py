"""python -m benchmarks NAME …, python -m benchmarks report, and python -m benchmarks gpu."""

import argparse
import importlib
import os
import sys
import traceback
from pathlib import Path

NAMES = (  # overhead and versus use samples
    "stages", "superpixels", "samples", "overhead", "chunks", "versus", "compat", "jobs",
    "scale", "vectors", "residual", "large", "tokens", "tabular", "tutorials", "captum",
    "launches", "coverage", "designs", "stopping", "methods", "kernels",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 if a benchmark failed (the others ran) or a table is stale."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    if options.names == ["report"]:
        from benchmarks.report import report

        return report(options.check)
    if "gpu" in options.names:
        from benchmarks import gpu

        if options.names != ["gpu"] or options.out is None:
            parser().error("gpu goes alone, and with --out DIR")
        options.device = options.device or "cuda"
        check(options)
        return gpu.run(gpu.parts(options), options.minutes, options.out)
    # The thread pools of numpy and torch fight over the cores; before either is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import torch

    from benchmarks import results
    from benchmarks.settings import RESULTS, Settings

    options.device = options.device or "cpu"
    check(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = Settings(
        torch.device(options.device),
        quick=options.quick,
        models=tuple(options.models) if options.models else None,
        photos=options.photos,
        reference=options.reference,
        repetitions=options.repetitions,
        only=options.only,
        results=options.out or RESULTS,
    )
    origin = results.origin(settings, " ".join(["python -m benchmarks", *arguments]))
    if options.commit:
        origin |= {"commit": options.commit}
    failed = False
    for name in NAMES if "all" in options.names else options.names:
        module = importlib.import_module(f"benchmarks.{name}")
        try:
            rows = []
            for row in module.run(settings):
                rows.append(row)
                if options.out:  # what a run leaves that is cut off
                    record = results.record(name, rows, settings, origin)
                    results.write_partial(record, options.out)
            print(module.table(rows), flush=True)
            if options.out or not options.quick:
                record = results.record(name, rows, settings, origin)
                print(results.write(record, settings.results), flush=True)
                results.partial(name, settings.results).unlink(missing_ok=True)
        except Exception:  # the others' hours are not lost with this one
            traceback.print_exc()
            failed = True
    return int(failed)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="+",
        choices=[*NAMES, "all", "report", "gpu"],
        metavar="NAME",
        help=f"{', '.join(NAMES)}, all; report: fill the READMEs' tables; "
        "or gpu: what a GPU can tell in a short time, the most useful first",
    )
    parser.add_argument("--device", default=None, choices=["cpu", "cuda"],
                        help="cpu is the default, of gpu cuda")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test, not a timing")
    parser.add_argument("--threads", type=positive, help="of torch, on the CPU")
    parser.add_argument("--out", type=Path, help="where results go instead of benchmarks/results")
    parser.add_argument("--models", nargs="+", help="of overhead, chunks, versus, compat, …")
    parser.add_argument(
        "--photos", type=positive, help="how many, of superpixels, samples, jobs and large"
    )
    parser.add_argument("--reference", type=positive, help="masks of the reference of samples")
    parser.add_argument(
        "--repetitions",
        type=positive,
        default=5,
        help="rounds of a timing: 5 (the default) or more",
    )
    parser.add_argument(
        "--only", choices=["until"], help="designs: only the rule's rows, beside the committed ones"
    )
    parser.add_argument("--minutes", type=above_0, default=9.0, help="gpu: for all parts")
    parser.add_argument("--parts", nargs="+", help="gpu: only these parts")
    parser.add_argument("--commit", help="of this code, where it is no git checkout")
    parser.add_argument("--check", action="store_true", help="report: fail if a table is stale")
    return parser


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def above_0(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


def check(options: argparse.Namespace) -> None:
    """Exit with a sentence if these options cannot be, before anything is measured."""
    import torch

    from benchmarks import captum
    from benchmarks.samples import LEAST_REFERENCE
    from benchmarks.settings import PHOTOS
    from torchlime import models

    own = captum.OWN if options.names == ["captum"] else ()
    unknown = sorted({*(options.models or ())} - {*models.names(), *own})
    wrong = {
        "report goes alone": "report" in options.names,
        "--check goes with report": options.check,
        "--only goes with designs alone": options.only and options.names != ["designs"],
        "there is no CUDA device": options.device == "cuda" and not torch.cuda.is_available(),
        "a timing takes at least 5 --repetitions": options.repetitions < 5,
        f"there are {len(PHOTOS)} --photos": (options.photos or 0) > len(PHOTOS),
        f"--reference is at least {LEAST_REFERENCE}": (
            (options.reference or LEAST_REFERENCE) < LEAST_REFERENCE
        ),
        f"unknown --models: {', '.join(unknown)}": unknown,
        f"--out {options.out} is no folder": (
            options.out is not None and options.out.exists() and not options.out.is_dir()
        ),
    }
    for sentence, is_so in wrong.items():
        if is_so:
            parser().error(sentence)


if __name__ == "__main__":
    sys.exit(main())
