"""Explained: an explanation with its pictures, sentences and files."""

import dataclasses
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from torchlime import Lime, Rise, plot
from torchlime._reading import samples_in_words
from torchlime.app.classifiers import Answer
from torchlime.app.photos import MAX_SIDE, Prepared
from torchlime.app.words import (
    bars_in_words,
    fidelity_in_words,
    legend_in_words,
    spelled,
)
from torchlime.explanation import Explanation, label_map_of
from torchlime.plot.photos import is_whole

STRONGEST = 10  # segments in the chart
_YELLOW = (255, 225, 0)


@dataclass(frozen=True, eq=False)
class Explained:
    """One photo's explanation, with all that its pictures, sentences and files need.

    Attributes:
        explanation: of one photo, on the CPU.
        photo: what is shown.
        answers: the explained classes.
        unit: what their scores are, such as "probability".
    """

    explanation: Explanation
    photo: Prepared
    answers: list[Answer]
    unit: str

    def overlay(self, target: int, top: int, opacity: float) -> Tensor:
        """The evidence for and against ``target`` on the photo: [3,H,W]."""
        return plot.overlay(
            self.explanation, self.photo.image, target, top, opacity=opacity, box=self.photo.box
        )

    def framed(self, picture: Tensor, segment: int | None) -> Tensor:
        """An overlay with a frame around a segment."""
        if segment is None:
            return picture
        height, width = picture.shape[1:]
        labels = plot.on_photo(label_map_of(self.explanation)[0], (height, width), self.photo.box)
        return plot.boundaries(labels == segment, picture, _YELLOW)

    @cached_property
    def borders(self) -> Tensor:
        """All segments on the photo: [3,H,W]."""
        return plot.boundaries(label_map_of(self.explanation), self.photo.image, box=self.photo.box)

    def bars(self, place: int) -> Tensor:
        """The strongest segments of an answer with their error bars: [3,h,w]."""
        answer = self.answers[place]
        return plot.bars(
            self.explanation, answer.index, STRONGEST, size=(720, 480),
            name=spelled(answer.category), unit=self.unit,
        )  # fmt: skip

    def strongest(self, place: int) -> dict[int, str]:
        """The segments of :meth:`bars` in words, under the numbers that they have there."""
        words: dict[int, str] = {}
        ids, values = (found[0, place].tolist() for found in self.explanation.top(STRONGEST))
        for rank, (segment, value) in enumerate(zip(ids, values, strict=True), start=1):
            if value != 0:
                words[segment] = f"{rank}: {value:+.3g}"
        return words

    def legend(self, place: int) -> str:
        """What the colours of the overlay mean."""
        faded = not is_whole(self.photo.box, self.photo.image.shape[1:])
        return legend_in_words(self.answers[place].category, faded=faded)

    def meaning(self, place: int) -> str:
        """What the bars of :meth:`bars` mean."""
        errors = self.explanation.standard_errors[0, place]
        return bars_in_words(self.unit, intervals=bool(((errors > 0) & errors.isfinite()).any()))

    def fidelity(self, place: int) -> str:
        """How much of the model the surrogate explains, in a sentence."""
        return fidelity_in_words(self.explanation.fidelity[0, place].item())

    @property
    def samples(self) -> str:
        """How many samples were drawn, and whether they were enough, in a sentence."""
        used = self.explanation.samples_used
        if used is None:
            return ""
        words = samples_in_words(int(used[0]), sure=bool(self.explanation.sure[0]))
        return f"It took {words}."

    @cached_property
    def archive(self) -> bytes:
        """The explanation, as an .npz file."""
        return _written(self.explanation.save)

    def file_name(self, suffix: str) -> str:
        """A name for a file of this explanation."""
        stem = re.sub("[^A-Za-z0-9._-]+", "-", Path(self.photo.name).stem).strip("-.") or "photo"
        return f"{stem}.explanation{suffix}"

    def snippet(self, top: int, opacity: float) -> str:
        """Python that makes the files of :meth:`overlay` and :attr:`archive` again."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Made(Explained):
    """An explanation that the page made; ``photo`` is also what the network saw.

    Attributes:
        explainer: the explainer that made it.
        model, weights, device: which classifier.
    """

    explainer: Lime | Rise
    model: str
    weights: str | None
    device: str

    def snippet(self, top: int, opacity: float) -> str:
        """Python that makes :attr:`archive` and the overlays' PNG file again, bit for bit."""
        versions = self.explanation.settings
        return _SNIPPET.format(
            versions=f"torchlime {versions['torchlime']}, torch {versions['torch']}",
            imports="\n".join(_imports(self.explainer)),
            kind=type(self.explainer).__name__,
            load=f"{self.model!r}, {self.weights!r}, {self.device!r}",
            photo=self.photo.code,
            settings="\n".join(
                f"    {field.name}={getattr(self.explainer, field.name)!r},"
                for field in dataclasses.fields(self.explainer)
            ),
            targets=[answer.index for answer in self.answers],
            categories=repr(", ".join(answer.category for answer in self.answers)),
            archive=repr(self.file_name(".npz")),
            max_side=MAX_SIDE,
            top=top,
            opacity=opacity,
            picture=repr(self.file_name(".png")),
        )


def _imports(explainer: Lime | Rise) -> list[str]:
    """The lines that import the strategies of an explainer."""
    settings = [getattr(explainer, field.name) for field in dataclasses.fields(explainer)]
    kinds = {kind for setting in settings for kind in _strategies_in(setting)}
    return sorted(f"from {_home_of(kind)} import {kind.__name__}" for kind in kinds)


def _home_of(kind: type) -> str:
    """The public module that a strategy is imported from."""
    home = ".".join(kind.__module__.split(".")[:2])
    return "torchlime.masks" if home == "torchlime._size_laws" else home


def _strategies_in(setting: Any) -> Iterator[type]:
    """The classes that the ``repr`` of a setting names: a strategy may hold another."""
    if dataclasses.is_dataclass(setting):
        yield type(setting)
        for field in dataclasses.fields(setting):
            yield from _strategies_in(getattr(setting, field.name))


_SNIPPET = '''\
"""The explanation and its picture again, bit for bit ({versions})."""

import torch
from torchvision.transforms.functional import pil_to_tensor

from torchlime import {kind}, models, plot
{imports}

classifier = models.load({load})
photo = models.read_photo({photo})
pixels = classifier.preprocess(photo)
explainer = {kind}(
{settings}
)
targets = {targets}  # {categories}
wanted = torch.tensor([targets], device=pixels.device)
explanation = explainer.explain(classifier, pixels, wanted).to("cpu").check(sure=False)
explanation.save({archive})

box = classifier.crop_box(photo.size)
image, box = plot.resized(pil_to_tensor(photo), box, pixels.shape[2:], max_side={max_side})
overlays = [
    plot.overlay(explanation, image, target, top={top}, opacity={opacity}, box=box)
    for target in targets
]
plot.save_png(plot.side_by_side(*overlays), {picture})
'''


def png(pictures: Sequence[Tensor]) -> bytes:
    """Pictures [3,H,W] of one height in a row, as a PNG file."""
    return _written(lambda path: plot.save_png(plot.side_by_side(*pictures), path))


def _written(save: Callable[[Path], object]) -> bytes:
    """What ``save`` writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        save(path)
        return path.read_bytes()
