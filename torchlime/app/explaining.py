"""What the page does, without the page: models, explanations, pictures, sentences, files."""

import dataclasses
import math
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from torchlime import Lime, metrics, models, plot
from torchlime.black_box import Progress
from torchlime.cli.options import explainer_of, meaning_of, words_of
from torchlime.explanation import Explanation, label_map_of
from torchlime.models import Classifier

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {  # what may be uploaded; Pillow reads others too, some by running other programs
    "BMP": ("bmp",),
    "GIF": ("gif",),
    "JPEG": ("jpg", "jpeg"),
    "PNG": ("png",),
    "TIFF": ("tif", "tiff"),
    "WEBP": ("webp",),
}
RANGES = {"segments": (5, 200), "samples": (32, 2048), "seed": (0, 999_999)}
LISTED = 10  # classes to choose from
MAX_SIDE = 1000  # pixels of a picture
STRONGEST = 10  # segments in the chart
_YELLOW = (255, 225, 0)


class Photo(NamedTuple):
    """An upright RGB photo, and the name of its file.

    Convention:
        code: what stands for the file in Python.
    """

    name: str
    image: "Image.Image"
    code: str


def read_upload(file: BinaryIO, name: str) -> Photo:
    """The photo in a file that somebody sent, whatever they called it.

    Raises:
        ValueError: it is in none of :data:`FORMATS`, is damaged, or has more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    from PIL import Image

    try:
        opened = Image.open(file, formats=list(FORMATS))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name} claims to be too large: {error}") from error
    except Exception as error:  # UnidentifiedImageError, and what Pillow's readers let through
        raise ValueError(f"{name} is not a readable picture ({', '.join(FORMATS)})") from error
    with opened:
        opened.filename = name  # for the sentences
        return Photo(name, models.read_photo(opened), repr(name))


def sample() -> Photo:
    """scikit-image's cat."""
    path = models.sample_photo()
    return Photo(path.name, models.read_photo(path), "models.sample_photo()")


class Models:
    """The classifiers that may be chosen: each is loaded once, and used by one thread at a time.

    Args:
        allowed: names, as :func:`torchlime.models.load` takes them, with their weights.
        device: where they go.
    """

    def __init__(self, allowed: Mapping[str, str | None], device: str = "cpu") -> None:
        self.weights = dict(allowed)
        self.device = device
        self._loaded: dict[str, Classifier] = {}
        self._loading = threading.Lock()  # may take a download: those loaded do not wait for it
        self._using = threading.Lock()  # one for all: they share the processor and its memory

    @property
    def names(self) -> list[str]:
        """What may be chosen."""
        return list(self.weights)

    @contextmanager
    def use(self, name: str) -> Iterator[Classifier]:
        """One of them, for this thread alone.

        Raises:
            ValueError: it is none of the allowed ones; and what ``models.load`` raises.
        """
        if name not in self.weights:
            raise ValueError(f"{name!r} is none of {', '.join(self.names)}")
        if name not in self._loaded:
            with self._loading:
                if name not in self._loaded:
                    self._loaded[name] = models.load(name, self.weights[name], self.device)
        with self._using:
            yield self._loaded[name]


@dataclass(frozen=True)
class Answer:
    """A class that the model may see in a photo."""

    index: int
    category: str
    score: str


def answers(known: Models, model: str, photo: Photo, count: int = LISTED) -> list[Answer]:
    """The model's best classes for a photo, the best first."""
    with known.use(model) as classifier, torch.no_grad():
        scores = classifier(classifier.preprocess(photo.image))[0]
        best = scores.sort(descending=True, stable=True).indices[:count].tolist()
        return [_answer(classifier, index, scores[index].item()) for index in best]


def _answer(classifier: Classifier, index: int, score: float) -> Answer:
    return Answer(index, classifier.category(index), classifier.spell(score))


def target_of(known: Models, model: str, label: str) -> int | None:
    """The model's class with this name; None if it has none, or several."""
    with known.use(model) as classifier:
        try:
            return classifier.find_category(label)
        except ValueError:
            return None


def explainer_with(choices: Mapping[str, Any]) -> Lime:
    """The explainer with some of the command line's options, in its words.

    Raises:
        ValueError: one is not understood, out of :data:`RANGES`, or does not go with another.

    >>> explainer_with({"segments": 20, "fill": "#ff0000"}).fill
    Constant(value=(1.0, 0.0, 0.0))
    """
    for name, (least, most) in RANGES.items():
        if not least <= choices.get(name, least) <= most:
            raise ValueError(f"{name} must be {least} to {most}, got {choices[name]}")
    samples, segments = choices.get("samples"), choices.get("segments")
    if samples is not None and segments is not None and samples <= segments:
        raise ValueError(f"{samples} samples are too few for {segments} segments")
    return explainer_of(meaning_of(words_of(choices, None)))


