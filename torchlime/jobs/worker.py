"""Worker: turns photos into rows, in any process."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchlime import models
from torchlime._batches import in_batches
from torchlime.explanation import Explanation
from torchlime.jobs import pictures
from torchlime.jobs.decoders import Decode, Decoded
from torchlime.jobs.identity import seed_of, settings_of
from torchlime.jobs.rows import Row, explained, failed, printable, reason_of
from torchlime.lime import Lime
from torchlime.rise import Rise


class Misfit(ValueError):
    """What was asked does not fit the model."""


# Errors that no single photo causes: every photo would have them.
_OF_ALL = (ImportError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError, Misfit)


@dataclass(frozen=True)
class Work:
    """What a worker has to know; it can be pickled.

    Args:
        classifier: from pixels in [0,1] to scores; the worker uses its device.
        model: what the rows call it.
        weights: the hash of its weights in the rows.
        explainer: the settings.
        targets: the classes to explain; none = the ``top`` best of each photo.
        top: how many of the best classes.
        pictures: whether rows come with a picture, the bytes of a PNG.
        limits: what decoding a photo may take.
        marks: the region or box of each photo; None = the whole photo's class scores.
    """

    classifier: models.Classifier
    model: str
    weights: str
    explainer: Lime | Rise
    targets: tuple[int, ...] = ()
    top: int = 1
    pictures: bool = False
    limits: models.Limits = field(default_factory=models.Limits)
    marks: models.Marks | None = None

    @property
    def decode(self) -> Decode:
        """Reads photos for this classifier."""
        return Decode(self.classifier.geometry, self.classifier.cut, self.limits)

    def rows(self, decoded: Sequence[Decoded]) -> list[Row]:
        """A row for each photo, in order; photos of one size are explained in one call."""
        found = {d.photo.id: failed(d.photo, d.error) for d in decoded if d.error is not None}
        readable = [one for one in decoded if one.pixels is not None]
        marks = {} if self.marks is None else self._marks(readable, self.marks, found)
        readable = [one for one in readable if one.photo.id not in found]

        def explain(group: Sequence[Decoded]) -> Iterator[Row]:
            return self._explain(group, [marks[one.photo.id] for one in group if marks])

        for one, row in in_batches(readable, _size, explain, stop_at=_OF_ALL):
            found[one.photo.id] = _failed(one, row) if isinstance(row, BaseException) else row
        return [found[d.photo.id] for d in decoded]

    def _marks(
        self, readable: Sequence[Decoded], marks: models.Marks, found: dict[str, Row]
    ) -> dict[str, models.Mark]:
        """The marks by the ids of photos; ``found`` gets a row for each photo that has none."""
        own = {}
        for one in readable:
            try:
                own[one.photo.id] = marks.of(self.classifier, one.photo.id, one.size, self.limits)
            except (OSError, ValueError) as error:
                found[one.photo.id] = failed(one.photo, reason_of(error, one.photo))
        return own

    def _explain(self, group: Sequence[Decoded], marks: Sequence[models.Mark]) -> Iterator[Row]:
        device = self.classifier.mean.device
        images = torch.from_numpy(np.stack([one.pixels for one in group])).to(device)  # type: ignore[misc]
        seeds = [seed_of(self.explainer.seed, one.photo.id) for one in group]
        seed = torch.tensor(seeds, device=device)
        known: list[Row]
        if self.marks is None:
            targets, known = self._classes(images)
            explanation = self.explainer.explain(self.classifier, images, targets, seed=seed)
        else:
            output = self.classifier.output
            scores = self.marks.scores(marks, self.targets, self.top, output, device)
            known = [{"target_region": m.file, "target_box": m.box and list(m.box)} for m in marks]
            raw = models.RawOutputs(self.classifier)
            explanation = self.explainer.explain(raw, images, scores, seed=seed)
        explanation = explanation.to("cpu")
        for place, one in enumerate(group):
            try:
                own = explanation[place].check(sure=False)
            except RuntimeError as error:
                yield _failed(one, error)
                continue
            yield self._row(one, own, **known[place], seed=seeds[place])

    def _classes(self, images: Tensor) -> tuple[Tensor, list[Row]]:
        """The targets [B,T], and what the rows say of the best class."""
        outputs = self.classifier.scores(images, self.explainer.autocast)
        best = outputs.sort(dim=1, descending=True, stable=True).indices
        classes = outputs.shape[1]
        if self.top > classes or any(not 0 <= t < classes for t in self.targets):
            asked = f"targets {list(self.targets)}" if self.targets else f"the {self.top} best"
            raise Misfit(f"the model has only {classes} classes, but {asked} were asked for")
        targets = best[:, : self.top]
        if self.targets:
            targets = torch.tensor(self.targets, device=images.device).expand(len(images), -1)
        return targets, [
            {
                "predicted": predicted,
                "predicted_name": self._name(predicted),
                "probability": self._probability(scores, predicted),
            }
            for predicted, scores in zip(best[:, 0].tolist(), outputs.cpu(), strict=True)
        ]

    def _name(self, category: int) -> str:
        return printable(self.classifier.category(category))

    def _row(self, one: Decoded, explanation: Explanation, **known: Any) -> Row:
        box = self.classifier.crop_box(one.size)
        row = explained(
            one.photo,
            explanation,
            target_names=[self._name(target) for target in explanation.targets[0].tolist()],
            width=one.size[0],
            height=one.size[1],
            box=list(box),
            settings=self._settings,
            model=self.model,
            weights=self.weights,
            **known,
        )
        if self.pictures:
            drawn = pictures.overlays(explanation, one.photo.path, box, limits=self.limits)
            row["picture"] = pictures.encoded(drawn, "PNG")
        return row

    def _probability(self, outputs: Tensor, best: int) -> float | None:
        """The best class's probability; None where the outputs may be no probabilities."""
        if self.classifier.output == "none":
            return None
        if self.classifier.output == "logit":
            outputs = outputs.softmax(0) if len(outputs) > 1 else outputs.sigmoid()
        return outputs[best].item()

    @cached_property
    def _settings(self) -> str:
        """The explainer's settings as JSON."""
        return json.dumps(settings_of(self.explainer) | {"output": self.classifier.output})


def _size(one: Decoded) -> tuple[int, ...]:
    assert one.pixels is not None  # only those are explained
    return one.pixels.shape


def _failed(one: Decoded, error: BaseException) -> Row:
    return failed(one.photo, reason_of(error, one.photo), one.size)
