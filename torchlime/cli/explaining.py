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
from torchlime._reading import mean_samples_in_words
from torchlime.cli.loading import loaded, targets_of
from torchlime.cli.numbers import numbers_of, report_of
from torchlime.cli.options import (
    explainer_of,
    limits_of,
    marks_of,
    meaning_of,
    record_of,
    words_of,
)
from torchlime.cli.outputs import Outputs
from torchlime.cli.sentences import in_flags
from torchlime.folders import id_of
from torchlime.rounds import Until, UntilFirst

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from torchlime.explanation import Explanation
    from torchlime.models import Classifier, Decoder, Marks
    from torchlime.targets import Targets


PHOTOS_AT_ONCE = 8  # are explained in one call and drawn before more are read


LISTED_CLASSES = 3


def complain(error: BaseException, source: Path | str | None = None, *, debug: bool) -> str:
    """Print one sentence on stderr, which names the photo, row or text, and return it."""
    if debug:
        traceback.print_exception(error)
    sentence = in_flags(sentence_of(error))
    if source is not None and str(source) not in sentence:
        sentence = f"{source}: {sentence}"
    print(f"torchlime: {sentence}", file=sys.stderr)
    return sentence


def explain(arguments: argparse.Namespace) -> dict[str, Any]:
    """Explain all photos; return the document that ``--json`` prints."""
    from torchlime import models

    words = words_of(vars(arguments), arguments.config)
    asked = meaning_of(words)
    asked.photos = asked.photos or [models.sample_photo()]
    marks = marks_of(asked)
    named = (asked.weights, arguments.config, asked.target_region, words["target-box"])
    read = [Path(path) for path in named if path is not None]
    outputs = Outputs(asked, asked.photos, [*asked.photos, *read])
    explainer = explainer_of(asked)
    if not (asked.target or asked.top or marks):
        explainer = _for_the_first(explainer)
    record: dict[str, Any] = {
        "torchlime": torchlime.__version__,
        "settings": record_of(words, asked),
        "explainer": repr(explainer),
    }
    with loaded(asked) as classifier, models.Decoder(limits_of(asked)) as decoder:
        record["settings"]["output"] = classifier.output
        targets = targets_of(asked, classifier)
        job = _Job(
            asked, explainer, classifier, decoder, targets, marks, outputs, record, arguments.debug
        )  # fmt: skip
        photos: list[dict[str, Any]] = []
        for start in range(0, len(asked.photos), PHOTOS_AT_ONCE):
            some = dict(enumerate(asked.photos[start : start + PHOTOS_AT_ONCE], start))
            for result in job.run(some):
                if not arguments.json and "error" not in result:
                    if len(asked.photos) > 1:
                        print("\n" * bool(photos) + f"{result['photo']}:")
                    print(report_of(result, classifier))
                photos.append(result)
    used = [photo["samples_used"] for photo in photos if "error" not in photo]
    if not arguments.json and len(used) > 1:
        print(f"\n{len(used)} photos, {mean_samples_in_words(used)}")
    return {**record, "photos": photos}


def _for_the_first(explainer: torchlime.Lime | torchlime.Rise) -> torchlime.Lime | torchlime.Rise:
    """The explainer for which classes that are listed and not drawn may be less sure."""
    if isinstance(explainer, torchlime.Lime) and isinstance(explainer.rounds, Until):
        return dataclasses.replace(explainer, rounds=UntilFirst(**vars(explainer.rounds)))
    return explainer


@dataclass
class _Job:
    """All that the photos of a call have in common."""

    asked: argparse.Namespace
    explainer: torchlime.Lime | torchlime.Rise
    classifier: "Classifier"
    decoder: "Decoder"
    targets: list[int]
    marks: "Marks | None"
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
            places = [(photos[index], opened[index].size) for index in group]
            return self._explain([pixels[index] for index in group], places)

        for index, explanation in in_batches(pixels, lambda index: pixels[index].shape, explain):
            with self._failing(results, index, photos[index]):
                if isinstance(explanation, BaseException):
                    raise explanation
                explanation.check(sure=False)
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

    def _explain(
        self, pixels: "list[Tensor]", places: Sequence[tuple[Path, tuple[int, int]]]
    ) -> "Iterator[Explanation]":
        """One explanation for each of the photos [1,3,H,W], on the CPU.

        ``places`` are the files and sizes of the photos.
        """
        import torch

        from torchlime import models

        images = torch.cat(pixels)
        model: torch.nn.Module = self.classifier
        if self.marks is None:
            targets, top = self._best(images)
        else:
            model, top = models.RawOutputs(self.classifier), 1
            targets = self._marked(self.marks, places, images.device)
        with progress_of(f"{len(images)} photo{'s' * (len(images) > 1)}") as progress:
            explanation = self.explainer.explain(
                model, images, targets, top=top, progress=progress
            ).to("cpu")
        for place in range(len(images)):
            yield explanation[place]

    def _best(self, images: "Tensor") -> "tuple[Targets, int]":
        """The classes to explain, or how many of the best ones."""
        import torch

        if self.targets:
            classes = torch.tensor(self.targets, device=images.device)
            return classes.expand(len(images), -1), 1
        if self.asked.top is None and self.listed is None:
            with torch.no_grad():
                self.listed = min(LISTED_CLASSES, self.classifier(images[:1]).shape[1])
        return None, self.asked.top or self.listed or 1

    def _marked(
        self,
        marks: "Marks",
        places: Sequence[tuple[Path, tuple[int, int]]],
        device: "torch.device",
    ) -> "Targets":
        """The scores of the photos' regions or boxes."""
        own = [
            marks.of(self.classifier, id_of(Path(path.name)), size, self.decoder.limits)
            for path, size in places
        ]
        return marks.scores(own, self.targets, self.asked.top or 1, self.classifier.output, device)

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
def progress_of(what: str) -> "Iterator[Callable[[int, int], object] | None]":
    """A bar on a terminal, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield None
        return
    if not sys.stderr.isatty():
        yield None
        return
    with tqdm(desc=what, unit=" inputs", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
