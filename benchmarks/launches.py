"""How many kernels an explanation launches outside the model, and how many bytes they move.

Counted on fake CUDA tensors, so the numbers are exact and the same on every machine, with a GPU or
without. A kernel is a dispatched operator with a result on the device that is neither a view nor an
allocation. A few operators launch more than one kernel (a sort, say), so a profiler may count more.
"""

import contextlib
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.settings import Row, Settings
from benchmarks.tables import markdown
from torchlime import Lime
from torchlime.fills import Blur, Constant, ImageMean
from torchlime.masks import (
    Bernoulli,
    Exhaustive,
    FixedCount,
    LeaveOneOut,
    LeverageLaw,
    Permutations,
    RandomSize,
    ShapleyLaw,
    SizeLaw,
    Sizes,
    SlidingWindow,
)
from torchlime.models import Classifier
from torchlime.segments import Grid, Reduced, Slic
from torchlime.surrogates import (
    BayesianRidge,
    ConstrainedLeastSquares,
    Lasso,
    LeastSquares,
    MarginalContributions,
    MarginalMean,
    MeanDrop,
    Ridge,
    SignEntropy,
)
from torchlime.weights import (
    Exponential,
    ImportanceWeights,
    InverseDistance,
    ShapleyKernel,
    Uniform,
    WithoutUnmasked,
)

STAGES = {
    "torchlime.segments": "segments",
    "torchlime.masks": "masks",
    "torchlime.fills": "fill",
    "torchlime.features": "rows",
    "torchlime.models": "rows",  # a classifier's normalisation
    "torchlime.predictions": "scores",
    "torchlime.targets": "scores",
    "torchlime.weights": "weights",
    "torchlime.surrogates": "surrogate",
    "torchlime.fit": "surrogate",
    __name__: "model",
}
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
VIEWS = {"_unsafe_view"}  # by its schema it is none
SHOWN = ("segments", "masks", "fill", "rows", "scores", "weights", "surrogate", "rest")
CLASSES = 1000
SIZE = 224
CAPTION = (
    "Kernels outside the model, and the bytes that they read and write, for images of 224×224, N"
    " samples, one target and one thousand classes. *rows / write* is what the perturbed images"
    " move, divided by what writing each of them once would move; *all / write* is what all stages"
    " move, divided by the same. The model is a function, or a Classifier, which takes pixels and"
    " normalises them."
)


@dataclass
class Launches(TorchDispatchMode):
    """Counts kernels and bytes by stage while it is active.

    Attributes:
        kernels, bytes: by stage; "rest" is what no stage did.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        written = _tensors(result) or _changed(function, args)
        if written and _launches(function) and all(t.device.type == "cuda" for t in written):
            stage = _stage()
            self.kernels[stage] += 1
            passed = {id(t): t for t in (*_tensors((args, kwargs)), *written)}  # ``out=`` is both
            self.bytes[stage] += sum(map(_size, passed.values()))
        return result


def counted(call: Callable[[], object]) -> Launches:
    """The launches of a call that makes its tensors on the device "cuda"."""
    with FakeTensorMode(), Launches() as launches:
        call()
    launches.kernels.pop("model", None)
    launches.bytes.pop("model", None)
    return launches


def explain(
    explainer: Lime, batch: int, size: int = SIZE, dtype: torch.dtype | None = None
) -> None:
    """Explain images whose model is a single operator; with a dtype, a classifier of that dtype."""
    images = torch.empty(batch, 3, size, size, device="cuda")
    explainer.explain(_model if dtype is None else _classifier(dtype), images, top=1)


def _model(images: Tensor) -> Tensor:
    return images.new_empty(len(images), CLASSES).zero_()


class _Network(nn.Module):
    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, dtype=dtype, device="cuda"))

    def forward(self, images: Tensor) -> Tensor:
        return _model(images)


def _classifier(dtype: torch.dtype) -> Classifier:
    classifier = Classifier(_Network(dtype), output="none")
    for name in ("mean", "std"):
        setattr(classifier, name, torch.empty(3, 1, 1, device="cuda"))
    return classifier


def _changed(function: Any, arguments: tuple[Any, ...]) -> list[Tensor]:
    """The arguments that an operator without a result writes to."""
    schema = zip(function._schema.arguments, arguments, strict=False)
    return _tensors([value for one, value in schema if one.alias_info and one.alias_info.is_write])


def _launches(function: Any) -> bool:
    """Whether an operator runs on the device: it is no view and no allocation."""
    returns = function._schema.returns
    aliases = [r.alias_info for r in returns]
    view = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
    name = function.overloadpacket.__name__
    return not view and name not in ALLOCATIONS | VIEWS and function.namespace == "aten"


def _stage() -> str:
    """The stage whose module called last, before this one's own bookkeeping."""
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        own = module == __name__ and frame.f_code is not _model.__code__
        for prefix, stage in STAGES.items():
            if not own and (module == prefix or module.startswith(prefix + ".")):
                return stage
        frame = frame.f_back  # type: ignore[assignment]
    return "rest"


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _size(tensor: Tensor) -> int:
    """Bytes of the distinct elements: an expanded axis counts once."""
    number = tensor.element_size()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        number *= size if stride else min(size, 1)
    return number