@dataclass(frozen=True, eq=False)
class Explained:
    """One photo's explanation, with all that its pictures, sentences and files need.

    Attributes:
        explanation: of one photo, on the CPU.
        explainer: that made it.
        pixels: [1,3,h,w], what the network saw.
        image, box: the photo as it is shown, and where ``pixels`` lie in it.
        answers: the explained classes.
        model, weights, device: which classifier.
        name, code: of the photo's file.
    """

    explanation: Explanation
    explainer: Lime
    pixels: Tensor
    image: Tensor
    box: plot.Box
    answers: list[Answer]
    model: str
    weights: str | None
    device: str
    name: str
    code: str

    def overlay(self, target: int, top: int, opacity: float) -> Tensor:
        """The evidence for and against ``target`` on the photo: [3,H,W]."""
        return plot.overlay(
            self.explanation, self.image, target, top, opacity=opacity, box=self.box
        )

    def framed(self, picture: Tensor, segment: int | None) -> Tensor:
        """An overlay with a frame around a segment."""
        if segment is None:
            return picture
        height, width = picture.shape[1:]
        labels = plot.on_photo(label_map_of(self.explanation)[0], (height, width), self.box)
        return plot.boundaries(labels == segment, picture, _YELLOW)

    @cached_property
    def borders(self) -> Tensor:
        """All segments on the photo: [3,H,W]."""
        return plot.boundaries(label_map_of(self.explanation), self.image, box=self.box)

    def bars(self, target: int) -> Tensor:
        """The strongest segments with their error bars: [3,h,w]."""
        return plot.bars(self.explanation, target, STRONGEST, size=(720, 480))

    def strongest(self, place: int) -> dict[int, str]:
        """The segments of :meth:`bars` in words."""
        words: dict[int, str] = {}
        ids, values = (found[0, place].tolist() for found in self.explanation.top(STRONGEST))
        for rank, (segment, value) in enumerate(zip(ids, values, strict=True), start=1):
            if value != 0:
                words[segment] = f"{rank}: segment {segment}, {value:+.3g}"
        return words

    def fidelity(self, place: int) -> str:
        """How much of the model the surrogate explains, in a sentence."""
        return fidelity_in_words(self.explanation.fidelity[0, place].item())

    @cached_property
    def archive(self) -> bytes:
        """The explanation, as an .npz file."""
        return _written(self.explanation.save)

    def file_name(self, suffix: str) -> str:
        """What to call a file of it."""
        stem = re.sub("[^A-Za-z0-9._-]+", "-", Path(self.name).stem).strip("-.") or "photo"
        return f"{stem}.explanation{suffix}"

    def snippet(self, top: int, opacity: float) -> str:
        """Python that makes :attr:`archive` and the overlays' PNG file again, bit for bit."""
        settings_of = [getattr(self.explainer, f.name) for f in dataclasses.fields(self.explainer)]
        imports = sorted({
            f"from {'.'.join(kind.__module__.split('.')[:2])} import {kind.__name__}"
            for setting in settings_of
            for kind in _strategies_in(setting)
        })  # fmt: skip
        settings = "\n".join(
            f"    {field.name}={getattr(self.explainer, field.name)!r},"
            for field in dataclasses.fields(self.explainer)
        )
        versions = self.explanation.settings
        return _SNIPPET.format(
            versions=f"torchlime {versions['torchlime']}, torch {versions['torch']}",
            imports="\n".join(imports),
            load=f"{self.model!r}, {self.weights!r}, {self.device!r}",
            photo=self.code,
            settings=settings,
            targets=[answer.index for answer in self.answers],
            categories=repr(", ".join(answer.category for answer in self.answers)),
            archive=repr(self.file_name(".npz")),
            max_side=MAX_SIDE,
            top=top,
            opacity=opacity,
            picture=repr(self.file_name(".png")),
        )


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

from torchlime import Lime, models, plot
{imports}

classifier = models.load({load})
photo = models.read_photo({photo})
pixels = classifier.preprocess(photo)
explainer = Lime(
{settings}
)
targets = {targets}  # {categories}
wanted = torch.tensor([targets], device=pixels.device)
explanation = explainer.explain(classifier, pixels, wanted).to("cpu").check()
explanation.save({archive})

