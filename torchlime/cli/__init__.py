"""The command line: ``torchlime explain photo.jpg …``, ``job``, ``report``, ``app`` and ``models``.

What computes and draws is elsewhere. Here words become settings (options.py), results become
files (outputs.py), folders jobs (job.py) or a page (serving.py), and errors one sentence each.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import math
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torchlime
from torchlime._batches import in_batches
from torchlime._errors import sentence_of
from torchlime.cli import job
from torchlime.cli.loading import importable_here, loaded, targets_of
from torchlime.cli.options import (
    Parser,
    UsageError,
    add_options,
    explainer_of,
    limits_of,
    meaning_of,
    record_of,
    words_of,
)
from torchlime.cli.outputs import Outputs
from torchlime.cli.serving import add_options as add_app_options
from torchlime.cli.serving import serve

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from torchlime.explanation import Explanation
    from torchlime.models import Classifier, Decoder

PHOTOS_AT_ONCE = 8  # are explained in one call and drawn before more are read
LISTED_CLASSES = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; exit code 0, 1 where a photo failed, 2 for any other error."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it may know fewer letters than names have
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _arguments(argv)
        if arguments.command == "models":
            return _models(arguments.part)
        if arguments.command == "job":
            with _quiet(machine=False):
                return job.run(arguments)
        if arguments.command == "report":
            return job.report(arguments)
        if arguments.command == "app":
            with importable_here(*arguments.model):
                serve(arguments)
            return 0
        with _quiet(arguments.json):
            document = _explain(arguments)
        if arguments.json:
            print(json.dumps(document, indent=1, allow_nan=False))
        sys.stdout.flush()
        return 1 if any("error" in photo for photo in document["photos"]) else 0
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # of files, libraries and models that we do not know
        _complain(error, debug="--debug" in argv)
        return 2


def _arguments(argv: list[str]) -> argparse.Namespace:
    """What was typed; photos may stand on both sides of a flag."""
    parser, explain = _parsers()
    if argv[:1] != ["explain"]:
        return parser.parse_args(argv)
    return explain.parse_intermixed_args(argv[1:], argparse.Namespace(command="explain"))


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The program's parser, and that of ``torchlime explain``."""
    parser = Parser(prog="torchlime", description=torchlime.__doc__)
    parser.add_argument("--version", action="version", version=torchlime.__version__)
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    explain = commands.add_parser("explain", help="explain what a classifier sees in photos")
    explain.add_argument("photos", nargs="*", metavar="photo", help="default: scikit-image's cat")
    add_options(explain)
    explain.add_argument("--config", help="a TOML file with these options; flags override it")
    explain.add_argument("--json", action="store_true", help="print one JSON document, no text")
    models = commands.add_parser("models", help="list names of classifiers")
    models.add_argument("part", nargs="?", default="", help="only names that contain this")
    app = commands.add_parser("app", help="serve a page to look at, on this machine alone")
    add_app_options(app)
    for command in (explain, models, app, *job.add_parsers(commands)):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser, explain


@contextlib.contextmanager
def _quiet(machine: bool) -> Iterator[None]:
    """No library writes to a machine's stdout; warnings are one line, and none of a photo."""
    from torchlime import models

    with contextlib.ExitStack() as stack:
        if machine:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(warnings.catch_warnings())
        warnings.showwarning = _show_warning  # put back by catch_warnings
        models.refuse_bombs()
        yield


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"torchlime: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _complain(error: BaseException, photo: Path | None = None, *, debug: bool) -> str:
    """Print one sentence on stderr, which names the photo, and return it."""
    if debug:
        traceback.print_exception(error)
    sentence = sentence_of(error)
    if photo is not None and str(photo) not in sentence:
        sentence = f"{photo}: {sentence}"
    print(f"torchlime: {sentence}", file=sys.stderr)
    return sentence


def _models(part: str) -> int:
    from torchlime import models

    found = [name for name in models.names() if part.casefold() in name.casefold()]
    if not found:
        raise UsageError(f"no name contains {part!r}; timm:NAME and hf:FOLDER are not listed")
    print("\n".join(found), flush=True)
    return 0


