"""Explaining: turns the named photos into pictures, files and one document."""

import argparse
import contextlib
import dataclasses
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torchlime
from torchlime._batches import in_batches
from torchlime._errors import sentence_of
from torchlime.cli.loading import loaded, targets_of
from torchlime.cli.numbers import numbers_of, report_of
from torchlime.cli.options import (
    explainer_of,
    limits_of,
    meaning_of,
    record_of,
    words_of,
)
from torchlime.cli.outputs import Outputs

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from torchlime.explanation import Explanation
    from torchlime.models import Classifier, Decoder


PHOTOS_AT_ONCE = 8  # are explained in one call and drawn before more are read


LISTED_CLASSES = 3


def complain(error: BaseException, photo: Path | None = None, *, debug: bool) -> str:
    """Print one sentence on stderr, which names the photo, and return it."""
    if debug:
        traceback.print_exception(error)
    sentence = sentence_of(error)
    if photo is not None and str(photo) not in sentence:
        sentence = f"{photo}: {sentence}"
    print(f"torchlime: {sentence}", file=sys.stderr)
    return sentence


def explain(arguments: argparse.Namespace) -> dict[str, Any]:
    """Explain all photos; return the document that ``--json`` prints."""
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
                    print(report_of(result, classifier))
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
    listed: int | None = None  # number of classes to list, known after the first photo

    def run(self, photos: Mapping[int, Path]) -> list[dict[str, Any]]:
        """A result for each photo, in order: its explanation in numbers, or its error.

        Photos of one size are explained in one call.
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
                pixels[index] = self.classifier.preprocess(
                    opened[index], limits=self.decoder.limits
                )

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
        """Record an error inside as this photo's; it does not stop the others."""
        try:
            yield
        except (Exception, SystemExit) as error:
            sentence = complain(error, path, debug=self.debug)
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
        """Write the files of a photo; return its explanation in numbers."""
        from torchlime import plot
        from torchlime._atomic import whole_file

        box = self.classifier.crop_box(image.size)
        result = {
            "photo": str(path),
            "size": list(image.size),
            "box": list(box),
            **numbers_of(explanation, self.classifier, self.asked.strongest),
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
            sheet = self.classifier.sheet(
                image,
                explanation,
                target=target["index"],
                top=self.asked.strongest,
                max_side=self.asked.max_side or None,
                limits=self.decoder.limits,
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