def run(settings: Settings) -> list[Row]:
    with contextlib.suppress(ImportError):
        importlib.import_module("kornia")  # Blur's; its own tensors are made outside the counter
    return list(_rows(settings))


CHANGES: tuple[dict[str, Any], ...] = (
    {"segmenter": Slic(100)}, {"segmenter": Grid(7, 7)}, {"segmenter": Reduced(Slic(50), 112)},
    {"sampler": Bernoulli()}, {"sampler": FixedCount()}, {"sampler": RandomSize()},
    {"sampler": Sizes()}, {"sampler": Permutations()},
    {"sampler": LeaveOneOut(), "num_samples": 50},
    {"segmenter": Grid(3, 3), "sampler": Exhaustive()},
    {"segmenter": Grid(7, 7), "sampler": SlidingWindow((7, 7), (3, 3)), "surrogate": MeanDrop(),
     "num_samples": 26},
    {"sampler": SizeLaw(LeverageLaw()), "surrogate": ConstrainedLeastSquares(),
     "kernel": ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw())},
    {"fill": ImageMean()}, {"fill": Constant(0.5)}, {"fill": Blur()},
    {"kernel": Uniform()}, {"kernel": Exponential(0.25, "pixel_euclidean")},
    {"kernel": InverseDistance()}, {"kernel": ShapleyKernel()}, {"kernel": WithoutUnmasked()},
    {"surrogate": Ridge(errors=False)}, {"surrogate": LeastSquares()},
    {"surrogate": Lasso(fraction=0.1)}, {"surrogate": BayesianRidge()},
    {"surrogate": MarginalMean()}, {"surrogate": SignEntropy()},
    {"sampler": Permutations(), "surrogate": MarginalContributions()},
)  # fmt: skip
FIELDS = ("segmenter", "sampler", "fill", "kernel", "surrogate")


Case = tuple[Lime, int, torch.dtype | None]  # explainer, B, a classifier's dtype


def cases() -> list[Case]:
    """The cases of the table, row by row."""
    found: list[Case] = [
        (Lime(num_samples=number), batch, None) for batch in (1, 8, 32) for number in (512, 1000)
    ]
    found += [(Lime(), 1, torch.float32), (Lime(), 1, torch.bfloat16)]
    return found + [(Lime(**changed), 1, None) for changed in CHANGES]


def _rows(settings: Settings) -> Iterator[Row]:
    for case in cases()[:1] if settings.quick else cases():
        settings.say(f"launches: B={case[1]} {case[0]!r}")
        yield named(case) | measured(case)


def named(case: Case) -> Row:
    """The part of a row that names its case."""
    explainer, batch, dtype = case
    changed = [name for name in FIELDS if getattr(explainer, name) != getattr(Lime(), name)]
    what = [repr(getattr(explainer, name)) for name in changed]
    return {
        "what": ", ".join(["a Classifier"] * bool(dtype) + what) or "default",
        "batch": batch,
        "samples": explainer.num_samples,
        "dtype": str(dtype or torch.float32).removeprefix("torch."),
    }


def measured(case: Case) -> Row:
    """The part of a row that is counted."""
    explainer, batch, dtype = case
    launches = counted(partial(explain, explainer, batch, dtype=dtype))
    pixels = batch * explainer.num_samples * 3 * SIZE**2
    return {
        "kernels": dict(launches.kernels),
        "bytes": dict(launches.bytes),
        "write": pixels * (dtype or torch.float32).itemsize,
    }


def table(rows: list[Row]) -> str:
    head = ["", "dtype", "B", "N", "all", *SHOWN, "MiB read and written", "rows / write",
            "all / write"]  # fmt: skip
    lines = [
        [
            row["what"], row["dtype"], row["batch"], row["samples"], sum(row["kernels"].values()),
            *(row["kernels"].get(stage, 0) for stage in SHOWN),
            f"{sum(row['bytes'].values()) / 2**20:.0f}",
            f"{row['bytes']['rows'] / row['write']:.2f}",
            f"{sum(row['bytes'].values()) / row['write']:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    return markdown(head, lines)