# ---- explain ------------------------------------------------------------------------------------


def _explain(arguments: argparse.Namespace) -> dict[str, Any]:
    """Explain all photos; the document that ``--json`` prints."""
    from torchlime import models

    words = words_of(vars(arguments), arguments.config)
    asked = meaning_of(words)
    asked.photos = asked.photos or [models.sample_photo()]
    read = [Path(path) for path in (asked.weights, arguments.config) if path is not None]
    outputs = Outputs(asked, asked.photos, [*asked.photos, *read])
    explainer = explainer_of(asked)
    record: dict[str, Any] = {
        "torchlime": torchlime.__version__,
        "settings": record_of(words, asked),
        "explainer": repr(explainer),
    }
    with loaded(asked) as classifier, models.Decoder(limits_of(asked)) as decoder:
        record["settings"]["output"] = classifier.output
        targets = targets_of(asked, classifier)
        job = _Job(asked, explainer, classifier, decoder, targets, outputs, record, arguments.debug)
        photos: list[dict[str, Any]] = []
        for start in range(0, len(asked.photos), PHOTOS_AT_ONCE):
            some = dict(enumerate(asked.photos[start : start + PHOTOS_AT_ONCE], start))
            for result in job.run(some):
                if not arguments.json and "error" not in result:
                    if len(asked.photos) > 1:
                        print("\n" * bool(photos) + f"{result['photo']}:")
                    print(_report(result, classifier))
                photos.append(result)
    return {**record, "photos": photos}


@dataclass
class _Job:
    """All that the photos of a call have in common."""

    asked: argparse.Namespace
    explainer: torchlime.Lime
    classifier: "Classifier"
    decoder: "Decoder"
    targets: list[int]
    outputs: Outputs
    record: Mapping[str, Any]
    debug: bool
    listed: int | None = None  # classes where none was asked for, known after the first photo

    def run(self, photos: Mapping[int, Path]) -> list[dict[str, Any]]:
        """A result for each photo, in order: its explanation in numbers, or its error.

        Those of one size are explained in one call.
        """
        from torchlime import models

        results: dict[int, dict[str, Any]] = {}
        opened: dict[int, Image.Image] = {}
        pixels: dict[int, Tensor] = {}
        for index, path in photos.items():
            with self._failing(results, index, path):
                opened[index] = models.read_photo_within(
                    path, self.decoder.limits, page=self.asked.page, decoder=self.decoder
                )
                pixels[index] = self.classifier.preprocess(opened[index])

        def explain(group: Sequence[int]) -> "Iterator[Explanation]":
            return self._explain([pixels[index] for index in group])

        for index, explanation in in_batches(pixels, lambda index: pixels[index].shape, explain):
            with self._failing(results, index, photos[index]):
                if isinstance(explanation, BaseException):
                    raise explanation
                explanation.check()
            if index not in results and not isinstance(explanation, BaseException):
                results[index] = self._write(index, photos[index], opened[index], explanation)
        return [results[index] for index in photos]

    @contextlib.contextmanager
    def _failing(
        self, results: dict[int, dict[str, Any]], index: int, path: Path
    ) -> Iterator[None]:
        """An error inside is this photo's, and does not stop the others."""
        try:
            yield
        except (Exception, SystemExit) as error:
            sentence = _complain(error, path, debug=self.debug)
            results[index] = {"photo": str(path), "error": sentence}

    def _explain(self, pixels: "list[Tensor]") -> "Iterator[Explanation]":
        """One explanation for each of the photos [1,3,H,W], on the CPU."""
        import torch

        images = torch.cat(pixels)
        targets, top = None, self.asked.top
        if self.targets:
            targets = torch.tensor(self.targets, device=images.device).expand(len(images), -1)
        elif top is None:
            if self.listed is None:
                with torch.no_grad():
                    self.listed = min(LISTED_CLASSES, self.classifier(images[:1]).shape[1])
            top = self.listed
        with _progress(len(images)) as progress:
            explanation = self.explainer.explain(
                self.classifier, images, targets, top=top or 1, progress=progress
            ).to("cpu")
        for place in range(len(images)):
            yield explanation[place]

    def _write(
        self, index: int, path: Path, image: "Image.Image", explanation: "Explanation"
    ) -> dict[str, Any]:
        """Write the files of a photo; its explanation in numbers."""
        from torchlime import plot
        from torchlime._atomic import whole_file

        box = self.classifier.crop_box(image.size)
        result = {
            "photo": str(path),
            "size": list(image.size),
            "box": list(box),
            **_numbers(explanation, self.classifier, self.asked.strongest),
        }
        saved = self.outputs.saved(index)
        if saved is not None:
            settings = {**explanation.settings, "command": json.dumps(self.record["settings"])}
            dataclasses.replace(explanation, settings=settings).save(self.outputs.take(saved))
            result["saved"] = str(saved)
        drawn = len(self.targets) or self.asked.top or 1
        for target in result["targets"][:drawn]:
            picture = self.outputs.take(self.outputs.picture(index, target["name"]))
            beside = self.outputs.take(picture.with_suffix(".json"))
            category, unit = target["category"], self.classifier.unit
            sheet = plot.sheet(
                explanation,
                image,
                target["index"],
                self.asked.strongest,
                box=box,
                caption=f"{category}: {unit} {self.classifier.spell(target['score'])}",
                max_side=self.asked.max_side or None,
                name=category.partition(",")[0],
                unit=unit,
            )
            plot.save_png(sheet, picture)
            target["picture"] = str(picture)
            with whole_file(beside) as file:
                document = {**self.record, **result, "targets": [target]}
                file.write(json.dumps(document, indent=1, allow_nan=False).encode())
        return result