box = classifier.crop_box(photo.size)
image, box = plot.resized(pil_to_tensor(photo), box, pixels.shape[2:], max_side={max_side})
overlays = [
    plot.overlay(explanation, image, target, top={top}, opacity={opacity}, box=box)
    for target in targets
]
plot.save_png(plot.side_by_side(*overlays), {picture})
'''


def explain(
    known: Models,
    model: str,
    photo: Photo,
    targets: Sequence[int] | None,
    explainer: Lime,
    progress: Progress | None = None,
) -> Explained:
    """Explain a photo's ``targets``, or the best class; others wait until it is done.

    Raises:
        RuntimeError: the explanation is not to be trusted.
    """
    from torchvision.transforms.functional import pil_to_tensor

    with known.use(model) as classifier:
        pixels = classifier.preprocess(photo.image)
        wanted = None if targets is None else torch.tensor([list(targets)], device=pixels.device)
        explanation = explainer.explain(classifier, pixels, wanted, progress=progress)
        explanation = explanation.to("cpu").check()
        box = classifier.crop_box(photo.image.size)
        scores = zip(explanation.targets[0].tolist(), explanation.scores[0].tolist(), strict=True)
        explained = [_answer(classifier, *pair) for pair in scores]
    image, placed = plot.resized(pil_to_tensor(photo.image), box, tuple(pixels.shape[2:]), MAX_SIDE)
    return Explained(
        explanation, explainer, pixels, image, placed, explained,
        model, known.weights[model], known.device, photo.name, photo.code,
    )  # fmt: skip


def stability(known: Models, explained: Explained, progress: Progress | None = None) -> list[str]:
    """How alike the explanation is under the next seed: a sentence for each target."""
    explanation = explained.explanation
    with known.use(explained.model) as classifier:
        pixels = explained.pixels
        second = explained.explainer.explain(
            classifier, pixels, explanation.targets.to(pixels.device),
            seed=explained.explainer.seed + 1, progress=progress,
        ).to("cpu").check()  # fmt: skip
    both = [explanation, second]
    return [
        stability_in_words(*pair)
        for pair in zip(
            metrics.rank_correlation(both)[0].tolist(),
            metrics.overlap(both)[0].tolist(),
            strict=True,
        )
    ]


# ---- Words ---------------------------------------------------------------------------------------


def fidelity_in_words(share: float) -> str:
    """A surrogate's R² as a sentence.

    >>> fidelity_in_words(0.634)
    'The linear surrogate explains 63 % of the model here: fairly well.'
    """
    word = _word(share, {0.8: "very well", 0.5: "fairly well"}, "poorly, so take it as a hint")
    return f"The linear surrogate explains {max(0, 100 * share):.0f} % of the model here: {word}."


def stability_in_words(correlation: float, overlap: float) -> str:
    """Spearman's ρ and the overlap of the five strongest as a sentence.

    >>> stability_in_words(0.97, 1.0).partition(":")[0]
    'Under the next seed the evidence is stable'
    """
    if math.isnan(correlation):
        return (
            "All segments count the same under one of the seeds, so there is no order to compare."
        )
    words = {0.65: "stable", 0.4: "similar"}  # 0.65: of the top five four are the same
    word = _word(min(correlation, overlap), words, "unstable (raise the samples)")
    return (
        f"Under the next seed the evidence is {word}: rank correlation {correlation:.2f}, "
        f"the top five overlap by {100 * overlap:.0f} %."
    )


def _word(value: float, words: Mapping[float, str], lowest: str) -> str:
    return next((word for least, word in words.items() if value >= least), lowest)


def spelled(text: str) -> str:
    """``text`` with escapes for what is no Unicode: names of files may be any bytes.

    >>> spelled("caf\\udce9")
    'caf\\\\udce9'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def distinct(texts: Sequence[str]) -> list[str]:
    """``texts`` with a number behind those that occur more than once: a page tells them by it.

    >>> distinct(["crane", "tench", "crane"])
    ['crane (1)', 'tench', 'crane (2)']
    """
    return [
        f"{text} ({texts[: place + 1].count(text)})" if texts.count(text) > 1 else text
        for place, text in enumerate(texts)
    ]


def plain(text: str) -> str:
    """``text`` for Markdown, in which no character of it means anything.

    >>> print(plain("![x](y) *z*"))
    \\!\\[x\\]\\(y\\) \\*z\\*
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", spelled(text))


def png(pictures: Sequence[Tensor]) -> bytes:
    """Pictures [3,H,W] of one height in a row, as a PNG file."""
    return _written(lambda path: plot.save_png(plot.side_by_side(*pictures), path))


def _written(save: Callable[[Path], object]) -> bytes:
    """What ``save`` writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        save(path)
        return path.read_bytes()
