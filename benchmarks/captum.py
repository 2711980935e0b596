"""torchlime.compat.captum beside Captum: the same images, models, masks and samples, in one run."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.memory import peak_memory
from benchmarks.settings import Row, Settings, network, photo_batch
from benchmarks.tables import digits, markdown, mebibytes
from torchlime.compat import captum as ours

CAPTUM, OURS, FORWARDS = "captum", "torchlime", "forwards"
SMALL, LIGHT = OWN = ("small", "light")
METHODS = ("Lime", "KernelShap", "FeatureAblation")
CAPTION = (
    "Photos and their best class. The feature mask is a grid of 7×7, and there are 200 samples"
    " (FeatureAblation takes one for each feature). Settings are Captum's defaults. B is the"
    " number of images in one call, and k is perturbations_per_eval. *small* is a network of two"
    " convolutions for images of 32×32; all others take images of 224×224. *light* is a single"
    " convolution, so nearly all of Captum's time is its own work. Captum's images are"
    " channels_last, so that its forward passes are as fast as ours. *Forwards* are the bare"
    " forward passes of the model, in the chunks that it gets from torchlime.compat.captum. Memory"
    " is the peak of a call, above what was held before it."
)


class Case(NamedTuple):
    """A comparison: B images, k perturbations an evaluation."""

    model: str
    method: str
    batch: int
    per_eval: int


def run(settings: Settings) -> list[Row]:
    cells, samples = (2, 8) if settings.quick else (7, 200)
    rows = []
    for case in cases(settings):
        settings.say(f"captum: {' '.join(map(str, case))}")
        size = 32 if case.model == SMALL else 48 if settings.quick else 224
        setting = partial(Setting, case, size, cells, samples, settings.device)
        made = setting()
        readings = settings.timer()(made.sides(), warm=setting(few=True).sides())
        measures = case.method == "Lime" and not (settings.quick and case.model != SMALL)
        memory = {
            f"{side}_memory": peak_memory(settings.device, partial(prepared, setting, side))
            for side in (CAPTUM, OURS)
            if measures
        }
        rows.append(
            case._asdict()
            | {f"{side}_seconds": reading.record() for side, reading in readings.items()}
            | {
                "samples": made.samples,
                "rows": sum(made.chunks),
                "dtype": "float32",
                "captum_over": readings[CAPTUM].over(readings[OURS]).record(),
                "over_forwards": readings[OURS].over(readings[FORWARDS]).record(),
                "captum_over_forwards": readings[CAPTUM].over(readings[FORWARDS]).record(),
            }
            | memory
        )
    return rows


def cases(settings: Settings) -> Iterator[Case]:
    batches, sizes = ((2,), (3,)) if settings.quick else ((1, 8), (1, 64))
    for model in settings.models or (*OWN, "resnet18"):
        for method in METHODS if model in OWN else METHODS[::2]:  # two make the same forwards
            for batch in batches:
                for per_eval in sizes:
                    yield Case(model, method, batch, per_eval)


class Setting:
    """What both sides get.

    Args:
        case: the comparison.
        size: pixels of a side of the images.
        cells: segments of a side.
        samples: N, of methods that sample.
        device: of the images.
        few: of a warm-up, which takes few samples.
    """

    def __init__(
        self, case: Case, size: int, cells: int, samples: int, device: torch.device,
        few: bool = False,
    ):  # fmt: skip
        self.case = case
        self.samples = min(samples, 4) if few else samples
        own = {SMALL: small, LIGHT: light}.get(case.model)
        self.model = own(device) if own else network(case.model, device)
        images = photo_batch(case.batch, size, device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        if few and case.method == "FeatureAblation":
            cells = 2
        self.mask = grid(size, cells, device)
        if case.method == "FeatureAblation":
            self.samples = cells**2
        with torch.no_grad():
            self.target = self.model(self.images).argmax(1)
        self.chunks: list[int] = []

    def sides(self) -> dict[str, Callable[[], object]]:
        """{side: call}."""
        import captum.attr

        with self._recorded():
            self.call(ours)()
        return {
            CAPTUM: self.call(captum.attr),
            OURS: self.call(ours),
            FORWARDS: self.forwards,
        }

    def call(self, module: Any) -> Callable[[], object]:
        """A call of the method of one of the two libraries."""
        explainer = getattr(module, self.case.method)(self.model)
        arguments = {"target": self.target, "feature_mask": self.mask}
        arguments |= {"perturbations_per_eval": self.case.per_eval}
        if self.case.method != "FeatureAblation":
            arguments["n_samples"] = self.samples

        def attribute() -> object:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of several inputs
                return explainer.attribute(self.images, **arguments)

        return attribute

    def forwards(self) -> None:
        """The model alone, on rows in the chunks of the last recorded call."""
        rows = self.images.new_empty(max(self.chunks), *self.images.shape[1:])
        rows = rows.contiguous(memory_format=torch.channels_last).zero_()
        with torch.no_grad():
            for number in self.chunks:
                self.model(rows[:number])

    def _recorded(self) -> Any:
        self.chunks.clear()
        return _Recorder(self.model, self.chunks)


class _Recorder:
    """Notes the rows of each forward pass inside."""

    def __init__(self, model: nn.Module, chunks: list[int]):
        self.model = model
        self.chunks = chunks

    def __enter__(self) -> None:
        note = lambda _, inputs: self.chunks.append(len(inputs[0]))  # noqa: E731
        self.hook = self.model.register_forward_pre_hook(note)

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def prepared(setting: Callable[..., Setting], side: str) -> Any:
    """(warm up, call), for the peak of memory."""
    import captum.attr

    module = captum.attr if side == CAPTUM else ours
    return setting(few=True).call(module), setting().call(module)


def grid(size: int, cells: int, device: torch.device) -> Tensor:
    """A feature mask [1,1,size,size] of cells × cells segments."""
    place = torch.arange(size, device=device) * cells // size
    return (place[:, None] * cells + place)[None, None]


def small(device: torch.device) -> nn.Module:
    """A classifier of small images."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()
    return nn.Sequential(*first, *_head(16)).eval().to(device)


def light(device: torch.device) -> nn.Module:
    """A classifier that costs little more than reading its images."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 16, stride=16), nn.ReLU(), *_head(8)).eval().to(device)


def _head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10), nn.Softmax(1)]


def table(rows: list[Row]) -> str:
    return markdown(
        ["model", "method", "B", "k", "Captum, s", "torchlime.compat, s", "Captum / this",
         "this / forwards", "Captum / forwards", "Captum, MiB", "this, MiB"],
        [
            [
                row["model"],
                row["method"],
                row["batch"],
                row["per_eval"],
                cell(row["captum_seconds"]),
                cell(row["torchlime_seconds"]),
                cell(row["captum_over"]),
                cell(row["over_forwards"]),
                cell(row["captum_over_forwards"]),
                *(mebibytes(m) if (m := row.get(f"{s}_memory")) else "–" for s in (CAPTUM, OURS)),
            ]
            for row in rows
        ],
    )  # fmt: skip


def cell(reading: dict[str, Any]) -> str:
    return f"{digits(reading['median'])} ± {digits(reading['spread'])}"