@contextlib.contextmanager
def _progress(photos: int) -> "Iterator[Callable[[int, int], object] | None]":
    """A bar on a terminal, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield None
        return
    if not sys.stderr.isatty():
        yield None
        return
    with tqdm(desc=f"{photos} photo{'s' * (photos > 1)}", unit="img", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _numbers(
    explanation: "Explanation", classifier: "Classifier", strongest: int
) -> dict[str, Any]:
    """An explanation of one photo for JSON, which knows no NaN: None stands for it."""
    count = int(explanation.segment_count[0])
    ids, values = (top[0] for top in explanation.top(strongest))
    targets = []
    for place, index in enumerate(explanation.targets[0].tolist()):
        category = classifier.category(index)
        slug = re.sub("[^a-z0-9]+", "-", category.lower()).strip("-")
        targets.append(
            {
                "index": index,
                "category": category,
                "name": f"{index}-{slug[:40]}" if classifier.categories else str(index),
                "score": explanation.scores[0, place].item(),
                "local_prediction": explanation.local_predictions[0, place].item(),
                "fidelity": explanation.fidelity[0, place].item(),
                "intercept": explanation.intercepts[0, place].item(),
                "strongest": ids[place][values[place] != 0].tolist(),
                "coefficients": explanation.coefficients[0, place, :count].tolist(),
                "standard_errors": [
                    error if math.isfinite(error) else None
                    for error in explanation.standard_errors[0, place, :count].tolist()
                ],
            }
        )
    return {
        "segment_count": count,
        "effective_samples": explanation.effective_samples[0].item(),
        "targets": targets,
    }


def _report(result: Mapping[str, Any], classifier: "Classifier") -> str:
    """The classes with their scores, the strongest segments of the drawn ones, and the files."""
    lines = [
        f"{classifier.spell(target['score']):>7}  {target['category']}"
        for target in result["targets"]
    ]
    for target in result["targets"]:
        if "picture" not in target:
            continue
        lines.append(
            f"\nwhat speaks for and against {target['category']!r} ({result['segment_count']} "
            f"segments, fidelity {target['fidelity']:.2f}):"
        )
        for rank, segment in enumerate(target["strongest"], start=1):
            error = target["standard_errors"][segment]
            margin = "" if error is None else f" ± {1.96 * error:.3g}"
            value = target["coefficients"][segment]
            lines.append(f"{rank:3}. segment {segment:3}  {value:+.3g}{margin}")
        lines.append(f"wrote {target['picture']}")
    if "saved" in result:
        lines.append(f"wrote {result['saved']}")
    return "\n".join(lines)
